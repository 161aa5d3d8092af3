//! Streams that wait for values in memory and write them. The forms of before CUDA 12 are switched off, as drivers have
//! them.
//!
//! Unsafe code: the values.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use virtio_spec::cuda::{CUdeviceptr, CUresult, CUstream, CUstreamBatchMemOpParams};

use super::entry::{Call, List, exports};
use crate::driver::queue::Health;
use crate::driver::{Result, driver};

exports! {
    context cuStreamWaitValue32_v2 / cuStreamWaitValue32_v2_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u32, flags: u32,
    ) = wait_32;
    context cuStreamWaitValue64_v2 / cuStreamWaitValue64_v2_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u64, flags: u32,
    ) = wait_64;
    context cuStreamWriteValue32_v2 / cuStreamWriteValue32_v2_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u32, flags: u32,
    ) = write_32;
    context cuStreamWriteValue64_v2 / cuStreamWriteValue64_v2_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u64, flags: u32,
    ) = write_64;
    context cuStreamBatchMemOp_v2 / cuStreamBatchMemOp_v2_ptsz (
        stream: CUstream, count: u32, operations: *const CUstreamBatchMemOpParams, flags: u32,
    ) = batch;
    context cuStreamWaitValue32 / cuStreamWaitValue32_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u32, flags: u32,
    ) = old_32;
    context cuStreamWaitValue64 / cuStreamWaitValue64_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u64, flags: u32,
    ) = old_64;
    context cuStreamWriteValue32 / cuStreamWriteValue32_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u32, flags: u32,
    ) = old_32;
    context cuStreamWriteValue64 / cuStreamWriteValue64_ptsz (
        stream: CUstream, address: CUdeviceptr, value: u64, flags: u32,
    ) = old_64;
    context cuStreamBatchMemOp / cuStreamBatchMemOp_ptsz (
        stream: CUstream, count: u32, operations: *const CUstreamBatchMemOpParams, flags: u32,
    ) = old_batch;
}

/// `CU_STREAM_WAIT_VALUE_FLUSH`: writes of other devices, of which there are none.
const FLUSH: u32 = 1 << 30;
/// How long a stream that waits sleeps between looks.
const LOOK: Duration = Duration::from_micros(50);

/// When a wait ends: at least (cyclically), equal, any bit, not all bits.
#[derive(Clone, Copy)]
enum Until {
    AtLeast,
    Equal,
    AnyOf,
    NotAllOf,
}

#[derive(Clone, Copy)]
enum Operation {
    Wait(Until),
    Write,
    Nothing,
}

/// A checked operation on 4 or 8 bytes.
#[derive(Clone, Copy)]
pub(super) struct Step {
    operation: Operation,
    address: u64,
    value: u64,
    bytes: u64,
}

fn until(flags: u32) -> Result<Operation> {
    Ok(Operation::Wait(match flags & !FLUSH {
        0 => Until::AtLeast,
        1 => Until::Equal,
        2 => Until::AnyOf,
        3 => Until::NotAllOf,
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    }))
}

fn writing(flags: u32) -> Result<Operation> {
    if flags > 1 { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(Operation::Write) }
}

/// A write that is a call of its own: driver 580 takes no flag there.
fn writing_one(flags: u32) -> Result<Operation> {
    if flags > 0 { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(Operation::Write) }
}

impl Step {
    fn new(call: &Call, operation: Operation, address: u64, value: u64, bytes: u64) -> Result<Self> {
        let memory = &call.driver().memory;
        if address == 0 || !address.is_multiple_of(bytes) || !memory.contains(address, bytes) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        Ok(Self { operation, address, value, bytes })
    }

