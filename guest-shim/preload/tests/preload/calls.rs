//! How many system calls it takes, each counted, under a filter that kills on any other.

use std::fs;

use virtio_spec::device::State;
use virtio_spec::local::SOCKET_VARIABLE;
use virtio_spec::uapi::info_flags::SHIM_OFF;

use crate::probe::READ_LINK;
use crate::{Place, answer, has_stand_ins, trace};

const ALL: &[i64] = &[READ_LINK, libc::SYS_openat, libc::SYS_read, libc::SYS_close];
const LINK: &[i64] = &[READ_LINK];
const NONE: &[i64] = &[];

#[track_caller]
fn expect(place: &Place, name: &str, variables: &[(&str, &str)], calls: &[i64]) {
    let role = if calls.is_empty() { "count-none" } else { "count" };
    let trace = trace::run(place.command(name, role).envs(variables.iter().copied()));
    assert_eq!((trace.end, trace.calls.as_slice()), (0, calls), "{name} {variables:?}");
}

#[test]
fn an_application_makes_four() {
    let place = Place::new("four");
    if has_stand_ins("four") {
        for name in ["python3", "ollama", "sh", "a-name-that-is-longer-than-fifteen"] {
            expect(&place, name, &[], ALL);
        }
    }
}

#[test]
fn without_a_device_it_is_two() {
    let place = Place::new("two");
    if std::path::Path::new("/dev/vcompute0").exists() && !cfg!(debug_assertions) {
        eprintln!("two: skipped, there is a device");
        return;
    }
    place.without_device();
    expect(&place, "python3", &[], &[READ_LINK, libc::SYS_openat]);
}

#[test]
fn a_system_process_makes_none() {
    let place = Place::new("system");
    for name in [
        "init",
        "systemd",
        "systemd-journald",
        "systemd-executor",
        "sshd",
        "sshd-session",
        "sshd-auth",
        "dbus-daemon",
        "dbus-broker-launch",
        "systemd-udevd",
        "agetty",
        "sudo",
        "cron",
        "polkitd",
        "dpkg",
        "apt-get",
        "update-initramfs",
        "ldconfig",
        "modprobe",
        "mount",
        "unattended-upgrade-shutdown",
    ] {
        // Nothing that is said in the environment changes that.
        expect(
            &place,
            name,
            &[("VCOMPUTE_SHIM", "all"), ("VCOMPUTE_SHIM_ALWAYS", "s*"), ("VCOMPUTE_LOG", "trace")],
            NONE,
        );
    }
}

#[test]
fn a_privileged_program_makes_none() {
    let place = Place::new("privileged");
    let variables = [("VCOMPUTE_SHIM", "all"), ("VCOMPUTE_LOG", "trace")];
    let trace = trace::run(place.command("python3", "count-privileged").envs(variables));
    assert_eq!((trace.end, trace.calls.as_slice()), (0, NONE));
}

#[test]
fn the_environment_can_save_them() {
    let place = Place::new("environment");
    expect(&place, "python3", &[("VCOMPUTE_SHIM", "off")], NONE);
    expect(&place, "python3", &[("VCOMPUTE_SHIM_NEVER", "pyth*")], NONE);
    expect(&place, "python3", &[(SOCKET_VARIABLE, "/nowhere")], NONE);
    expect(&place, "python3", &[("VCOMPUTE_SHIM", "listed")], LINK);
}

#[test]
fn the_policy_can_save_three() {
    for (text, name, calls) in [
        ("vcompute-shim-1 mode=off", "python3", LINK),
        ("vcompute-shim-1 mode=listed always=ollama", "python3", LINK),
        ("vcompute-shim-1 mode=listed always=ollama", "ollama", ALL),
        ("vcompute-shim-1 never=my*", "mydaemon", LINK),
        ("vcompute-shim-1 never=my* always=mycuda", "mycuda", ALL),
        ("vcompute-shim-1 mode=nonsense", "python3", ALL),
    ] {
        let place = Place::new("policy");
        if has_stand_ins("policy") {
            place.set_policy(text);
            expect(&place, name, &[], calls);
        }
    }
}

