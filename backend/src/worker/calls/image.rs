//! Module images: collected in chunks, then loaded as a module or a library.
//!
//! The worker parses nothing of an image; it hands its own copy to the driver.
//!
//! Unsafe code: calls of the driver.

use std::{
    collections::HashMap,
    ffi::c_void,
    sync::{Arc, PoisonError},
};

use virtio_spec::{
    codec::Scalar,
    cuda::{CUjit_option, CUlibrary, CUlibraryOption, CUmodule, CUresult},
    handle::{Handle, Kind},
    image_tag, limits,
    requests::{ImageChunk, Load, LoadOption, Loaded},
};

use super::{Invocation, copy::staging, image_find::Found, ok};
use crate::{
    images::Key,
    worker::{
        broker,
        sealed::{ImageFile, SealedImage},
    },
};

/// An image on its way to a load.
pub(crate) enum Image {
    /// It is being sent, and too small to be kept.
    Copied { total: u64, bytes: Vec<u8> },
    /// It is being sent, to be kept for other processes.
    Collected { total: u64, sent: u64, file: ImageFile },
    /// Another process has sent one that may be the same.
    Found(Found),
    /// Another process has sent it.
    Shared(Arc<SealedImage>),
}

impl Image {
    /// An image of which nothing has come yet.
    pub(super) fn new(total: u64) -> Result<Self, CUresult> {
        if total < limits::MIN_FOUND_IMAGE_BYTES {
            return Ok(Self::Copied { total, bytes: Vec::new() });
        }
        // Also where none are kept: writing to a file takes less time than memory that comes page by page.
        let file = ImageFile::new(total).map_err(|error| {
            log::debug!("no file for an image: {error}");
            CUresult::ERROR_OUT_OF_MEMORY
        })?;
        Ok(Self::Collected { total, sent: 0, file })
    }

    /// Bytes of the whole image.
    fn total(&self) -> u64 {
        match self {
            Self::Copied { total, .. } | Self::Collected { total, .. } => *total,
            Self::Found(found) => found.total(),
            Self::Shared(image) => image.bytes().len() as u64,
        }
    }

    /// Bytes that have come.
    fn sent(&self) -> u64 {
        match self {
            Self::Copied { bytes, .. } => bytes.len() as u64,
            Self::Collected { sent, .. } => *sent,
            Self::Found(_) | Self::Shared(_) => self.total(),
        }
    }

    /// Adds `length` bytes, which stay within the total.
    ///
    /// # Safety
    /// `length` bytes at `source` are mapped; the guest may write there meanwhile, which only changes what is copied.
    unsafe fn add(&mut self, source: *const u8, length: usize) -> Result<(), CUresult> {
        match self {
            Self::Copied { bytes, .. } => {
                bytes.try_reserve(length).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
                let spare = bytes.spare_capacity_mut().as_mut_ptr().cast::<u8>();
                // SAFETY: as the caller promises, and `spare` has room for as many.
                unsafe { std::ptr::copy_nonoverlapping(source, spare, length) };
                // SAFETY: `length` bytes behind the old end were written just now.
                unsafe { bytes.set_len(bytes.len().saturating_add(length)) };
            }
            Self::Collected { sent, file, .. } => {
                // SAFETY: as the caller promises.
                unsafe { file.write(source, length, *sent) }.map_err(|error| {
                    log::debug!("an image has no room: {error}");
                    CUresult::ERROR_OUT_OF_MEMORY
                })?;
                *sent = sent.saturating_add(length as u64);
            }
            Self::Found(_) | Self::Shared(_) => return Err(CUresult::ERROR_INVALID_VALUE),
        }
        Ok(())
    }
}

