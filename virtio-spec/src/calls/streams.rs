//! Streams.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Streams.
#[calls(group = 0x09)]
pub trait Streams {
    #[call(op = 0x01, since = 2000, wire, custom)]
    fn cuStreamCreate(#[mint] stream: *mut CUstream, flags: u32);
    #[call(op = 0x02, since = 5050, wire, custom)]
    fn cuStreamCreateWithPriority(#[mint] stream: *mut CUstream, flags: u32, priority: i32);
    #[call(op = 0x03, since = 4000, wire, custom, no_context)]
    fn cuStreamDestroy_v2(#[destroy] stream: CUstream);
    #[call(op = 0x04, since = 2000, custom, no_context)]
    fn cuStreamDestroy(stream: CUstream);
    #[call(op = 0x05, since = 2000, wire, custom, blocks_gpu, ptsz)]
    fn cuStreamSynchronize(stream: CUstream);
    #[call(op = 0x06, since = 2000, wire, custom, ptsz)]
    fn cuStreamQuery(stream: CUstream);
    #[call(op = 0x07, since = 5050, wire, custom, ptsz)]
    fn cuStreamGetPriority(stream: CUstream, #[out] priority: *mut i32);
    #[call(op = 0x08, since = 5050, wire, custom, ptsz)]
    fn cuStreamGetFlags(stream: CUstream, #[out] flags: *mut u32);
    #[call(op = 0x09, since = 12000, wire, custom, ptsz)]
    fn cuStreamGetId(stream: CUstream, #[out] stream_id: *mut u64);
    #[call(op = 0x0a, since = 12080, guest, ptsz)]
    fn cuStreamGetDevice(stream: CUstream, device: *mut CUdevice);
    #[call(op = 0x0b, since = 9020, custom, ptsz)]
    fn cuStreamGetCtx(stream: CUstream, context: *mut CUcontext);
    #[call(op = 0x0c, since = 3020, wire, custom, posted, ptsz)]
    fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: u32);
    #[call(op = 0x0d, since = 11000, wire, custom, ptsz)]
    fn cuStreamCopyAttributes(to: CUstream, from: CUstream);
    #[call(op = 0x0e, since = 11000, wire, custom, ptsz)]
    fn cuStreamGetAttribute(stream: CUstream, attribute: CUstreamAttrID, #[out] value: *mut [u64; 8]);
    #[call(op = 0x0f, since = 12050, custom, ptsz)]
    fn cuStreamGetCtx_v2(stream: CUstream, context: *mut CUcontext, green: *mut u64);
    #[call(op = 0x10, since = 11000, wire, custom, ptsz)]
    fn cuStreamSetAttribute(stream: CUstream, attribute: CUstreamAttrID, #[input] value: *const [u64; 8]);
}
