//! Green contexts: there are none, and that is what libraries that can use them are told.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{CUresult, CUstream};

use super::give;
use crate::entry::status;
use crate::memory::copy::is_stream;

pub(crate) unsafe fn cuStreamGetGreenCtx(stream: CUstream, green_context: *mut u64) -> CUresult {
    if !is_stream(stream.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: the application's place for a context.
    status(unsafe { give(green_context, 0) })
}