/// Refuses an image for which the session has no room beside those that are under way.
pub(super) fn check_room(images: &HashMap<u64, Image>, total: u64) -> Result<(), CUresult> {
    let pending = images.values().fold(total, |sum, image| sum.saturating_add(image.total()));
    if pending > limits::MAX_PENDING_IMAGE_BYTES { Err(CUresult::ERROR_OUT_OF_MEMORY) } else { Ok(()) }
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
        images.remove(&chunk.image);
        check_room(&images, chunk.total)?;
        images.insert(chunk.image, Image::new(chunk.total)?);
    }
    let image = images.get_mut(&chunk.image).ok_or(invalid)?;
    let sent = image.sent();
    let after = sent.checked_add(chunk.length).ok_or(invalid)?;
    if chunk.offset != sent || chunk.total != image.total() || after > image.total() || chunk.length == 0 {
        images.remove(&chunk.image);
        return Err(invalid);
    }
    let source = staging(call, chunk.staging, chunk.length)?;
    let length = usize::try_from(chunk.length).map_err(|_| invalid)?;
    // SAFETY: `source` is `length` bytes of staging.
    unsafe { image.add(source.cast::<u8>().cast_const(), length) }
}

/// A complete image, with a NUL behind it for PTX text.
pub(super) enum Complete {
    /// Of this session's own.
    Copied(Vec<u8>),
    /// Of which other processes do not know yet.
    New(SealedImage),
    /// Of another process.
    Shared(Arc<SealedImage>),
}

impl Complete {
    fn with_nul(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::New(image) => image.with_nul(),
            Self::Shared(image) => image.with_nul(),
        }
    }

    /// The same as memory that can be written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Copied(bytes) => bytes,
            Self::New(_) | Self::Shared(_) => self.with_nul().to_vec(),
        }
    }

    /// Makes an image that has been of use known to other processes.
    fn share(&self) {
        if let Self::New(image) = self {
            let bytes = image.bytes();
            let key = Key { total: bytes.len() as u64, sample: image_tag::sample(bytes) };
            if let Err(error) = broker::deposit_image(key, image.file()) {
                log::debug!("an image is not kept: {error:?}");
            }
        }
    }
}

/// Takes a complete image.
pub(super) fn take(call: &Invocation<'_>, handle: u64) -> Result<Complete, CUresult> {
    let mut images = call.session().images.lock().unwrap_or_else(PoisonError::into_inner);
    let image = images.remove(&handle).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    drop(images);
    match image {
        Image::Copied { total, mut bytes } if bytes.len() as u64 == total => {
            bytes.push(0);
            Ok(Complete::Copied(bytes))
        }
        Image::Collected { total, sent, file } if sent == total => {
            let sealed = file.seal(total).map_err(|error| {
                log::debug!("an image cannot be mapped: {error}");
                CUresult::ERROR_OUT_OF_MEMORY
            })?;
            Ok(Complete::New(sealed))
        }
        Image::Shared(image) => Ok(Complete::Shared(image)),
        Image::Copied { .. } | Image::Collected { .. } | Image::Found(_) => {
            Err(CUresult::ERROR_INVALID_IMAGE)
        }
    }
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
            let result = call.in_driver(|| unsafe {
                load(&raw mut module, image.with_nul().as_ptr().cast(), count, ids, values)
            });
            (result, module.to_u64())
        }
        Kind::Library => {
            let load = call.driver().modules.cuLibraryLoadData.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            let asked =
                |option| library_options.iter().filter(move |asked| CUlibraryOption(asked.id) != option);
            if asked(CUlibraryOption::HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE).count() != library_options.len()
            {
                return Err(CUresult::ERROR_NOT_SUPPORTED);
            }
            // Whatever becomes of the program's image, the worker's stays: the driver need not copy it.
            let preserved = (CUlibraryOption::BINARY_IS_PRESERVED, number(1));
            let (mut library_ids, mut library_values): (Vec<_>, Vec<_>) = asked(preserved.0)
                .map(|option| (CUlibraryOption(option.id), number(option.value)))
                .chain([preserved])
                .unzip();
            let library_count = u32::try_from(library_ids.len()).unwrap_or(0);
            let mut library = CUlibrary::default();
            // SAFETY: as above; it is kept until the driver has unloaded the library.
            let result = call.in_driver(|| unsafe {
                load(
                    &raw mut library,
                    image.with_nul().as_ptr().cast(),
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
    image.share();
    let inserted = call.insert(kind, request.target, raw);
    match (inserted, kind) {
        (Ok(()), Kind::Library) => {
            call.session().libraries().insert(request.target, image);
        }
        // Another lane has taken the handle meanwhile, so that nobody can unload this one.
        (Err(_), Kind::Library) => std::mem::forget(image),
        _ => {}
    }
    inserted
}
