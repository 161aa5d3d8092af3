//! What programs tell the compiler, and where it writes its words.
//!
//! Unsafe code: the program's log buffers.

use std::ffi::c_void;
use std::time::Instant;

use virtio_spec::cuda::{CUjit_option, CUresult};

use super::Result;

/// One of the program's two log buffers.
#[derive(Debug, Default)]
struct Log {
    buffer: usize,
    bytes: usize,
    /// Where the program keeps the size, to be overwritten with what was used.
    size: usize,
}

/// The options of one call. Those that steer code generation are accepted: this compiler has nothing to steer.
#[derive(Debug)]
pub(crate) struct Options {
    info: Log,
    error: Log,
    wall_time: usize,
    begin: Instant,
}

impl Default for Options {
    fn default() -> Self {
        Self { info: Log::default(), error: Log::default(), wall_time: 0, begin: Instant::now() }
    }
}

impl Options {
    /// Reads the options of a call.
    ///
    /// # Safety
    /// `options` and `values` have `count` elements each; buffers that they name stay valid, and are written to, until
    /// the last use of the result.
    pub(crate) unsafe fn read(
        count: u32,
        options: *const CUjit_option,
        values: *mut *mut c_void,
    ) -> Result<Self> {
        let mut read = Self::default();
        if count > 0 && (options.is_null() || values.is_null()) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: below the count.
            let place = unsafe { options.add(index) };
            // SAFETY: as above.
            let option = unsafe { place.read() };
            // SAFETY: below the count.
            let place = unsafe { values.add(index) };
            // SAFETY: as above.
            let value = unsafe { place.read() }.expose_provenance();
            match option {
                CUjit_option::INFO_LOG_BUFFER => read.info.buffer = value,
                CUjit_option::INFO_LOG_BUFFER_SIZE_BYTES => {
                    // The value is an unsigned int in a pointer's place.
                    read.info.bytes = value & 0xffff_ffff;
                    read.info.size = place.expose_provenance();
                }
                CUjit_option::ERROR_LOG_BUFFER => read.error.buffer = value,
                CUjit_option::ERROR_LOG_BUFFER_SIZE_BYTES => {
                    read.error.bytes = value & 0xffff_ffff;
                    read.error.size = place.expose_provenance();
                }
                CUjit_option::WALL_TIME => read.wall_time = place.expose_provenance(),
                CUjit_option(number) if number < CUjit_option::NUM_OPTIONS.0 => {}
                _ => return Err(CUresult::ERROR_INVALID_VALUE),
            }
        }
        Ok(read)
    }

    /// Writes the compiler's words, their lengths and the time that it took to where the program wants them.
    pub(crate) fn finish(&self, info: &str, error: &str) {
        for (log, text) in [(&self.info, info), (&self.error, error)] {
            let used = if log.buffer == 0 || log.bytes == 0 { 0 } else { copy_text(log, text) };
            if log.size != 0 {
                let place = std::ptr::with_exposed_provenance_mut::<*mut c_void>(log.size);
                // SAFETY: the program's element for the size, by the contract of `read`.
                unsafe { place.write(std::ptr::without_provenance_mut(used)) };
            }
        }
        if self.wall_time != 0 {
            let place = std::ptr::with_exposed_provenance_mut::<f32>(self.wall_time);
            let milliseconds = self.begin.elapsed().as_secs_f32() * 1e3;
            // SAFETY: the program's element for the time, by the contract of `read`; a float fits it.
            unsafe { place.write(milliseconds) };
        }
    }
}

/// Copies a text with its NUL, cut to the buffer; returns the bytes of text.
fn copy_text(log: &Log, text: &str) -> usize {
    let length = text.len().min(log.bytes - 1);
    let buffer = std::ptr::with_exposed_provenance_mut::<u8>(log.buffer);
    // SAFETY: the program's buffer has `bytes` bytes, by the contract of `read`.
    unsafe { buffer.copy_from_nonoverlapping(text.as_ptr(), length) };
    // SAFETY: as above, and `length` is below `bytes`.
    let end = unsafe { buffer.add(length) };
    // SAFETY: as above.
    unsafe { end.write(0) };
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_cut_and_their_lengths_written_back() {
        let mut buffer = [0x55_u8; 8];
        let options = [CUjit_option::ERROR_LOG_BUFFER, CUjit_option::ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [buffer.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(6)];
        // SAFETY: two options with their values, which live longer than `read`.
        let read = unsafe { Options::read(2, options.as_ptr(), values.as_mut_ptr()) }.unwrap();
        read.finish("", "a long message");
        assert_eq!((&buffer, values[1].addr()), (b"a lon\0\x55\x55", 5));
    }

    #[test]
    fn unknown_options_are_refused() {
        let options = [CUjit_option(1000)];
        let mut values = [std::ptr::null_mut()];
        // SAFETY: one option with its value.
        let read = unsafe { Options::read(1, options.as_ptr(), values.as_mut_ptr()) };
        assert_eq!(read.err(), Some(CUresult::ERROR_INVALID_VALUE));
    }
}
