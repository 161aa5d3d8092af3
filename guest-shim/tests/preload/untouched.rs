//! A process is as it was: its alarm clock and other timers, SIGALRM's handler, the signal mask, errno, descriptors,
//! environment, umask, signal stack; and there is no other thread (docs/adr/0007).

use virtio_spec::device::State;

use crate::{Place, answer, expect_success, has_stand_ins};

#[test]
fn after_the_gpu_was_found() {
    let place = Place::new("found");
    let output = expect_success(&mut place.command("python3", "state"));
    assert!(output.stderr.is_empty() && output.stdout.is_empty(), "nothing is said unless asked");
}

#[test]
fn without_a_gpu() {
    let place = Place::new("absent");
    place.without_device();
    expect_success(&mut place.command("python3", "state"));

    let place = Place::new("starting");
    std::fs::write(place.device(), answer(State::Starting, 0)).expect("the folder is writable");
    expect_success(&mut place.command("python3", "state"));
}

#[test]
fn after_a_panic() {
    let place = Place::new("panic");
    let mut command = place.command("python3", "state");
    let output = expect_success(command.env("VCOMPUTE_TEST_PANIC", "1").env("VCOMPUTE_LOG", "trace"));
    if has_stand_ins("panic") {
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn when_it_is_logged() {
    let place = Place::new("logged");
    place.set_policy("vcompute-shim-1 level=info");
    let output = expect_success(&mut place.command("python3", "state"));
    if has_stand_ins("logged") {
        let text = String::from_utf8(output.stderr).expect("it is text");
        assert!(text.starts_with("vcompute: info python3["), "{text}");
        assert!(text.ends_with("]: the device has a GPU\n"), "{text}");
    }
    // There may be no system's log here: then nothing is said.
    let mut command = place.command("python3", "state");
    assert!(expect_success(command.env("VCOMPUTE_LOG_TARGET", "syslog")).stderr.is_empty());
}
