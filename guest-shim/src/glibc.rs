//! Functions of the C library that this library has of its own, hidden from everyone else.
//!
//! - What the standard library, the unwinder and the shim use of C libraries newer than 2.28, so that the library loads in
//!   every guest that the design names (docs/adr/0008).
//! - Plain system calls. Each function that is looked up costs every process that loads the library a third of a
//!   microsecond (docs/benchmarks/preload.md). Besides, these are no cancellation points, and no other preloaded library
//!   sees or changes them.
//!
//! Unsafe code: C's own signatures, and symbols for the linker.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

// What the compiler's own start files would bring, of which this is all that is needed: the library's name for itself
// where exit handlers are registered. Without those files nothing of the library runs when it is loaded but its
// constructor, nor when a program ends but its destructor.
std::arch::global_asm!(
    ".pushsection .rodata.glibc.__dso_handle,\"a\",@progbits",
    ".weak __dso_handle",
    ".hidden __dso_handle",
    ".balign 8",
    "__dso_handle: .quad 0",
    ".popsection",
);

/// Defines a symbol of the C library for this library alone.
macro_rules! define {
    ($($name:literal = $function:path),* $(,)?) => {$(
        std::arch::global_asm!(
            concat!(".pushsection .text.glibc.", $name, ",\"ax\",@progbits"),
            concat!(".weak ", $name),
            concat!(".hidden ", $name),
            concat!(".type ", $name, ", @function"),
            concat!($name, ":"),
            "jmp {function}",
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            function = sym $function,
        );
    )*};
}

define!(
    // 2.33; before, the C library had them under other names.
    "fstat" = fstat,
    "fstat64" = fstat,
    "stat64" = stat,
    // 2.34; before, in a library of their own.
    "pthread_key_create" = key_create,
    "pthread_key_delete" = key_delete,
    "pthread_setspecific" = set_specific,
    "pthread_getspecific" = get_specific,
    // The unwinder asks for it to learn whether there can be threads.
    "__pthread_key_create" = key_create,
    "pthread_once" = once,
    "pthread_setname_np" = set_name,
    // 2.32; before, in that library too.
    "pthread_sigmask" = signal_mask,
    // 2.35
    "_dl_find_object" = find_object,
    // System calls with other arguments or results than the C library's functions.
    "open" = open,
    "open64" = open,
    "recv" = recv,
    "pwritev2" = pwritev2,
    "getcwd" = getcwd,
    "sched_getaffinity" = sched_getaffinity,
    "clock_nanosleep" = clock_nanosleep,
);

/// Defines functions that are system calls with the same arguments; an error becomes -1 and its number.
macro_rules! system_calls {
    ($($name:literal = $number:path),* $(,)?) => {$(
        std::arch::global_asm!(
            concat!(".pushsection .text.glibc.", $name, ",\"ax\",@progbits"),
            concat!(".weak ", $name),
            concat!(".hidden ", $name),
            concat!(".type ", $name, ", @function"),
            concat!($name, ":"),
            "mov r10, rcx",
            "mov eax, {number}",
            "syscall",
            "cmp rax, -4095",
            "jae 2f",
            "ret",
            "2:",
            "mov edi, eax",
            "jmp {failed}",
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            number = const $number,
            failed = sym failed,
        );
    )*};
}

system_calls!(
    "close" = libc::SYS_close,
    "connect" = libc::SYS_connect,
    "eventfd" = libc::SYS_eventfd2,
    "fcntl" = libc::SYS_fcntl,
    "ftruncate" = libc::SYS_ftruncate,
    "getpid" = libc::SYS_getpid,
    "getrandom" = libc::SYS_getrandom,
    "gettid" = libc::SYS_gettid,
    "ioctl" = libc::SYS_ioctl,
    "lseek64" = libc::SYS_lseek,
    "madvise" = libc::SYS_madvise,
    "memfd_create" = libc::SYS_memfd_create,
    "mmap" = libc::SYS_mmap,
    "mmap64" = libc::SYS_mmap,
    "mremap" = libc::SYS_mremap,
    "munmap" = libc::SYS_munmap,
    "openat" = libc::SYS_openat,
    "poll" = libc::SYS_poll,
    "read" = libc::SYS_read,
    "readlink" = libc::SYS_readlink,
    "sendmsg" = libc::SYS_sendmsg,
    "sendto" = libc::SYS_sendto,
    "socket" = libc::SYS_socket,
    "socketpair" = libc::SYS_socketpair,
    "statx" = libc::SYS_statx,
    "write" = libc::SYS_write,
    "writev" = libc::SYS_writev,
);

