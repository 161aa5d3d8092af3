//! What most cases and measurements start from: a device, its primary context, memory, modules, launches.
//!
//! This file has unsafe code: it makes slices of memory that the driver handed out.

use std::ffi::{CString, c_void};

use anyhow::{Context, Result, ensure};

use crate::{Code, Device, Driver, Handle, driver};

/// The driver, initialized.
pub fn initialized() -> Result<&'static Driver> {
    let cu = driver()?;
    cu.cuInit(0).ok()?;
    Ok(cu)
}

/// The driver, initialized, with its first device.
pub fn first_device() -> Result<(&'static Driver, Device)> {
    let cu = initialized()?;
    let mut device = -1;
    cu.cuDeviceGet(&mut device, 0).ok()?;
    Ok((cu, device))
}

/// The driver's version, as 1000 × major + 10 × minor.
pub fn version() -> Result<i32> {
    let mut version = 0;
    driver()?.cuDriverGetVersion(&mut version).ok()?;
    Ok(version)
}

/// The first device with its primary context current on the thread that made this.
#[derive(Debug, Clone, Copy)]
pub struct Gpu {
    /// The library.
    pub cu: &'static Driver,
    /// The first device.
    pub device: Device,
    /// Its primary context.
    pub context: Handle,
}

impl Gpu {
    /// Initializes, retains the first device's primary context and makes it current.
    pub fn new() -> Result<Self> {
        let (cu, device) = first_device()?;
        let mut context = 0;
        cu.cuDevicePrimaryCtxRetain(&mut context, device).ok()?;
        ensure!(context != 0, "the primary context is a null handle");
        cu.cuCtxSetCurrent(context).ok()?;
        Ok(Self { cu, device, context })
    }

    /// One of the device's attributes.
    pub fn attribute(&self, attribute: i32) -> Result<i32> {
        let mut value = -1;
        self.cu.cuDeviceGetAttribute(&mut value, attribute, self.device).ok()?;
        Ok(value)
    }

    /// Device memory of this many bytes.
    #[track_caller]
    pub fn alloc(&self, bytes: usize) -> Result<u64> {
        let mut pointer = 0;
        self.cu.cuMemAlloc_v2(&mut pointer, bytes).ok()?;
        ensure!(pointer != 0, "an allocation of {bytes} bytes is at address 0");
        Ok(pointer)
    }

    /// Device memory that holds these values.
    #[track_caller]
    pub fn upload<T: Copy>(&self, values: &[T]) -> Result<u64> {
        let pointer = self.alloc(size_of_val(values).max(1))?;
        self.write(pointer, values)?;
        Ok(pointer)
    }

    /// Copies values to the device, and waits until they are there: the copy of pageable memory returns
    /// as soon as it is staged, and other streams than the legacy one do not wait for it.
    #[track_caller]
    pub fn write<T: Copy>(&self, pointer: u64, values: &[T]) -> Result<()> {
        self.cu.cuMemcpyHtoD_v2(pointer, values.as_ptr().cast(), size_of_val(values)).ok()?;
        self.cu.cuStreamSynchronize(0).ok()
    }

