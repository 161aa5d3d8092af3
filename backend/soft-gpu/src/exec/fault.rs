//! Why a launch ended early.

/// What happened, by the CUDA error that it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Access outside every allocation: `CUDA_ERROR_ILLEGAL_ADDRESS`.
    IllegalAddress,
    /// Access that is not naturally aligned: `CUDA_ERROR_MISALIGNED_ADDRESS`.
    MisalignedAddress,
    /// Access that its memory does not allow (an atomic on local memory…): `CUDA_ERROR_INVALID_ADDRESS_SPACE`.
    InvalidAddressSpace,
    /// Jump or call to where no code is: `CUDA_ERROR_INVALID_PC`.
    InvalidPc,
    /// Illegal instruction or operand found while running: `CUDA_ERROR_ILLEGAL_INSTRUCTION`.
    IllegalInstruction,
    /// `trap`, `brkpt`: `CUDA_ERROR_LAUNCH_FAILED`.
    Trap,
    /// A device-side assertion failed: `CUDA_ERROR_ASSERT`.
    Assert,
    /// Call stack or local memory is used up: `CUDA_ERROR_LAUNCH_FAILED`, as on a GPU.
    StackOverflow,
    /// Step limit reached, or no thread can ever go on: `CUDA_ERROR_LAUNCH_TIMEOUT`.
    Timeout,
    /// The launch does not fit: `CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES`.
    OutOfResources,
    /// Stopped through its [`super::CancelToken`].
    Cancelled,
}

/// The first fault of a grid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} in {function} (line {line}), block {block:?}, thread {thread:?}: {detail}")]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// Name of the function that was executing.
    pub function: String,
    /// Line in its PTX source, 0 if there is none.
    pub line: u32,
    /// Block index.
    pub block: [u32; 3],
    /// Thread index within its block.
    pub thread: [u32; 3],
    /// Address or reason, for logs.
    pub detail: String,
}
