//! Streams that wait for values in memory and write them.

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, host};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

area!("stream_values":
    written_in_stream_order,
    a_wait_for_another_stream,
    a_wait_for_the_host,
    a_wait_holds_up_nobody_else,
    wide_values,
    batches,
    wrong_operations,
);

/// `CU_STREAM_WAIT_VALUE_*`.
const AT_LEAST: u32 = 0;
const EQUAL: u32 = 1;
const ANY_OF: u32 = 2;
const NOT_ALL_OF: u32 = 3;

/// `CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS`.
const WIDE: i32 = 122;
/// `CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR`.
const NOR: i32 = 123;

fn written_in_stream_order() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let cell = gpu.upload(&[1u32, 2, 3])?;
    let copy = gpu.alloc(4)?;
    gpu.cu.cuStreamWriteValue32_v2(stream, cell + 4, 70, 0).ok()?;
    gpu.cu.cuMemcpyDtoDAsync_v2(copy, cell + 4, 4, stream).ok()?;
    // Without a memory barrier, which this form of the call does not have.
    gpu.cu.cuStreamWriteValue32_v2(stream, cell + 4, 99, 1).is(Code::INVALID_VALUE)?;
    gpu.cu.cuStreamWriteValue32_v2(stream, cell + 4, 71, 0).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let (cells, copy) = (gpu.read::<u32>(cell, 3)?, gpu.read::<u32>(copy, 1)?);
    ensure!(cells == [1, 71, 3] && copy == [70], "{cells:?}, copied in between: {copy:?}");
    pass()
}

fn a_wait_for_another_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let (one, two) = (gpu.stream(1)?, gpu.stream(1)?);
    let cell = gpu.upload(&[0u32, 0, 0])?;
    let mut kinds = vec![(AT_LEAST, 5u32, 9u32), (EQUAL, 7, 7), (ANY_OF, 6, 4)];
    if gpu.attribute(NOR)? == 1 {
        kinds.push((NOT_ALL_OF, 0xFFFF_FFF0, 0xFFFF_FFF1));
    }
    for (kind, wanted, written) in kinds {
        let start = if kind == NOT_ALL_OF { u32::MAX } else { 0 };
        gpu.write(cell, &[start, 0])?;
        gpu.cu.cuStreamWaitValue32_v2(one, cell, wanted, kind).ok()?;
        gpu.cu.cuStreamWriteValue32_v2(one, cell + 4, 1, 0).ok()?;
        let early = gpu.cu.cuStreamQuery(one);
        ensure!(early == Code::NOT_READY, "kind {kind}: {early:?} before the value was written");
        gpu.cu.cuStreamWriteValue32_v2(two, cell, written, 0).ok()?;
        gpu.cu.cuStreamSynchronize(one).ok()?;
        ensure!(gpu.read::<u32>(cell, 2)? == [written, 1], "kind {kind}: what follows the wait was not done");
    }
    pass()
}

fn address(pointer: *mut u32) -> Result<u64> {
    Ok(u64::try_from(pointer.expose_provenance())?)
}

fn a_wait_for_the_host() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let cells = gpu.pinned(64, 2)?.cast::<u32>();
    let place = address(cells)?;
    gpu.cu.cuStreamWaitValue32_v2(stream, place, 3, EQUAL).ok()?;
    gpu.cu.cuStreamWriteValue32_v2(stream, place + 4, 9, 0).ok()?;
    ensure!(host(cells, 2) == [0, 0], "the stream did not wait");
    host(cells, 1)[0] = 3;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(host(cells, 2) == [3, 9], "the host sees {:?}", host(cells, 2));
    pass()
}

/// A stream that waits for a value, and the place of the value.
fn held(gpu: &Gpu) -> Result<(Handle, u64)> {
    let (stream, cell) = (gpu.stream(1)?, gpu.upload(&[0u32])?);
    gpu.cu.cuStreamWaitValue32_v2(stream, cell, 1, EQUAL).ok()?;
    Ok((stream, cell))
}

