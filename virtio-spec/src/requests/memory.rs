//! Requests about memory without addresses, pools, and descriptions of memory that kernels are given.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// ADDRESS_RESERVE: `cuMemAddressReserve`. The guest chooses the place, because it knows what lies in its own address
/// space; the worker gives a range back that came to lie outside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AddressReserve {
    /// Bytes.
    pub length: u64,
    /// Alignment, 0 for CUDA's own.
    pub alignment: u64,
    /// Address, inside [`crate::window`].
    pub address: u64,
    /// CUDA's flags.
    pub flags: u64,
}
assert_layout!(AddressReserve, 32, length: 0, alignment: 8, address: 16, flags: 24);

/// → of ADDRESS_RESERVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AddressReserved {
    /// Where the range is.
    pub address: u64,
}
assert_layout!(AddressReserved, 8, address: 0);

/// What physical memory is to be (`CUmemAllocationProp`): always pinned memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryProperties {
    /// Device ordinal, as in the device information.
    pub device: u32,
    /// Bits of `CUmemAllocationHandleType`.
    pub handle_types: u32,
    /// `CUmemAllocationCompType`.
    pub compression: u8,
    /// Whether other devices may reach it (`gpuDirectRDMACapable`).
    pub rdma: u8,
    /// `CU_MEM_CREATE_USAGE_*`.
    pub usage: u16,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(MemoryProperties, 16, device: 0, handle_types: 4, compression: 8, rdma: 9, usage: 10, reserved: 12);

/// MEMORY_CREATE: `cuMemCreate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryCreate {
    /// Handle to make, of kind [`crate::handle::Kind::Allocation`].
    pub handle: u64,
    /// Bytes.
    pub length: u64,
    /// CUDA's flags.
    pub flags: u64,
    /// What it is to be.
    pub properties: MemoryProperties,
}
assert_layout!(MemoryCreate, 40, handle: 0, length: 8, flags: 16, properties: 24);

/// MEMORY_GRANULARITY: `cuMemGetAllocationGranularity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryGranularity {
    /// What the memory would be.
    pub properties: MemoryProperties,
    /// `CUmemAllocationGranularity_flags`.
    pub option: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(MemoryGranularity, 24, properties: 0, option: 16, reserved: 20);

/// → of MEMORY_GRANULARITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Granularity {
    /// Bytes.
    pub bytes: u64,
}
assert_layout!(Granularity, 8, bytes: 0);

/// POOL_CREATE: `cuMemPoolCreate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PoolCreate {
    /// Handle to make, of kind [`crate::handle::Kind::Pool`].
    pub pool: u64,
    /// Most bytes that it may have, 0 for CUDA's own bound.
    pub max_bytes: u64,
    /// What its memory is to be; compression and RDMA are zero.
    pub properties: MemoryProperties,
}
assert_layout!(PoolCreate, 32, pool: 0, max_bytes: 8, properties: 16);

/// POOL_ATTRIBUTE: `cuMemPoolGetAttribute` and `cuMemPoolSetAttribute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PoolAttribute {
    /// Handle of the pool.
    pub pool: u64,
    /// `CUmemPool_attribute`.
    pub attribute: u32,
    /// 1 to set `value`, 0 to ask for it.
    pub set: u32,
    /// The new value.
    pub value: u64,
}
assert_layout!(PoolAttribute, 24, pool: 0, attribute: 8, set: 12, value: 16);

/// → of POOL_ATTRIBUTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PoolValue {
    /// The value, or the one that was set.
    pub value: u64,
}
assert_layout!(PoolValue, 8, value: 0);

/// Which function a [`TensorMap`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TensorMapForm {
    /// `cuTensorMapEncodeTiled`.
    Tiled = 1,
    /// `cuTensorMapEncodeIm2col`.
    Im2col = 2,
    /// `cuTensorMapEncodeIm2colWide`.
    Im2colWide = 3,
    /// `cuTensorMapReplaceAddress`.
    ReplaceAddress = 4,
}

impl TensorMapForm {
    /// The form with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Tiled),
            2 => Some(Self::Im2col),
            3 => Some(Self::Im2colWide),
            4 => Some(Self::ReplaceAddress),
            _ => None,
        }
    }
}

