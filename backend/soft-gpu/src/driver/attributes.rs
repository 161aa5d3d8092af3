//! What the device says about itself.
//!
//! It reports compute capability 9.0, so that it takes PTX for every target up to `sm_90`; what of that PTX has no
//! meaning here is refused by the compiler, by name. It promises only what it keeps: managed memory without access by both
//! sides at once, no pageable memory access, no clusters, no textures beyond their limits, no handles for other processes.

use virtio_spec::cuda::{CUdevice_attribute as Attribute, CUdevprop, CUuuid};

use super::compile::KernelInfo;
use super::memory;

/// Name of the device.
pub(crate) const NAME: &str = "virtio-compute software GPU";

/// The same on every machine: there is one such device in a process, and nothing of it is a machine's.
pub(crate) const UUID: CUuuid = CUuuid {
    bytes: [0x76, 0x63, 0x6d, 0x70, 0x73, 0x6f, 0x46, 0x74, 0xa9, 0x70, 0x75, 0x30, 0x30, 0x30, 0x30, 0x31],
};

/// CUDA version of the driver: 1000 × major + 10 × minor.
pub(crate) const DRIVER_VERSION: i32 = 13_000;

/// Newest PTX ISA version: 10 × major + minor.
pub(crate) const MAX_PTX_VERSION: u32 = 90;

/// Compute capability: 10 × major + minor.
pub(crate) const SM: u32 = 90;

/// Multiprocessors. A number of its own, so that occupancy does not depend on the machine.
pub(crate) const MULTIPROCESSORS: u32 = 8;

/// Blocks of a grid.
pub(crate) const MAX_GRID: [u32; 3] = [0x7fff_ffff, 65_535, 65_535];

/// Threads of a block; together at most 1,024.
pub(crate) const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];

/// Bytes of shared memory of a block without opting in to more.
pub(crate) const MAX_SHARED_DEFAULT: u32 = 48 << 10;

/// Bytes of shared memory of a block at most.
pub(crate) const MAX_SHARED_OPTIN: u32 = 227 << 10;

/// Bytes of shared memory that each block takes for the driver.
const RESERVED_SHARED: u32 = 1 << 10;
const SHARED_PER_MULTIPROCESSOR: u32 = 228 << 10;
const THREADS_PER_MULTIPROCESSOR: u32 = 2048;
const BLOCKS_PER_MULTIPROCESSOR: u32 = 32;
const REGISTERS: u32 = 65_536;
const WARP: u32 = 32;

/// PCI bus of the address that the device claims; domain and slot are 0.
pub(crate) const PCI_BUS: i32 = 0xf0;

/// Bytes of a pitch that copies take.
pub(crate) const MAX_PITCH: i32 = i32::MAX;

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// One attribute, if CUDA 13.0 has it.
pub(crate) fn attribute(attribute: Attribute) -> Option<i32> {
    attribute.c_name()?;
    Some(match attribute {
        Attribute::MAX_THREADS_PER_BLOCK => 1024,
        Attribute::MAX_BLOCK_DIM_X => signed(MAX_BLOCK[0]),
        Attribute::MAX_BLOCK_DIM_Y => signed(MAX_BLOCK[1]),
        Attribute::MAX_BLOCK_DIM_Z => signed(MAX_BLOCK[2]),
        Attribute::MAX_GRID_DIM_X => signed(MAX_GRID[0]),
        Attribute::MAX_GRID_DIM_Y => signed(MAX_GRID[1]),
        Attribute::MAX_GRID_DIM_Z => signed(MAX_GRID[2]),
        Attribute::MAX_SHARED_MEMORY_PER_BLOCK => signed(MAX_SHARED_DEFAULT),
        Attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => signed(MAX_SHARED_OPTIN),
        Attribute::MAX_SHARED_MEMORY_PER_MULTIPROCESSOR => signed(SHARED_PER_MULTIPROCESSOR),
        Attribute::RESERVED_SHARED_MEMORY_PER_BLOCK => signed(RESERVED_SHARED),
        Attribute::TOTAL_CONSTANT_MEMORY => 64 << 10,
        Attribute::WARP_SIZE => signed(WARP),
        Attribute::MAX_PITCH => MAX_PITCH,
        Attribute::MAX_REGISTERS_PER_BLOCK | Attribute::MAX_REGISTERS_PER_MULTIPROCESSOR => signed(REGISTERS),
        Attribute::CLOCK_RATE | Attribute::MEMORY_CLOCK_RATE => 1_000_000,
        Attribute::TEXTURE_ALIGNMENT | Attribute::SURFACE_ALIGNMENT => 512,
        Attribute::TEXTURE_PITCH_ALIGNMENT => 32,
        Attribute::MULTIPROCESSOR_COUNT => signed(MULTIPROCESSORS),
        Attribute::GLOBAL_MEMORY_BUS_WIDTH => 128,
        Attribute::L2_CACHE_SIZE => 4 << 20,
        Attribute::MAX_THREADS_PER_MULTIPROCESSOR => signed(THREADS_PER_MULTIPROCESSOR),
        Attribute::MAX_BLOCKS_PER_MULTIPROCESSOR => signed(BLOCKS_PER_MULTIPROCESSOR),
        Attribute::ASYNC_ENGINE_COUNT => 2,
        Attribute::COMPUTE_CAPABILITY_MAJOR => signed(SM / 10),
        Attribute::COMPUTE_CAPABILITY_MINOR => signed(SM % 10),
        Attribute::PCI_BUS_ID => PCI_BUS,
        Attribute::SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO => 2,
        // Descriptors.
        Attribute::MEMPOOL_SUPPORTED_HANDLE_TYPES => 1,
        Attribute::MEM_SYNC_DOMAIN_COUNT => 1,
        Attribute::NUMA_ID | Attribute::HOST_NUMA_ID => -1,
        Attribute::GPU_OVERLAP
        | Attribute::INTEGRATED
        | Attribute::CAN_MAP_HOST_MEMORY
        | Attribute::CONCURRENT_KERNELS
        | Attribute::UNIFIED_ADDRESSING
        | Attribute::STREAM_PRIORITIES_SUPPORTED
        | Attribute::GLOBAL_L1_CACHE_SUPPORTED
        | Attribute::LOCAL_L1_CACHE_SUPPORTED
        | Attribute::COMPUTE_PREEMPTION_SUPPORTED
        | Attribute::CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        | Attribute::COOPERATIVE_LAUNCH
        | Attribute::HOST_REGISTER_SUPPORTED
        | Attribute::READ_ONLY_HOST_REGISTER_SUPPORTED
        | Attribute::HOST_NATIVE_ATOMIC_SUPPORTED
        | Attribute::MEMORY_POOLS_SUPPORTED
        | Attribute::VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
        | Attribute::HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED
        | Attribute::MANAGED_MEMORY
        | Attribute::CAN_USE_64_BIT_STREAM_MEM_OPS
        | Attribute::CAN_USE_STREAM_WAIT_VALUE_NOR
        | Attribute::UNIFIED_FUNCTION_POINTERS => integrated_is_discrete(attribute),
        _ => texture_limit(attribute),
    })
}

