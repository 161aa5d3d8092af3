//! The device code of the cases: PTX text, exact in its arithmetic.

/// Element-wise kernels, and the smallest ones.
pub(crate) const BASIC: &str = include_str!("../kernels/basic.ptx");
