//! The library that answers CUDA calls, loaded by the first one.
//!
//! All that this library and the engine know of each other are the names of CUDA's driver API, and one function that takes
//! what this library has: what was learnt at the process's start, and where its functions are, because `cuGetProcAddress`
//! answers with those that a program finds by itself, too. So a process that was started before an upgrade uses the engine that it finds
//! when it first calls CUDA.
//!
//! Unsafe code: the dynamic linker's functions, and addresses that they answer.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use shim_settings::{Decimal, system};

use crate::{device, exports};

/// Where the engine is looked for: beside this library, in the folder of what comes with it, and where the dynamic linker
/// looks for any library. After these, beside the file that this library's name is a link to.
const PLACES: [&CStr; 3] =
    [c"$ORIGIN/libvcompute.so", c"$ORIGIN/virtio-compute/libvcompute.so", c"libvcompute.so"];

/// Takes what this library has for the engine: the driver's answer, if there is one, with its bytes, how many they are and
/// when it came; this library's functions, with their names one after the other, each one's distance from the second
/// address, and how many they are.
const START: &CStr = c"vcompute_start";
type Start = unsafe extern "C" fn(*const u8, usize, i64, *const u8, *const i32, usize);

/// `CUDA_ERROR_STUB_LIBRARY`: "the CUDA driver that the application has loaded is a stub library".
const STUB_LIBRARY: u32 = 34;
/// `CUDA_ERROR_NOT_FOUND`: the engine is older than this library, and has no such function.
const NOT_FOUND: u32 = 500;

/// The engine's functions, in the order of the jumps; null while there is none.
pub(super) static ENTRIES: AtomicPtr<*const c_void> = AtomicPtr::new(ptr::null_mut());

/// Loads the engine. Another thread may do so at the same time; one of the tables is used.
pub(super) extern "C" fn load() -> *mut *const c_void {
    let entries =
        open().map_or(Err("libvcompute.so cannot be loaded; `vcompute-guest doctor` says why"), entries);
    match entries {
        Ok(new) => {
            match ENTRIES.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => new,
                Err(others) => others,
            }
        }
        Err(problem) => {
            shim_settings::first_call(Err(problem));
            ptr::null_mut()
        }
    }
}

/// What every call answers without an engine; the next one looks for it again.
#[unsafe(naked)]
pub(super) extern "C" fn absent() {
    naked_asm!("mov eax, {error}", "ret", error = const STUB_LIBRARY)
}

#[unsafe(naked)]
extern "C" fn missing() {
    naked_asm!("mov eax, {error}", "ret", error = const NOT_FOUND)
}

/// Opens the engine's file.
fn open() -> Option<Engine> {
    let linker = Linker::of_this_process()?;
    let handle = PLACES.iter().find_map(|place| linker.open(place)).or_else(|| {
        let mut path = [0; PATH_BYTES];
        linker.open(beside_the_file(&linker, &mut path)?)
    })?;
    Some(Engine { handle, linker })
}

/// Longest path that is looked at, with its end.
const PATH_BYTES: usize = 1024;

/// The engine's path beside the file that this library was loaded from, should its name have been a symbolic link.
fn beside_the_file<'a>(linker: &Linker, path: &'a mut [u8; PATH_BYTES]) -> Option<&'a CStr> {
    /// `Dl_info`.
    #[repr(C)]
    struct About {
        file: *const c_char,
        rest: [*const c_void; 3],
    }
    type Describe = unsafe extern "C" fn(*const c_void, *mut About) -> c_int;
    const ENGINE: &[u8] = b"/libvcompute.so\0";
    const DESCRIPTORS: &[u8] = b"/proc/self/fd/";

    let describe = linker.symbol(ptr::null_mut(), c"dladdr");
    if describe.is_null() {
        return None;
    }
    // SAFETY: the C library's function of this name has this signature.
    let describe = unsafe { core::mem::transmute::<*const c_void, Describe>(describe) };
    let mut about = About { file: ptr::null(), rest: [ptr::null(); 3] };
    // SAFETY: any address, and room for what is known of it.
    if unsafe { describe(absent as *const c_void, &raw mut about) } == 0 || about.file.is_null() {
        return None;
    }
    // SAFETY: the dynamic linker's name of this library, which stays.
    let name = unsafe { CStr::from_ptr(about.file) };
    let file = u32::try_from(system::open(name, libc::O_PATH | libc::O_CLOEXEC, 0)).ok()?;
    let mut link = [0; DESCRIPTORS.len() + Decimal::MAX_BYTES + 1];
    for (to, from) in link.iter_mut().zip(DESCRIPTORS.iter().chain(Decimal::of(file).bytes())) {
        *to = *from;
    }
    let length = CStr::from_bytes_until_nul(&link).map_or(-1, |link| system::read_link(link, path));
    system::close(file as usize);
    let real = path.get(..usize::try_from(length).ok()?)?;
    let folder = real.iter().rposition(|&byte| byte == b'/')?;
    for (to, from) in path.get_mut(folder..)?.iter_mut().zip(ENGINE) {
        *to = *from;
    }
    CStr::from_bytes_until_nul(path).ok()
}