/// Integrated devices share the host's memory and are told apart by programs that then skip copies: this is none.
fn integrated_is_discrete(attribute: Attribute) -> i32 {
    i32::from(attribute != Attribute::INTEGRATED)
}

/// Limits of textures and surfaces, which programs read before they know whether they need one; 0 for the rest.
fn texture_limit(attribute: Attribute) -> i32 {
    match attribute {
        Attribute::MAXIMUM_TEXTURE1D_WIDTH
        | Attribute::MAXIMUM_TEXTURE2D_WIDTH
        | Attribute::MAXIMUM_TEXTURE2D_LINEAR_WIDTH
        | Attribute::MAXIMUM_SURFACE2D_WIDTH => 131_072,
        Attribute::MAXIMUM_TEXTURE2D_HEIGHT
        | Attribute::MAXIMUM_TEXTURE2D_LINEAR_HEIGHT
        | Attribute::MAXIMUM_SURFACE2D_HEIGHT => 65_536,
        Attribute::MAXIMUM_TEXTURE1D_LINEAR_WIDTH => 1 << 28,
        Attribute::MAXIMUM_TEXTURE2D_LINEAR_PITCH => 2_097_120,
        Attribute::MAXIMUM_TEXTURE3D_WIDTH
        | Attribute::MAXIMUM_TEXTURE3D_HEIGHT
        | Attribute::MAXIMUM_TEXTURE3D_DEPTH
        | Attribute::MAXIMUM_SURFACE3D_WIDTH
        | Attribute::MAXIMUM_SURFACE3D_HEIGHT
        | Attribute::MAXIMUM_SURFACE3D_DEPTH => 16_384,
        Attribute::MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE | Attribute::MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE => 8192,
        Attribute::MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE => 32_768,
        Attribute::MAXIMUM_TEXTURE2D_LAYERED_LAYERS
        | Attribute::MAXIMUM_TEXTURE1D_LAYERED_LAYERS
        | Attribute::MAXIMUM_SURFACE1D_LAYERED_LAYERS
        | Attribute::MAXIMUM_SURFACE2D_LAYERED_LAYERS => 2048,
        Attribute::MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS
        | Attribute::MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS => 2046,
        Attribute::MAXIMUM_TEXTURE2D_LAYERED_WIDTH
        | Attribute::MAXIMUM_TEXTURE2D_LAYERED_HEIGHT
        | Attribute::MAXIMUM_TEXTURE1D_LAYERED_WIDTH
        | Attribute::MAXIMUM_TEXTURE2D_GATHER_WIDTH
        | Attribute::MAXIMUM_TEXTURE2D_GATHER_HEIGHT
        | Attribute::MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH
        | Attribute::MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT
        | Attribute::MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH
        | Attribute::MAXIMUM_TEXTURECUBEMAP_WIDTH
        | Attribute::MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH
        | Attribute::MAXIMUM_SURFACE1D_WIDTH
        | Attribute::MAXIMUM_SURFACE1D_LAYERED_WIDTH
        | Attribute::MAXIMUM_SURFACE2D_LAYERED_WIDTH
        | Attribute::MAXIMUM_SURFACE2D_LAYERED_HEIGHT
        | Attribute::MAXIMUM_SURFACECUBEMAP_WIDTH
        | Attribute::MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH => 32_768,
        _ => 0,
    }
}

