//! The process that is looked at: this same program, if a variable gives it a role.
//!
//! [`before`] runs before any library's constructor, [`after`] when all have run; then the process ends without having
//! seen `main`.
//!
//! Unsafe code: what the dynamic linker hands over, and system calls.

use std::ffi::{CStr, c_char, c_int};
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// The variable.
pub(crate) const ROLE: &str = "PRELOAD_TEST_ROLE";

/// The exit code of a process that should have more rights than who started it, and has not.
pub(crate) const NOT_PRIVILEGED: i32 = 2;

type Strings = *const *const c_char;
type Entry = unsafe extern "C" fn(c_int, Strings, Strings);

#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE: Entry = before;
#[used]
#[unsafe(link_section = ".init_array")]
static AFTER: Entry = after;

unsafe extern "C" fn before(_: c_int, _: Strings, environment: Strings) {
    // The C library's own list of variables comes with its constructor.
    // SAFETY: set before anybody could read it.
    unsafe { environ = environment };
    match role() {
        Some("count") => filter(&FOUR),
        Some("count-none") => filter(&[]),
        Some("count-privileged") => {
            // SAFETY: the process's own environment, as the kernel has laid it out.
            unsafe { become_privileged(environment) };
            filter(&[]);
        }
        Some("count-secure") => {
            // SAFETY: reads what the kernel gave the process.
            if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
                // SAFETY: ends the process.
                unsafe { libc::_exit(NOT_PRIVILEGED) };
            }
            filter(&[]);
        }
        Some("state") => set_up(),
        Some("time") => START_NS.store(now_ns(), Ordering::Relaxed),
        _ => {}
    }
}

unsafe extern "C" fn after(_: c_int, _: Strings, _: Strings) {
    let Some(role) = role() else { return };
    let problem = match role {
        "count" | "count-none" | "count-privileged" => None,
        "count-secure" => (!super::processes::is_loaded()).then_some("the library is not there"),
        "state" => difference(),
        "time" => {
            let took = now_ns() - START_NS.load(Ordering::Relaxed);
            writeln!(std::io::stdout(), "{took}").err().map(|_| "standard output")
        }
        other => super::processes::role(other),
    };
    if let Some(problem) = problem {
        eprintln!("{role}: {problem}");
    }
    // SAFETY: ends the process; nothing that is left would be of use.
    unsafe { libc::_exit(i32::from(problem.is_some())) }
}

/// This process's role.
fn role() -> Option<&'static str> {
    // SAFETY: a constant name.
    let role = unsafe { libc::getenv(c"PRELOAD_TEST_ROLE".as_ptr()) };
    if role.is_null() {
        return None;
    }
    // SAFETY: a string of the environment.
    unsafe { CStr::from_ptr(role) }.to_str().ok()
}

static START_NS: AtomicI64 = AtomicI64::new(0);

fn now_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The system calls of an application process.
const FOUR: [libc::c_long; 4] = [READ_LINK, libc::SYS_openat, libc::SYS_read, libc::SYS_close];
#[cfg(target_arch = "x86_64")]
pub(crate) const READ_LINK: libc::c_long = libc::SYS_readlink;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const READ_LINK: libc::c_long = libc::SYS_readlinkat;

/// From here on, any system call but these and the process's end kills.
fn filter(allowed: &[libc::c_long]) {
    let statement =
        |code: u32, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut program = [statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS); 16];
    program[0] = statement(load, 0);
    let mut length = 1;
    for &number in allowed.iter().chain(&[libc::SYS_exit_group]) {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        program[length] = statement(equal, u32::try_from(number).unwrap_or(u32::MAX));
        program[length].jf = 1;
        program[length + 1] = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
        length += 2;
    }
    let filter =
        libc::sock_fprog { len: u16::try_from(length + 1).unwrap_or(0), filter: program.as_mut_ptr() };
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: a complete filter; the kernel copies it.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
}

/// Notes in the kernel's note that the process has more rights than who started it. The dynamic linker, which would
/// not have preloaded the library then, has read it already.
///
/// # Safety
/// `environment` is the one that the kernel has made, with its note behind.
unsafe fn become_privileged(environment: Strings) {
    let mut place = environment;
    // SAFETY: the list ends with a null pointer.
    while !unsafe { place.read() }.is_null() {
        place = place.wrapping_add(1);
    }
    let mut entry = place.wrapping_add(1).cast::<[u64; 2]>().cast_mut();
    loop {
        // SAFETY: the note ends with an entry of type AT_NULL.
        let [kind, _] = unsafe { entry.read() };
        if kind == libc::AT_SECURE {
            // SAFETY: the process's own stack.
            unsafe { entry.write([kind, 1]) };
        }
        if kind == libc::AT_NULL {
            return;
        }
        entry = entry.wrapping_add(1);
    }
}

/// What a program may have set up before its libraries are initialised, and what must be as before afterwards.
#[derive(PartialEq)]
struct World {
    blocked: [bool; 32],
    timers: [Timer; 3],
    descriptors: [(u64, u64); DESCRIPTORS],
    environment: Vec<(usize, Vec<u8>)>,
    umask: libc::mode_t,
    stack: (usize, c_int),
}

/// Seconds that are left, and between two rings.
#[derive(Clone, Copy, Default, PartialEq)]
struct Timer {
    left: i64,
    interval: i64,
}

impl Timer {
    /// Whether a later look shows the same timer, still running.
    const fn goes_on(self, later: Self) -> bool {
        self.interval == later.interval && later.left <= self.left && later.left > self.left - 60
    }
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);
static RINGS: AtomicU32 = AtomicU32::new(0);

