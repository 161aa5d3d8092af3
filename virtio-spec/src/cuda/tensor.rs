//! Descriptions of tensors for the GPU's tensor memory accelerator.

use super::cuda_enum;
use crate::assert_layout;

/// A description of a tensor. Its bits are the device's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct CUtensorMap {
    /// The bits.
    pub opaque: [u64; 16],
}
assert_layout!(CUtensorMap, 128, opaque: 0);

cuda_enum! {
    /// What the elements are (`CUtensorMapDataType` of cuda.h).
    CUtensorMapDataType {
        UINT8 = 0 as "CU_TENSOR_MAP_DATA_TYPE_UINT8",
        UINT16 = 1 as "CU_TENSOR_MAP_DATA_TYPE_UINT16",
        UINT32 = 2 as "CU_TENSOR_MAP_DATA_TYPE_UINT32",
        INT32 = 3 as "CU_TENSOR_MAP_DATA_TYPE_INT32",
        UINT64 = 4 as "CU_TENSOR_MAP_DATA_TYPE_UINT64",
        INT64 = 5 as "CU_TENSOR_MAP_DATA_TYPE_INT64",
        FLOAT16 = 6 as "CU_TENSOR_MAP_DATA_TYPE_FLOAT16",
        FLOAT32 = 7 as "CU_TENSOR_MAP_DATA_TYPE_FLOAT32",
        FLOAT64 = 8 as "CU_TENSOR_MAP_DATA_TYPE_FLOAT64",
        BFLOAT16 = 9 as "CU_TENSOR_MAP_DATA_TYPE_BFLOAT16",
        FLOAT32_FTZ = 10 as "CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ",
        TFLOAT32 = 11 as "CU_TENSOR_MAP_DATA_TYPE_TFLOAT32",
        TFLOAT32_FTZ = 12 as "CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ",
        PACKED_16U4_ALIGN8B = 13 as "CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN8B",
        PACKED_16U4_ALIGN16B = 14 as "CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B",
        PACKED_16U6_ALIGN16B = 15 as "CU_TENSOR_MAP_DATA_TYPE_16U6_ALIGN16B",
    }
}

cuda_enum! {
    /// How the elements are interleaved (`CUtensorMapInterleave` of cuda.h).
    CUtensorMapInterleave {
        NONE = 0 as "CU_TENSOR_MAP_INTERLEAVE_NONE",
        BY_16_BYTES = 1 as "CU_TENSOR_MAP_INTERLEAVE_16B",
        BY_32_BYTES = 2 as "CU_TENSOR_MAP_INTERLEAVE_32B",
    }
}

cuda_enum! {
    /// How the elements are spread over banks of shared memory (`CUtensorMapSwizzle` of cuda.h).
    CUtensorMapSwizzle {
        NONE = 0 as "CU_TENSOR_MAP_SWIZZLE_NONE",
        SPAN_32B = 1 as "CU_TENSOR_MAP_SWIZZLE_32B",
        SPAN_64B = 2 as "CU_TENSOR_MAP_SWIZZLE_64B",
        SPAN_128B = 3 as "CU_TENSOR_MAP_SWIZZLE_128B",
        SPAN_128B_ATOM_32B = 4 as "CU_TENSOR_MAP_SWIZZLE_128B_ATOM_32B",
        SPAN_128B_ATOM_32B_FLIP_8B = 5 as "CU_TENSOR_MAP_SWIZZLE_128B_ATOM_32B_FLIP_8B",
        SPAN_128B_ATOM_64B = 6 as "CU_TENSOR_MAP_SWIZZLE_128B_ATOM_64B",
    }
}

cuda_enum! {
    /// How much is fetched into the second-level cache at once (`CUtensorMapL2promotion` of cuda.h).
    CUtensorMapL2promotion {
        NONE = 0 as "CU_TENSOR_MAP_L2_PROMOTION_NONE",
        L2_64B = 1 as "CU_TENSOR_MAP_L2_PROMOTION_L2_64B",
        L2_128B = 2 as "CU_TENSOR_MAP_L2_PROMOTION_L2_128B",
        L2_256B = 3 as "CU_TENSOR_MAP_L2_PROMOTION_L2_256B",
    }
}

cuda_enum! {
    /// What stands for elements outside the tensor (`CUtensorMapFloatOOBfill` of cuda.h).
    CUtensorMapFloatOOBfill {
        NONE = 0 as "CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE",
        NAN_REQUEST_ZERO_FMA = 1 as "CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA",
    }
}

cuda_enum! {
    /// How the wide form walks along the width (`CUtensorMapIm2ColWideMode` of cuda.h).
    CUtensorMapIm2ColWideMode {
        W = 0 as "CU_TENSOR_MAP_IM2COL_WIDE_MODE_W",
        W128 = 1 as "CU_TENSOR_MAP_IM2COL_WIDE_MODE_W128",
    }
}
