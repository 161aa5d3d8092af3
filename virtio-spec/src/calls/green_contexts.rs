//! Green contexts and device resources.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Green contexts and device resources.
#[calls(group = 0x17)]
pub trait GreenContexts {
    #[call(op = 0x01, since = 12040, unsupported)]
    fn cuCtxFromGreenCtx();
    #[call(op = 0x02, since = 12040, unsupported)]
    fn cuCtxGetDevResource();
    #[call(op = 0x03, since = 12050, unsupported)]
    fn cuCtxRecordEvent();
    #[call(op = 0x04, since = 12050, unsupported)]
    fn cuCtxWaitEvent();
    #[call(op = 0x05, since = 12040, unsupported)]
    fn cuDevResourceGenerateDesc();
    #[call(op = 0x06, since = 12040, unsupported)]
    fn cuDevSmResourceSplitByCount();
    #[call(op = 0x07, since = 12040, unsupported)]
    fn cuDeviceGetDevResource();
    #[call(op = 0x08, since = 12040, unsupported)]
    fn cuGreenCtxCreate();
    #[call(op = 0x09, since = 12040, unsupported)]
    fn cuGreenCtxDestroy();
    #[call(op = 0x0a, since = 12040, unsupported)]
    fn cuGreenCtxGetDevResource();
    #[call(op = 0x0b, since = 12090, unsupported)]
    fn cuGreenCtxGetId();
    #[call(op = 0x0c, since = 12040, unsupported)]
    fn cuGreenCtxRecordEvent();
    #[call(op = 0x0d, since = 12050, unsupported)]
    fn cuGreenCtxStreamCreate();
    #[call(op = 0x0e, since = 12040, unsupported)]
    fn cuGreenCtxWaitEvent();
    #[call(op = 0x0f, since = 12040, guest, no_context)]
    fn cuStreamGetGreenCtx(stream: CUstream, green_context: *mut u64);
}
