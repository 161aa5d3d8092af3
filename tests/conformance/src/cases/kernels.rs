//! The device code of the cases: PTX text, exact in its arithmetic.

/// Element-wise kernels, and the smallest ones.
pub(crate) const BASIC: &str = include_str!("../kernels/basic.ptx");
/// Kernels about launches themselves: coordinates, parameters, shared memory, waiting.
pub(crate) const LAUNCH: &str = include_str!("../kernels/launch.ptx");
