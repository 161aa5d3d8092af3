//! The library that answers CUDA calls, loaded by the first one.
//!
//! All that this library and the engine know of each other are the names of CUDA's driver API, and one function that takes
//! what was learnt at the process's start. So a process that was started before an upgrade uses the engine that it finds
//! when it first calls CUDA.
//!
//! Unsafe code: the dynamic linker's functions, and addresses that they answer.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use shim_settings::system;

use crate::{device, exports};

/// Where the engine is looked for: beside this library, in the folder of what comes with it, and where the dynamic linker
/// looks for any library.
const PLACES: [&CStr; 3] =
    [c"$ORIGIN/libvcompute.so", c"$ORIGIN/virtio-compute/libvcompute.so", c"libvcompute.so"];

/// Takes the driver's answer: its bytes, how many, and when it came.
const START: &CStr = c"vcompute_start";
type Start = unsafe extern "C" fn(bytes: *const u8, length: usize, taken_ms: i64);

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
    PLACES.iter().find_map(|place| Engine::open(place))
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
    if let Some((bytes, taken_ms)) = device::kept() {
        let start = engine.symbol(START);
        if !start.is_null() {
            // SAFETY: the engine's function of this name has this signature.
            let start = unsafe { core::mem::transmute::<*const c_void, Start>(start) };
            // SAFETY: bytes that stay as they are.
            unsafe { start(bytes.as_ptr(), bytes.len(), taken_ms) };
        }
    }
    Ok(table)
}

/// The engine's file, as the dynamic linker names it.
#[derive(Clone, Copy)]
struct Engine {
    handle: *mut c_void,
    symbol: Symbol,
}

type Open = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;
type Symbol = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

impl Engine {
    fn open(place: &CStr) -> Option<Self> {
        /// What the C library's own function needs to take a caller for its public one.
        const FROM_OUTSIDE: c_int = c_int::MIN;
        let flags = libc::RTLD_NOW | libc::RTLD_LOCAL;
        let (open, symbol, flags) = match (place_of_open(), place_of_symbol()) {
            (Some(open), Some(symbol)) => (open, symbol, flags),
            _ => (place_of_own_open()?, place_of_own_symbol()?, flags | FROM_OUTSIDE),
        };
        // SAFETY: a path or a name.
        let handle = unsafe { open(place.as_ptr(), flags) };
        (!handle.is_null()).then_some(Self { handle, symbol })
    }

    fn symbol(&self, name: &CStr) -> *const c_void {
        // SAFETY: a library that is open, and a name.
        unsafe { (self.symbol)(self.handle, name.as_ptr()) }
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
