//! Children, closed descriptors, and the library opened again.
//!
//! Unsafe code: system calls and the library's functions.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use virtio_spec::device::State;
use virtio_spec::local::SOCKET_VARIABLE;
use virtio_spec::uapi::info_flags::SHIM_OFF;

use crate::{Place, answer, expect_success, has_stand_ins, library, probe};

const CHILDREN: usize = 1000;

/// A function of the preloaded library.
fn call(name: &CStr, argument: u64) -> i32 {
    // SAFETY: a constant name.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if function.is_null() {
        return -1;
    }
    // SAFETY: functions of the driver that take one number or pointer.
    let function: extern "C" fn(u64) -> i32 = unsafe { std::mem::transmute(function) };
    function(argument)
}

/// Whether the library is in this process.
pub(crate) fn is_loaded() -> bool {
    // SAFETY: a constant name.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"cuInit".as_ptr()) }.is_null()
}

const SUCCESS: i32 = 0;
const NOT_INITIALIZED: i32 = 3;
const STUB_LIBRARY: i32 = 34;

fn init() -> i32 {
    call(c"cuInit", 0)
}

fn count() -> i32 {
    let mut devices: c_int = -1;
    match call(c"cuDeviceGetCount", (&raw mut devices) as u64) {
        SUCCESS => devices,
        error => -error,
    }
}

/// Runs something in a forked child; its answer must be true.
fn in_child(body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let answer = body();
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!answer)) };
    }
    let mut status = -1;
    // SAFETY: room for a status.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    status == 0
}

/// What is checked, and how.
type Check = (&'static str, fn() -> bool);

/// What a probe does here; answers what was not as it should be.
pub(crate) fn role(role: &str) -> Option<&'static str> {
    let checks: &[Check] = match role {
        "cuda" => &[("cuInit", || init() == SUCCESS && count() == 1)],
        "no cuda" => &[("cuInit without a device", || init() != SUCCESS)],
        "later" => &[
            ("nothing before cuInit", || count() == -NOT_INITIALIZED),
            ("no device yet", || init() != SUCCESS && init() != SUCCESS),
            ("the device that came", || bring_device() && init() == SUCCESS && count() == 1),
        ],
        "snapshot" => {
            &[("what was known at the start", || take_device() && init() == SUCCESS && count() == 1)]
        }
        "no snapshot" => &[("nothing was kept", || take_device() && init() != SUCCESS)],
        "no engine" => &[
            ("every call says so", || init() == STUB_LIBRARY && count() == -STUB_LIBRARY),
            ("the engine that came", || bring_engine() && init() == SUCCESS && count() == 1),
        ],
        "fork" => &[
            ("a child that calls CUDA first", || in_child(|| init() == SUCCESS && count() == 1)),
            ("a daemon", || in_child(|| in_child(|| init() == SUCCESS && count() == 1))),
            ("its parent", || init() == SUCCESS && count() == 1),
            ("a child after cuInit", || in_child(|| init() == NOT_INITIALIZED)),
        ],
        "spawn" => &[
            ("a child with the library", child),
            ("a child without", spawn),
            ("cuInit afterwards", || init() == SUCCESS),
        ],
        "closed" => &[("cuInit without descriptors", || {
            // SAFETY: numbers only.
            unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
            init() == SUCCESS && count() == 1
        })],
        "three" => &[("descriptor 3", || {
            // SAFETY: a constant path.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) == 3 }
        })],
        "listen" => &[("descriptor 3", || probe::identity(3) != (0, 0) && listens())],
        "late" => {
            &[("a library that a thread opens", || opens_in_thread() && init() == SUCCESS && count() == 1)]
        }
        "open" => &[("one library", is_one), ("cuInit after dlclose", || init() == SUCCESS && count() == 1)],
        _ => return Some("no such role"),
    };
    checks.iter().find(|(_, check)| !check()).map(|(what, _)| *what)
}

fn device() -> CString {
    let path = std::env::var_os("VCOMPUTE_TEST_DEVICE").expect("the test says where it is");
    CString::new(path.as_bytes()).expect("a path")
}

fn bring_device() -> bool {
    let path = device();
    let hidden = CString::new([path.as_bytes(), b".hidden"].concat()).expect("a path");
    // SAFETY: two paths.
    unsafe { libc::rename(hidden.as_ptr(), path.as_ptr()) == 0 }
}

fn bring_engine() -> bool {
    let library = std::env::var_os("LD_PRELOAD").expect("the test has preloaded it");
    let engine = Path::new(&library).with_file_name("libvcompute.so");
    std::fs::rename(engine.with_extension("so.hidden"), engine).is_ok()
}

fn take_device() -> bool {
    // SAFETY: a path.
    unsafe { libc::unlink(device().as_ptr()) == 0 }
}

