//! Kernels run whole: PTX text in, memory out.

mod compute;
mod control;
mod memory;
mod warp;

use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use super::{CancelToken, Device, Extent, Fault, Image, Launch, LaunchLimits, View, run};
use crate::ptx::{Limits, Module, link, parse};

/// A device whose memory is the buffers of a test.
#[derive(Default)]
pub(super) struct Bench {
    buffers: Mutex<Vec<(u64, Vec<u64>)>>,
    pub(super) printed: Mutex<Vec<u8>>,
}

// SAFETY: buffers are never freed or moved before the bench is dropped, after all launches.
unsafe impl Device for Bench {
    fn lookup(&self, address: u64) -> Option<Extent> {
        let mut buffers = self.buffers.lock().expect("no panic elsewhere");
        let found = buffers.iter_mut().find(|(start, words)| {
            address.checked_sub(*start).is_some_and(|offset| offset < words.len() as u64 * 8)
        });
        found.map(|(start, words)| Extent {
            start: *start,
            length: words.len() as u64 * 8,
            host: NonNull::new(words.as_mut_ptr()).expect("not null").cast(),
            writable: true,
        })
    }

    fn print(&self, text: &[u8]) {
        self.printed.lock().expect("no panic elsewhere").extend_from_slice(text);
    }

    fn malloc(&self, size: u64) -> u64 {
        self.allocate(&vec![0; usize::try_from(size).expect("small")])
    }

    fn free(&self, address: u64) -> bool {
        self.buffers.lock().expect("no panic elsewhere").iter().any(|(start, _)| *start == address)
    }

    fn view(&self, _: u64) -> Option<Arc<View>> {
        None
    }
}

impl Bench {
    /// Device memory with these bytes (rounded up to eight); returns its address.
    pub(super) fn allocate(&self, bytes: &[u8]) -> u64 {
        let words: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(word)
            })
            .collect();
        let words = if words.is_empty() { vec![0] } else { words };
        let address = words.as_ptr().addr() as u64;
        self.buffers.lock().expect("no panic elsewhere").push((address, words));
        address
    }

    pub(super) fn words32(&self, values: &[u32]) -> u64 {
        self.allocate(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub(super) fn read32(&self, address: u64, count: usize) -> Vec<u32> {
        let buffers = self.buffers.lock().expect("no panic elsewhere");
        let (_, words) = buffers.iter().find(|(start, _)| *start == address).expect("allocated");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.chunks(4).take(count).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    }

    pub(super) fn read64(&self, address: u64, count: usize) -> Vec<u64> {
        let buffers = self.buffers.lock().expect("no panic elsewhere");
        let (_, words) = buffers.iter().find(|(start, _)| *start == address).expect("allocated");
        words.iter().copied().take(count).collect()
    }

    /// Loads linked modules as the driver layer does.
    pub(super) fn load(&self, modules: Vec<Module>) -> Image {
        let module = link(modules).expect("links");
        let image = Image::new(module, |_, global| {
            Some(self.allocate(&vec![0; usize::try_from(global.size).expect("small")]))
        })
        .expect("binds");
        for index in 0..image.module().globals.len() {
            let contents = image.contents(index);
            let address = image.address(index).expect("bound");
            let mut buffers = self.buffers.lock().expect("no panic elsewhere");
            let (_, words) = buffers.iter_mut().find(|(start, _)| *start == address).expect("allocated");
            for (word, chunk) in words.iter_mut().zip(contents.chunks(8)) {
                let mut bytes = [0; 8];
                bytes[..chunk.len()].copy_from_slice(chunk);
                *word = u64::from_le_bytes(bytes);
            }
        }
        image
    }
}

/// A module of PTX 8.0 for sm_80 around `text`.
pub(super) fn module(text: &str) -> Module {
    let source = format!(".version 8.0\n.target sm_80\n.address_size 64\n{text}");
    match parse(&source, &Limits::default()) {
        Ok(module) => module,
        Err(error) => {
            let line = source.lines().nth(error.line.saturating_sub(1) as usize).unwrap_or("");
            panic!("{error}\n{line}")
        }
    }
}

/// A kernel `k(u64 a, u64 b, …)` with the usual registers declared.
pub(super) fn kernel(params: usize, body: &str) -> String {
    let list: Vec<String> = (0..params).map(|i| format!(".param .u64 k_param_{i}")).collect();
    let loads: String = (0..params)
        .map(|i| format!("ld.param.u64 %rd{i}, [k_param_{i}];\ncvta.to.global.u64 %rd{i}, %rd{i};\n"))
        .collect();
    format!(
        ".visible .entry k({})\n{{\n.reg .pred %p<20>;\n.reg .b16 %rs<20>;\n.reg .b32 %r<60>;\n.reg .f32 %f<20>;\n\
         .reg .b64 %rd<40>;\n.reg .f64 %fd<20>;\n{loads}{body}\nret;\n}}\n",
        list.join(", ")
    )
}

pub(super) struct Shape {
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) shared: u32,
    pub(super) cooperative: bool,
    pub(super) steps: u64,
    pub(super) workers: usize,
}

pub(super) fn shape(grid: u32, block: u32) -> Shape {
    Shape {
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        shared: 0,
        cooperative: false,
        steps: 50_000_000,
        workers: 0,
    }
}

pub(super) fn launch(bench: &Bench, image: &Image, shape: &Shape, params: &[u64]) -> Result<(), Fault> {
    let bytes: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
    let launch = Launch {
        entry: image.function("k").expect("kernel k"),
        grid: shape.grid,
        block: shape.block,
        dynamic_shared: shape.shared,
        params: &bytes,
        cooperative: shape.cooperative,
        grid_id: 1,
        multiprocessors: 4,
        limits: LaunchLimits { steps: shape.steps, workers: shape.workers, ..LaunchLimits::default() },
    };
    run(image, &launch, bench, &CancelToken::new())
}

/// Runs a kernel body on one warp with an output buffer of 32-bit words; returns the buffer.
pub(super) fn output(body: &str) -> Vec<u32> {
    let bench = Bench::default();
    let out = bench.words32(&[0; 64]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(1, 32), &[out]).expect("runs");
    bench.read32(out, 64)
}

/// What one thread computes into `%r0`.
pub(super) fn value(body: &str) -> u32 {
    let store = "st.global.u32 [%rd0], %r0;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&kernel(1, &format!("{body}\n{store}")))]);
    launch(&bench, &image, &shape(1, 1), &[out]).expect("runs");
    bench.read32(out, 1)[0]
}
