//! Streams that wait for values in memory and write them.
//!
//! Operations on memory that the shim knows are posted. What CUDA would refuse at once, and the forms of before CUDA 12,
//! which a driver may have switched off, are answered.
//!
//! Unsafe code: the application's arrays, as CUDA's contracts describe them.

use virtio_spec::calls::batches::rows;
use virtio_spec::cuda::{CUdeviceptr, CUresult, CUstream, CUstreamBatchMemOpParams};

use crate::entry::{Flavour, Row, status};
use crate::exports::batches::{wire_cuStreamBatchMemOp, wire_cuStreamBatchMemOp_v2};
use crate::memory::{Reach, copy::is_stream, reach};
use crate::wire::Request;

/// Wait until at least, equal, and: what every device can.
const LAST_PLAIN_WAIT: u32 = 2;
/// Without a flag: driver 580 refuses `CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER` here.
const LAST_WRITE: u32 = 0;
/// Most operations of a batch.
const MOST_OPERATIONS: u32 = 256;

/// Whether the device may read and write such a value, so that the driver has nothing to refuse.
fn is_known(address: u64, bytes: u64) -> bool {
    let reached =
        matches!(reach(address, bytes), Reach::Device { known: true } | Reach::Region { writable: true });
    reached && address.is_multiple_of(bytes)
}

fn send(
    row: Row,
    (stream, address): (CUstream, CUdeviceptr),
    (value, flags): (u64, u32),
    posted: bool,
    flavour: Flavour,
) -> CUresult {
    if address.0 == 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let send = || {
        let mut request = Request::new(row, flavour.is_per_thread())?.with_room(0);
        request.handle(stream.0);
        request.scalar(address.0);
        request.scalar(value);
        request.scalar(u64::from(flags));
        if posted { request.post() } else { request.answer().map(|_| ()) }
    };
    status(send())
}

macro_rules! operations {
    ($($name:ident, $value:ty, $last_flag:expr;)*) => {$(
        pub(crate) unsafe fn $name(
            stream: CUstream,
            addr: CUdeviceptr,
            value: $value,
            flags: u32,
            flavour: Flavour,
        ) -> CUresult {
            let last_flag: Option<u32> = $last_flag;
            let posted = last_flag.is_some_and(|last| flags <= last)
                && is_stream(stream.0)
                && is_known(addr.0, size_of::<$value>() as u64);
            let row = const { Row::of(&rows::$name) };
            send(row, (stream, addr), (u64::from(value), flags), posted, flavour)
        }
    )*};
}

operations! {
    cuStreamWaitValue32, u32, None;
    cuStreamWaitValue32_v2, u32, Some(LAST_PLAIN_WAIT);
    cuStreamWaitValue64, u64, None;
    cuStreamWaitValue64_v2, u64, Some(LAST_PLAIN_WAIT);
    cuStreamWriteValue32, u32, None;
    cuStreamWriteValue32_v2, u32, Some(LAST_WRITE);
    cuStreamWriteValue64, u64, None;
    cuStreamWriteValue64_v2, u64, Some(LAST_WRITE);
}

pub(crate) unsafe fn cuStreamBatchMemOp(
    stream: CUstream,
    count: u32,
    param_array: *const CUstreamBatchMemOpParams,
    flags: u32,
    flavour: Flavour,
) -> CUresult {
    if count > MOST_OPERATIONS {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the same contract.
    unsafe { wire_cuStreamBatchMemOp(stream, count, param_array, flags, flavour) }
}

pub(crate) unsafe fn cuStreamBatchMemOp_v2(
    stream: CUstream,
    count: u32,
    param_array: *const CUstreamBatchMemOpParams,
    flags: u32,
    flavour: Flavour,
) -> CUresult {
    if count > MOST_OPERATIONS {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the same contract.
    unsafe { wire_cuStreamBatchMemOp_v2(stream, count, param_array, flags, flavour) }
}