fn listens() -> bool {
    let mut is: c_int = 0;
    let mut size = 4;
    // SAFETY: room for a number.
    unsafe {
        libc::getsockopt(3, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut is).cast(), &raw mut size)
    };
    is == 1 && std::env::var("LISTEN_FDS").as_deref() == Ok("1")
}

fn child() -> bool {
    std::process::Command::new("/bin/true").status().is_ok_and(|status| status.success())
}

fn spawn() -> bool {
    let arguments = [c"true".as_ptr().cast_mut(), std::ptr::null_mut()];
    let mut child = 0;
    let null = std::ptr::null();
    // SAFETY: a path and a list of arguments that ends with a null pointer; no environment, so no library either.
    let result = unsafe {
        libc::posix_spawn(
            &raw mut child,
            c"/bin/true".as_ptr(),
            null,
            null.cast(),
            arguments.as_ptr(),
            std::ptr::null(),
        )
    };
    let mut status = -1;
    // SAFETY: room for a status.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    result == 0 && status == 0
}

/// Opens the library in a thread, for all to use. The process has none until then.
fn opens_in_thread() -> bool {
    let path = std::env::var_os("PRELOAD_TEST_LIBRARY").expect("the test says where it is");
    let path = CString::new(path.as_bytes()).expect("a path");
    let open = move || {
        // SAFETY: this library's constructors are what the test is about.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        !library.is_null()
    };
    init() == -1 && std::thread::spawn(open).join().is_ok_and(|opened| opened)
}

/// Whether the library by its name, by its path, and as it was preloaded is one; and stays when it is closed.
fn is_one() -> bool {
    let path = std::env::var_os("LD_PRELOAD").expect("the test has preloaded it");
    let path = CString::new(path.as_bytes()).expect("a path");
    let open = |name: &CStr| {
        // SAFETY: this library's constructors are what the test is about.
        unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) }
    };
    let found = |library: *mut c_void| {
        // SAFETY: an open library.
        unsafe { libc::dlsym(library, c"cuInit".as_ptr()) }
    };
    // SAFETY: a constant name.
    let preloaded = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"cuInit".as_ptr()) };
    let (by_name, by_path) = (open(c"libcuda.so.1"), open(&path));
    let is_one = by_name == by_path && !by_name.is_null() && found(by_name) == preloaded;
    for _ in 0..8 {
        // SAFETY: opened above; one time too often is answered with an error.
        unsafe { libc::dlclose(by_name) };
    }
    is_one && !preloaded.is_null()
}

#[test]
fn the_first_call_uses_what_the_start_has_learnt() {
    let place = Place::new("snapshot");
    if has_stand_ins("snapshot") {
        expect_success(&mut place.command("python3", "snapshot"));
    }
}

#[test]
fn nothing_is_kept_that_is_not_wanted() {
    if !has_stand_ins("unwanted") {
        return;
    }
    let place = Place::new("unwanted");
    expect_success(place.command("python3", "no snapshot").env("VCOMPUTE_SHIM", "off"));
    for (state, flags) in [(State::Ready, SHIM_OFF), (State::NoGpu, 0), (State::Starting, 0)] {
        std::fs::write(place.device(), answer(state, flags)).expect("the folder is writable");
        expect_success(&mut place.command("python3", "no snapshot"));
    }
}

#[test]
fn the_first_call_asks_again() {
    let place = Place::new("later");
    if has_stand_ins("later") {
        std::fs::rename(place.device(), place.device().with_file_name("device.hidden")).expect("it is there");
        expect_success(&mut place.command("python3", "later"));
    }
}

#[test]
fn a_program_that_is_left_alone_can_call_cuda() {
    let place = Place::new("alone");
    if has_stand_ins("alone") {
        for name in ["sshd", "python3"] {
            expect_success(place.command(name, "cuda").env("VCOMPUTE_SHIM", "off"));
        }
        place.without_device();
        expect_success(&mut place.command("python3", "no cuda"));
    }
}

