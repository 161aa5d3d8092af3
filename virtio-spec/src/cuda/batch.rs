//! Copies of a batch.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CUmemLocation, cuda_enum};
use crate::assert_layout;

cuda_enum! {
    /// When a copy of a batch may read its source (`CUmemcpySrcAccessOrder` of cuda.h).
    CUmemcpySrcAccessOrder {
        STREAM = 1 as "CU_MEMCPY_SRC_ACCESS_ORDER_STREAM",
        DURING_API_CALL = 2 as "CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL",
        ANY = 3 as "CU_MEMCPY_SRC_ACCESS_ORDER_ANY",
    }
}

cuda_enum! {
    /// What a side of a 3D copy of a batch is (`CUmemcpy3DOperandType` of cuda.h).
    CUmemcpy3DOperandType {
        POINTER = 1 as "CU_MEMCPY_OPERAND_TYPE_POINTER",
        ARRAY = 2 as "CU_MEMCPY_OPERAND_TYPE_ARRAY",
    }
}

/// What some linear copies of a batch have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUmemcpyAttributes {
    pub srcAccessOrder: CUmemcpySrcAccessOrder,
    pub srcLocHint: CUmemLocation,
    pub dstLocHint: CUmemLocation,
    pub flags: u32,
}
assert_layout!(CUmemcpyAttributes, 24, srcLocHint: 4, dstLocHint: 12, flags: 20);

/// A side of a 3D copy of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CUmemcpy3DOperand {
    /// What it is.
    pub kind: CUmemcpy3DOperandType,
    /// Padding.
    pub pad: u32,
    /// A union. Memory: its address, elements of a row and rows of a layer (0: as many as are copied), and where it may
    /// be. An array: its handle, and the first element in each dimension.
    pub words: [u64; 4],
}
assert_layout!(CUmemcpy3DOperand, 40, words: 8);

/// A 3D copy of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_MEMCPY3D_BATCH_OP {
    pub src: CUmemcpy3DOperand,
    pub dst: CUmemcpy3DOperand,
    /// Width, height and depth, in elements of the array if a side is one, else in bytes, rows and layers.
    pub extent: [u64; 3],
    pub srcAccessOrder: CUmemcpySrcAccessOrder,
    pub flags: u32,
}
assert_layout!(CUDA_MEMCPY3D_BATCH_OP, 112, dst: 40, extent: 80, srcAccessOrder: 104, flags: 108);