/// Most dimensions of a tensor.
pub const TENSOR_DIMENSIONS: usize = 5;

/// TENSOR_MAP: describes a tensor in device memory. The host's driver computes the bits, because a device's generation
/// decides what they are; kernels get them by value. What a form does not use is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TensorMap {
    /// [`TensorMapForm`].
    pub form: u32,
    /// `CUtensorMapDataType`.
    pub data_type: u32,
    /// Dimensions, 1 to [`TENSOR_DIMENSIONS`].
    pub rank: u32,
    /// `CUtensorMapInterleave`.
    pub interleave: u32,
    /// `CUtensorMapSwizzle`.
    pub swizzle: u32,
    /// `CUtensorMapL2promotion`.
    pub l2_promotion: u32,
    /// `CUtensorMapFloatOOBfill`.
    pub fill: u32,
    /// `CUtensorMapIm2ColWideMode`.
    pub mode: u32,
    /// Address of the tensor.
    pub address: u64,
    /// Elements in each dimension.
    pub dimensions: [u64; TENSOR_DIMENSIONS],
    /// Bytes from one element to the next in each dimension but the first.
    pub strides: [u64; TENSOR_DIMENSIONS],
    /// Elements of a box in each dimension.
    pub box_dimensions: [u32; TENSOR_DIMENSIONS],
    /// Steps from element to element in each dimension.
    pub element_strides: [u32; TENSOR_DIMENSIONS],
    /// Lower corner of the box of pixels; the wide form uses the first.
    pub lower_corner: [i32; 3],
    /// Its upper corner.
    pub upper_corner: [i32; 3],
    /// Channels of a pixel.
    pub channels: u32,
    /// Pixels of a column.
    pub pixels: u32,
    /// The bits in which the address is to be replaced.
    pub bits: [u64; 16],
}
assert_layout!(TensorMap, 320, form: 0, address: 32, dimensions: 40, strides: 80, box_dimensions: 120,
    element_strides: 140, lower_corner: 160, upper_corner: 172, channels: 184, pixels: 188, bits: 192);

/// → of TENSOR_MAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TensorMapBits {
    /// `CUtensorMap`.
    pub bits: [u64; 16],
}
assert_layout!(TensorMapBits, 128, bits: 0);

/// MANAGED_QUERY: whether an address lies in managed memory of the host's driver, such as a module's managed variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ManagedQuery {
    /// A device address.
    pub address: u64,
}
assert_layout!(ManagedQuery, 8, address: 0);

/// → of MANAGED_QUERY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ManagedAnswer {
    /// 1 if it does, else 0.
    pub managed: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(ManagedAnswer, 8, managed: 0, reserved: 4);

/// EXCHANGE: copies pieces of device memory from or to the lane's staging, and waits for these copies alone. Followed by
/// `count` [`ExchangePiece`]s, whose bytes lie in the staging one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Exchange {
    /// Stream handle: one that nothing else is queued on, and that does not wait for the legacy stream.
    pub stream: u64,
    /// Pieces that follow, at most [`crate::limits::MAX_EXCHANGE_PIECES`].
    pub count: u32,
    /// 1: to the device, 0: from it.
    pub to_device: u32,
}
assert_layout!(Exchange, 16, stream: 0, count: 8, to_device: 12);

/// A piece of an EXCHANGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ExchangePiece {
    /// Device address; CUDA checks it.
    pub address: u64,
    /// Bytes, not 0.
    pub length: u64,
}
assert_layout!(ExchangePiece, 16, address: 0, length: 8);

/// MANAGED_READ: bytes of a library's managed variable to the lane's staging, which needs no context: the variable is there
/// before any context is. Followed by the variable's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ManagedRead {
    /// Handle of the library.
    pub library: u64,
    /// First byte of the variable.
    pub offset: u64,
    /// Bytes, at most the lane's staging.
    pub length: u64,
    /// Bytes of the name that follows, its NUL included.
    pub name_bytes: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(ManagedRead, 32, library: 0, offset: 8, length: 16, name_bytes: 24, reserved: 28);
