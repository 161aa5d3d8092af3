//! JIT and library options: what is sent, and what is written back into the application's arrays.
//!
//! Unsafe code: the application's option arrays and log buffers.

use std::ffi::c_void;

use virtio_spec::cuda::{CUjit_option, CUlibraryOption, CUresult};
use virtio_spec::limits::{MAX_LOAD_OPTIONS, MAX_LOG_BYTES, MAX_RESPONSE_BYTES};
use virtio_spec::requests::{LoadOption, Loaded};

use crate::wire::Response;

/// Response bytes that are not for logs.
const NOT_LOGS: u32 = 256;

/// A log buffer of the application.
#[derive(Clone, Copy, Debug)]
struct Log {
    buffer: *mut u8,
    bytes: u32,
    /// Where the number of bytes written goes.
    size_place: *mut *mut c_void,
}

impl Default for Log {
    fn default() -> Self {
        Self { buffer: std::ptr::null_mut(), bytes: 0, size_place: std::ptr::null_mut() }
    }
}

/// A call's JIT options.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Options that are sent.
    pub(crate) sent: Vec<LoadOption>,
    info: Log,
    error: Log,
    wall_time: Option<*mut *mut c_void>,
    threads_per_block: Option<*mut *mut c_void>,
}

impl Options {
    /// Reads the application's arrays.
    ///
    /// # Safety
    /// Both arrays have `count` elements, and logs the size that the options give.
    pub(crate) unsafe fn read(
        count: u32,
        options: *mut CUjit_option,
        values: *mut *mut c_void,
    ) -> Result<Self, CUresult> {
        let mut read = Self::default();
        if count == 0 {
            return Ok(read);
        }
        if options.is_null() || values.is_null() || count > MAX_LOAD_OPTIONS {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        for index in 0..count as usize {
            let place = values.wrapping_add(index);
            // SAFETY: an element of the array.
            let option = unsafe { options.wrapping_add(index).read() };
            // SAFETY: an element of the array.
            let pointer = unsafe { place.read() };
            let value = pointer.expose_provenance() as u64;
            let size = u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX);
            match option {
                CUjit_option::INFO_LOG_BUFFER => read.info.buffer = pointer.cast(),
                CUjit_option::ERROR_LOG_BUFFER => read.error.buffer = pointer.cast(),
                CUjit_option::INFO_LOG_BUFFER_SIZE_BYTES => {
                    (read.info.bytes, read.info.size_place) = (size, place);
                }
                CUjit_option::ERROR_LOG_BUFFER_SIZE_BYTES => {
                    (read.error.bytes, read.error.size_place) = (size, place);
                }
                // The device measures it in any case.
                CUjit_option::WALL_TIME => read.wall_time = Some(place),
                CUjit_option::THREADS_PER_BLOCK => {
                    read.threads_per_block = Some(place);
                    read.sent.push(LoadOption { id: option.0, reserved: 0, value: value & 0xffff_ffff });
                }
                CUjit_option::GLOBAL_SYMBOL_NAMES
                | CUjit_option::GLOBAL_SYMBOL_ADDRESSES
                | CUjit_option::GLOBAL_SYMBOL_COUNT
                | CUjit_option::REFERENCED_KERNEL_NAMES
                | CUjit_option::REFERENCED_KERNEL_COUNT
                | CUjit_option::REFERENCED_VARIABLE_NAMES
                | CUjit_option::REFERENCED_VARIABLE_COUNT => return Err(CUresult::ERROR_NOT_SUPPORTED),
                _ => read.sent.push(LoadOption { id: option.0, reserved: 0, value: value & 0xffff_ffff }),
            }
        }
        Ok(read)
    }

    /// Bytes to ask for of each log. Together they fit a response.
    pub(crate) fn log_bytes(&self) -> (u32, u32) {
        let wanted = |log: &Log| if log.buffer.is_null() { 0 } else { log.bytes.min(MAX_LOG_BYTES) };
        let (info, error) = (wanted(&self.info), wanted(&self.error));
        let room = MAX_RESPONSE_BYTES - NOT_LOGS;
        // Errors matter more; the information gets what is left.
        (info.min(room - error), error)
    }

    /// Bytes of the response that carries the logs.
    pub(crate) fn room(&self) -> u32 {
        let (info, error) = self.log_bytes();
        info + error + NOT_LOGS / 2
    }

    /// Writes back what the compiler said.
    ///
    /// # Safety
    /// As for [`Options::read`].
    pub(crate) unsafe fn write_back(&self, loaded: &Loaded, response: &mut Response) -> Result<(), CUresult> {
        for (log, bytes) in [(&self.info, loaded.info_log_bytes), (&self.error, loaded.error_log_bytes)] {
            let text = response.take_slice(bytes as usize)?;
            // SAFETY: as the caller promises.
            unsafe { log.write(text) };
        }
        if let Some(place) = self.wall_time {
            // SAFETY: an element of the application's array, whose first four bytes are the time.
            unsafe { place.cast::<u32>().write(loaded.wall_time) };
        }
        if let Some(place) = self.threads_per_block {
            // SAFETY: an element of the application's array, whose first four bytes are the number.
            unsafe { place.cast::<u32>().write(loaded.threads_per_block) };
        }
        Ok(())
    }

    /// The compiler said nothing.
    ///
    /// # Safety
    /// As for [`Options::read`].
    pub(crate) unsafe fn write_empty(&self) {
        for log in [&self.info, &self.error] {
            // SAFETY: as the caller promises.
            unsafe { log.write(&[]) };
        }
    }
}

impl Log {
    /// Writes text and its size, and a NUL where there is room.
    ///
    /// # Safety
    /// The buffer has [`Log::bytes`] bytes, and the place for the size is valid or null.
    unsafe fn write(&self, text: &[u8]) {
        let room = self.bytes as usize;
        let length = text.len().min(room);
        if !self.buffer.is_null() && room > 0 {
            // SAFETY: not more than the buffer has.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.buffer, length) };
            let end = length.min(room - 1);
            // SAFETY: inside the buffer.
            unsafe { self.buffer.wrapping_add(end).write(0) };
        }
        if !self.size_place.is_null() {
            // SAFETY: an element of the application's array.
            unsafe { self.size_place.write(std::ptr::without_provenance_mut(length)) };
        }
    }
}

/// Reads a library's options.
///
/// # Safety
/// `options` has `count` elements, and `values` as many, or is null.
pub(crate) unsafe fn library_options(
    count: u32,
    options: *mut CUlibraryOption,
    values: *mut *mut c_void,
) -> Result<Vec<LoadOption>, CUresult> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if options.is_null() || count > MAX_LOAD_OPTIONS {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    (0..count as usize)
        .map(|index| {
            // SAFETY: an element of the array.
            let option = unsafe { options.wrapping_add(index).read() };
            // cuBLASLt names the option without an array of values.
            let value = if values.is_null() {
                std::ptr::null_mut()
            } else {
                // SAFETY: an element of the array.
                unsafe { values.wrapping_add(index).read() }
            };
            match option {
                CUlibraryOption::BINARY_IS_PRESERVED => {
                    Ok(LoadOption { id: option.0, reserved: 0, value: u64::from(!value.is_null()) })
                }
                CUlibraryOption::HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE => Err(CUresult::ERROR_NOT_SUPPORTED),
                _ => Err(CUresult::ERROR_INVALID_VALUE),
            }
        })
        .collect()
}
