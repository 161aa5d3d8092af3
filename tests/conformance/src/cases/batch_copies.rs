//! Batches of copies.

use anyhow::{Result, ensure};

use crate::driver::{BoxCopy, BoxSide, Code, CopyAttributes, Handle};
use crate::gpu::{Gpu, host};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

area!("batch_copies":
    each_copy_of_a_batch_is_made,
    a_batch_between_host_and_device,
    a_source_may_go_after_the_call,
    a_batch_keeps_the_streams_order,
    bad_batches_are_refused,
    boxes_of_a_batch,
    boxes_with_arrays,
    bad_boxes_are_refused,
);

const NO_HINT: CopyAttributes = CopyAttributes { order: 1, source: [0; 2], destination: [0; 2], flags: 0 };

/// The linear form of this driver: the one that says which copy failed is gone from CUDA 13's headers, not from its
/// drivers.
fn batch(
    gpu: &Gpu,
    (to, from, sizes): (&[u64], &[u64], &[usize]),
    attributes: &[(usize, CopyAttributes)],
    stream: Handle,
) -> Code {
    let (indexes, given): (Vec<usize>, Vec<CopyAttributes>) = attributes.iter().copied().unzip();
    let (to, from, sizes, count) = (to.as_ptr(), from.as_ptr(), sizes.as_ptr(), sizes.len());
    gpu.cu.cuMemcpyBatchAsync_v2(
        to,
        from,
        sizes,
        count,
        given.as_ptr(),
        indexes.as_ptr(),
        given.len(),
        stream,
    )
}

fn is_there() -> Result<bool> {
    Ok(crate::gpu::version()? >= 13_000)
}

const OLD: &str = "the driver is older than CUDA 13.0";

fn each_copy_of_a_batch_is_made() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let sources = [gpu.upload(&[1u32; 100])?, gpu.upload(&[2u32; 50])?, gpu.upload(&[3u32; 1])?];
    let target = gpu.upload(&[0u32; 200])?;
    let to = [target, target + 400, target + 796];
    batch(&gpu, (&to, &sources, &[400, 200, 4]), &[(0, NO_HINT)], stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let mut expected = [0u32; 200];
    expected[..100].fill(1);
    expected[100..150].fill(2);
    expected[199] = 3;
    ensure!(gpu.read::<u32>(target, 200)? == expected, "the copies' values are not there");
    pass()
}

fn a_batch_between_host_and_device() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let cells = gpu.upload(&[0u32; 64])?;
    let (pinned, pageable) = (gpu.pinned(256, 0)?.cast::<u32>(), [9u32; 32]);
    for (cell, value) in host(pinned, 32).iter_mut().zip(5..) {
        *cell = value;
    }
    let pinned_address = pinned.expose_provenance() as u64;
    let from = [pinned_address, pageable.as_ptr().expose_provenance() as u64];
    batch(&gpu, (&[cells, cells + 128], &from, &[128, 128]), &[(0, NO_HINT)], stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let expected: Vec<u32> = (5..37).chain([9; 32]).collect();
    ensure!(gpu.read::<u32>(cells, 64)? == expected, "the host's values are not there");
    batch(&gpu, (&[pinned_address + 128], &[cells], &[128]), &[(0, NO_HINT)], stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(host(pinned, 64)[63] == 36, "the device's values are not there");
    pass()
}

fn a_source_may_go_after_the_call() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let cells = gpu.upload(&[0u32; 1024])?;
    let source = gpu.pinned(4096, 0)?.cast::<u32>();
    let during_call = CopyAttributes { order: 2, ..NO_HINT };
    for round in 1..20u32 {
        host(source, 1024).fill(round);
        let from = source.expose_provenance() as u64;
        batch(&gpu, (&[cells], &[from], &[4096]), &[(0, during_call)], stream).ok()?;
        host(source, 1024).fill(0);
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(gpu.read::<u32>(cells, 1024)? == [round; 1024], "the source was read after the call");
    }
    pass()
}

fn a_batch_keeps_the_streams_order() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let (first, second) = (gpu.upload(&[0u32; 1000])?, gpu.upload(&[0u32; 1000])?);
    for round in 1..50u32 {
        gpu.cu.cuMemsetD32Async(first, round, 1000, stream).ok()?;
        let half = (&[second, second + 2000][..], &[first, first + 2000][..], &[2000, 2000][..]);
        batch(&gpu, half, &[(0, NO_HINT), (1, NO_HINT)], stream).ok()?;
        gpu.cu.cuMemsetD32Async(first, 0, 1000, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(gpu.read::<u32>(second, 1000)? == [round; 1000], "the batch ran out of order");
    }
    pass()
}

