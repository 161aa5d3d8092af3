//! Memory: kinds, flags, pointer attributes.

use core::ffi::c_void;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CUmemLocation, cuda_enum};
use crate::assert_layout;

cuda_enum! {
    /// Kind of memory (`CUmemorytype` of cuda.h).
    CUmemorytype {
        HOST = 1 as "CU_MEMORYTYPE_HOST",
        DEVICE = 2 as "CU_MEMORYTYPE_DEVICE",
        ARRAY = 3 as "CU_MEMORYTYPE_ARRAY",
        UNIFIED = 4 as "CU_MEMORYTYPE_UNIFIED",
    }
}

cuda_enum! {
    /// What `cuPointerGetAttribute` is asked for (`CUpointer_attribute` of cuda.h).
    CUpointer_attribute {
        CONTEXT = 1 as "CU_POINTER_ATTRIBUTE_CONTEXT",
        MEMORY_TYPE = 2 as "CU_POINTER_ATTRIBUTE_MEMORY_TYPE",
        DEVICE_POINTER = 3 as "CU_POINTER_ATTRIBUTE_DEVICE_POINTER",
        HOST_POINTER = 4 as "CU_POINTER_ATTRIBUTE_HOST_POINTER",
        P2P_TOKENS = 5 as "CU_POINTER_ATTRIBUTE_P2P_TOKENS",
        SYNC_MEMOPS = 6 as "CU_POINTER_ATTRIBUTE_SYNC_MEMOPS",
        BUFFER_ID = 7 as "CU_POINTER_ATTRIBUTE_BUFFER_ID",
        IS_MANAGED = 8 as "CU_POINTER_ATTRIBUTE_IS_MANAGED",
        DEVICE_ORDINAL = 9 as "CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL",
        IS_LEGACY_CUDA_IPC_CAPABLE = 10 as "CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE",
        RANGE_START_ADDR = 11 as "CU_POINTER_ATTRIBUTE_RANGE_START_ADDR",
        RANGE_SIZE = 12 as "CU_POINTER_ATTRIBUTE_RANGE_SIZE",
        MAPPED = 13 as "CU_POINTER_ATTRIBUTE_MAPPED",
        ALLOWED_HANDLE_TYPES = 14 as "CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES",
        IS_GPU_DIRECT_RDMA_CAPABLE = 15 as "CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE",
        ACCESS_FLAGS = 16 as "CU_POINTER_ATTRIBUTE_ACCESS_FLAGS",
        MEMPOOL_HANDLE = 17 as "CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE",
        MAPPING_SIZE = 18 as "CU_POINTER_ATTRIBUTE_MAPPING_SIZE",
        MAPPING_BASE_ADDR = 19 as "CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR",
        MEMORY_BLOCK_ID = 20 as "CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID",
        IS_HW_DECOMPRESS_CAPABLE = 21 as "CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE",
    }
}

cuda_enum! {
    /// Where memory is (`CUmemLocationType` of cuda.h).
    CUmemLocationType {
        INVALID = 0 as "CU_MEM_LOCATION_TYPE_INVALID",
        DEVICE = 1 as "CU_MEM_LOCATION_TYPE_DEVICE",
        HOST = 2 as "CU_MEM_LOCATION_TYPE_HOST",
        HOST_NUMA = 3 as "CU_MEM_LOCATION_TYPE_HOST_NUMA",
        HOST_NUMA_CURRENT = 4 as "CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT",
    }
}

cuda_enum! {
    /// How memory is allocated (`CUmemAllocationType` of cuda.h).
    CUmemAllocationType {
        INVALID = 0 as "CU_MEM_ALLOCATION_TYPE_INVALID",
        PINNED = 1 as "CU_MEM_ALLOCATION_TYPE_PINNED",
        MANAGED = 2 as "CU_MEM_ALLOCATION_TYPE_MANAGED",
    }
}

cuda_enum! {
    /// As what memory can be passed to another process: bits (`CUmemAllocationHandleType` of cuda.h).
    CUmemAllocationHandleType {
        NONE = 0 as "CU_MEM_HANDLE_TYPE_NONE",
        POSIX_FILE_DESCRIPTOR = 1 as "CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR",
        WIN32 = 2 as "CU_MEM_HANDLE_TYPE_WIN32",
        WIN32_KMT = 4 as "CU_MEM_HANDLE_TYPE_WIN32_KMT",
        FABRIC = 8 as "CU_MEM_HANDLE_TYPE_FABRIC",
    }
}

