//! What devices say about themselves.

use anyhow::ensure;

use crate::driver::{Code, text};
use crate::gpu::{first_device, initialized};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

area!("devices":
    count_matches_ordinals,
    bad_ordinals_are_refused,
    names_are_cut_to_the_buffer,
    total_memory_is_plausible,
    uuid_forms_agree,
    attributes_are_plausible,
    attributes_are_stable,
    bad_attributes_are_refused,
    bad_devices_are_refused_everywhere,
    null_places_are_refused,
    compute_capability_agrees_with_attributes,
    legacy_properties_agree_with_attributes,
    pci_bus_id_leads_back_to_the_device,
    pci_bus_id_needs_room,
    a_device_cannot_be_its_own_peer,
);

/// Attributes that every device has, with the range in which a real one lies.
const PLAUSIBLE: &[(i32, &str, i32, i32)] = &[
    (1, "MAX_THREADS_PER_BLOCK", 1024, 1024),
    (2, "MAX_BLOCK_DIM_X", 1024, 1024),
    (3, "MAX_BLOCK_DIM_Y", 1024, 1024),
    (4, "MAX_BLOCK_DIM_Z", 64, 64),
    (5, "MAX_GRID_DIM_X", i32::MAX, i32::MAX),
    (6, "MAX_GRID_DIM_Y", 65535, 65535),
    (7, "MAX_GRID_DIM_Z", 65535, 65535),
    (8, "MAX_SHARED_MEMORY_PER_BLOCK", 49152, 49152),
    (9, "TOTAL_CONSTANT_MEMORY", 65536, 65536),
    (10, "WARP_SIZE", 32, 32),
    (11, "MAX_PITCH", 1 << 20, i32::MAX),
    (12, "MAX_REGISTERS_PER_BLOCK", 32768, 65536),
    (13, "CLOCK_RATE", 1, i32::MAX),
    (14, "TEXTURE_ALIGNMENT", 256, 4096),
    (16, "MULTIPROCESSOR_COUNT", 1, 1024),
    (19, "CAN_MAP_HOST_MEMORY", 0, 1),
    (20, "COMPUTE_MODE", 0, 3),
    (31, "CONCURRENT_KERNELS", 0, 1),
    (33, "PCI_BUS_ID", 0, 255),
    (34, "PCI_DEVICE_ID", 0, 31),
    (39, "MAX_THREADS_PER_MULTIPROCESSOR", 1024, 2048),
    (40, "ASYNC_ENGINE_COUNT", 0, 64),
    (41, "UNIFIED_ADDRESSING", 1, 1),
    (75, "COMPUTE_CAPABILITY_MAJOR", 5, 20),
    (76, "COMPUTE_CAPABILITY_MINOR", 0, 9),
    (78, "STREAM_PRIORITIES_SUPPORTED", 0, 1),
    (81, "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR", 49152, 1 << 20),
    (82, "MAX_REGISTERS_PER_MULTIPROCESSOR", 32768, 1 << 17),
    (83, "MANAGED_MEMORY", 0, 1),
    (88, "PAGEABLE_MEMORY_ACCESS", 0, 1),
    (89, "CONCURRENT_MANAGED_ACCESS", 0, 1),
    (91, "CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM", 0, 1),
    (95, "COOPERATIVE_LAUNCH", 0, 1),
    (97, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", 49152, 1 << 20),
    (106, "MAX_BLOCKS_PER_MULTIPROCESSOR", 1, 64),
    (111, "RESERVED_SHARED_MEMORY_PER_BLOCK", 0, 8192),
];

fn count_matches_ordinals() -> CaseResult {
    let cu = initialized()?;
    let mut count = -1;
    cu.cuDeviceGetCount(&mut count).ok()?;
    ensure!(count >= 1, "{count} devices");
    let mut seen = Vec::new();
    for ordinal in 0..count {
        let mut device = -1;
        cu.cuDeviceGet(&mut device, ordinal).ok()?;
        ensure!(
            device >= 0 && !seen.contains(&device),
            "device {device} for ordinal {ordinal} after {seen:?}"
        );
        seen.push(device);
    }
    let mut device = -7;
    cu.cuDeviceGet(&mut device, count).is(Code::INVALID_DEVICE)?;
    ensure!(device == -7, "a refused call wrote {device}");
    pass()
}

fn bad_ordinals_are_refused() -> CaseResult {
    let cu = initialized()?;
    for ordinal in [-1, 1000, i32::MAX, i32::MIN] {
        let mut device = -7;
        cu.cuDeviceGet(&mut device, ordinal).is(Code::INVALID_DEVICE)?;
        ensure!(device == -7, "a refused call wrote {device}");
    }
    pass()
}

fn names_are_cut_to_the_buffer() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut long = [0x55; 256];
    cu.cuDeviceGetName(long.as_mut_ptr(), 256, device).ok()?;
    let name = text(long.as_ptr()).unwrap_or_default();
    ensure!((4..200).contains(&name.len()), "the device's name is {name:?}");
    let mut short = [0x55; 8];
    cu.cuDeviceGetName(short.as_mut_ptr(), 4, device).ok()?;
    ensure!(short[3] == 0, "a cut name has no end: {short:?}");
    ensure!(short[4..] == [0x55; 4], "a name was written past the buffer's end: {short:?}");
    let cut = text(short.as_ptr()).unwrap_or_default();
    ensure!(name.starts_with(&cut) && cut.len() == 3, "{name:?} was cut to {cut:?}");
    pass()
}

