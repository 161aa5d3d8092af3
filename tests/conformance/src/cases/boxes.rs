//! Copies of two- and three-dimensional boxes in linear memory.

use anyhow::{Result, ensure};
use cudarc::driver::sys::{CUDA_MEMCPY2D_st, CUDA_MEMCPY3D_st, CUmemorytype};

use crate::driver::Code;
use crate::gpu::{Gpu, host};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::copies::pattern;

area!("boxes":
    rows_to_the_device_and_back,
    rows_with_offsets,
    rows_between_device_buffers,
    rows_by_unified_addresses,
    rows_async_from_pinned_memory,
    unaligned_rows,
    an_empty_box_is_nothing,
    bad_pitches_are_refused,
    bad_memory_types_are_refused,
    rows_out_of_range_are_refused,
    a_box_to_the_device_and_back,
    a_box_with_offsets_between_device_buffers,
    a_box_async,
);

/// A two-dimensional copy of nothing, to be filled in.
fn plain_2d() -> CUDA_MEMCPY2D_st {
    CUDA_MEMCPY2D_st {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: std::ptr::null(),
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        srcPitch: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        dstHost: std::ptr::null_mut(),
        dstDevice: 0,
        dstArray: std::ptr::null_mut(),
        dstPitch: 0,
        WidthInBytes: 0,
        Height: 0,
    }
}

/// A three-dimensional copy of nothing, to be filled in.
pub(super) fn plain_3d() -> CUDA_MEMCPY3D_st {
    CUDA_MEMCPY3D_st {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: std::ptr::null(),
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        reserved0: std::ptr::null_mut(),
        srcPitch: 0,
        srcHeight: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        dstHost: std::ptr::null_mut(),
        dstDevice: 0,
        dstArray: std::ptr::null_mut(),
        reserved1: std::ptr::null_mut(),
        dstPitch: 0,
        dstHeight: 0,
        WidthInBytes: 0,
        Height: 0,
        Depth: 0,
    }
}

const DEVICE: CUmemorytype = CUmemorytype::CU_MEMORYTYPE_DEVICE;
const UNIFIED: CUmemorytype = CUmemorytype::CU_MEMORYTYPE_UNIFIED;

/// Checks that the box of a buffer holds what the box of another held, and the rest its old bytes.
fn check_rows(
    back: &[u8],
    pitch: usize,
    at: (usize, usize),
    size: (usize, usize),
    from: impl Fn(usize, usize) -> u8,
) -> Result<()> {
    for (index, byte) in back.iter().enumerate() {
        let (x, y) = (index % pitch, index / pitch);
        let inside = (at.0..at.0 + size.0).contains(&x) && (at.1..at.1 + size.1).contains(&y);
        let expected = if inside { from(x - at.0, y - at.1) } else { 0xEE };
        ensure!(*byte == expected, "at column {x}, row {y}: {byte:#x} instead of {expected:#x}");
    }
    Ok(())
}

fn rows_to_the_device_and_back() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = pattern(300 * 9, 1);
    let device = gpu.upload(&vec![0xEEu8; 512 * 9])?;
    let mut copy = plain_2d();
    copy.srcHost = source.as_ptr().cast();
    copy.srcPitch = 300;
    copy.dstMemoryType = DEVICE;
    copy.dstDevice = device;
    copy.dstPitch = 512;
    (copy.WidthInBytes, copy.Height) = (250, 9);
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    check_rows(&gpu.read::<u8>(device, 512 * 9)?, 512, (0, 0), (250, 9), |x, y| source[y * 300 + x])?;
    let mut back = vec![0xEEu8; 260 * 9];
    let mut copy = plain_2d();
    copy.srcMemoryType = DEVICE;
    copy.srcDevice = device;
    copy.srcPitch = 512;
    copy.dstHost = back.as_mut_ptr().cast();
    copy.dstPitch = 260;
    (copy.WidthInBytes, copy.Height) = (250, 9);
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    check_rows(&back, 260, (0, 0), (250, 9), |x, y| source[y * 300 + x])?;
    pass()
}

fn rows_with_offsets() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = pattern(128 * 20, 2);
    let device = gpu.upload(&vec![0xEEu8; 256 * 20])?;
    let mut copy = plain_2d();
    copy.srcHost = source.as_ptr().cast();
    (copy.srcXInBytes, copy.srcY, copy.srcPitch) = (5, 3, 128);
    copy.dstMemoryType = DEVICE;
    copy.dstDevice = device;
    (copy.dstXInBytes, copy.dstY, copy.dstPitch) = (17, 6, 256);
    (copy.WidthInBytes, copy.Height) = (101, 11);
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    let back: Vec<u8> = gpu.read(device, 256 * 20)?;
    check_rows(&back, 256, (17, 6), (101, 11), |x, y| source[(y + 3) * 128 + x + 5])?;
    pass()
}

