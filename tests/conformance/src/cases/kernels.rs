//! The device code of the cases: PTX text, exact in its arithmetic.

/// Element-wise kernels, and the smallest ones.
pub(crate) const BASIC: &str = include_str!("../kernels/basic.ptx");
/// The basic kernels in a fat container, compressed by CUDA's own tool for speed.
pub(crate) const BASIC_LZ4: &[u8] = include_bytes!("../kernels/basic-lz4.fatbin");
/// The same, compressed by its default method.
pub(crate) const BASIC_ZSTD: &[u8] = include_bytes!("../kernels/basic-zstd.fatbin");
/// Kernels about launches themselves: coordinates, parameters, shared memory, waiting.
pub(crate) const LAUNCH: &str = include_str!("../kernels/launch.ptx");
/// Global and constant variables.
pub(crate) const MODULES: &str = include_str!("../kernels/modules.ptx");
/// Managed variables.
pub(crate) const MANAGED: &str = include_str!("../kernels/managed.ptx");
/// A kernel that needs [`LINK_PART`].
pub(crate) const LINK_MAIN: &str = include_str!("../kernels/link_main.ptx");
/// The function and the variable that [`LINK_MAIN`] needs.
pub(crate) const LINK_PART: &str = include_str!("../kernels/link_part.ptx");
/// Kernels that do what must not be done.
pub(crate) const FAULTS: &str = include_str!("../kernels/faults.ptx");
/// Kernels that print.
pub(crate) const OUTPUT: &str = include_str!("../kernels/output.ptx");
/// Warps, barriers, calls, local memory.
pub(crate) const WARP: &str = include_str!("../kernels/warp.ptx");
/// A tile of a tensor that a tensor map describes; for compute capability 9.0 and later.
pub(crate) const TENSOR_MAP: &str = include_str!("../kernels/tensor_map.ptx");
/// Textures and surfaces.
pub(crate) const TEXTURES: &str = include_str!("../kernels/textures.ptx");
/// One instruction on three inputs; the cases fill in the placeholders.
pub(crate) const INSTRUCTION: &str = include_str!("../kernels/instruction.ptx");
/// One atomic operation on one cell by all threads; the cases fill in the placeholders.
pub(crate) const ATOMIC: &str = include_str!("../kernels/atomic.ptx");