fn total_memory_is_plausible() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut bytes = 0;
    cu.cuDeviceTotalMem_v2(&mut bytes, device).ok()?;
    ensure!(bytes >= 64 << 20 && bytes % 4096 == 0, "the device has {bytes} bytes of memory");
    pass()
}

fn uuid_forms_agree() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut first = cudarc::driver::sys::CUuuid { bytes: [0; 16] };
    let mut second = cudarc::driver::sys::CUuuid { bytes: [0; 16] };
    cu.cuDeviceGetUuid(&mut first, device).ok()?;
    cu.cuDeviceGetUuid_v2(&mut second, device).ok()?;
    ensure!(first.bytes != [0; 16], "the UUID is all zeros");
    // The forms differ only where the device is a part of a GPU (MIG).
    ensure!(first.bytes == second.bytes, "{:?} and {:?}", first.bytes, second.bytes);
    pass()
}

fn attributes_are_plausible() -> CaseResult {
    let (cu, device) = first_device()?;
    for (attribute, name, least, most) in PLAUSIBLE {
        let mut value = -7;
        cu.cuDeviceGetAttribute(&mut value, *attribute, device).ok()?;
        ensure!(
            (*least..=*most).contains(&value),
            "{name} ({attribute}) is {value}, not in {least}..={most}"
        );
    }
    pass()
}

fn attributes_are_stable() -> CaseResult {
    let (cu, device) = first_device()?;
    // Every attribute of CUDA 12.4 and before must be known; what each says must not change.
    for attribute in 1..=132 {
        // Numbers that CUDA never gave, or gave to attributes that drivers may not know.
        let must_be_known = ![122, 123].contains(&attribute);
        let (mut first, mut second) = (-7, -8);
        let code = cu.cuDeviceGetAttribute(&mut first, attribute, device);
        let again = cu.cuDeviceGetAttribute(&mut second, attribute, device);
        ensure!(code == again, "attribute {attribute}: {code:?}, then {again:?}");
        if code == Code::SUCCESS {
            // 13 and 36 are clock rates in kHz, which drivers may read from the hardware.
            ensure!(first == second, "attribute {attribute} is {first}, then {second}");
        } else {
            code.is(Code::INVALID_VALUE)?;
            ensure!(!must_be_known, "attribute {attribute} is unknown");
        }
    }
    pass()
}