fn rows_between_device_buffers() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = pattern(128 * 20, 3);
    let (first, second) = (gpu.upload(&source)?, gpu.upload(&vec![0xEEu8; 256 * 20])?);
    let mut copy = plain_2d();
    (copy.srcMemoryType, copy.srcDevice) = (DEVICE, first);
    (copy.srcXInBytes, copy.srcY, copy.srcPitch) = (4, 1, 128);
    (copy.dstMemoryType, copy.dstDevice) = (DEVICE, second);
    (copy.dstXInBytes, copy.dstY, copy.dstPitch) = (8, 2, 256);
    (copy.WidthInBytes, copy.Height) = (100, 15);
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    let back: Vec<u8> = gpu.read(second, 256 * 20)?;
    check_rows(&back, 256, (8, 2), (100, 15), |x, y| source[(y + 1) * 128 + x + 4])?;
    pass()
}

fn rows_by_unified_addresses() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = pattern(64 * 8, 4);
    let device = gpu.upload(&vec![0xEEu8; 128 * 8])?;
    let mut copy = plain_2d();
    copy.srcMemoryType = UNIFIED;
    copy.srcDevice = u64::try_from(source.as_ptr().expose_provenance())?;
    copy.srcPitch = 64;
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch) = (UNIFIED, device, 128);
    (copy.WidthInBytes, copy.Height) = (64, 8);
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    check_rows(&gpu.read::<u8>(device, 128 * 8)?, 128, (0, 0), (64, 8), |x, y| source[y * 64 + x])?;
    pass()
}

fn rows_async_from_pinned_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let source = pattern(64 * 8, 5);
    let pinned = gpu.pinned(64 * 8, 0)?;
    host(pinned, 64 * 8).copy_from_slice(&source);
    let device = gpu.upload(&vec![0xEEu8; 128 * 8])?;
    let mut copy = plain_2d();
    (copy.srcHost, copy.srcPitch) = (pinned.cast(), 64);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch) = (DEVICE, device, 128);
    (copy.WidthInBytes, copy.Height) = (64, 8);
    gpu.cu.cuMemcpy2DAsync_v2(&copy, stream).ok()?;
    let back = gpu.pinned(128 * 8, 0)?;
    host(back, 128 * 8).fill(0xEE);
    let mut copy = plain_2d();
    (copy.srcMemoryType, copy.srcDevice, copy.srcPitch) = (DEVICE, device, 128);
    (copy.dstHost, copy.dstPitch) = (back.cast(), 128);
    (copy.WidthInBytes, copy.Height) = (32, 8);
    gpu.cu.cuMemcpy2DAsync_v2(&copy, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    check_rows(host(back, 128 * 8), 128, (0, 0), (32, 8), |x, y| source[y * 64 + x])?;
    pass()
}

fn unaligned_rows() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = pattern(33 * 7, 6);
    let device = gpu.upload(&vec![0xEEu8; 37 * 7])?;
    let mut copy = plain_2d();
    (copy.srcHost, copy.srcPitch) = (source.as_ptr().cast(), 33);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch) = (DEVICE, device, 37);
    (copy.WidthInBytes, copy.Height) = (31, 7);
    gpu.cu.cuMemcpy2DUnaligned_v2(&copy).ok()?;
    check_rows(&gpu.read::<u8>(device, 37 * 7)?, 37, (0, 0), (31, 7), |x, y| source[y * 33 + x])?;
    pass()
}

fn an_empty_box_is_nothing() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&vec![0xEEu8; 256])?;
    let source = [1u8; 64];
    let mut copy = plain_2d();
    (copy.srcHost, copy.srcPitch) = (source.as_ptr().cast(), 64);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch) = (DEVICE, device, 64);
    (copy.WidthInBytes, copy.Height) = (0, 1);
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    (copy.WidthInBytes, copy.Height) = (64, 0);
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    ensure!(gpu.read::<u8>(device, 256)? == [0xEE; 256], "a copy of nothing changed something");
    pass()
}

fn bad_pitches_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&vec![0xEEu8; 4096])?;
    let source = [1u8; 4096];
    let mut copy = plain_2d();
    (copy.srcHost, copy.srcPitch) = (source.as_ptr().cast(), 64);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch) = (DEVICE, device, 64);
    (copy.WidthInBytes, copy.Height) = (65, 2);
    gpu.cu.cuMemcpy2D_v2(&copy).is(Code::INVALID_VALUE)?;
    (copy.WidthInBytes, copy.srcXInBytes) = (64, 1);
    gpu.cu.cuMemcpy2D_v2(&copy).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemcpy2D_v2(std::ptr::null()).is(Code::INVALID_VALUE)?;
    ensure!(gpu.read::<u8>(device, 4096)? == [0xEE; 4096], "a refused copy wrote something");
    pass()
}

