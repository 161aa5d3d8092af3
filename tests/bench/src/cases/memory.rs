//! Memory of the device.

use anyhow::{Result, ensure};

use super::{Bench, Case};
use crate::series::{Series, size_name};

pub(super) const CASES: &[Case] = &[
    Case { name: "allocate", what: "cuMemAlloc and cuMemFree", body: synchronous },
    Case { name: "allocate-async", what: "cuMemAllocAsync and cuMemFreeAsync of 4 KiB", body: ordered },
];

fn synchronous(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    [4 << 10, 16 << 20]
        .into_iter()
        .map(|bytes| {
            // The memory is memory: its last word can be written and read.
            let pointer = bench.gpu.alloc(bytes)?;
            let last = pointer + bytes as u64 - 4;
            bench.gpu.write(last, &[0x5eed_u32])?;
            ensure!(bench.gpu.read::<u32>(last, 1)? == [0x5eed], "what was written is not there");
            cu.cuMemFree_v2(pointer).ok()?;
            bench.calls(format!("allocate/{}", size_name(bytes)), 500, 1, || {
                let mut pointer = 0;
                cu.cuMemAlloc_v2(&mut pointer, bytes).ok()?;
                cu.cuMemFree_v2(pointer).ok()
            })
        })
        .collect()
}

fn ordered(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let stream = bench.gpu.stream(0)?;
    let series = bench.calls("allocate-async/4KiB", 500, 1, || {
        let mut pointer = 0;
        cu.cuMemAllocAsync(&mut pointer, 4096, stream).ok()?;
        ensure!(pointer != 0, "an allocation is at address 0");
        cu.cuMemFreeAsync(pointer, stream).ok()
    })?;
    cu.cuStreamSynchronize(stream).ok()?;
    cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(vec![series])
}
