//! Module images: collected in chunks, then loaded as a module or a library.
//!
//! The worker parses nothing of an image; it hands its own copy to the driver.
//!
//! Unsafe code: calls of the driver.

use std::{ffi::c_void, sync::PoisonError};

use virtio_spec::{
    codec::Scalar,
    cuda::{CUjit_option, CUlibrary, CUlibraryOption, CUmodule, CUresult},
    handle::{Handle, Kind},
    limits,
    requests::{ImageChunk, Load, LoadOption, Loaded},
};

use super::{Invocation, copy::staging, ok};

/// An image that is being sent.
pub(crate) struct Image {
    total: u64,
    bytes: Vec<u8>,
}

pub(super) fn chunk(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let chunk: ImageChunk = call.structure()?;
    call.end_of_parameters()?;
    let invalid = CUresult::ERROR_INVALID_VALUE;
    Handle::from_u64(chunk.image).filter(|handle| handle.kind == Kind::Image).ok_or(invalid)?;
    let mut images = call.session().images.lock().unwrap_or_else(PoisonError::into_inner);
    if chunk.total == 0 && chunk.length == 0 {
        images.remove(&chunk.image);
        return Ok(());
    }
    if chunk.total > limits::MAX_IMAGE_BYTES {
        return Err(invalid);
    }
    if chunk.offset == 0 {
        let pending = images.values().fold(chunk.total, |sum, image| sum.saturating_add(image.total));
        if pending > limits::MAX_PENDING_IMAGE_BYTES {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        images.insert(chunk.image, Image { total: chunk.total, bytes: Vec::new() });
    }
    let image = images.get_mut(&chunk.image).ok_or(invalid)?;
    let sent = image.bytes.len() as u64;
    let after = sent.checked_add(chunk.length).ok_or(invalid)?;
    if chunk.offset != sent || chunk.total != image.total || after > image.total || chunk.length == 0 {
        images.remove(&chunk.image);
        return Err(invalid);
    }
    let source = staging(call, chunk.staging, chunk.length)?;
    let length = usize::try_from(chunk.length).map_err(|_| invalid)?;
    image.bytes.try_reserve(length).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
    let spare = image.bytes.spare_capacity_mut().as_mut_ptr().cast::<u8>();
    // SAFETY: `source` is `length` bytes of staging, `spare` has room for as many; the guest may write meanwhile, which
    // only changes what is copied.
    unsafe { std::ptr::copy_nonoverlapping(source.cast::<u8>().cast_const(), spare, length) };
    // SAFETY: `length` bytes behind the old end were written just now.
    unsafe { image.bytes.set_len(image.bytes.len().saturating_add(length)) };
    Ok(())
}

/// Takes a complete image, with a NUL behind it for PTX text.
pub(super) fn take(call: &Invocation<'_>, handle: u64) -> Result<Vec<u8>, CUresult> {
    let mut images = call.session().images.lock().unwrap_or_else(PoisonError::into_inner);
    let image = images.remove(&handle).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if image.bytes.len() as u64 != image.total {
        return Err(CUresult::ERROR_INVALID_IMAGE);
    }
    let mut bytes = image.bytes;
    bytes.push(0);
    Ok(bytes)
}

/// JIT options as the driver takes them, with log buffers of the worker's own.
pub(crate) struct JitOptions {
    ids: Vec<CUjit_option>,
    values: Vec<*mut c_void>,
    info_log: Vec<u8>,
    error_log: Vec<u8>,
}

// SAFETY: the pointers are to the vectors of the same structure, or numbers; it is used by one thread at a time.
unsafe impl Send for JitOptions {}

/// Options whose value is a number. All others that exist are pointers, or are made from [`Load`]'s own fields.
fn is_number(option: CUjit_option) -> bool {
    let pointers = [
        CUjit_option::INFO_LOG_BUFFER,
        CUjit_option::INFO_LOG_BUFFER_SIZE_BYTES,
        CUjit_option::ERROR_LOG_BUFFER,
        CUjit_option::ERROR_LOG_BUFFER_SIZE_BYTES,
        CUjit_option::WALL_TIME,
        CUjit_option::GLOBAL_SYMBOL_NAMES,
        CUjit_option::GLOBAL_SYMBOL_ADDRESSES,
        CUjit_option::REFERENCED_KERNEL_NAMES,
        CUjit_option::REFERENCED_VARIABLE_NAMES,
    ];
    option.c_name().is_some() && !pointers.contains(&option)
}

/// A number in a pointer-sized option value.
fn number(value: u64) -> *mut c_void {
    std::ptr::without_provenance_mut(usize::try_from(value).unwrap_or(usize::MAX))
}

impl JitOptions {
    /// Reads `count` options of a request.
    pub(super) fn read(
        call: &mut Invocation<'_>,
        count: u32,
        info_log_bytes: u32,
        error_log_bytes: u32,
    ) -> Result<Self, CUresult> {
        let too_large = info_log_bytes > limits::MAX_LOG_BYTES || error_log_bytes > limits::MAX_LOG_BYTES;
        if count > limits::MAX_LOAD_OPTIONS || too_large {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let mut options = Self {
            ids: Vec::new(),
            values: Vec::new(),
            info_log: vec![0; info_log_bytes as usize],
            error_log: vec![0; error_log_bytes as usize],
        };
        for option in call.values::<LoadOption>(u64::from(count))? {
            let id = CUjit_option(option.id);
            if !is_number(id) {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            options.add(id, number(option.value));
        }
        if !options.info_log.is_empty() {
            let buffer = options.info_log.as_mut_ptr().cast();
            options.add(CUjit_option::INFO_LOG_BUFFER, buffer);
            options.add(CUjit_option::INFO_LOG_BUFFER_SIZE_BYTES, number(u64::from(info_log_bytes)));
        }
        if !options.error_log.is_empty() {
            let buffer = options.error_log.as_mut_ptr().cast();
            options.add(CUjit_option::ERROR_LOG_BUFFER, buffer);
            options.add(CUjit_option::ERROR_LOG_BUFFER_SIZE_BYTES, number(u64::from(error_log_bytes)));
        }
        Ok(options)
    }

    fn add(&mut self, id: CUjit_option, value: *mut c_void) {
        self.ids.push(id);
        self.values.push(value);
    }

    /// Number, names and values as the driver's functions take them.
    pub(super) fn arguments(&mut self) -> (u32, *mut CUjit_option, *mut *mut c_void) {
        let count = u32::try_from(self.ids.len()).unwrap_or(0);
        (count, self.ids.as_mut_ptr(), self.values.as_mut_ptr())
    }

    fn written_back(&self, id: CUjit_option) -> u64 {
        let position = self.ids.iter().position(|other| *other == id);
        position.and_then(|index| self.values.get(index)).map_or(0, |value| value.addr() as u64)
    }

    /// What the driver wrote back.
    pub(super) fn loaded(&self) -> (Loaded, &[u8], &[u8]) {
        let log = |bytes: &'_ [u8], size_id| {
            let size = usize::try_from(self.written_back(size_id)).unwrap_or(usize::MAX);
            size.min(bytes.len())
        };
        let info = log(&self.info_log, CUjit_option::INFO_LOG_BUFFER_SIZE_BYTES);
        let error = log(&self.error_log, CUjit_option::ERROR_LOG_BUFFER_SIZE_BYTES);
        let loaded = Loaded {
            wall_time: u32::from_u64(self.written_back(CUjit_option::WALL_TIME)),
            threads_per_block: u32::from_u64(self.written_back(CUjit_option::THREADS_PER_BLOCK)),
            info_log_bytes: u32::try_from(info).unwrap_or(0),
            error_log_bytes: u32::try_from(error).unwrap_or(0),
        };
        (
            loaded,
            self.info_log.get(..info).unwrap_or_default(),
            self.error_log.get(..error).unwrap_or_default(),
        )
    }

    /// Adds what the driver wrote back to the response.
    pub(super) fn put(&self, call: &mut Invocation<'_>) -> Result<(), CUresult> {
        let (loaded, info, error) = self.loaded();
        call.put(&loaded)?;
        call.put_bytes(info)?;
        call.put_bytes(error)
    }
}

pub(super) fn load(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: Load = call.structure()?;
    let image = take(call, request.image)?;
    let kind = Handle::from_u64(request.target).ok_or(CUresult::ERROR_INVALID_HANDLE)?.kind;
    call.check_free(kind, request.target)?;
    let mut options =
        JitOptions::read(call, request.option_count, request.info_log_bytes, request.error_log_bytes)?;
    if kind == Kind::Module {
        // A library refuses it.
        options.add(CUjit_option::WALL_TIME, std::ptr::null_mut());
    }
    if request.library_option_count > limits::MAX_LOAD_OPTIONS {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let library_options: Vec<LoadOption> = call.values(u64::from(request.library_option_count))?;
    call.end_of_parameters()?;
    let (count, ids, values) = options.arguments();
    let (result, raw) = match kind {
        Kind::Module => {
            call.set_current()?;
            let load = call.driver().modules.cuModuleLoadDataEx.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            let mut module = CUmodule::default();
            // SAFETY: the image is the worker's own, NUL-terminated copy; the options' buffers have the sizes given.
            let result = call
                .in_driver(|| unsafe { load(&raw mut module, image.as_ptr().cast(), count, ids, values) });
            (result, module.to_u64())
        }
        Kind::Library => {
            let load = call.driver().modules.cuLibraryLoadData.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            // The image does not outlive this call, so the driver must not be told that it does.
            let kept =
                |option: &&LoadOption| CUlibraryOption(option.id) != CUlibraryOption::BINARY_IS_PRESERVED;
            let kept: Vec<_> = library_options.iter().filter(kept).collect();
            if kept.iter().any(|option| {
                CUlibraryOption(option.id) == CUlibraryOption::HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE
            }) {
                return Err(CUresult::ERROR_NOT_SUPPORTED);
            }
            let mut library_ids: Vec<_> = kept.iter().map(|option| CUlibraryOption(option.id)).collect();
            let mut library_values: Vec<_> = kept.iter().map(|option| number(option.value)).collect();
            let library_count = u32::try_from(library_ids.len()).unwrap_or(0);
            let mut library = CUlibrary::default();
            // SAFETY: as above.
            let result = call.in_driver(|| unsafe {
                load(
                    &raw mut library,
                    image.as_ptr().cast(),
                    ids,
                    values,
                    count,
                    library_ids.as_mut_ptr(),
                    library_values.as_mut_ptr(),
                    library_count,
                )
            });
            (result, library.to_u64())
        }
        _ => return Err(CUresult::ERROR_INVALID_HANDLE),
    };
    options.put(call)?;
    ok(result)?;
    call.insert(kind, request.target, raw)
}