fn bad_memory_types_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&[0xEEu8; 256])?;
    let source = [1u8; 256];
    let host = u64::try_from(source.as_ptr().expose_provenance())?;
    // The structure as its sixteen words, since the types are numbers that no enumeration has:
    // source x, y, type, host, device, array, pitch; target likewise; width and height.
    let words = |from: u64, to: u64| [0, 0, from, host, device, 0, 64, 0, 0, to, host, device, 0, 64, 64, 2];
    for (from, to) in [(0, 2), (1, 0), (9, 2), (1, 255), (0xFFFF_FFFF, 2)] {
        gpu.cu.cuMemcpy2D_v2(words(from, to).as_ptr().cast()).is(Code::INVALID_VALUE)?;
    }
    ensure!(gpu.read::<u8>(device, 256)? == [0xEE; 256], "a refused copy wrote something");
    gpu.cu.cuMemcpy2D_v2(words(1, 2).as_ptr().cast()).ok()?;
    ensure!(gpu.read::<u8>(device, 128)? == [1; 128], "the copy by the same words did not happen");
    pass()
}

fn rows_out_of_range_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 32usize << 20;
    let device = gpu.alloc(bytes)?;
    let source = vec![1u8; 64 * 4];
    let mut copy = plain_2d();
    (copy.srcHost, copy.srcPitch) = (source.as_ptr().cast(), 64);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch) = (DEVICE, device, 1 << 20);
    (copy.WidthInBytes, copy.Height, copy.dstY) = (64, 4, 30);
    gpu.cu.cuMemcpy2D_v2(&copy).is(Code::INVALID_VALUE)?;
    copy.dstY = 28;
    gpu.cu.cuMemcpy2D_v2(&copy).ok()?;
    ensure!(gpu.read::<u8>(device + (31 << 20), 64)? == [1; 64], "the last row is not there");
    pass()
}

/// The byte of a box-shaped buffer.
fn at(buffer: &[u8], pitch: usize, height: usize, (x, y, z): (usize, usize, usize)) -> u8 {
    buffer.get((z * height + y) * pitch + x).copied().unwrap_or(0)
}

fn a_box_to_the_device_and_back() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = pattern(20 * 10 * 6, 7);
    let device = gpu.upload(&vec![0xEEu8; 64 * 12 * 6])?;
    let mut copy = plain_3d();
    (copy.srcHost, copy.srcPitch, copy.srcHeight) = (source.as_ptr().cast(), 20, 10);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch, copy.dstHeight) = (DEVICE, device, 64, 12);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (20, 10, 6);
    gpu.cu.cuMemcpy3D_v2(&copy).ok()?;
    let mut back = vec![0xEEu8; 20 * 10 * 6];
    let mut copy = plain_3d();
    (copy.srcMemoryType, copy.srcDevice, copy.srcPitch, copy.srcHeight) = (DEVICE, device, 64, 12);
    (copy.dstHost, copy.dstPitch, copy.dstHeight) = (back.as_mut_ptr().cast(), 20, 10);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (20, 10, 6);
    gpu.cu.cuMemcpy3D_v2(&copy).ok()?;
    ensure!(back == source, "the box changed on the way");
    let whole: Vec<u8> = gpu.read(device, 64 * 12 * 6)?;
    let padding = (0..6).flat_map(|z| (0..64).map(move |x| (x, 11, z)));
    for place in padding {
        ensure!(at(&whole, 64, 12, place) == 0xEE, "the copy wrote outside its box at {place:?}");
    }
    pass()
}

fn a_box_with_offsets_between_device_buffers() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = pattern(32 * 10 * 8, 8);
    let (first, second) = (gpu.upload(&source)?, gpu.upload(&vec![0xEEu8; 64 * 12 * 9])?);
    let mut copy = plain_3d();
    (copy.srcMemoryType, copy.srcDevice, copy.srcPitch, copy.srcHeight) = (DEVICE, first, 32, 10);
    (copy.srcXInBytes, copy.srcY, copy.srcZ) = (3, 2, 1);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch, copy.dstHeight) = (DEVICE, second, 64, 12);
    (copy.dstXInBytes, copy.dstY, copy.dstZ) = (7, 4, 2);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (20, 6, 5);
    gpu.cu.cuMemcpy3D_v2(&copy).ok()?;
    let back: Vec<u8> = gpu.read(second, 64 * 12 * 9)?;
    for (index, byte) in back.iter().enumerate() {
        let (x, y, z) = (index % 64, index / 64 % 12, index / (64 * 12));
        let inside = (7..27).contains(&x) && (4..10).contains(&y) && (2..7).contains(&z);
        let expected = if inside { at(&source, 32, 10, (x - 4, y - 2, z - 1)) } else { 0xEE };
        ensure!(*byte == expected, "at {:?}: {byte:#x} instead of {expected:#x}", (x, y, z));
    }
    pass()
}

fn a_box_async() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let source = pattern(16 * 4 * 4, 9);
    let pinned = gpu.pinned(256, 0)?;
    host(pinned, 256).copy_from_slice(&source);
    let device = gpu.upload(&vec![0u8; 256])?;
    let mut copy = plain_3d();
    (copy.srcHost, copy.srcPitch, copy.srcHeight) = (pinned.cast(), 16, 4);
    (copy.dstMemoryType, copy.dstDevice, copy.dstPitch, copy.dstHeight) = (DEVICE, device, 16, 4);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (16, 4, 4);
    gpu.cu.cuMemcpy3DAsync_v2(&copy, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(gpu.read::<u8>(device, 256)? == source, "the box changed on the way");
    pass()
}