#[test]
fn without_the_other_half_every_call_says_so() {
    let place = Place::new("half");
    if has_stand_ins("half") {
        let folder = place.folder("alone");
        let alone = folder.join("libcuda.so.1");
        std::fs::copy(library(), &alone).expect("the folder is writable");
        let engine = library().with_file_name("libvcompute.so");
        std::fs::copy(engine, folder.join("libvcompute.so.hidden")).expect("the folder is writable");
        let mut command = place.command("python3", "no engine");
        let output = expect_success(command.env("LD_PRELOAD", alone).env("VCOMPUTE_LOG", "error"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("libvcompute.so cannot be loaded"), "{text}");
    }
}

#[test]
fn a_link_leads_to_both_halves() {
    let place = Place::new("link");
    if has_stand_ins("link") {
        let link = place.folder("elsewhere").join("libcuda.so.1");
        std::os::unix::fs::symlink(library(), &link).expect("the folder is writable");
        expect_success(place.command("python3", "cuda").env("LD_PRELOAD", link));
    }
}

#[test]
fn children_are_as_without_it() {
    let place = Place::new("children");
    if has_stand_ins("children") {
        for role in ["fork", "spawn", "closed", "open"] {
            expect_success(&mut place.command("python3", role));
        }
    }
}

#[test]
fn a_thread_can_open_it() {
    let place = Place::new("late");
    if has_stand_ins("late") {
        let mut command = place.command("python3", "late");
        expect_success(command.env_remove("LD_PRELOAD").env("PRELOAD_TEST_LIBRARY", library()));
    }
}

#[test]
fn descriptor_three_is_free() {
    let place = Place::new("three");
    expect_success(&mut place.command("python3", "three"));
    // A shell's script that counts on it.
    let mut shell = place.preloaded(Path::new("/bin/sh"));
    expect_success(
        shell.args(["-c", "exec 3</dev/null && [ -e /proc/self/fd/3 ] && [ ! -e /proc/self/fd/4 ]"]),
    );
}

#[test]
fn an_activated_service_has_its_socket() {
    let place = Place::new("listen");
    let listener =
        UnixListener::bind(place.device().with_file_name("socket")).expect("the folder is writable");
    let mut command = place.command("python3", "listen");
    command.env("LISTEN_FDS", "1");
    let give = move || {
        // SAFETY: a descriptor of this test, which goes to the child without CLOEXEC.
        let number = unsafe { libc::dup2(listener.as_raw_fd(), 3) };
        // SAFETY: it may have been that number, which then has kept the flag.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        Ok(())
    };
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(give) };
    expect_success(&mut command);
}

/// How often a file was opened, and how often closed after reading.
fn opened_and_closed(path: &Path, during: impl FnOnce()) -> (usize, usize) {
    // SAFETY: makes a descriptor.
    let notify = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
    assert!(notify >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a descriptor that nobody else owns.
    let events = File::from(unsafe { OwnedFd::from_raw_fd(notify) });
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: a path.
    let watch = unsafe { libc::inotify_add_watch(notify, path.as_ptr(), libc::IN_ALL_EVENTS) };
    assert!(watch >= 0, "{}", std::io::Error::last_os_error());
    let mut counts = (0, 0);
    let counting = std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let counter = scope.spawn(move || {
            // Equal events in a row would become one: they are read as they come.
            let mut counts = (0, 0);
            loop {
                let is_last = is_done.try_recv().is_ok();
                let (opened, closed) = read_events(&events);
                counts = (counts.0 + opened, counts.1 + closed);
                if is_last {
                    return counts;
                }
                std::thread::yield_now();
            }
        });
        during();
        done.send(()).expect("the counter waits for it");
        counter.join().expect("the counter ends")
    });
    counts.0 += counting.0;
    counts.1 += counting.1;
    counts
}

fn read_events(mut events: &File) -> (usize, usize) {
    use std::io::Read as _;

    let mut counts = (0, 0);
    let mut bytes = [0; 4096];
    while let Ok(length) = events.read(&mut bytes) {
        // A watch on a file itself gives events without names, of the header's size each.
        for event in bytes[..length].chunks_exact(size_of::<libc::inotify_event>()) {
            let mask = u32::from_ne_bytes(event[4..8].try_into().expect("four bytes"));
            assert_eq!(mask & libc::IN_Q_OVERFLOW, 0, "the counter is fast enough");
            counts.0 += usize::from(mask & libc::IN_OPEN != 0);
            counts.1 += usize::from(mask & libc::IN_CLOSE_NOWRITE != 0);
            assert_eq!(mask & libc::IN_CLOSE_WRITE, 0, "a session would need to write");
        }
    }
    counts
}

#[test]
fn a_thousand_children_open_no_session() {
    let script = format!("i=0; while [ $i -lt {CHILDREN} ]; do /bin/true || exit 1; i=$((i+1)); done");
    let place = Place::new("thousand");
    if has_stand_ins("thousand") {
        let (opened, closed) = opened_and_closed(&place.device(), || {
            expect_success(place.preloaded(Path::new("/bin/sh")).args(["-c", &script]));
        });
        assert_eq!(
            (opened, closed),
            (CHILDREN + 1, CHILDREN + 1),
            "each looks once, and closes what it opened"
        );
    }

    let socket = place.device().with_file_name("socket");
    let listener = UnixListener::bind(&socket).expect("the folder is writable");
    listener.set_nonblocking(true).expect("it is a socket");
    expect_success(place.preloaded(Path::new("/bin/sh")).args(["-c", &script]).env(SOCKET_VARIABLE, &socket));
    assert!(listener.accept().is_err(), "nobody has connected");
}

#[test]
fn the_library_is_the_one_that_was_built() {
    assert!(library().exists(), "{}", library().display());
}
