//! The targets, each with the sound inputs that it begins with.

use fuzz_tests::run;
use soft_gpu::fuzz as gpu;
use vhost_user_compute::fuzz as backend;
use virtio_spec::{
    control::{DeviceInfo, Extent, Hello, Map, RequestHeader, SessionCreate, SessionOptions, Type, Unmap},
    device,
    info::{self, InfoHeader},
    session::{self, Layout, SessionHeader},
};
use zerocopy::{FromZeros as _, IntoBytes as _};

const PTX: &str = include_str!("seed.ptx");

fn request(kind: Type, number: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).expect("short");
    let header = RequestHeader { kind: kind as u32, session: number, length, flags: 0 };
    [header.as_bytes(), &body].concat()
}

#[test]
fn requests() {
    let extents =
        [Extent { address: 0x10_0000, length: 0x4000 }, Extent { address: 0x20_0000, length: 0x1000 }];
    let create =
        SessionCreate { length: 0x5000, extent_count: 2, reserved: 0, options: SessionOptions::default() };
    let map =
        Map { region: 1, flags: 0, address: 0x5000_0000_0000, length: 0x5000, extent_count: 2, reserved: 0 };
    let hello = Hello { boot_nonce: 1, version: device::PROTOCOL_VERSION, reserved: 0 };
    let sound = [
        request(Type::Hello, 0, &[hello.as_bytes()]),
        request(Type::DeviceInfo, 0, &[DeviceInfo { offset: 0, length: 64 }.as_bytes()]),
        request(Type::SessionCreate, 0, &[create.as_bytes(), extents.as_bytes()]),
        request(Type::SessionDestroy, 1, &[]),
        request(Type::Map, 1, &[map.as_bytes(), extents.as_bytes()]),
        request(Type::Unmap, 1, &[Unmap { region: 1, reserved: 0 }.as_bytes()]),
        request(Type::Kick, 1, &[]),
    ];
    run("requests", &sound, backend::request::fuzz_one);
}

#[test]
fn packets_between_supervisor_and_worker() {
    let mut map = vec![0; 40 + 2 * 24];
    map[0] = 2;
    map[32] = 2;
    run("link", &[map, vec![6; 40], vec![0; 8]], backend::link::fuzz_one);
}

#[test]
fn device_information() {
    let mut header = InfoHeader::new_zeroed();
    header.magic = info::MAGIC;
    header.version = device::PROTOCOL_VERSION;
    header.device_count = 1;
    let mut sound = 0_u32.to_le_bytes().to_vec();
    sound.extend_from_slice(header.as_bytes());
    sound.resize(4 + 2 * info::RECORD_BYTES as usize, 1);
    run("discovery", &[sound], backend::discovery::fuzz_one);
}

#[test]
fn session_headers() {
    let layout = Layout::DEFAULT;
    let mut header = SessionHeader::new_zeroed();
    header.magic = session::MAGIC;
    header.version = device::PROTOCOL_VERSION;
    header.lane_count = layout.lane_count();
    header.queue_size = layout.queue_size().into();
    header.slot_count = layout.slot_count();
    header.slot_bytes = layout.slot_bytes();
    header.staging_bytes = layout.staging_bytes();
    run("header", &[header.as_bytes()[..64].to_vec()], backend::header::fuzz_one);
}

#[test]
fn descriptor_chains() {
    run("chain", &[backend::chain::sound()], backend::chain::fuzz_one);
}

#[test]
fn calls_of_a_session() {
    let test = std::env::current_exe().expect("a test knows its path");
    let driver = test.with_file_name("libsoft_gpu.so");
    assert!(driver.is_file(), "the software driver is built with this package: {}", driver.display());
    backend::calls::use_driver(&driver);
    let mut random = fuzz_tests::Random::new(2);
    let sound: Vec<Vec<u8>> =
        (0..32).map(|_| (0..64).flat_map(|_| random.number().to_le_bytes()).collect()).collect();
    run("calls", &sound, backend::calls::fuzz_one);
}

#[test]
fn ptx_sources() {
    run("ptx", &[PTX.as_bytes().to_vec()], gpu::ptx_source::fuzz_one);
}

#[test]
fn containers_of_images() {
    let sound = [gpu::container::pack(&[PTX]), gpu::container::pack(&[PTX, PTX]), PTX.as_bytes().to_vec()];
    run("container", &sound, gpu::container::fuzz_one);
}
