//! What `virtio-compute.md` says in numbers is what the crate says.

use virtio_spec::{control, device, limits};

const DOCUMENT: &str = include_str!("../virtio-compute.md");

/// Asserts that a table row or sentence stands in the document.
fn says(text: &str) {
    assert!(DOCUMENT.contains(text), "virtio-compute.md does not say {text:?}");
}

#[test]
fn identity() {
    says(&format!("## Device ID\n\n{}\n", device::VIRTIO_ID));
    says(&format!("PCI device ID is {:#06x}", 0x1040 + device::VIRTIO_ID));
    says(&format!("`struct virtio_compute_config` is {} bytes", size_of::<device::Config>()));
    says(std::str::from_utf8(&device::MAGIC.to_le_bytes()).unwrap());
    says(
        &format!("| {} | `HOST_MEMORY`", device::features::HOST_MEMORY.trailing_zeros())
            .replace("`HOST_MEMORY`", "`VIRTIO_COMPUTE_F_HOST_MEMORY`"),
    );
}

#[test]
fn queues() {
    says(&format!("| {} | `controlq`", device::CONTROLQ));
    says(&format!("| {} | `eventq`", device::EVENTQ));
}

#[test]
fn states() {
    let states = ["starting", "ready", "no GPU", "failed"];
    let listed: Vec<_> = (0..).zip(states).map(|(number, name)| format!("{number} {name}")).collect();
    says(&listed.join(", "));
    assert_eq!(device::State::from_u32(4), None, "a state was added that the document does not name");
    assert_eq!(device::State::from_u32(2), Some(device::State::NoGpu));
}

#[test]
fn requests() {
    let kinds =
        ["HELLO", "DEVICE_INFO", "SESSION_CREATE", "SESSION_DESTROY", "MAP", "UNMAP", "KICK", "STATUS"];
    for (number, name) in (1..).zip(kinds) {
        says(&format!("| {number} {name} |"));
        let kind = control::Type::from_u32(number).expect("the crate knows the kind");
        assert_eq!(format!("{kind:?}").to_uppercase(), name.replace('_', ""));
    }
    assert_eq!(control::Type::from_u32(9), None, "a request was added that the document does not name");
}

#[test]
fn events() {
    use control::EventType::{Config, Session, SessionDied};
    says(&format!("{} SESSION (", Session as u32));
    says(&format!("{} SESSION_DIED", SessionDied as u32));
    says(&format!("{} CONFIG", Config as u32));
    says(&format!("buffers of {} bytes", size_of::<control::Event>()));
}

#[test]
fn bounds() {
    says(&format!("at most {} descriptors", limits::MAX_CONTROL_CHAIN));
    says(&format!("not drained within {} ms", limits::DRAIN_MILLISECONDS));
    says(&format!("up to {} of them", limits::MAX_RETURNED_TOGETHER));
    says(&format!("after {} ms", limits::WAIT_BACKSTOP_MILLISECONDS));
    says(&format!("up to {} ms", limits::IDLE_BACKSTOP_MILLISECONDS));
}