/// The properties in their first form.
pub(crate) fn properties() -> CUdevprop {
    let value = |of| attribute(of).unwrap_or(0);
    CUdevprop {
        maxThreadsPerBlock: value(Attribute::MAX_THREADS_PER_BLOCK),
        maxThreadsDim: MAX_BLOCK.map(signed),
        maxGridSize: MAX_GRID.map(signed),
        sharedMemPerBlock: value(Attribute::MAX_SHARED_MEMORY_PER_BLOCK),
        totalConstantMemory: value(Attribute::TOTAL_CONSTANT_MEMORY),
        SIMDWidth: value(Attribute::WARP_SIZE),
        memPitch: value(Attribute::MAX_PITCH),
        regsPerBlock: value(Attribute::MAX_REGISTERS_PER_BLOCK),
        clockRate: value(Attribute::CLOCK_RATE),
        textureAlign: value(Attribute::TEXTURE_ALIGNMENT),
    }
}

/// Bytes of memory.
pub(crate) fn total_memory() -> u64 {
    memory::TOTAL
}

/// Blocks of a kernel that a multiprocessor holds at once.
pub(crate) fn blocks_per_multiprocessor(info: &KernelInfo, threads: u32, dynamic_shared: u64) -> u32 {
    if threads == 0 || threads > info.max_threads {
        return 0;
    }
    let warps = threads.div_ceil(WARP);
    let shared = u64::from(info.static_shared) + dynamic_shared;
    if shared > u64::from(MAX_SHARED_OPTIN) {
        return 0;
    }
    // Registers are handed out to warps in units of 256, shared memory to blocks in units of 128.
    let registers = (info.registers * WARP).next_multiple_of(256) * warps;
    let shared = (shared + u64::from(RESERVED_SHARED)).next_multiple_of(128);
    let by_shared = u32::try_from(u64::from(SHARED_PER_MULTIPROCESSOR) / shared).unwrap_or(u32::MAX);
    (THREADS_PER_MULTIPROCESSOR / WARP / warps)
        .min(REGISTERS / registers.max(1))
        .min(by_shared)
        .min(BLOCKS_PER_MULTIPROCESSOR)
}

/// Bytes of dynamic shared memory that each of `blocks` blocks can have on one multiprocessor.
pub(crate) fn shared_for_blocks(info: &KernelInfo, blocks: u32) -> u32 {
    let each = SHARED_PER_MULTIPROCESSOR / blocks.max(1);
    let usable = (each & !127).saturating_sub(RESERVED_SHARED).min(MAX_SHARED_OPTIN);
    usable.saturating_sub(info.static_shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(registers: u32, static_shared: u32) -> KernelInfo {
        KernelInfo {
            index: 0,
            name: c"kernel".to_owned(),
            params: Vec::new(),
            param_bytes: 0,
            static_shared,
            local: 0,
            registers,
            max_threads: 1024,
            required: None,
            target: 90,
            constant: 0,
        }
    }

    #[test]
    fn occupancy_is_bound_by_each_resource() {
        assert_eq!(blocks_per_multiprocessor(&kernel(16, 0), 1024, 0), 2);
        assert_eq!(blocks_per_multiprocessor(&kernel(16, 0), 32, 0), 32);
        assert_eq!(blocks_per_multiprocessor(&kernel(128, 0), 256, 0), 2);
        assert_eq!(blocks_per_multiprocessor(&kernel(16, 47 << 10), 64, 0), 4);
        assert_eq!(blocks_per_multiprocessor(&kernel(16, 0), 64, 228 << 10), 0);
        assert_eq!(blocks_per_multiprocessor(&kernel(16, 0), 1025, 0), 0);
    }

    #[test]
    fn shared_memory_for_a_number_of_blocks_lets_them_fit() {
        let info = kernel(16, 1000);
        for blocks in 1..=16 {
            let dynamic = shared_for_blocks(&info, blocks);
            assert!(blocks_per_multiprocessor(&info, 64, u64::from(dynamic)) >= blocks, "{blocks}");
        }
    }

    #[test]
    fn every_attribute_of_cuda_13_is_known() {
        assert!(Attribute::ALL.iter().all(|known| attribute(*known).is_some()));
        assert_eq!((attribute(Attribute(0)), attribute(Attribute(5000))), (None, None));
    }
}