/// Defines functions that were in libraries of their own before 2.34, and have kept their old versions since. In a process
/// that lacks those libraries there are no threads, and the answer is the error of a system that can have no more.
macro_rules! of_other_libraries {
    ($($name:literal else $absent:expr),* $(,)?) => {$(
        std::arch::global_asm!(
            concat!(".weak vcompute_", $name),
            concat!(".symver vcompute_", $name, ", ", $name, "@GLIBC_2.2.5"),
            concat!(".pushsection .text.glibc.", $name, ",\"ax\",@progbits"),
            concat!(".weak ", $name),
            concat!(".hidden ", $name),
            concat!(".type ", $name, ", @function"),
            concat!($name, ":"),
            concat!("mov rax, [rip + vcompute_", $name, "@GOTPCREL]"),
            "test rax, rax",
            "jz 2f",
            "jmp rax",
            "2:",
            "mov eax, {absent}",
            "ret",
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            absent = const $absent,
        );
    )*};
}

of_other_libraries!(
    "dlsym" else 0,
    "pthread_attr_getguardsize" else libc::EINVAL,
    "pthread_attr_getstack" else libc::EINVAL,
    "pthread_attr_setstacksize" else libc::EINVAL,
    "pthread_create" else libc::EAGAIN,
    "pthread_detach" else libc::EINVAL,
    "pthread_getattr_np" else libc::EINVAL,
    "pthread_join" else libc::EINVAL,
);

// `syscall`: the number comes first, so every argument moves by one place.
std::arch::global_asm!(
    ".pushsection .text.glibc.syscall,\"ax\",@progbits",
    ".weak syscall",
    ".hidden syscall",
    ".type syscall, @function",
    "syscall:",
    "mov rax, rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov rdx, rcx",
    "mov r10, r8",
    "mov r8, r9",
    "mov r9, [rsp + 8]",
    "syscall",
    "cmp rax, -4095",
    "jae 2f",
    "ret",
    "2:",
    "mov edi, eax",
    "jmp {failed}",
    ".size syscall, . - syscall",
    // The same as `memcmp` for those who only want to know whether there is a difference.
    ".weak bcmp",
    ".hidden bcmp",
    ".type bcmp, @function",
    "bcmp:",
    "jmp [rip + memcmp@GOTPCREL]",
    ".size bcmp, . - bcmp",
    ".popsection",
    failed = sym failed,
);

/// Notes a system call's error, which the kernel gives as a negative number.
extern "C" fn failed(negative: c_int) -> c_long {
    // SAFETY: the calling thread's own place.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.write(-negative) };
    -1
}

unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's path.
    shorten(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) })
}

unsafe extern "C" fn recv(socket: c_int, place: *mut c_void, length: usize, flags: c_int) -> c_long {
    let nobody = std::ptr::null::<c_void>();
    // SAFETY: the caller's place.
    unsafe { libc::syscall(libc::SYS_recvfrom, socket, place, length, flags, nobody, nobody) }
}

unsafe extern "C" fn pwritev2(
    descriptor: c_int,
    parts: *const libc::iovec,
    count: c_int,
    offset: i64,
    flags: c_int,
) -> c_long {
    // The kernel takes the offset as two halves, of which the first holds all of it.
    // SAFETY: the caller's parts.
    unsafe { libc::syscall(libc::SYS_pwritev2, descriptor, parts, count, offset, 0, flags) }
}

unsafe extern "C" fn getcwd(place: *mut c_char, length: usize) -> *mut c_char {
    // SAFETY: the caller's place.
    let result = unsafe { libc::syscall(libc::SYS_getcwd, place, length) };
    if result < 0 { std::ptr::null_mut() } else { place }
}