fn bad_attributes_are_refused() -> CaseResult {
    let (cu, device) = first_device()?;
    for attribute in [-1, 0, 5000, i32::MAX, i32::MIN] {
        let mut value = -7;
        cu.cuDeviceGetAttribute(&mut value, attribute, device).is(Code::INVALID_VALUE)?;
        ensure!(value == -7, "a refused call wrote {value}");
    }
    pass()
}

fn bad_devices_are_refused_everywhere() -> CaseResult {
    let cu = initialized()?;
    let refused = Code::INVALID_DEVICE;
    for device in [-1, 1000, i32::MAX] {
        let mut number = -7;
        cu.cuDeviceGetAttribute(&mut number, 1, device).is(refused)?;
        ensure!(number == -7, "a refused call wrote {number}");
        // Drivers clear the places of this one.
        cu.cuDeviceComputeCapability(&mut number, &mut -1, device).is(refused)?;
        ensure!(number == -7 || number == 0, "a refused call wrote {number}");
        let mut name = [0x55; 8];
        cu.cuDeviceGetName(name.as_mut_ptr(), 8, device).is(refused)?;
        ensure!(name == [0x55; 8], "a refused call wrote a name");
        let mut bytes = 7;
        cu.cuDeviceTotalMem_v2(&mut bytes, device).is(refused)?;
        ensure!(bytes == 7 || bytes == 0, "a refused call wrote {bytes}");
        let mut uuid = cudarc::driver::sys::CUuuid { bytes: [7; 16] };
        cu.cuDeviceGetUuid(&mut uuid, device).is(refused)?;
        cu.cuDeviceGetUuid_v2(&mut uuid, device).is(refused)?;
        ensure!(uuid.bytes == [7; 16] || uuid.bytes == [0; 16], "a refused call wrote a UUID");
        let mut context = 7;
        cu.cuDevicePrimaryCtxRetain(&mut context, device).is(refused)?;
        cu.cuCtxCreate_v2(&mut context, 0, device).is(refused)?;
        ensure!([7, 0, usize::MAX].contains(&context), "a refused call wrote a context");
        cu.cuDevicePrimaryCtxGetState(device, &mut 0, &mut 0).is(refused)?;
        cu.cuDevicePrimaryCtxRelease_v2(device).is(refused)?;
        cu.cuDevicePrimaryCtxSetFlags_v2(device, 0).is(refused)?;
    }
    pass()
}

fn null_places_are_refused() -> CaseResult {
    let (cu, device) = first_device()?;
    let refused = Code::INVALID_VALUE;
    cu.cuDeviceGetCount(std::ptr::null_mut()).is(refused)?;
    cu.cuDeviceGet(std::ptr::null_mut(), 0).is(refused)?;
    cu.cuDeviceGetAttribute(std::ptr::null_mut(), 1, device).is(refused)?;
    cu.cuDeviceGetName(std::ptr::null_mut(), 16, device).is(refused)?;
    cu.cuDeviceTotalMem_v2(std::ptr::null_mut(), device).is(refused)?;
    cu.cuDeviceGetUuid_v2(std::ptr::null_mut(), device).is(refused)?;
    cu.cuDevicePrimaryCtxRetain(std::ptr::null_mut(), device).is(refused)?;
    pass()
}

fn compute_capability_agrees_with_attributes() -> CaseResult {
    let (cu, device) = first_device()?;
    let (mut major, mut minor, mut from_major, mut from_minor) = (0, 0, 0, 0);
    cu.cuDeviceComputeCapability(&mut major, &mut minor, device).ok()?;
    cu.cuDeviceGetAttribute(&mut from_major, 75, device).ok()?;
    cu.cuDeviceGetAttribute(&mut from_minor, 76, device).ok()?;
    ensure!((major, minor) == (from_major, from_minor), "{major}.{minor} and {from_major}.{from_minor}");
    pass()
}

