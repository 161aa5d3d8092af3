//! The host's `libnvidia-ml.so.1`.

use std::ffi::CString;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// The name by which the host's library is found.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Processes that are asked for on one device.
const MAX_PROCESSES: usize = 4096;

/// NVML's handle of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device(usize);

/// A process on a device: its number and its bytes of memory, if these are known.
pub(super) type Process = (u32, Option<u64>);

/// The initialised library. It is never shut down: its process ends with it.
pub(super) struct Nvml {
    library: Library,
}

impl Nvml {
    /// Loads and initialises the library, if the host has one.
    pub(super) fn start() -> Option<Self> {
        // SAFETY: the host's own library, found as every program finds it.
        let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_LOCAL) };
        let library = match library {
            Ok(library) => library,
            Err(error) => {
                log::debug!("no NVML on this host: {error}");
                return None;
            }
        };
        let nvml = Self { library };
        let init = nvml.function::<unsafe extern "C" fn() -> u32>("nvmlInit_v2")?;
        // SAFETY: no preconditions.
        let result = unsafe { init() };
        if result != 0 {
            log::debug!("NVML cannot be initialised: {result}");
            return None;
        }
        Some(nvml)
    }

    fn function<F: Copy>(&self, name: &str) -> Option<F> {
        // SAFETY: each caller in this file names the C type of the function.
        let symbol = unsafe { self.library.get::<F>(name) }.ok()?;
        Some(*symbol)
    }

    /// A text of the system, NUL-terminated.
    pub(super) fn text(&self, name: &str) -> Option<[u8; 80]> {
        let function = self.function::<unsafe extern "C" fn(*mut u8, u32) -> u32>(name)?;
        let mut text = [0; 80];
        // SAFETY: room for as many bytes as given.
        (unsafe { function(text.as_mut_ptr(), 80) } == 0).then_some(text)
    }

    /// The device with a UUID.
    pub(super) fn device(&self, uuid: &[u8; 16]) -> Option<Device> {
        let digits: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default());
        let uuid = CString::new(format!("GPU-{}", parts.join("-"))).ok()?;
        type Find = unsafe extern "C" fn(*const std::ffi::c_char, *mut usize) -> u32;
        let function = self.function::<Find>("nvmlDeviceGetHandleByUUID")?;
        let mut handle = 0;
        // SAFETY: a text with its NUL and room for a handle.
        (unsafe { function(uuid.as_ptr(), &raw mut handle) } == 0).then_some(Device(handle))
    }

    /// What a function with one result of `N` numbers writes.
    fn numbers<T: Default + Copy, const N: usize>(&self, device: Device, name: &str) -> Option<[T; N]> {
        let function = self.function::<unsafe extern "C" fn(usize, *mut [T; N]) -> u32>(name)?;
        let mut numbers = [T::default(); N];
        // SAFETY: a handle of this library, and room for the structure, which callers know the size of.
        (unsafe { function(device.0, &raw mut numbers) } == 0).then_some(numbers)
    }

    /// A number of 32 bits.
    pub(super) fn number(&self, device: Device, name: &str) -> Option<u64> {
        self.numbers::<u32, 1>(device, name).map(|[number]| number.into())
    }

    /// A number of 64 bits.
    pub(super) fn long(&self, device: Device, name: &str) -> Option<u64> {
        self.numbers::<u64, 1>(device, name).map(|[number]| number)
    }

    /// Utilisation in percent: of the GPU, and of its memory.
    pub(super) fn utilization(&self, device: Device) -> Option<[u32; 2]> {
        self.numbers(device, "nvmlDeviceGetUtilizationRates")
    }

    /// Bytes in all, free, and used.
    pub(super) fn memory(&self, device: Device) -> Option<[u64; 3]> {
        self.numbers(device, "nvmlDeviceGetMemoryInfo")
    }

    /// Bytes of the BAR1 window in all, free, and used.
    pub(super) fn bar1(&self, device: Device) -> Option<[u64; 3]> {
        self.numbers(device, "nvmlDeviceGetBAR1MemoryInfo")
    }

    /// The device's and the board's PCI numbers.
    pub(super) fn pci(&self, device: Device) -> Option<[u32; 2]> {
        // `nvmlPciInfo_t`: texts of 16 and 32 bytes around five numbers.
        let [.., identity, subsystem, _, _, _, _, _, _, _, _] =
            self.numbers::<u32, 17>(device, "nvmlDeviceGetPciInfo_v3")?;
        Some([identity, subsystem])
    }

    /// The number of a kind: of a sensor, clock, threshold.
    pub(super) fn number_of(&self, device: Device, name: &str, kind: u32) -> Option<u64> {
        let function = self.function::<unsafe extern "C" fn(usize, u32, *mut u32) -> u32>(name)?;
        let mut number = 0;
        // SAFETY: a handle of this library, and room for a number.
        (unsafe { function(device.0, kind, &raw mut number) } == 0).then_some(number.into())
    }

    /// Two numbers of 32 bits.
    pub(super) fn pair(&self, device: Device, name: &str) -> Option<[u64; 2]> {
        let function = self.function::<unsafe extern "C" fn(usize, *mut u32, *mut u32) -> u32>(name)?;
        let (mut first, mut second) = (0, 0);
        // SAFETY: a handle of this library, and room for two numbers.
        let result = unsafe { function(device.0, &raw mut first, &raw mut second) };
        (result == 0).then_some([first.into(), second.into()])
    }

    /// The value of a field, of 32 bits.
    pub(super) fn field(&self, device: Device, field: u32) -> Option<u64> {
        type Values = unsafe extern "C" fn(usize, i32, *mut [u64; 5]) -> u32;
        let function = self.function::<Values>("nvmlDeviceGetFieldValues")?;
        // `nvmlFieldValue_t`: field and scope; time; latency; type and result; value.
        let mut value = [u64::from(field), 0, 0, 0, 0];
        // SAFETY: a handle of this library, and one structure.
        let result = unsafe { function(device.0, 1, &raw mut value) };
        let [.., types, number] = value;
        (result == 0 && types >> 32 == 0).then_some(number & u64::from(u32::MAX))
    }

    /// Processes with a context on the device.
    pub(super) fn processes(&self, device: Device) -> Option<Vec<Process>> {
        type List = unsafe extern "C" fn(usize, *mut u32, *mut [u64; 3]) -> u32;
        let function = self.function::<List>("nvmlDeviceGetComputeRunningProcesses_v3")?;
        // `nvmlProcessInfo_t`: process; memory; parts of the device.
        let mut list = vec![[0_u64; 3]; MAX_PROCESSES];
        let mut count = u32::try_from(list.len()).ok()?;
        // SAFETY: a handle of this library, and as many structures as given.
        let result = unsafe { function(device.0, &raw mut count, list.as_mut_ptr()) };
        list.truncate(usize::try_from(count).ok()?);
        let process = |[process, memory, _]: [u64; 3]| {
            let process = u32::try_from(process & u64::from(u32::MAX)).unwrap_or(0);
            (process, (memory != u64::MAX).then_some(memory))
        };
        (result == 0).then(|| list.into_iter().map(process).collect())
    }
}