    /// Copies values from the device, synchronously.
    #[track_caller]
    pub fn read<T: Copy + Default>(&self, pointer: u64, count: usize) -> Result<Vec<T>> {
        let mut values = vec![T::default(); count];
        self.cu.cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), pointer, size_of_val(values.as_slice())).ok()?;
        Ok(values)
    }

    /// Loads a module from PTX text.
    #[track_caller]
    pub fn module(&self, ptx: &str) -> Result<Handle> {
        let text = CString::new(ptx).context("PTX text")?;
        let mut log = vec![0u8; 4096];
        let mut options = [JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(log.len())];
        let mut module = 0;
        let code = self.cu.cuModuleLoadDataEx(
            &mut module,
            text.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        );
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        let said = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).replace('\n', " | ");
        code.ok().with_context(|| format!("the JIT log: {said}"))?;
        ensure!(module != 0, "a loaded module is a null handle");
        Ok(module)
    }

    /// A function of a module.
    #[track_caller]
    pub fn function(&self, module: Handle, name: &str) -> Result<Handle> {
        let c_name = CString::new(name)?;
        let mut function = 0;
        self.cu
            .cuModuleGetFunction(&mut function, module, c_name.as_ptr())
            .ok()
            .with_context(|| name.to_owned())?;
        ensure!(function != 0, "the function {name} is a null handle");
        Ok(function)
    }

    /// Loads PTX and returns one of its functions.
    #[track_caller]
    pub fn kernel(&self, ptx: &str, name: &str) -> Result<Handle> {
        self.function(self.module(ptx)?, name)
    }

    /// Launches on a stream, without waiting; returns the driver's answer.
    pub fn launch_on(&self, stream: Handle, function: Handle, shape: Shape, arguments: &[Argument]) -> Code {
        let mut arguments = arguments.to_vec();
        let mut pointers: Vec<*mut c_void> = arguments.iter_mut().map(Argument::pointer).collect();
        let list = if pointers.is_empty() { std::ptr::null_mut() } else { pointers.as_mut_ptr() };
        self.cu.cuLaunchKernel(
            function,
            shape.grid.0,
            shape.grid.1,
            shape.grid.2,
            shape.block.0,
            shape.block.1,
            shape.block.2,
            shape.shared,
            stream,
            list,
            std::ptr::null_mut(),
        )
    }

    /// Launches on the legacy default stream and waits for the end.
    #[track_caller]
    pub fn run(&self, function: Handle, shape: Shape, arguments: &[Argument]) -> Result<()> {
        self.launch_on(0, function, shape, arguments).ok()?;
        self.cu.cuCtxSynchronize().ok()
    }

    /// Page-locked host memory of this many bytes, zeroed.
    #[track_caller]
    pub fn pinned(&self, bytes: usize, flags: u32) -> Result<*mut u8> {
        let mut pointer = std::ptr::null_mut();
        self.cu.cuMemHostAlloc(&mut pointer, bytes, flags).ok()?;
        ensure!(!pointer.is_null(), "pinned memory is at address 0");
        for byte in host(pointer.cast::<u8>(), bytes) {
            *byte = 0;
        }
        Ok(pointer.cast())
    }

    /// A stream with these flags.
    #[track_caller]
    pub fn stream(&self, flags: u32) -> Result<Handle> {
        let mut stream = 0;
        self.cu.cuStreamCreate(&mut stream, flags).ok()?;
        ensure!(stream > 2, "a new stream has a reserved handle");
        Ok(stream)
    }

    /// An event with these flags.
    #[track_caller]
    pub fn event(&self, flags: u32) -> Result<Handle> {
        let mut event = 0;
        self.cu.cuEventCreate(&mut event, flags).ok()?;
        ensure!(event != 0, "a new event is a null handle");
        Ok(event)
    }
}

/// Host memory that the driver handed out, for the rest of the case.
pub fn host<T: Copy>(pointer: *mut T, count: usize) -> &'static mut [T] {
    // SAFETY: cases pass memory that the driver allocated with this size, or mapped themselves, and free
    // only when they are done with the slice; where the device writes it, they wait before they read.
    unsafe { std::slice::from_raw_parts_mut(pointer, count) }
}

/// The JIT options that the suite uses.
pub const JIT_INFO_LOG_BUFFER: i32 = 3;
/// Size of the buffer of [`JIT_INFO_LOG_BUFFER`]; written back.
pub const JIT_INFO_LOG_BUFFER_SIZE: i32 = 4;
/// Where error text goes.
pub const JIT_ERROR_LOG_BUFFER: i32 = 5;
/// Size of the buffer of [`JIT_ERROR_LOG_BUFFER`]; written back.
pub const JIT_ERROR_LOG_BUFFER_SIZE: i32 = 6;

/// A launch's grid, block and dynamic shared memory.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Blocks in x, y, z.
    pub grid: (u32, u32, u32),
    /// Threads in x, y, z.
    pub block: (u32, u32, u32),
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

/// A one-dimensional shape.
pub fn shape(blocks: u32, threads: u32) -> Shape {
    Shape { grid: (blocks, 1, 1), block: (threads, 1, 1), shared: 0 }
}

/// A shape with enough blocks of 128 threads for so many threads.
pub fn threads(count: usize) -> Shape {
    shape(u32::try_from(count.div_ceil(128)).unwrap_or(u32::MAX), 128)
}

/// A kernel argument's bytes.
#[derive(Debug, Clone)]
pub struct Argument(Vec<u64>);

impl Argument {
    /// An argument of any plain structure, by its bytes.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self(
            bytes
                .chunks(8)
                .map(|chunk| {
                    let mut word = [0; 8];
                    word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
                    u64::from_le_bytes(word)
                })
                .collect(),
        )
    }

    /// Where the driver finds the value.
    pub fn pointer(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }
}

macro_rules! arguments_from {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Argument {
            fn from(value: $kind) -> Self {
                Self::bytes(&value.to_le_bytes())
            }
        }
    )*};
}
arguments_from!(u8, u16, u32, i32, u64, i64, f32, f64);

/// Arguments of a launch.
#[macro_export]
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { &[$($crate::gpu::Argument::from($value)),*] };
}
pub use crate::arguments;