fn a_wait_holds_up_nobody_else() -> CaseResult {
    let gpu = Gpu::new()?;
    let waiting = (0..4).map(|_| held(&gpu)).collect::<Result<Vec<_>>>()?;
    let other = gpu.stream(1)?;
    // This thread and another one go on with the device.
    let work = move || -> Result<()> {
        gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
        let mine = gpu.stream(1)?;
        for round in 0..50u32 {
            let device = gpu.alloc(4096)?;
            gpu.cu.cuMemsetD32Async(device, round, 1024, mine).ok()?;
            let mut values = vec![0u32; 1024];
            gpu.cu.cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), device, 4096, mine).ok()?;
            gpu.cu.cuStreamSynchronize(mine).ok()?;
            ensure!(values == vec![round; 1024], "round {round} was not done");
        }
        Ok(())
    };
    let thread = std::thread::spawn(work);
    work()?;
    ensure!(thread.join().is_ok_and(|done| done.is_ok()), "the other thread did not get on");
    for (stream, cell) in waiting {
        let still = gpu.cu.cuStreamQuery(stream);
        ensure!(still == Code::NOT_READY, "a stream that waits: {still:?}");
        gpu.cu.cuStreamWriteValue32_v2(other, cell, 1, 0).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
    }
    pass()
}

fn wide_values() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(WIDE)? != 1 {
        return skip("this device has no values of 64 bits");
    }
    let (one, two) = (gpu.stream(1)?, gpu.stream(1)?);
    let cell = gpu.upload(&[0u64, 0])?;
    let value = 0x1234_5678_9ABC_DEF0u64;
    gpu.cu.cuStreamWaitValue64_v2(one, cell, value, EQUAL).ok()?;
    gpu.cu.cuStreamWriteValue64_v2(one, cell + 8, !value, 0).ok()?;
    gpu.cu.cuStreamWriteValue64_v2(two, cell, value, 0).ok()?;
    gpu.cu.cuStreamSynchronize(one).ok()?;
    ensure!(gpu.read::<u64>(cell, 2)? == [value, !value], "other values");
    pass()
}

fn batches() -> CaseResult {
    let gpu = Gpu::new()?;
    let (one, two) = (gpu.stream(1)?, gpu.stream(1)?);
    let cell = gpu.upload(&[0u32, 0, 0])?;
    // Wait for a value, then write two; then the value for it.
    let operations =
        [[1u64, cell, 5, u64::from(AT_LEAST), 0, 0], [2, cell + 4, 6, 0, 0, 0], [2, cell + 8, 7, 0, 0, 0]];
    gpu.cu.cuStreamBatchMemOp_v2(one, 3, operations.as_ptr().cast(), 0).ok()?;
    let early = gpu.cu.cuStreamQuery(one);
    ensure!(early == Code::NOT_READY, "{early:?} before the value was written");
    gpu.cu.cuStreamBatchMemOp_v2(two, 1, [2u64, cell, 5, 0, 0, 0].as_ptr().cast(), 0).ok()?;
    gpu.cu.cuStreamSynchronize(one).ok()?;
    ensure!(gpu.read::<u32>(cell, 3)? == [5, 6, 7], "other values");
    let many = vec![[2u64, cell, 1, 0, 0, 0]; 257];
    let code = gpu.cu.cuStreamBatchMemOp_v2(two, 257, many.as_ptr().cast(), 0);
    ensure!(code == Code::INVALID_VALUE, "257 operations: {code:?}");
    pass()
}

fn wrong_operations() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let cell = gpu.upload(&[4u32, 5])?;
    let nowhere = gpu.cu.cuStreamWriteValue32_v2(stream, 0, 1, 0);
    ensure!(nowhere == Code::INVALID_VALUE, "no address: {nowhere:?}");
    let odd = gpu.cu.cuStreamWriteValue32_v2(stream, cell + 1, 1, 0);
    ensure!(odd == Code::INVALID_VALUE, "an odd address: {odd:?}");
    let kind = gpu.cu.cuStreamWaitValue32_v2(stream, cell, 4, 9);
    ensure!(kind == Code::INVALID_VALUE, "wait of kind 9: {kind:?}");
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(gpu.read::<u32>(cell, 2)? == [4, 5], "a refused operation wrote");
    pass()
}