unsafe extern "C" fn sched_getaffinity(process: c_int, length: usize, mask: *mut libc::cpu_set_t) -> c_int {
    // SAFETY: the caller's mask, whose rest the kernel leaves as it is.
    let written = unsafe { libc::syscall(libc::SYS_sched_getaffinity, process, length, mask) };
    let Ok(written) = usize::try_from(written) else { return -1 };
    // SAFETY: the rest of the caller's mask.
    unsafe { mask.cast::<u8>().wrapping_add(written).write_bytes(0, length.saturating_sub(written)) };
    0
}

unsafe extern "C" fn clock_nanosleep(
    clock: c_int,
    flags: c_int,
    time: *const libc::timespec,
    rest: *mut libc::timespec,
) -> c_int {
    // SAFETY: the caller's times.
    let result = unsafe { libc::syscall(libc::SYS_clock_nanosleep, clock, flags, time, rest) };
    if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL) } else { 0 }
}

unsafe extern "C" fn fstat(descriptor: c_int, place: *mut libc::stat) -> c_int {
    // SAFETY: the caller's place; the kernel's structure is the C library's.
    shorten(unsafe { libc::syscall(libc::SYS_fstat, descriptor, place) })
}

unsafe extern "C" fn stat(path: *const c_char, place: *mut libc::stat) -> c_int {
    // SAFETY: the caller's path and place; the kernel's structure is the C library's.
    shorten(unsafe { libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path, place, 0) })
}

/// A result of a system call that is an `int`.
fn shorten(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

/// Keys there can be; the standard library makes one.
const KEYS: usize = 8;
/// How often a thread's end looks for values that destructors have set anew.
const ROUNDS: usize = 4;

type Destructor = unsafe extern "C" fn(*mut c_void);

/// Each key's destructor; a key that was made has one, if only one that does nothing.
static DESTRUCTORS: [OnceLock<Destructor>; KEYS] = [const { OnceLock::new() }; KEYS];

thread_local! {
    static VALUES: [Cell<*mut c_void>; KEYS] = const { [const { Cell::new(std::ptr::null_mut()) }; KEYS] };
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

unsafe extern "C" fn no_destructor(_: *mut c_void) {}

unsafe extern "C" fn key_create(place: *mut u32, destructor: Option<Destructor>) -> c_int {
    let mut destructor = Some(destructor.unwrap_or(no_destructor));
    for (number, slot) in (0..).zip(&DESTRUCTORS) {
        slot.get_or_init(|| destructor.take().unwrap_or(no_destructor));
        if destructor.is_none() {
            // SAFETY: the caller's place.
            unsafe { place.write(number) };
            return 0;
        }
    }
    libc::EAGAIN
}

/// A key stays made: nobody who deletes one makes many.
unsafe extern "C" fn key_delete(key: u32) -> c_int {
    // SAFETY: setting to null looks at no value.
    unsafe { set_specific(key, std::ptr::null()) }
}

fn value_of<T>(key: u32, body: impl FnOnce(&Cell<*mut c_void>) -> T) -> Option<T> {
    let key = usize::try_from(key).ok()?;
    DESTRUCTORS.get(key)?.get()?;
    VALUES.with(|values| values.get(key).map(body))
}

unsafe extern "C" fn set_specific(key: u32, value: *const c_void) -> c_int {
    if value_of(key, |place| place.set(value.cast_mut())).is_none() {
        return libc::EINVAL;
    }
    // The values of the process's first thread are not destroyed at its exit, as the C library has it.
    // SAFETY: no arguments.
    let first = || unsafe { libc::gettid() } == std::process::id().cast_signed();
    if !value.is_null() && !ENDS.replace(true) && !first() {
        let here = (&raw const __ehdr_start).cast::<c_void>().cast_mut();
        // SAFETY: a function of this library, which is never unloaded, and any address in it.
        unsafe { __cxa_thread_atexit_impl(thread_ends, std::ptr::null_mut(), here) };
    }
    0
}

extern "C" fn get_specific(key: u32) -> *mut c_void {
    value_of(key, Cell::get).unwrap_or(std::ptr::null_mut())
}

unsafe extern "C" fn thread_ends(_: *mut c_void) {
    for _ in 0..ROUNDS {
        for (key, destructor) in (0..).zip(&DESTRUCTORS) {
            let value = value_of(key, |place| place.replace(std::ptr::null_mut()));
            if let (Some(value), Some(destructor)) =
                (value.filter(|value| !value.is_null()), destructor.get())
            {
                // SAFETY: the key's own destructor, with the value that was set.
                unsafe { destructor(value) };
            }
        }
    }
}

/// Names the calling thread, which is the only one that the standard library names.
unsafe extern "C" fn set_name(_: libc::pthread_t, name: *const c_char) -> c_int {
    // SAFETY: the caller's name.
    if unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name) } < 0 { libc::EINVAL } else { 0 }
}