cuda_enum! {
    /// What a device may do with mapped memory (`CUmemAccess_flags` of cuda.h).
    CUmemAccess_flags {
        PROT_NONE = 0 as "CU_MEM_ACCESS_FLAGS_PROT_NONE",
        PROT_READ = 1 as "CU_MEM_ACCESS_FLAGS_PROT_READ",
        PROT_READWRITE = 3 as "CU_MEM_ACCESS_FLAGS_PROT_READWRITE",
    }
}

cuda_enum! {
    /// Which granularity is asked for (`CUmemAllocationGranularity_flags` of cuda.h).
    CUmemAllocationGranularity_flags {
        MINIMUM = 0 as "CU_MEM_ALLOC_GRANULARITY_MINIMUM",
        RECOMMENDED = 1 as "CU_MEM_ALLOC_GRANULARITY_RECOMMENDED",
    }
}

cuda_enum! {
    /// What a memory pool is asked for (`CUmemPool_attribute` of cuda.h). The first three are `int`s, the others 64-bit
    /// numbers.
    CUmemPool_attribute {
        REUSE_FOLLOW_EVENT_DEPENDENCIES = 1 as "CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES",
        REUSE_ALLOW_OPPORTUNISTIC = 2 as "CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC",
        REUSE_ALLOW_INTERNAL_DEPENDENCIES = 3 as "CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES",
        RELEASE_THRESHOLD = 4 as "CU_MEMPOOL_ATTR_RELEASE_THRESHOLD",
        RESERVED_MEM_CURRENT = 5 as "CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT",
        RESERVED_MEM_HIGH = 6 as "CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH",
        USED_MEM_CURRENT = 7 as "CU_MEMPOOL_ATTR_USED_MEM_CURRENT",
        USED_MEM_HIGH = 8 as "CU_MEMPOOL_ATTR_USED_MEM_HIGH",
    }
}

impl CUmemPool_attribute {
    /// Whether the value is an `int`.
    #[must_use]
    pub const fn is_int(self) -> bool {
        self.0 <= Self::REUSE_ALLOW_INTERNAL_DEPENDENCIES.0
    }
}

/// What a place may do with mapped memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUmemAccessDesc {
    pub location: CUmemLocation,
    pub flags: CUmemAccess_flags,
}
assert_layout!(CUmemAccessDesc, 12, location: 0, flags: 8);

/// `CUmemAllocationProp::allocFlags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUmemAllocationFlags {
    pub compressionType: u8,
    pub gpuDirectRDMACapable: u8,
    pub usage: u16,
    pub reserved: [u8; 4],
}

/// What physical memory is to be.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUmemAllocationProp {
    pub allocation_type: CUmemAllocationType,
    pub requestedHandleTypes: CUmemAllocationHandleType,
    pub location: CUmemLocation,
    pub win32HandleMetaData: *mut c_void,
    pub allocFlags: CUmemAllocationFlags,
}
assert_layout!(CUmemAllocationProp, 32, requestedHandleTypes: 4, location: 8, win32HandleMetaData: 16, allocFlags: 24);

/// What a memory pool is to be.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUmemPoolProps {
    pub allocType: CUmemAllocationType,
    pub handleTypes: CUmemAllocationHandleType,
    pub location: CUmemLocation,
    pub win32SecurityAttributes: *mut c_void,
    pub maxSize: usize,
    pub usage: u16,
    pub reserved: [u8; 54],
}
assert_layout!(CUmemPoolProps, 88, location: 8, win32SecurityAttributes: 16, maxSize: 24, usage: 32);

/// What another process opens memory with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUipcMemHandle {
    pub reserved: [u8; 64],
}
assert_layout!(CUipcMemHandle, 64, reserved: 0);

impl Default for CUipcMemHandle {
    fn default() -> Self {
        Self { reserved: [0; 64] }
    }
}

/// What another process opens an event with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUipcEventHandle {
    pub reserved: [u8; 64],
}
assert_layout!(CUipcEventHandle, 64, reserved: 0);

impl Default for CUipcEventHandle {
    fn default() -> Self {
        Self { reserved: [0; 64] }
    }
}

/// What another process opens a pool's memory with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUmemPoolPtrExportData {
    pub reserved: [u8; 64],
}
assert_layout!(CUmemPoolPtrExportData, 64, reserved: 0);

impl Default for CUmemPoolPtrExportData {
    fn default() -> Self {
        Self { reserved: [0; 64] }
    }
}