fn bad_batches_are_refused() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let cells = gpu.upload(&[7u32; 64])?;
    let good = (&[cells, cells + 64][..], &[cells + 128, cells + 192][..], &[64, 64][..]);
    batch(&gpu, (&[], &[], &[]), &[(0, NO_HINT)], stream).is(Code::INVALID_VALUE)?;
    batch(&gpu, good, &[(1, NO_HINT)], stream).is(Code::INVALID_VALUE)?;
    batch(&gpu, good, &[(0, NO_HINT), (2, NO_HINT)], stream).is(Code::INVALID_VALUE)?;
    batch(&gpu, good, &[(0, CopyAttributes { order: 9, ..NO_HINT })], stream).is(Code::INVALID_VALUE)?;
    // The legacy default stream.
    let code = batch(&gpu, good, &[(0, NO_HINT)], 0);
    ensure!(code != Code::SUCCESS, "the legacy default stream took a batch");
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cells, 64)? == [7; 64], "a refused batch copied");
    pass()
}

fn memory(address: u64, row: u64, layer: u64) -> BoxSide {
    BoxSide { kind: 1, pad: 0, words: [address, row, layer, 0] }
}

fn copy(to: BoxSide, from: BoxSide, extent: [u64; 3]) -> BoxCopy {
    BoxCopy { source: from, destination: to, extent, order: 1, flags: 0 }
}

fn boxes(gpu: &Gpu, copies: &[BoxCopy], flags: u64, stream: Handle) -> Code {
    gpu.cu.cuMemcpy3DBatchAsync_v2(copies.len(), copies.as_ptr(), flags, stream)
}

fn boxes_of_a_batch() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let values: Vec<u8> = (0..240).collect();
    let (from, to) = (gpu.upload(&values)?, gpu.upload(&[0u8; 240])?);
    // Of 3 layers of 8 rows of 10 bytes: 4 bytes of 2 rows of 2 layers, and a whole row.
    let part = copy(memory(to, 0, 0), memory(from + 12, 10, 8), [4, 2, 2]);
    let row = copy(memory(to + 100, 0, 0), memory(from + 230, 0, 0), [10, 1, 1]);
    boxes(&gpu, &[part, row], 0, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let found = gpu.read::<u8>(to, 240)?;
    let expected = [12, 13, 14, 15, 22, 23, 24, 25, 92, 93, 94, 95, 102, 103, 104, 105];
    ensure!(found[..16] == expected, "the box is {:?}", &found[..16]);
    ensure!(found[100..110] == values[230..], "the row is {:?}", &found[100..110]);
    pass()
}

fn boxes_with_arrays() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    // 8 rows of 16 words of 32 bits.
    let (mut array, descriptor) = (0, [16u64, 8, 0, 3 | 1 << 32, 0]);
    gpu.cu.cuArray3DCreate_v2(&mut array, descriptor.as_ptr().cast()).ok()?;
    let values: Vec<u32> = (0..128).collect();
    let (from, to) = (gpu.upload(&values)?, gpu.upload(&[0u32; 128])?);
    let in_array = |x, y| BoxSide { kind: 2, pad: 0, words: [array as u64, x, y, 0] };
    boxes(&gpu, &[copy(in_array(0, 0), memory(from, 0, 0), [16, 8, 1])], 0, stream).ok()?;
    // Sizes are elements of the array.
    boxes(&gpu, &[copy(memory(to, 16, 0), in_array(2, 3), [4, 2, 1])], 0, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let found = gpu.read::<u32>(to, 20)?;
    ensure!(found[..4] == [50, 51, 52, 53] && found[16..] == [66, 67, 68, 69], "the box is {found:?}");
    gpu.cu.cuArrayDestroy(array).ok()?;
    pass()
}

fn bad_boxes_are_refused() -> CaseResult {
    if !is_there()? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let cells = gpu.upload(&[7u8; 64])?;
    let good = copy(memory(cells, 0, 0), memory(cells + 32, 0, 0), [4, 2, 1]);
    boxes(&gpu, &[], 0, stream).is(Code::INVALID_VALUE)?;
    boxes(&gpu, &[good], 1, stream).is(Code::INVALID_VALUE)?;
    let nowhere = BoxCopy { destination: memory(0, 0, 0), ..good };
    boxes(&gpu, &[good, nowhere], 0, stream).is(Code::INVALID_VALUE)?;
    let narrow = BoxCopy { source: memory(cells + 32, 3, 0), ..good };
    boxes(&gpu, &[narrow], 0, stream).is(Code::INVALID_VALUE)?;
    let unknown = BoxCopy { source: BoxSide { kind: 3, ..good.source }, ..good };
    boxes(&gpu, &[unknown], 0, stream).is(Code::INVALID_VALUE)?;
    pass()
}
