//! Whatever hangs or lies, a process's start does not wait for it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Place, expect_success, has_stand_ins};

/// Far below the deadline, and far above what a machine that does other things needs.
const WELL_UNDER_NS: i64 = 1_000_000;
const ATTEMPTS: usize = 20;

/// The time that all constructors took, at best: on a machine with other work, single ones are interrupted.
fn best(mut command: impl FnMut() -> Command) -> i64 {
    let one = |command: &mut Command| -> i64 {
        let output = expect_success(command);
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of nanoseconds")
    };
    (0..ATTEMPTS).map(|_| one(&mut command())).min().expect("there are attempts")
}

#[track_caller]
fn expect_no_wait(what: &str, command: impl FnMut() -> Command) {
    let took = best(command);
    eprintln!("{what}: {took} ns");
    assert!(took < WELL_UNDER_NS, "{what}: {took} ns");
}

fn fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: a path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn nothing_in_the_way() {
    let place = Place::new("clear");
    expect_no_wait("a device with a GPU", || place.command("python3", "time"));
    expect_no_wait("a system process", || place.command("sshd", "time"));
}

#[test]
fn devices_that_are_none() {
    if !has_stand_ins("devices") {
        return;
    }
    let place = Place::new("fifo");
    let device = place.without_device();
    fifo(&device);
    expect_no_wait("a FIFO without a writer", || place.command("python3", "time"));
    let writer = fs::OpenOptions::new().read(true).write(true).open(&device).expect("it can be opened");
    expect_no_wait("a FIFO whose writer says nothing", || place.command("python3", "time"));
    drop(writer);

    fs::remove_file(&device).expect("it is there");
    fs::create_dir(&device).expect("the folder is writable");
    expect_no_wait("a folder", || place.command("python3", "time"));
    fs::remove_dir(&device).expect("it is there");

    for (what, bytes) in [("nothing", 0), ("half a head", 10), ("garbage", 100_000)] {
        fs::write(&device, vec![0xa5; bytes]).expect("the folder is writable");
        expect_no_wait(what, || place.command("python3", "time"));
    }
    fs::remove_file(&device).expect("it is there");

    symlink("/dev/zero", &device).expect("the folder is writable");
    expect_no_wait("endless zeros", || place.command("python3", "time"));
}

#[test]
fn policies_that_are_none() {
    if !has_stand_ins("policies") {
        return;
    }
    let garbage = "\u{1}\u{7f}=,*".repeat(100);
    for (what, text) in [
        ("an oversized policy", "x".repeat(1024)),
        ("a policy of garbage", garbage),
        ("a path", "/nowhere".to_owned()),
        ("half a policy", "vcompute-shim-1 mode".to_owned()),
    ] {
        let place = Place::new("garbage");
        place.set_policy(&text);
        expect_no_wait(what, || place.command("python3", "time"));
        let mut command = place.command("python3", "time");
        let output = expect_success(command.env("VCOMPUTE_LOG", "warn"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.lines().count(), 1, "{what}: {said}");
        assert!(said.contains("shim.policy is no policy"), "{what}: {said}");
    }
    for (what, make) in
        [("a FIFO", fifo as fn(&Path)), ("a folder", |path| fs::create_dir(path).expect("it is new"))]
    {
        let place = Place::new("kinds");
        make(&place.policy());
        expect_no_wait(what, || place.command("python3", "time"));
    }
}

/// A pipe's two ends.
fn pipe() -> (OwnedFd, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: a descriptor that nobody else owns.
    let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: a descriptor that nobody else owns.
    let writer = unsafe { File::from_raw_fd(ends[1]) };
    (reader, writer)
}

#[test]
fn logs_that_cannot_be_written() {
    let place = Place::new("logs");
    let (reader, mut writer) = pipe();
    let set_blocking = |is: bool| {
        let flags = if is { 0 } else { libc::O_NONBLOCK };
        // SAFETY: a descriptor of this test.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set_blocking(false);
    while (&writer).write(&[0; 4096]).is_ok() {}
    set_blocking(true);
    let logging = |target: Stdio| {
        let mut command = place.command("python3", "time");
        command.env("VCOMPUTE_LOG", "trace").stdout(Stdio::piped()).stderr(target);
        command
    };
    let time = |what: &str, target: &dyn Fn() -> Stdio| {
        let took = (0..ATTEMPTS)
            .map(|_| {
                let output = logging(target()).spawn().and_then(std::process::Child::wait_with_output);
                let output = output.expect("the probe runs");
                assert!(output.status.success(), "{what}: {}", output.status);
                String::from_utf8_lossy(&output.stdout).trim().parse::<i64>().expect("nanoseconds")
            })
            .min()
            .expect("there are attempts");
        eprintln!("{what}: {took} ns");
        assert!(took < WELL_UNDER_NS, "{what}: {took} ns");
    };
    time("a full pipe", &|| writer.try_clone().expect("a descriptor").into());
    drop(reader);
    time("a pipe that nobody reads", &|| writer.try_clone().expect("a descriptor").into());
    writer.flush().expect("nothing is buffered");
    time("a full device", &|| {
        fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there").into()
    });
    time("a file that is read only", &|| File::open("/dev/null").expect("it is there").into());
}

#[test]
fn a_file_is_written_at_the_first_call() {
    if !has_stand_ins("file") {
        return;
    }
    let place = Place::new("file");
    let path = place.device().with_file_name("log");
    let target = format!("file:{}", path.display());
    let variables = [("VCOMPUTE_LOG", "info"), ("VCOMPUTE_LOG_TARGET", target.as_str())];
    expect_success(place.command("python3", "time").envs(variables));
    assert!(!path.exists(), "a process that does not call CUDA opens no file");
    expect_success(place.command("python3", "cuda").envs(variables));
    let text = fs::read_to_string(&path).expect("it was written");
    assert!(
        text.starts_with("vcompute: info python3[") && text.ends_with("]: the devices are known\n"),
        "{text}"
    );

    // A file that hangs is the first call's matter; a path that is none is nobody's.
    expect_success(
        place
            .command("python3", "cuda")
            .envs([("VCOMPUTE_LOG", "info"), ("VCOMPUTE_LOG_TARGET", "file:/nowhere/x")]),
    );
}
