//! The hand-written halves of calls, one module for each group of the call table.
//!
//! A function here has its C export's parameters and is called behind the checks of `entry::call`. What each pointer must
//! be is what CUDA's documentation says of the function; each is checked for NULL.
//!
//! Unsafe code: reads and writes through the application's pointers.
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    reason = "CUDA's own names and signatures, with the contracts that its documentation states"
)]

pub(crate) mod arrays;
mod batch_copies;
pub(crate) mod batches;
pub(crate) mod contexts;
pub(crate) mod copies;
pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod functions;
pub(crate) mod graphs;
pub(crate) mod green_contexts;
pub(crate) mod launches;
pub(crate) mod managed;
pub(crate) mod memory;
pub(crate) mod memsets;
pub(crate) mod modules;
pub(crate) mod pools;
mod shareable;
pub(crate) mod sharing;
pub(crate) mod stream_properties;
mod stream_values;
pub(crate) mod streams;
mod tensor_maps;
pub(crate) mod tools;
pub(crate) mod virtual_memory;

use virtio_spec::cuda::CUresult;

/// Writes a result where the application wants it.
///
/// # Safety
/// `place` is null, or valid for writing.
pub(crate) unsafe fn give<T>(place: *mut T, value: T) -> Result<(), CUresult> {
    if place.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    unsafe { place.write(value) };
    Ok(())
}

/// Writes a result if the application wants it.
///
/// # Safety
/// `place` is null, or valid for writing.
unsafe fn give_if_wanted<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: as the caller promises.
        unsafe { place.write(value) };
    }
}

/// A result as an outcome.
pub(crate) const fn outcome(result: CUresult) -> Result<(), CUresult> {
    match result {
        CUresult::SUCCESS => Ok(()),
        error => Err(error),
    }
}