unsafe extern "C" fn signal_mask(how: c_int, new: *const libc::sigset_t, old: *mut libc::sigset_t) -> c_int {
    /// Bytes of the kernel's set; the C library's is longer.
    const BYTES: usize = 8;
    // SAFETY: the caller's sets.
    if unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, new, old, BYTES) } < 0 {
        libc::EINVAL
    } else {
        0
    }
}

/// Runs `routine` unless that has been done for `control`, of which the first four bytes are all that is used.
unsafe extern "C" fn once(control: *const AtomicU32, routine: unsafe extern "C" fn()) -> c_int {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // SAFETY: the caller's control block, which lives for ever.
    let done = unsafe { &*control };
    if done.load(Ordering::Acquire) == 0 {
        let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if done.load(Ordering::Relaxed) == 0 {
            // SAFETY: the caller's routine.
            unsafe { routine() };
            done.store(1, Ordering::Release);
        }
    }
    0
}

/// `struct dl_find_object`.
#[repr(C)]
struct FoundObject {
    flags: u64,
    map_start: *const c_void,
    map_end: *const c_void,
    link_map: *const c_void,
    eh_frame: *const c_void,
    reserved: [u64; 7],
}

unsafe extern "C" {
    fn __cxa_thread_atexit_impl(function: Destructor, argument: *mut c_void, object: *mut c_void) -> c_int;

    #[allow(non_upper_case_globals, reason = "the linker's name")]
    safe static __ehdr_start: libc::Elf64_Ehdr;
}