/// All entries, in memory of their own.
fn entries(engine: Engine) -> Result<*mut *const c_void, &'static str> {
    const BYTES: usize = exports::COUNT * size_of::<*const c_void>();
    const READ_AND_WRITE: usize = system::word(libc::PROT_READ | libc::PROT_WRITE);
    const PRIVATE: usize = system::word(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses free addresses.
    let place = unsafe { system::call(libc::SYS_mmap, [0, BYTES, READ_AND_WRITE, PRIVATE, usize::MAX, 0]) };
    let place = usize::try_from(place).map_err(|_| "there is no memory for libvcompute.so")?;
    let table: *mut *const c_void = ptr::with_exposed_provenance_mut(place);
    for (number, name) in exports::names().enumerate() {
        let symbol = CStr::from_bytes_with_nul(name).map_or(ptr::null(), |name| engine.symbol(name));
        let symbol = if symbol.is_null() { missing as *const c_void } else { symbol };
        // SAFETY: one of as many places as there are names.
        unsafe { table.wrapping_add(number).write(symbol) };
    }
    // SAFETY: the pages of above; what nobody can write, nobody can bend.
    let _ =
        unsafe { system::call(libc::SYS_mprotect, [place, BYTES, system::word(libc::PROT_READ), 0, 0, 0]) };
    let start = engine.symbol(START);
    if !start.is_null() {
        // SAFETY: the engine's function of this name has this signature.
        let start = unsafe { core::mem::transmute::<*const c_void, Start>(start) };
        let (bytes, taken_ms) = device::kept().unwrap_or_default();
        let (names, places) = (exports::NAMES.as_ptr(), exports::PLACES.as_ptr());
        // SAFETY: bytes that stay as they are, and two tables of as many rows.
        unsafe { start(bytes.as_ptr(), bytes.len(), taken_ms, names, places, exports::COUNT) };
    }
    Ok(table)
}

/// The engine's file, as the dynamic linker names it.
struct Engine {
    handle: *mut c_void,
    linker: Linker,
}

impl Engine {
    fn symbol(&self, name: &CStr) -> *const c_void {
        self.linker.symbol(self.handle, name)
    }
}

type Open = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;
type Symbol = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The dynamic linker's functions.
struct Linker {
    open: Open,
    symbol: Symbol,
    flags: c_int,
}

impl Linker {
    fn of_this_process() -> Option<Self> {
        /// What the C library's own function needs to take a caller for its public one.
        const FROM_OUTSIDE: c_int = c_int::MIN;
        let flags = libc::RTLD_NOW | libc::RTLD_LOCAL;
        if let (Some(open), Some(symbol)) = (place_of_open(), place_of_symbol()) {
            return Some(Self { open, symbol, flags });
        }
        let (open, symbol) = (place_of_own_open()?, place_of_own_symbol()?);
        Some(Self { open, symbol, flags: flags | FROM_OUTSIDE })
    }

    fn open(&self, place: &CStr) -> Option<*mut c_void> {
        // SAFETY: a path or a name.
        let handle = unsafe { (self.open)(place.as_ptr(), self.flags) };
        (!handle.is_null()).then_some(handle)
    }

    /// A symbol of a library that is open; without one, of all that the program has, as far as there is a way to ask.
    fn symbol(&self, handle: *mut c_void, name: &CStr) -> *const c_void {
        if handle.is_null() && self.flags < 0 {
            return ptr::null();
        }
        // SAFETY: a library that is open, or none, and a name.
        unsafe { (self.symbol)(handle, name.as_ptr()) }
    }
}

core::arch::global_asm!(
    ".symver vcompute_dlopen, dlopen@GLIBC_2.2.5",
    ".symver vcompute_dlsym, dlsym@GLIBC_2.2.5"
);

/// Functions of the C library that may be missing.
macro_rules! places {
    ($($(#[$about:meta])* $function:ident: $type:ty = $name:literal;)*) => {$(
        $(#[$about])*
        #[unsafe(naked)]
        extern "C" fn $function() -> Option<$type> {
            naked_asm!(
                concat!(".weak ", $name),
                concat!("mov rax, [rip + ", $name, "@GOTPCREL]"),
                "ret",
            )
        }
    )*};
}

places! {
    /// In the C library since 2.34, with the version of the library that it was in before.
    place_of_open: Open = "vcompute_dlopen";
    /// As above.
    place_of_symbol: Symbol = "vcompute_dlsym";
    /// Until 2.33, for processes without that other library.
    place_of_own_open: Open = "__libc_dlopen_mode";
    /// As above.
    place_of_own_symbol: Symbol = "__libc_dlsym";
}