const DESCRIPTORS: usize = 64;
/// Seconds on the alarm clock: it must not ring while the test runs.
const ALARM_SECONDS: u32 = 600;
const ERRNO: i32 = 77;

extern "C" fn ring(_: c_int) {
    RINGS.fetch_add(1, Ordering::Relaxed);
}

fn set_up() {
    // SAFETY: zeros are an action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ring as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a handler that counts.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    change_mask(libc::SIG_BLOCK, &[libc::SIGALRM, libc::SIGUSR1]);
    // One ring is pending, and the clock goes on.
    // SAFETY: to this process.
    unsafe { libc::raise(libc::SIGALRM) };
    // SAFETY: numbers only.
    unsafe { libc::alarm(ALARM_SECONDS) };
    for timer in [libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        let value = libc::timeval { tv_sec: 900, tv_usec: 0 };
        let value = libc::itimerval { it_interval: value, it_value: value };
        // SAFETY: a complete value.
        unsafe { libc::setitimer(timer, &raw const value, std::ptr::null_mut()) };
    }
    *WORLD.lock().expect("one thread") = Some(look());
    // SAFETY: the thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { errno.write(ERRNO) };
}

fn change_mask(how: c_int, signals: &[c_int]) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: room for a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for &signal in signals {
        // SAFETY: an initialised set.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: an initialised set.
    unsafe { libc::sigprocmask(how, set.as_ptr(), std::ptr::null_mut()) };
}

/// What is not as it was.
fn difference() -> Option<&'static str> {
    let errno = std::io::Error::last_os_error().raw_os_error();
    let now = look();
    let world = WORLD.lock().expect("one thread").take()?;
    let checks = [
        ("errno", errno == Some(ERRNO)),
        ("the signal mask", world.blocked == now.blocked && now.blocked.contains(&true)),
        ("the alarm clock", now.timers[0].left > 0 && world.timers[0].goes_on(now.timers[0])),
        ("the other timers", (1..3).all(|which| world.timers[which].goes_on(now.timers[which]))),
        ("the descriptors", world.descriptors == now.descriptors),
        ("the environment", world.environment == now.environment),
        ("the file mode mask", world.umask == now.umask),
        ("the signal stack", world.stack == now.stack),
        ("the threads", std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) == 1),
        ("the alarm that rang", rings_once()),
    ];
    checks.iter().find(|(_, is_same)| !is_same).map(|(what, _)| *what)
}

/// Whether the pending alarm rings now, by the program's handler, and no other.
fn rings_once() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: room for an action.
    unsafe { libc::sigaction(libc::SIGALRM, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the kernel has filled it.
    let action = unsafe { action.assume_init() };
    let is_ours =
        action.sa_sigaction == ring as *const () as usize && action.sa_flags & libc::SA_RESTART != 0;
    let before = RINGS.load(Ordering::Relaxed);
    change_mask(libc::SIG_UNBLOCK, &[libc::SIGALRM]);
    is_ours && before == 0 && RINGS.load(Ordering::Relaxed) == 1
}

fn look() -> World {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: room for a set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr()) };
    let is_blocked = |signal: usize| {
        // SAFETY: a set that the kernel has filled.
        unsafe { libc::sigismember(set.as_ptr(), c_int::try_from(signal).unwrap_or(0)) == 1 }
    };
    let timer = |which| {
        let mut value = MaybeUninit::<libc::itimerval>::uninit();
        // SAFETY: room for a value.
        unsafe { libc::getitimer(which, value.as_mut_ptr()) };
        // SAFETY: the kernel has filled it.
        let value = unsafe { value.assume_init() };
        Timer { left: value.it_value.tv_sec, interval: value.it_interval.tv_sec }
    };
    // SAFETY: numbers only; set back at once.
    let umask = unsafe { libc::umask(0) };
    // SAFETY: numbers only.
    unsafe { libc::umask(umask) };
    let mut stack = MaybeUninit::<libc::stack_t>::uninit();
    // SAFETY: room for a stack's description.
    unsafe { libc::sigaltstack(std::ptr::null(), stack.as_mut_ptr()) };
    // SAFETY: the kernel has filled it.
    let stack = unsafe { stack.assume_init() };
    World {
        blocked: std::array::from_fn(is_blocked),
        timers: [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF].map(timer),
        descriptors: std::array::from_fn(|number| identity(c_int::try_from(number).unwrap_or(-1))),
        environment: variables(),
        umask,
        stack: (stack.ss_sp.addr(), stack.ss_flags),
    }
}

/// Each variable: where it is, and its bytes.
fn variables() -> Vec<(usize, Vec<u8>)> {
    let mut variables = Vec::new();
    // SAFETY: the C library's own list.
    let mut place = unsafe { environ };
    loop {
        // SAFETY: the list ends with a null pointer.
        let variable = unsafe { place.read() };
        if variable.is_null() {
            return variables;
        }
        // SAFETY: each entry is a string.
        let text = unsafe { CStr::from_ptr(variable) };
        variables.push((variable.addr(), text.to_bytes().to_vec()));
        place = place.wrapping_add(1);
    }
}

unsafe extern "C" {
    static mut environ: Strings;
}

/// What a descriptor is: device and inode, or zeros.
pub(crate) fn identity(descriptor: c_int) -> (u64, u64) {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: room for a status.
    unsafe { libc::fstat(descriptor, status.as_mut_ptr()) };
    // SAFETY: zeros, or filled by the kernel.
    let status = unsafe { status.assume_init() };
    (status.st_dev, status.st_ino)
}
