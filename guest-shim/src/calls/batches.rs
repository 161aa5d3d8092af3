//! Batched memory operations, tensor maps and multicast.

pub(crate) use super::tensor_maps::{
    cuTensorMapEncodeIm2col, cuTensorMapEncodeIm2colWide, cuTensorMapEncodeTiled, cuTensorMapReplaceAddress,
};
