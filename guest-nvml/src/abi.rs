//! NVML's results and structures.

use std::ffi::{CStr, c_char};

/// Why a call failed: a number other than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error(u32);

macro_rules! errors {
    ($($name:ident = $number:literal: $text:literal;)*) => {
        #[allow(dead_code, reason = "the whole list, for its texts")]
        impl Error {
            $(pub(crate) const $name: Self = Self($number);)*
        }

        /// A result in words. Programs ask before they initialise, and keep the pointer.
        pub(crate) const fn text(number: u32) -> &'static CStr {
            match number {
                0 => c"Success",
                $($number => $text,)*
                _ => c"Unknown Error",
            }
        }
    };
}

errors! {
    UNINITIALIZED = 1: c"Uninitialized";
    INVALID_ARGUMENT = 2: c"Invalid Argument";
    NOT_SUPPORTED = 3: c"Not Supported";
    NO_PERMISSION = 4: c"Insufficient Permissions";
    ALREADY_INITIALIZED = 5: c"Already Initialized";
    NOT_FOUND = 6: c"Not Found";
    INSUFFICIENT_SIZE = 7: c"Insufficient Size";
    INSUFFICIENT_POWER = 8: c"Insufficient External Power";
    DRIVER_NOT_LOADED = 9: c"Driver Not Loaded";
    TIMEOUT = 10: c"Timeout";
    IRQ_ISSUE = 11: c"Interrupt Request Issue";
    LIBRARY_NOT_FOUND = 12: c"NVML Shared Library Not Found";
    FUNCTION_NOT_FOUND = 13: c"Function Not Found";
    CORRUPTED_INFOROM = 14: c"Corrupted infoROM";
    GPU_IS_LOST = 15: c"GPU is lost";
    RESET_REQUIRED = 16: c"GPU requires reset";
    OPERATING_SYSTEM = 17: c"GPU access blocked by the operating system";
    LIB_RM_VERSION_MISMATCH = 18: c"Driver/library version mismatch";
    IN_USE = 19: c"In use by another client";
    MEMORY = 20: c"Insufficient Memory";
    NO_DATA = 21: c"No data";
    VGPU_ECC_NOT_SUPPORTED = 22: c"Requested operation is not available on target device, because ECC is enabled";
    INSUFFICIENT_RESOURCES = 23: c"Insufficient Resources";
    FREQ_NOT_SUPPORTED = 24: c"Requested frequency is not supported";
    ARGUMENT_VERSION_MISMATCH = 25: c"Argument version mismatch";
    DEPRECATED = 26: c"Deprecated";
    NOT_READY = 27: c"Not ready";
    GPU_NOT_FOUND = 28: c"No GPU found";
    INVALID_STATE = 29: c"Invalid state";
    UNKNOWN = 999: c"Unknown Error";
}

impl Error {
    /// NVML's number.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// What the caller has for a device: no pointer, but as large as one.
pub(crate) type Handle = usize;

/// A version field: the structure's size and its version, as NVML composes them.
#[allow(clippy::cast_possible_truncation, reason = "structures of a few bytes")]
pub(crate) const fn version<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | number << 24
}

/// Asserts a structure's size.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

structures! {
    /// `nvmlMemory_t`.
    Memory, 24 { total: u64, free: u64, used: u64 }
    /// `nvmlMemory_v2_t`.
    MemoryV2, 40 { version: u32, total: u64, reserved: u64, free: u64, used: u64 }
    /// `nvmlBAR1Memory_t`.
    Bar1Memory, 24 { total: u64, free: u64, used: u64 }
    /// `nvmlUtilization_t`.
    Utilization, 8 { gpu: u32, memory: u32 }
    /// `nvmlPciInfo_t`.
    PciInfo, 68 {
        legacy: [c_char; 16], domain: u32, bus: u32, device: u32, pci_device: u32, pci_subsystem: u32,
        bus_id: [c_char; 32],
    }
    /// `nvmlPciInfo_t` before there was a second text: what the unsuffixed function writes.
    PciInfoV1, 36 { legacy: [c_char; 16], domain: u32, bus: u32, device: u32, pci_device: u32, pci_subsystem: u32 }
    /// `nvmlPciInfoExt_v1_t`.
    PciInfoExt, 64 {
        version: u32, domain: u32, bus: u32, device: u32, pci_device: u32, pci_subsystem: u32, base_class: u32,
        sub_class: u32, bus_id: [c_char; 32],
    }
    /// `nvmlProcessInfo_v1_t`.
    ProcessV1, 16 { process: u32, memory: u64 }
    /// `nvmlProcessInfo_v2_t`.
    Process, 24 { process: u32, memory: u64, gpu_instance: u32, compute_instance: u32 }
    /// `nvmlProcessUtilizationSample_t`.
    ProcessSample, 32 { process: u32, time: u64, processors: u32, memory: u32, encoder: u32, decoder: u32 }
    /// `nvmlTemperature_v1_t`.
    Temperature, 12 { version: u32, sensor: u32, degrees: i32 }
    /// `nvmlFieldValue_t`.
    FieldValue, 40 { field: u32, scope: u32, time: i64, latency: i64, kind: u32, result: u32, value: u64 }
}
