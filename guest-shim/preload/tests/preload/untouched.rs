//! A process is as it was: its alarm clock and other timers, SIGALRM's handler, the signal mask, errno, descriptors,
//! environment, umask, signal stack; and there is no other thread (docs/adr/0007).

use virtio_spec::device::State;
use virtio_spec::uapi::info_flags::SHIM_OFF;

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
fn when_it_is_logged() {
    let says = |prepare: &dyn Fn(&Place), name: &str, words: &str| {
        let place = Place::new("logged");
        prepare(&place);
        let mut command = place.command(name, "state");
        let output = expect_success(command.env("VCOMPUTE_LOG", "trace"));
        let text = String::from_utf8(output.stderr).expect("it is text");
        if words.is_empty() {
            assert_eq!(text, "");
        } else {
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.starts_with("vcompute: ") && text.contains(&format!(" {name}[")), "{text}");
            assert!(text.contains(words), "{words}: {text}");
        }
    };
    if !has_stand_ins("logged") {
        return;
    }
    let answers = |state, flags| {
        move |place: &Place| {
            std::fs::write(place.device(), answer(state, flags)).expect("the folder is writable")
        }
    };
    says(&|_| {}, "python3", "info python3");
    says(&|_| {}, "python3", "the device has a GPU");
    says(&answers(State::NoGpu, 0), "python3", "the device has no GPU");
    says(&answers(State::Starting, 0), "python3", "the device is still starting");
    says(&answers(State::Failed, 0), "python3", "the device is gone");
    says(&answers(State::Ready, SHIM_OFF), "python3", "vcompute.shim");
    says(&|place| place.set_policy("vcompute-shim-1 mode=off"), "python3", "as the policy says");
    says(&|place| drop(place.without_device()), "python3", "there is no device");
    says(&|_| {}, "sshd", "");
}

#[test]
fn when_the_system_logs_it() {
    // There may be no system's log here: then nothing is said.
    let place = Place::new("syslog");
    let mut command = place.command("python3", "state");
    command.env("VCOMPUTE_LOG", "trace").env("VCOMPUTE_LOG_TARGET", "syslog");
    assert!(expect_success(&mut command).stderr.is_empty());
}
