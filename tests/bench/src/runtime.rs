//! Launches through CUDA's runtime library, as programs make them that nvcc compiled: a program of `tests/bench/macro`, which
//! takes orders like the others there ([`crate::compare`] starts it through `runtime.py`).
//!
//! This file has unsafe code: it opens a shared library and calls it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::BufRead;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use libloading::Library;
use serde::Deserialize;
use serde_json::json;

use crate::process::own_processor_time;
use crate::series::{Series, Unit, print_line};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// libcudart.so of CUDA 12.8 or newer
    #[arg(long, value_name = "PATH")]
    library: PathBuf,
}

/// Launches of one repetition.
const LAUNCHES: u32 = 20_000;

const NON_BLOCKING: u32 = 1;
const TO_HOST: c_int = 2;

#[derive(Deserialize)]
struct Order {
    part: String,
    repetitions: usize,
}

/// `dim3`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Dimensions {
    x: u32,
    y: u32,
    z: u32,
}

const ONE: Dimensions = Dimensions { x: 1, y: 1, z: 1 };

type LoadData = unsafe extern "C" fn(
    *mut *mut c_void,
    *const c_void,
    *mut c_int,
    *mut *mut c_void,
    u32,
    *mut c_int,
    *mut *mut c_void,
    u32,
) -> c_int;
type GetKernel = unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int;
type Launch = unsafe extern "C" fn(
    *const c_void,
    Dimensions,
    Dimensions,
    *mut *mut c_void,
    usize,
    *mut c_void,
) -> c_int;
type Malloc = unsafe extern "C" fn(*mut *mut c_void, usize) -> c_int;
type Memset = unsafe extern "C" fn(*mut c_void, c_int, usize) -> c_int;
type Memcpy = unsafe extern "C" fn(*mut c_void, *const c_void, usize, c_int) -> c_int;
type StreamCreate = unsafe extern "C" fn(*mut *mut c_void, u32) -> c_int;
type StreamSynchronize = unsafe extern "C" fn(*mut c_void) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int) -> c_int;

/// The runtime's functions, a kernel that counts, its counter and a stream.
struct Runtime {
    launch: Launch,
    synchronize: StreamSynchronize,
    memset: Memset,
    memcpy: Memcpy,
    kernel: *mut c_void,
    counter: *mut c_void,
    stream: *mut c_void,
    version: i32,
    _library: Library,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = Runtime::open(arguments)?;
    let (major, minor) = (runtime.version / 1000, runtime.version % 1000 / 10);
    print_line(&json!({"ready": format!("CUDA runtime {major}.{minor}")}))?;
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.context("standard input")?).context("an order")?;
        let answer = match runtime.carry_out(&order) {
            Ok(done) => json!({"done": done}),
            Err(error) => json!({"failure": format!("{error:#}")}),
        };
        print_line(&answer)?;
    }
    Ok(())
}