/// Tells the unwinder where this library's unwind tables are. Every panic is caught in the library, so it never needs
/// another's, and neither the loader's lock nor a walk over all objects.
unsafe extern "C" fn find_object(address: *const c_void, place: *mut FoundObject) -> c_int {
    let header = &raw const __ehdr_start;
    // SAFETY: the linker's symbol is the file's own header, which is mapped.
    let about = unsafe { &*header };
    let base = header.cast::<u8>();
    let programs = base.wrapping_add(usize::try_from(about.e_phoff).unwrap_or(0)).cast::<libc::Elf64_Phdr>();
    let (mut end, mut tables) = (0, 0);
    for index in 0..usize::from(about.e_phnum) {
        // SAFETY: one of the program headers, which are mapped with the file's.
        let program = unsafe { &*programs.wrapping_add(index) };
        match program.p_type {
            libc::PT_LOAD => end = program.p_vaddr + program.p_memsz,
            libc::PT_GNU_EH_FRAME => tables = program.p_vaddr,
            _ => {}
        }
    }
    let at = |offset: u64| base.wrapping_add(usize::try_from(offset).unwrap_or(0)).cast::<c_void>();
    if !(at(0)..at(end)).contains(&address) || tables == 0 {
        return -1;
    }
    let found = FoundObject {
        flags: 0,
        map_start: at(0),
        map_end: at(end),
        link_map: std::ptr::null(),
        eh_frame: at(tables),
        reserved: [0; 7],
    };
    // SAFETY: the caller's place.
    unsafe { place.write(found) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_described_as_by_the_c_library() {
        // SAFETY: any bytes are a description.
        let mut ours: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: any bytes are a description.
        let mut theirs: libc::stat = unsafe { std::mem::zeroed() };
        let path = c"/proc/self/exe";
        // SAFETY: a path and room for its description.
        let result = unsafe { stat(path.as_ptr(), &raw mut ours) };
        // SAFETY: a path and room for its description.
        let expected = unsafe { libc::stat(path.as_ptr(), &raw mut theirs) };
        assert_eq!((result, expected), (0, 0));
        assert_eq!(
            (ours.st_ino, ours.st_size, ours.st_mode),
            (theirs.st_ino, theirs.st_size, theirs.st_mode)
        );

        // SAFETY: a path that is not there, and room.
        let result = unsafe { stat(c"/proc/self/nothing".as_ptr(), &raw mut ours) };
        let error = std::io::Error::last_os_error().raw_os_error();
        assert_eq!((result, error), (-1, Some(libc::ENOENT)));
        // SAFETY: no descriptor, and room.
        assert_eq!(unsafe { fstat(-1, &raw mut ours) }, -1);
    }

    #[test]
    fn a_thread_has_its_number() {
        let place = std::fs::read_link("/proc/thread-self").expect("the kernel tells it too");
        // SAFETY: no arguments.
        let number = unsafe { libc::gettid() };
        assert!(place.ends_with(number.to_string()), "{number} is not in {}", place.display());
    }

    #[test]
    fn a_threads_end_destroys_its_values() {
        static DESTROYED: AtomicU32 = AtomicU32::new(0);
        static KEY: AtomicU32 = AtomicU32::new(u32::MAX);
        unsafe extern "C" fn destroy(value: *mut c_void) {
            // The first time, the value is set again.
            if DESTROYED.fetch_add(1, Ordering::Relaxed) == 0 {
                // SAFETY: the test's own key and value.
                unsafe { set_specific(KEY.load(Ordering::Relaxed), value) };
            }
        }
        let mut key = u32::MAX;
        // SAFETY: room for a key.
        assert_eq!(unsafe { key_create(&raw mut key, Some(destroy)) }, 0);
        KEY.store(key, Ordering::Relaxed);
        let value = std::ptr::without_provenance_mut::<c_void>(7);
        std::thread::spawn(move || {
            assert!(get_specific(key).is_null());
            // SAFETY: the test's own key.
            assert_eq!(unsafe { set_specific(key, std::ptr::without_provenance(7)) }, 0);
            assert_eq!(get_specific(key).addr(), 7);
        })
        .join()
        .expect("the thread ends");
        assert_eq!(DESTROYED.load(Ordering::Relaxed), 2);
        assert!(get_specific(key).is_null(), "the value was another thread's");
        // SAFETY: no key.
        assert_eq!(unsafe { set_specific(u32::MAX, value) }, libc::EINVAL);
    }

    #[test]
    fn once_is_once() {
        static CONTROL: AtomicU32 = AtomicU32::new(0);
        static RUNS: AtomicU32 = AtomicU32::new(0);
        unsafe extern "C" fn routine() {
            RUNS.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::scope(|scope| {
            for _ in 0..8 {
                // SAFETY: a control block and a routine that are there for ever.
                scope.spawn(|| assert_eq!(unsafe { once(&raw const CONTROL, routine) }, 0));
            }
        });
        assert_eq!(RUNS.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn unwind_tables_are_those_of_the_object() {
        let mut found = FoundObject {
            flags: 1,
            map_start: std::ptr::null(),
            map_end: std::ptr::null(),
            link_map: std::ptr::null(),
            eh_frame: std::ptr::null(),
            reserved: [1; 7],
        };
        let here = find_object as *const c_void;
        // SAFETY: room for an answer.
        assert_eq!(unsafe { find_object(here, &raw mut found) }, 0);
        assert!((found.map_start..found.map_end).contains(&here));
        assert!((found.map_start..found.map_end).contains(&found.eh_frame));
        // SAFETY: the first byte of a table, whose version is 1.
        assert_eq!(unsafe { found.eh_frame.cast::<u8>().read() }, 1);
        let elsewhere = libc::abort as *const c_void;
        // SAFETY: room for an answer.
        assert_eq!(unsafe { find_object(elsewhere, &raw mut found) }, -1);
    }
}
