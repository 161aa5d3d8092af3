//! Managed memory.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

/// Managed memory.
#[calls(group = 0x16)]
pub trait Managed {
    #[call(op = 0x01, since = 8000, unsupported)]
    fn cuMemAdvise();
    #[call(op = 0x02, since = 12020, unsupported)]
    fn cuMemAdvise_v2();
    #[call(op = 0x03, since = 6000, unsupported)]
    fn cuMemAllocManaged();
    #[call(op = 0x04, since = 13000, unsupported, ptsz)]
    fn cuMemDiscardAndPrefetchBatchAsync();
    #[call(op = 0x05, since = 13000, unsupported, ptsz)]
    fn cuMemDiscardBatchAsync();
    #[call(op = 0x06, since = 8000, unsupported, ptsz)]
    fn cuMemPrefetchAsync();
    #[call(op = 0x07, since = 12020, unsupported, ptsz)]
    fn cuMemPrefetchAsync_v2();
    #[call(op = 0x08, since = 13000, unsupported, ptsz)]
    fn cuMemPrefetchBatchAsync();
    #[call(op = 0x09, since = 8000, unsupported)]
    fn cuMemRangeGetAttribute();
    #[call(op = 0x0a, since = 8000, unsupported)]
    fn cuMemRangeGetAttributes();
    #[call(op = 0x0b, since = 6000, unsupported, ptsz)]
    fn cuStreamAttachMemAsync();
}
