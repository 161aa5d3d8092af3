//! Fills of linear memory.

use anyhow::{Result, ensure};

use crate::driver::Code;
use crate::gpu::{Gpu, host};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

area!("fills":
    fill_of_each_width,
    fill_of_zero_elements_is_nothing,
    misaligned_fills_are_refused,
    fill_out_of_range_is_refused,
    fill_async_on_a_stream,
    fill_of_pinned_memory,
    fill_of_rows,
);

fn fill_of_each_width() -> CaseResult {
    let gpu = Gpu::new()?;
    for count in [1usize, 2, 3, 100, 4097, 100_001] {
        let device = gpu.upload(&vec![0xEEu8; 4 * count + 8])?;
        gpu.cu.cuMemsetD8_v2(device + 1, 0x12, count).ok()?;
        let back: Vec<u8> = gpu.read(device, count + 2)?;
        ensure!(back[1..=count].iter().all(|byte| *byte == 0x12), "{count} bytes are not filled");
        ensure!(back[0] == 0xEE && back[count + 1] == 0xEE, "a fill of {count} bytes wrote beyond them");
        gpu.cu.cuMemsetD16_v2(device + 2, 0x1234, count).ok()?;
        let back: Vec<u16> = gpu.read(device + 2, count + 1)?;
        ensure!(back[..count].iter().all(|word| *word == 0x1234), "{count} half-words are not filled");
        ensure!(back[count] == 0xEEEE, "a fill of {count} half-words wrote beyond them");
        gpu.cu.cuMemsetD32_v2(device + 4, 0xDEAD_BEEF, count).ok()?;
        let back: Vec<u32> = gpu.read(device + 4, count)?;
        ensure!(back.iter().all(|word| *word == 0xDEAD_BEEF), "{count} words are not filled");
        ensure!(gpu.read::<u8>(device, 1)? == [0xEE], "a fill wrote before its start");
        ensure!(
            gpu.read::<u32>(device + 4 + 4 * u64::try_from(count)?, 1)? == [0xEEEE_EEEE],
            "a fill went too far"
        );
    }
    pass()
}

fn fill_of_zero_elements_is_nothing() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&[7u8; 16])?;
    gpu.cu.cuMemsetD8_v2(device, 1, 0).ok()?;
    gpu.cu.cuMemsetD32_v2(device, 1, 0).ok()?;
    gpu.cu.cuMemsetD32Async(device, 1, 0, 0).ok()?;
    ensure!(gpu.read::<u8>(device, 16)? == [7; 16], "a fill of nothing changed something");
    pass()
}

fn misaligned_fills_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&[7u8; 64])?;
    gpu.cu.cuMemsetD16_v2(device + 1, 1, 4).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemsetD32_v2(device + 2, 1, 4).is(Code::INVALID_VALUE)?;
    ensure!(gpu.read::<u8>(device, 64)? == [7; 64], "a refused fill wrote something");
    pass()
}

fn fill_out_of_range_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 32 << 20;
    let device = gpu.alloc(bytes)?;
    let end = device + u64::try_from(bytes)?;
    gpu.cu.cuMemsetD8_v2(end - 16, 1, 64).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemsetD8_v2(0, 1, 64).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemsetD32_v2(0x1000, 1, 64).is(Code::INVALID_VALUE)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    pass()
}

fn fill_async_on_a_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let device = gpu.alloc(4000)?;
    gpu.cu.cuMemsetD8Async(device, 0x11, 4000, stream).ok()?;
    gpu.cu.cuMemsetD16Async(device, 0x2222, 1000, stream).ok()?;
    gpu.cu.cuMemsetD32Async(device, 0x3333_3333, 250, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let back: Vec<u8> = gpu.read(device, 4000)?;
    ensure!(back[..1000].iter().all(|byte| *byte == 0x33), "the third fill is lost");
    ensure!(back[1000..2000].iter().all(|byte| *byte == 0x22), "the second fill is lost");
    ensure!(back[2000..].iter().all(|byte| *byte == 0x11), "the first fill is lost");
    pass()
}

fn fill_of_pinned_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let pinned = gpu.pinned(4096, 2)?;
    let mut device = 0;
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut device, pinned.cast(), 0).ok()?;
    gpu.cu.cuMemsetD8_v2(device + 100, 9, 1000).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    let bytes = host(pinned, 4096);
    ensure!(bytes[100..1100].iter().all(|byte| *byte == 9), "pinned memory is not filled");
    ensure!(
        bytes[..100].iter().chain(&bytes[1100..]).all(|byte| *byte == 0),
        "the fill wrote beyond its range"
    );
    pass()
}

fn fill_of_rows() -> CaseResult {
    let gpu = Gpu::new()?;
    let (pitch, width, height) = (512usize, 100usize, 5usize);
    let device = gpu.upload(&vec![0xEEu8; pitch * height])?;
    let check = |bytes: usize, value: &[u8]| -> Result<()> {
        let back: Vec<u8> = gpu.read(device, pitch * height)?;
        for (row, line) in back.chunks(pitch).enumerate() {
            ensure!(line[..bytes].chunks(value.len()).all(|word| word == value), "row {row} is not filled");
            ensure!(line[bytes..].iter().all(|byte| *byte == 0xEE), "row {row} is filled beyond its width");
        }
        Ok(())
    };
    gpu.cu.cuMemsetD2D8_v2(device, pitch, 0x11, width, height).ok()?;
    check(width, &[0x11])?;
    gpu.cu.cuMemsetD2D16_v2(device, pitch, 0x2211, width, height).ok()?;
    check(width * 2, &[0x11, 0x22])?;
    gpu.cu.cuMemsetD2D32_v2(device, pitch, 0x4433_2211, width, height).ok()?;
    check(width * 4, &[0x11, 0x22, 0x33, 0x44])?;
    gpu.cu.cuMemsetD2D32Async(device, pitch, 0x8877_6655, width, height, 0).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    check(width * 4, &[0x55, 0x66, 0x77, 0x88])?;
    pass()
}