#[test]
fn a_device_without_a_gpu_costs_the_same() {
    for (state, flags) in
        [(State::Starting, 0), (State::NoGpu, 0), (State::Failed, 0), (State::Ready, SHIM_OFF)]
    {
        let place = Place::new("states");
        if has_stand_ins("states") {
            fs::write(place.device(), answer(state, flags)).expect("the folder is writable");
            expect(&place, "python3", &[], ALL);
        }
    }
}

#[test]
fn a_program_executed_by_descriptor_makes_none() {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::process::CommandExt as _;

    let place = Place::new("descriptor");
    let program =
        fs::File::open(std::env::current_exe().expect("this program is known")).expect("it can be read");
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let mut command = place.preloaded(path.as_ref());
    let keep = move || {
        // SAFETY: a descriptor of this test, which the child is to have.
        unsafe { libc::fcntl(program.as_raw_fd(), libc::F_SETFD, 0) };
        Ok(())
    };
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(keep) };
    let trace = trace::run(command.env(crate::probe::ROLE, "count-none"));
    assert_eq!((trace.end, trace.calls.as_slice()), (0, NONE));
}

#[test]
fn the_first_process_makes_none() {
    let place = Place::new("first");
    let run = |options: &[&str]| {
        let command = place.command("python3", "count-none");
        let probe = command.get_program().to_owned();
        let mut first = place.preloaded("/usr/bin/unshare".as_ref());
        first.args(options).arg("--fork").arg(probe).env(crate::probe::ROLE, "count-none");
        first
            .output()
            .map(|output| (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    match run(&["--pid"]) {
        Ok((is_success, said)) if !said.contains("unshare failed") => assert!(is_success, "{said}"),
        answer => {
            eprintln!("first: skipped, no number space can be made here: {answer:?}");
            return;
        }
    }
    assert!(!run(&[]).expect("it ran before").0, "any other process does make calls");
}

/// A set-uid program, started by somebody else, with the library from `/etc/ld.so.preload`.
#[test]
fn a_set_uid_program_makes_none() {
    use std::os::unix::fs::PermissionsExt as _;

    let Some(place) = Place::for_everybody("setuid") else { return };
    let etc = place.folder("etc");
    fs::write(etc.join("ld.so.preload"), format!("{}\n", place.copy_of(crate::library()).display()))
        .expect("the folder is writable");
    fs::copy("/etc/ld.so.cache", etc.join("ld.so.cache")).expect("the system has one");
    let program = place.copy_of(&std::env::current_exe().expect("this program is known"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("it is ours");

    for (role, user, end) in [("count-secure", 65534, 0), ("count-none", 0, -libc::SIGSYS)] {
        let mut command = std::process::Command::new(&program);
        command
            .env_clear()
            .env(crate::probe::ROLE, role)
            .env("VCOMPUTE_SHIM", "all")
            .env("VCOMPUTE_LOG", "trace");
        trace::in_own_etc(&mut command, &etc, user);
        let trace = match trace::try_run(&mut command) {
            Ok(trace) if trace.end != crate::probe::NOT_PRIVILEGED => trace,
            answer => {
                eprintln!("setuid: skipped, no set-uid program or no /etc of its own here: {answer:?}");
                return;
            }
        };
        assert_eq!(trace.end, end, "{role} as {user}: {trace:?}");
        if user != 0 {
            assert_eq!(trace.calls, NONE);
        }
    }
}

#[test]
fn the_filter_kills() {
    let place = Place::new("filter");
    let trace = trace::run(&mut place.command("python3", "count-none"));
    assert_eq!(trace.end, -libc::SIGSYS, "an application process does make calls");
    assert_eq!(trace.calls, [READ_LINK], "and the first one is this");
}