    /// An operation of a batch.
    pub(super) fn of(call: &Call, wanted: &CUstreamBatchMemOpParams) -> Result<Self> {
        let low = wanted.value & u64::from(u32::MAX);
        let step = |operation, value, bytes| Self::new(call, operation, wanted.address, value, bytes);
        match wanted.operation {
            1 => step(until(wanted.value_flags)?, low, 4),
            4 => step(until(wanted.value_flags)?, wanted.value, 8),
            2 => step(writing(wanted.value_flags)?, low, 4),
            5 => step(writing(wanted.value_flags)?, wanted.value, 8),
            // A flush and a barrier: operations are done in their order anyway.
            3 | 6 => Ok(Self { operation: Operation::Nothing, address: 0, value: 0, bytes: 4 }),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }

    fn load(&self) -> u64 {
        let place = usize::try_from(self.address).unwrap_or(0);
        if self.bytes == 4 {
            // SAFETY: aligned, and inside live memory, as `do_it` has just seen.
            u64::from(
                unsafe { AtomicU32::from_ptr(std::ptr::with_exposed_provenance_mut(place)) }
                    .load(Ordering::Acquire),
            )
        } else {
            // SAFETY: as above.
            unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(place)) }
                .load(Ordering::Acquire)
        }
    }

    fn store(&self) {
        let place = usize::try_from(self.address).unwrap_or(0);
        if self.bytes == 4 {
            // SAFETY: aligned, and inside live memory, as `do_it` has just seen.
            unsafe { AtomicU32::from_ptr(std::ptr::with_exposed_provenance_mut(place)) }
                .store(u32::try_from(self.value).unwrap_or(u32::MAX), Ordering::Release);
        } else {
            // SAFETY: as above.
            unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(place)) }
                .store(self.value, Ordering::Release);
        }
    }

    fn has_come(&self, until: Until) -> bool {
        let (now, mask) = (self.load(), if self.bytes == 4 { u64::from(u32::MAX) } else { u64::MAX });
        match until {
            Until::AtLeast => now.wrapping_sub(self.value) & mask <= mask / 2,
            Until::Equal => now == self.value,
            Until::AnyOf => now & self.value != 0,
            Until::NotAllOf => !(now | self.value) & mask != 0,
        }
    }

    pub(super) fn do_it(&self, health: &Health) -> Result<()> {
        let live = || driver().memory.contains(self.address, self.bytes);
        match self.operation {
            Operation::Nothing => {}
            Operation::Write if live() => self.store(),
            Operation::Write => return Err(CUresult::ERROR_ILLEGAL_ADDRESS),
            Operation::Wait(until) => loop {
                if health.cancel.is_cancelled() {
                    break;
                }
                if !live() {
                    return Err(CUresult::ERROR_ILLEGAL_ADDRESS);
                }
                if self.has_come(until) {
                    break;
                }
                std::thread::sleep(LOOK);
            },
        }
        Ok(())
    }
}

fn submit(call: &Call, stream: CUstream, steps: Vec<Step>) -> Result<()> {
    let (context, stream) = call.stream(stream)?;
    let work = move |health: &Health| steps.iter().try_for_each(|step| step.do_it(health));
    context.submit(&stream, Vec::new(), work).map(drop)
}

fn wait_32(call: &Call, stream: CUstream, address: CUdeviceptr, value: u32, flags: u32) -> Result<()> {
    submit(call, stream, vec![Step::new(call, until(flags)?, address.0, u64::from(value), 4)?])
}

fn wait_64(call: &Call, stream: CUstream, address: CUdeviceptr, value: u64, flags: u32) -> Result<()> {
    submit(call, stream, vec![Step::new(call, until(flags)?, address.0, value, 8)?])
}

fn write_32(call: &Call, stream: CUstream, address: CUdeviceptr, value: u32, flags: u32) -> Result<()> {
    submit(call, stream, vec![Step::new(call, writing_one(flags)?, address.0, u64::from(value), 4)?])
}

fn write_64(call: &Call, stream: CUstream, address: CUdeviceptr, value: u64, flags: u32) -> Result<()> {
    submit(call, stream, vec![Step::new(call, writing_one(flags)?, address.0, value, 8)?])
}

fn batch(
    call: &Call,
    stream: CUstream,
    count: u32,
    operations: List<CUstreamBatchMemOpParams>,
    flags: u32,
) -> Result<()> {
    const MOST: u32 = 256;
    if flags != 0 || count > MOST {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let wanted = operations.get(usize::try_from(count).unwrap_or(0))?;
    let steps = wanted.iter().map(|wanted| Step::of(call, wanted)).collect::<Result<Vec<_>>>()?;
    submit(call, stream, steps)
}

fn old_32(_: &Call, _: CUstream, _: CUdeviceptr, _: u32, _: u32) -> Result<()> {
    Err(CUresult::ERROR_NOT_SUPPORTED)
}

fn old_64(_: &Call, _: CUstream, _: CUdeviceptr, _: u64, _: u32) -> Result<()> {
    Err(CUresult::ERROR_NOT_SUPPORTED)
}

fn old_batch(_: &Call, _: CUstream, _: u32, _: List<CUstreamBatchMemOpParams>, _: u32) -> Result<()> {
    Err(CUresult::ERROR_NOT_SUPPORTED)
}
