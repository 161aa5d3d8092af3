//! Copies between the host and the device, by size, of pinned and of ordinary memory.
//!
//! Each copy is checked by its bytes, in both directions, after it has been timed.

use std::ffi::c_void;
use std::time::Instant;

use anyhow::{Result, ensure};
use libcuda::gpu::host;

use super::{Bench, Case};
use crate::memory::Memory;
use crate::process::own_processor_time;
use crate::series::{Series, Unit, size_name};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "copy/4B",
        what: "cuMemcpyHtoD and cuMemcpyDtoH of 4 bytes of ordinary memory",
        body: small,
    },
    Case {
        name: "copy/pinned",
        what: "bandwidth of cuMemcpyHtoD and cuMemcpyDtoH, pinned memory",
        body: pinned,
    },
    Case {
        name: "copy/pageable",
        what: "bandwidth of cuMemcpyHtoD and cuMemcpyDtoH, ordinary memory, and what they take of processors",
        body: pageable,
    },
    Case {
        name: "memcpy",
        what: "bandwidth and processor time of a copy within the host, to compare with",
        body: memcpy,
    },
];

/// Bytes of copies of pinned memory.
const PINNED: [usize; 8] = [4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20];
/// Bytes of copies of ordinary memory.
const PAGEABLE: [usize; 6] = [64 << 10, 1 << 20, 4 << 20, 16 << 20, 256 << 20, 1 << 30];
/// Bytes that a size is copied for altogether, in a full run.
const VOLUME: usize = 2 << 30;

fn small(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let device = bench.gpu.upload(&[0_u32])?;
    let mut value = 0_u32;
    let up = bench.calls("copy/4B/h2d", 3000, 1, || {
        value = value.wrapping_add(1);
        cu.cuMemcpyHtoD_v2(device, (&raw const value).cast(), 4).ok()
    })?;
    let mut back = 0_u32;
    let down =
        bench.calls("copy/4B/d2h", 3000, 1, || cu.cuMemcpyDtoH_v2((&raw mut back).cast(), device, 4).ok())?;
    ensure!(back == value && value > 0, "{value} was written last, and {back} came back");
    cu.cuMemFree_v2(device).ok()?;
    Ok(vec![up, down])
}

/// Two pieces of host memory of a size: what is copied, and where it comes back.
struct Buffers<'a> {
    from: &'a mut [u64],
    to: &'a mut [u64],
}

impl Buffers<'_> {
    /// Fills the first with numbers that no other place and no other call has.
    fn fill(&mut self, seed: u64) {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        self.from.iter_mut().zip(seed..).for_each(|(word, number)| *word = number.wrapping_mul(step));
        self.to.fill(0);
    }

    fn from(&self) -> *const c_void {
        self.from.as_ptr().cast()
    }

    fn to(&mut self) -> *mut c_void {
        self.to.as_mut_ptr().cast()
    }
}

fn pinned(bench: &Bench) -> Result<Vec<Series>> {
    let mut series = Vec::new();
    for bytes in bench.effort.sizes(&PINNED) {
        let pointers = [bench.gpu.pinned(bytes, 0)?, bench.gpu.pinned(bytes, 0)?];
        let [from, to] = pointers.map(|pointer| host(pointer.cast::<u64>(), bytes / 8));
        series.extend(copies(bench, "copy/pinned", &mut Buffers { from, to }, bytes, false)?);
        for pointer in pointers {
            bench.gpu.cu.cuMemFreeHost(pointer.cast()).ok()?;
        }
    }
    Ok(series)
}

fn pageable(bench: &Bench) -> Result<Vec<Series>> {
    let mut series = Vec::new();
    for bytes in bench.effort.sizes(&PAGEABLE) {
        let mut memory = [Memory::of(bytes)?, Memory::of(bytes)?];
        let [from, to] = memory.each_mut().map(Memory::words);
        series.extend(copies(bench, "copy/pageable", &mut Buffers { from, to }, bytes, true)?);
    }
    Ok(series)
}

/// Both directions of one size.
fn copies(
    bench: &Bench,
    case: &str,
    buffers: &mut Buffers<'_>,
    bytes: usize,
    with_processor: bool,
) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let device = bench.gpu.alloc(bytes)?;
    buffers.fill(bytes as u64);
    let rounds = rounds(bench, bytes);
    let (from, to) = (buffers.from(), buffers.to());
    let up = transfer(bench, rounds, bytes, || {
        cu.cuMemcpyHtoD_v2(device, from, bytes).ok()?;
        // Ordinary memory may be on its way still when the call returns.
        cu.cuStreamSynchronize(0).ok()
    })?;
    let down = transfer(bench, rounds, bytes, || cu.cuMemcpyDtoH_v2(to, device, bytes).ok())?;
    ensure!(buffers.from == buffers.to, "{} came back other than they were", size_name(bytes));
    cu.cuMemFree_v2(device).ok()?;
    let mut series = Vec::new();
    for (direction, (bandwidth, processor)) in [("h2d", up), ("d2h", down)] {
        let name = format!("{case}/{direction}/{}", size_name(bytes));
        if with_processor && bytes >= 1 << 20 {
            series.push(Series::new(format!("{name}/processor"), Unit::ProcessorPerGib, vec![processor]));
        }
        series.push(Series::new(name, Unit::BytesPerSecond, bandwidth));
    }
    Ok(series)
}

/// How often a size is copied.
fn rounds(bench: &Bench, bytes: usize) -> usize {
    bench.effort.of((VOLUME / bytes).clamp(5, 300))
}

/// Bandwidth of each copy, and seconds of processors for a GiB of them.
fn transfer(
    bench: &Bench,
    rounds: usize,
    bytes: usize,
    mut copy: impl FnMut() -> Result<()>,
) -> Result<(Vec<f64>, f64)> {
    copy()?;
    let mut bandwidth = Vec::with_capacity(rounds);
    let before = bench.processor_time()?;
    for _ in 0..rounds {
        let start = Instant::now();
        copy()?;
        bandwidth.push(bytes as f64 / start.elapsed().as_secs_f64());
    }
    let processor = bench.processor_time()? - before;
    Ok((bandwidth, processor / per_gib(rounds, bytes)))
}

fn per_gib(rounds: usize, bytes: usize) -> f64 {
    (rounds * bytes) as f64 / (1_u64 << 30) as f64
}

fn memcpy(bench: &Bench) -> Result<Vec<Series>> {
    let mut series = Vec::new();
    for bytes in bench.effort.sizes(&PAGEABLE).filter(|bytes| *bytes >= 1 << 20) {
        let mut memory = [Memory::of(bytes)?, Memory::of(bytes)?];
        let [from, to] = memory.each_mut().map(Memory::words);
        from.iter_mut().zip(1..).for_each(|(word, number)| *word = number);
        let rounds = rounds(bench, bytes);
        let mut bandwidth = Vec::with_capacity(rounds);
        to.copy_from_slice(from);
        let before = own_processor_time();
        for _ in 0..rounds {
            let start = Instant::now();
            std::hint::black_box(&mut *to).copy_from_slice(std::hint::black_box(from));
            bandwidth.push(bytes as f64 / start.elapsed().as_secs_f64());
        }
        let processor = (own_processor_time() - before) / per_gib(rounds, bytes);
        ensure!(from == to, "a copy within the host is not equal");
        let name = format!("memcpy/{}", size_name(bytes));
        series.push(Series::new(format!("{name}/processor"), Unit::ProcessorPerGib, vec![processor]));
        series.push(Series::new(name, Unit::BytesPerSecond, bandwidth));
    }
    Ok(series)
}
