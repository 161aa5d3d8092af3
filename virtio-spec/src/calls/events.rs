//! Events.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Events.
#[calls(group = 0x0a)]
pub trait Events {
    #[call(op = 0x01, since = 2000, custom, no_context)]
    fn cuEventDestroy(event: CUevent);
    #[call(op = 0x02, since = 2000, wire, custom)]
    fn cuEventCreate(#[mint] event: *mut CUevent, flags: u32);
    #[call(op = 0x03, since = 4000, wire, custom, no_context)]
    fn cuEventDestroy_v2(#[destroy] event: CUevent);
    #[call(op = 0x04, since = 2000, wire, custom, posted, ptsz)]
    fn cuEventRecord(event: CUevent, stream: CUstream);
    #[call(op = 0x05, since = 11010, wire, custom, posted, ptsz)]
    fn cuEventRecordWithFlags(event: CUevent, stream: CUstream, flags: u32);
    #[call(op = 0x06, since = 2000, wire, custom, no_context)]
    fn cuEventQuery(event: CUevent);
    #[call(op = 0x07, since = 2000, wire, custom, blocks_gpu, no_context)]
    fn cuEventSynchronize(event: CUevent);
    #[call(op = 0x08, since = 2000, wire, no_context)]
    fn cuEventElapsedTime(#[out] p_milliseconds: *mut f32, h_start: CUevent, h_end: CUevent);
    #[call(op = 0x09, since = 12080, wire, no_context)]
    fn cuEventElapsedTime_v2(#[out] p_milliseconds: *mut f32, h_start: CUevent, h_end: CUevent);
}
