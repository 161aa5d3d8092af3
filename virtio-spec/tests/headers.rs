//! The C headers of the guest's driver say what this crate says.
//!
//! A small C program, made from the tables below, prints offsets, sizes and numbers as the C compiler sees them.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

use virtio_spec::{control, device, info, limits, management, session, uapi};

/// C expressions and the values that Rust has for them.
#[derive(Default)]
struct Expectations(BTreeMap<String, u64>);

impl Expectations {
    fn number(&mut self, expression: &str, value: impl Into<u64>) {
        let known = self.0.insert(expression.to_owned(), value.into());
        assert!(known.is_none(), "{expression} is listed twice");
    }

    fn bytes(&mut self, expression: &str, value: usize) {
        self.number(expression, u64::try_from(value).expect("usize has 64 bits"));
    }
}

/// Expects a structure to have one size, and each field one offset and one size, in both languages.
///
/// The pattern without `..` makes this fail to compile when Rust has a field that is not listed.
macro_rules! structure {
    ($expectations:ident, $rust:path, $c:literal, $($field:ident)+) => {{
        let $rust { $($field: _),+ } = zerocopy::FromZeros::new_zeroed();
        $expectations.bytes(concat!("sizeof(struct ", $c, ")"), size_of::<$rust>());
        $(
            $expectations.bytes(
                concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"),
                offset_of!($rust, $field),
            );
            $expectations.bytes(
                concat!("sizeof(((struct ", $c, " *)0)->", stringify!($field), ")"),
                field_size(|value: &$rust| &raw const value.$field),
            );
        )+
    }};
}

fn field_size<Structure: zerocopy::FromZeros, Field>(_: impl Fn(&Structure) -> *const Field) -> usize {
    size_of::<Field>()
}

/// Expects enumerators of C to have the values of a Rust enum. The function's match makes a new variant fail to compile.
macro_rules! numbers {
    ($expectations:ident, $rust:path, $($variant:ident = $c:literal)+) => {{
        use $rust as Enumeration;
        fn name(value: Enumeration) -> &'static str {
            match value { $(Enumeration::$variant => $c),+ }
        }
        for value in [$(Enumeration::$variant),+] {
            $expectations.number(name(value), value as u32);
        }
    }};
}