fn legacy_properties_agree_with_attributes() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut properties = cudarc::driver::sys::CUdevprop {
        maxThreadsPerBlock: -1,
        maxThreadsDim: [-1; 3],
        maxGridSize: [-1; 3],
        sharedMemPerBlock: -1,
        totalConstantMemory: -1,
        SIMDWidth: -1,
        memPitch: -1,
        regsPerBlock: -1,
        clockRate: -1,
        textureAlign: -1,
    };
    cu.cuDeviceGetProperties(&mut properties, device).ok()?;
    let [x, y, z] = properties.maxThreadsDim;
    let [grid_x, grid_y, grid_z] = properties.maxGridSize;
    let told = [
        (1, properties.maxThreadsPerBlock),
        (2, x),
        (3, y),
        (4, z),
        (5, grid_x),
        (6, grid_y),
        (7, grid_z),
        (8, properties.sharedMemPerBlock),
        (9, properties.totalConstantMemory),
        (10, properties.SIMDWidth),
        (11, properties.memPitch),
        (12, properties.regsPerBlock),
        (14, properties.textureAlign),
    ];
    for (attribute, told) in told {
        let mut value = -1;
        cu.cuDeviceGetAttribute(&mut value, attribute, device).ok()?;
        ensure!(value == told, "attribute {attribute} is {value}, the properties say {told}");
    }
    pass()
}

fn pci_bus_id_leads_back_to_the_device() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut id = [0x55; 32];
    cu.cuDeviceGetPCIBusId(id.as_mut_ptr(), 32, device).ok()?;
    let told = text(id.as_ptr()).unwrap_or_default();
    let (mut domain, mut bus, mut slot) = (-1, -1, -1);
    cu.cuDeviceGetAttribute(&mut domain, 50, device).ok()?;
    cu.cuDeviceGetAttribute(&mut bus, 33, device).ok()?;
    cu.cuDeviceGetAttribute(&mut slot, 34, device).ok()?;
    let expected = format!("{domain:04x}:{bus:02x}:{slot:02x}.0");
    ensure!(told.eq_ignore_ascii_case(&expected), "the bus id is {told:?}, the attributes say {expected:?}");
    let mut found = -1;
    cu.cuDeviceGetByPCIBusId(&mut found, id.as_ptr()).ok()?;
    ensure!(found == device, "the bus id of device {device} leads to {found}");
    let mut found = -7;
    cu.cuDeviceGetByPCIBusId(&mut found, c"fffe:fe:1f.0".as_ptr())
        .is_one_of(&[Code::INVALID_DEVICE, Code::INVALID_VALUE])?;
    cu.cuDeviceGetByPCIBusId(&mut found, c"nonsense".as_ptr())
        .is_one_of(&[Code::INVALID_DEVICE, Code::INVALID_VALUE])?;
    ensure!(found == -7, "a refused call wrote {found}");
    pass()
}

fn pci_bus_id_needs_room() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut id = [0x55; 32];
    // Documented: the length must be at least 13 characters; drivers refuse or cut what is shorter.
    let code = cu.cuDeviceGetPCIBusId(id.as_mut_ptr(), 5, device);
    code.is_one_of(&[Code::SUCCESS, Code::INVALID_VALUE])?;
    ensure!(id[5..].iter().all(|byte| *byte == 0x55), "the bus id was written past the buffer's end");
    pass()
}

fn a_device_cannot_be_its_own_peer() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut can = -7;
    // Documented for two devices; for one and the same the drivers say "no" or refuse.
    let code = cu.cuDeviceCanAccessPeer(&mut can, device, device);
    code.is_one_of(&[Code::SUCCESS, Code::INVALID_DEVICE])?;
    ensure!(code != Code::SUCCESS || can == 0, "the device is its own peer");
    pass()
}