impl Runtime {
    fn open(arguments: &Arguments) -> Result<Self> {
        // SAFETY: NVIDIA's library does at its start what it does in any program.
        let library = unsafe { Library::new(&arguments.library) }
            .with_context(|| format!("open {}", arguments.library.display()))?;
        let version: Version = symbol(&library, c"cudaRuntimeGetVersion")?;
        let load: LoadData = symbol(&library, c"cudaLibraryLoadData")?;
        let find: GetKernel = symbol(&library, c"cudaLibraryGetKernel")?;
        let malloc: Malloc = symbol(&library, c"cudaMalloc")?;
        let create: StreamCreate = symbol(&library, c"cudaStreamCreateWithFlags")?;

        let mut number = 0;
        // SAFETY: room for a number.
        ok("cudaRuntimeGetVersion", unsafe { version(&raw mut number) })?;
        let mut text = include_bytes!("kernels.ptx").to_vec();
        text.push(0);
        let (mut module, mut kernel) = (null_mut(), null_mut());
        let code = text.as_ptr().cast();
        // SAFETY: room for a handle, a text that ends with 0, and no options.
        let loaded =
            unsafe { load(&raw mut module, code, null_mut(), null_mut(), 0, null_mut(), null_mut(), 0) };
        ok("cudaLibraryLoadData", loaded)?;
        // SAFETY: room for a handle, the library that has just been loaded, and a name.
        ok("cudaLibraryGetKernel", unsafe { find(&raw mut kernel, module, c"count".as_ptr()) })?;
        let (mut counter, mut stream) = (null_mut(), null_mut());
        // SAFETY: room for an address.
        ok("cudaMalloc", unsafe { malloc(&raw mut counter, 4) })?;
        // SAFETY: room for a handle.
        ok("cudaStreamCreateWithFlags", unsafe { create(&raw mut stream, NON_BLOCKING) })?;
        let runtime = Self {
            launch: symbol(&library, c"cudaLaunchKernel")?,
            synchronize: symbol(&library, c"cudaStreamSynchronize")?,
            memset: symbol(&library, c"cudaMemset")?,
            memcpy: symbol(&library, c"cudaMemcpy")?,
            kernel,
            counter,
            stream,
            version: number,
            _library: library,
        };
        runtime.count(100)?;
        Ok(runtime)
    }

    /// One repetition that warms up, and those that are timed; each is checked.
    fn carry_out(&self, order: &Order) -> Result<serde_json::Value> {
        let busy = own_processor_time();
        let (mut samples, mut values) = (Vec::new(), Vec::new());
        for repetition in 0..=order.repetitions {
            // SAFETY: the counter is of this size.
            ok("cudaMemset", unsafe { (self.memset)(self.counter, 0, 4) })?;
            let begin = Instant::now();
            self.count(LAUNCHES)?;
            let took = begin.elapsed().as_secs_f64();
            if repetition > 0 {
                samples.push(f64::from(LAUNCHES) / took);
            }
            let mut counted = 0_u32;
            let to = (&raw mut counted).cast();
            // SAFETY: as many bytes on both sides.
            ok("cudaMemcpy", unsafe { (self.memcpy)(to, self.counter, 4, TO_HOST) })?;
            ensure!(counted == LAUNCHES, "{LAUNCHES} kernels were launched, and {counted} have counted");
            values.push(f64::from(counted));
        }
        let series = Series::new(order.part.as_str(), Unit::PerSecond, samples);
        let amount = f64::from(LAUNCHES) * (order.repetitions as f64 + 1.0);
        let processor = own_processor_time() - busy;
        Ok(
            json!({"series": series, "values": values, "tolerance": 0, "amount": amount, "processor": processor}),
        )
    }

    /// Launches so many, and waits for them.
    fn count(&self, launches: u32) -> Result<()> {
        let mut counter = self.counter;
        let mut parameters = [(&raw mut counter).cast::<c_void>()];
        for _ in 0..launches {
            // SAFETY: the kernel has one parameter, and its counter is on the device.
            let code = unsafe {
                (self.launch)(self.kernel.cast_const(), ONE, ONE, parameters.as_mut_ptr(), 0, self.stream)
            };
            ok("cudaLaunchKernel", code)?;
        }
        // SAFETY: a stream that was made.
        ok("cudaStreamSynchronize", unsafe { (self.synchronize)(self.stream) })
    }
}

/// A function of the library; its type is the caller's to know.
fn symbol<F: Copy>(library: &Library, name: &CStr) -> Result<F> {
    // SAFETY: the types above are those of CUDA's documentation.
    let found = unsafe { library.get::<F>(name.to_bytes_with_nul()) };
    found
        .map(|symbol| *symbol)
        .with_context(|| format!("the runtime library has no {}", name.to_string_lossy()))
}

fn ok(what: &str, code: c_int) -> Result<()> {
    ensure!(code == 0, "{what} failed with error {code}");
    Ok(())
}