fn device_and_messages() -> Expectations {
    let mut all = Expectations::default();

    all.number("VIRTIO_ID_COMPUTE", device::VIRTIO_ID);
    all.number("VIRTIO_COMPUTE_MAGIC", device::MAGIC);
    all.number("VIRTIO_COMPUTE_PROTOCOL_VERSION", device::PROTOCOL_VERSION);
    all.number("VIRTIO_COMPUTE_CONTROLQ", device::CONTROLQ);
    all.number("VIRTIO_COMPUTE_EVENTQ", device::EVENTQ);
    all.number("VIRTIO_COMPUTE_QUEUE_COUNT", device::QUEUE_COUNT);
    all.number("VIRTIO_COMPUTE_QUEUE_SIZE", device::QUEUE_SIZE);
    all.number("1ULL << VIRTIO_COMPUTE_F_HOST_MEMORY", device::features::HOST_MEMORY);
    structure!(all, device::Config, "virtio_compute_config",
        magic version generation state device_count info_bytes max_sessions max_lanes max_regions max_extents reserved);
    numbers!(all, device::State,
        Starting = "VIRTIO_COMPUTE_STATE_STARTING"
        Ready = "VIRTIO_COMPUTE_STATE_READY"
        NoGpu = "VIRTIO_COMPUTE_STATE_NO_GPU"
        Failed = "VIRTIO_COMPUTE_STATE_FAILED");

    numbers!(all, control::Type,
        Hello = "VIRTIO_COMPUTE_HELLO"
        DeviceInfo = "VIRTIO_COMPUTE_DEVICE_INFO"
        SessionCreate = "VIRTIO_COMPUTE_SESSION_CREATE"
        SessionDestroy = "VIRTIO_COMPUTE_SESSION_DESTROY"
        Map = "VIRTIO_COMPUTE_MAP"
        Unmap = "VIRTIO_COMPUTE_UNMAP"
        Kick = "VIRTIO_COMPUTE_KICK"
        Status = "VIRTIO_COMPUTE_STATUS");
    numbers!(all, control::Status,
        Ok = "VIRTIO_COMPUTE_STATUS_OK"
        Invalid = "VIRTIO_COMPUTE_STATUS_INVALID"
        Unsupported = "VIRTIO_COMPUTE_STATUS_UNSUPPORTED"
        NoSession = "VIRTIO_COMPUTE_STATUS_NO_SESSION"
        Limit = "VIRTIO_COMPUTE_STATUS_LIMIT"
        NoMemory = "VIRTIO_COMPUTE_STATUS_NO_MEMORY"
        NotShared = "VIRTIO_COMPUTE_STATUS_NOT_SHARED"
        Again = "VIRTIO_COMPUTE_STATUS_AGAIN"
        Failed = "VIRTIO_COMPUTE_STATUS_FAILED"
        AddressTaken = "VIRTIO_COMPUTE_STATUS_ADDRESS_TAKEN");
    numbers!(all, control::EventType,
        Session = "VIRTIO_COMPUTE_EVENT_SESSION"
        SessionDied = "VIRTIO_COMPUTE_EVENT_SESSION_DIED"
        Config = "VIRTIO_COMPUTE_EVENT_CONFIG");
    structure!(all, control::RequestHeader, "virtio_compute_request_header", kind session length flags);
    structure!(all, control::ReplyHeader, "virtio_compute_reply_header", status length);
    structure!(all, control::Hello, "virtio_compute_hello", boot_nonce version reserved);
    structure!(all, control::HelloReply, "virtio_compute_hello_reply", version state generation info_bytes);
    structure!(all, control::DeviceInfo, "virtio_compute_device_info", offset length);
    structure!(all, control::SessionOptions, "virtio_compute_session_options",
        process flags max_connections device reserved);
    structure!(all, control::SessionCreate, "virtio_compute_session_create", length extent_count reserved options);
    structure!(all, control::SessionCreateReply, "virtio_compute_session_create_reply", session reserved);
    structure!(all, control::Extent, "virtio_compute_extent", address length);
    structure!(all, control::Map, "virtio_compute_map", region flags address length extent_count reserved);
    structure!(all, control::Unmap, "virtio_compute_unmap", region reserved);
    structure!(all, control::Event, "virtio_compute_event", kind session generation reserved);
    all.number("VIRTIO_COMPUTE_OPTION_EAGER_LOADING", control::options::EAGER_LOADING);
    all.number("VIRTIO_COMPUTE_OPTION_ALL", control::options::ALL);
    all.number("VIRTIO_COMPUTE_MAP_READ_ONLY", control::map_flags::READ_ONLY);
    all.number("VIRTIO_COMPUTE_MAP_ALL", control::map_flags::ALL);

    all.number("VIRTIO_COMPUTE_INFO_MAGIC", info::MAGIC);
    structure!(all, info::InfoHeader, "virtio_compute_info_header",
        magic version generation device_count driver_version init_result reserved);
    structure!(all, management::StatusReply, "virtio_compute_status_reply",
        generation device_count process_count reserved);
    structure!(all, session::SessionHeader, "virtio_compute_session_header",
        magic version lane_count queue_size slot_count slot_bytes staging_bytes lanes_used reserved0
        sticky_error worker_state pending_events device_backstops output_waiting reserved1
        next_sequence guest_backstops reserved2);

    all.number("VIRTIO_COMPUTE_MAX_SESSIONS", limits::MAX_SESSIONS);
    all.number("VIRTIO_COMPUTE_MAX_REGIONS", limits::MAX_REGIONS);
    all.number("VIRTIO_COMPUTE_MAX_EXTENTS", limits::MAX_EXTENTS);
    all.number("VIRTIO_COMPUTE_MAX_EXTENTS_PER_MESSAGE", limits::MAX_EXTENTS_PER_MESSAGE);
    all.bytes("VIRTIO_COMPUTE_MAX_CONTROL_CHAIN", limits::MAX_CONTROL_CHAIN);
    all.number("VIRTIO_COMPUTE_MAX_SESSION_BYTES", limits::MAX_SESSION_BYTES);
    all.number("VIRTIO_COMPUTE_MAX_INFO_BYTES", info::MAX_BYTES);
    all
}

fn device_node() -> Expectations {
    let mut all = Expectations::default();

    all.number("VCOMPUTE_IOCTL_TYPE", uapi::IOCTL_TYPE);
    all.number("VCOMPUTE_IOCTL_INFO", uapi::INFO);
    all.number("VCOMPUTE_IOCTL_SESSION_CREATE", uapi::SESSION_CREATE);
    all.number("VCOMPUTE_IOCTL_MAP", uapi::MAP);
    all.number("VCOMPUTE_IOCTL_UNMAP", uapi::UNMAP);
    all.number("VCOMPUTE_IOCTL_REGISTER", uapi::REGISTER);
    all.number("VCOMPUTE_IOCTL_KICK", uapi::KICK);
    all.number("VCOMPUTE_IOCTL_WAIT", uapi::WAIT);
    all.number("VCOMPUTE_IOCTL_STATUS", uapi::STATUS);
    all.number("VCOMPUTE_MMAP_INFO", uapi::MMAP_INFO);
    all.number("VCOMPUTE_MMAP_REGION", uapi::MMAP_REGION);
    all.number("VCOMPUTE_MMAP_REGION_SHIFT", uapi::MMAP_REGION_SHIFT);
    all.number("VCOMPUTE_INFO_SHIM_OFF", uapi::info_flags::SHIM_OFF);
    all.number("VCOMPUTE_REGISTER_READ_ONLY", control::map_flags::READ_ONLY);
    all.bytes("sizeof(VCOMPUTE_DEVICE_PATH) - 1", uapi::DEVICE_PATH.len());
    structure!(all, uapi::Info, "vcompute_info", version state generation info_bytes flags reserved);
    structure!(all, control::SessionOptions, "vcompute_session_options", process flags max_connections device reserved);
    structure!(all, uapi::SessionCreate, "vcompute_session_create", length options session reserved);
    structure!(all, uapi::Map, "vcompute_map", address length flags region);
    structure!(all, uapi::Unmap, "vcompute_unmap", region reserved);
    structure!(all, uapi::Register, "vcompute_register", address length flags region);
    structure!(all, uapi::Kick, "vcompute_kick", flags reserved);
    structure!(all, uapi::Wait, "vcompute_wait", offset expected flags timeout_ns);
    structure!(all, uapi::Status, "vcompute_status", address length reserved);
    all
}

fn include_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-driver/include/uapi")
}

/// Compiles a program that prints each expression's value on a line, runs it, and returns the values in order.
fn as_c_sees_it(header: &str, expressions: &[&String]) -> Vec<u64> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let stem = header.replace(['/', '.'], "_");
    let source = directory.join(format!("{stem}.c"));
    let program = directory.join(&stem);
    let mut text =
        format!("#include <stddef.h>\n#include <stdio.h>\n#include <{header}>\nint main(void)\n{{\n");
    for expression in expressions {
        text.push_str(&format!("\tprintf(\"%llu\\n\", (unsigned long long)({expression}));\n"));
    }
    text.push_str("\treturn 0;\n}\n");
    std::fs::write(&source, text).expect("the test's directory is writable");

    let compiled = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(include_directory())
        .arg("-o")
        .args([&program, &source])
        .output()
        .expect("this test needs a C compiler named cc (Debian: apt install gcc libc6-dev)");
    assert!(
        compiled.status.success(),
        "{header} does not compile:\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );

    let output = Command::new(&program).output().expect("the program was just made");
    assert!(output.status.success(), "the program ended with {}", output.status);
    String::from_utf8(output.stdout)
        .expect("digits")
        .lines()
        .map(|line| line.parse().expect("one number a line"))
        .collect()
}

fn compare(header: &str, expectations: &Expectations) {
    let expressions: Vec<_> = expectations.0.keys().collect();

    let seen = as_c_sees_it(header, &expressions);

    assert_eq!(seen.len(), expressions.len());
    let differences: Vec<_> = expectations
        .0
        .iter()
        .zip(seen)
        .filter(|((_, rust), c)| *rust != c)
        .map(|((expression, rust), c)| format!("{expression}: {rust} in Rust, {c} in C"))
        .collect();
    assert!(differences.is_empty(), "{header} differs:\n{}", differences.join("\n"));
}

#[test]
fn header_of_the_device_agrees() {
    compare("linux/virtio_compute.h", &device_and_messages());
}

#[test]
fn header_of_the_device_node_agrees() {
    compare("linux/vcompute.h", &device_node());
}

/// Every constant and structure of the headers is compared: nothing is added there without Rust knowing it.
#[test]
fn headers_define_nothing_else() {
    for (name, expectations) in
        [("linux/virtio_compute.h", device_and_messages()), ("linux/vcompute.h", device_node())]
    {
        let text = std::fs::read_to_string(include_directory().join(name)).expect("the header is there");
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let defined = match (words.next(), words.next(), words.next()) {
                (Some("#define"), Some(name), Some(_)) => name.to_owned(),
                (Some("struct"), Some(name), Some("{")) => format!("struct {name}"),
                (Some(name), Some("="), Some(_)) => name.to_owned(),
                _ => continue,
            };
            let mentioned = expectations.0.keys().any(|expression| mentions(expression, &defined));
            assert!(mentioned, "{name} defines {defined}, which this test does not compare");
        }
    }
}

fn mentions(expression: &str, defined: &str) -> bool {
    expression.match_indices(defined).any(|(at, _)| {
        let after = expression.get(at + defined.len()..).and_then(|rest| rest.chars().next());
        !after.is_some_and(|next| next.is_ascii_alphanumeric() || next == '_')
    })
}
