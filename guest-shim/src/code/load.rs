//! Loading: an image goes to the device in chunks, unless it has it already, then becomes a module or a library.
//!
//! Unsafe code: reads the application's image.

use std::sync::atomic::{AtomicBool, Ordering};

use virtio_spec::cuda::CUresult;
use virtio_spec::handle::Kind;
use virtio_spec::image_tag::{self, Secret};
use virtio_spec::limits::{MAX_IMAGE_BYTES, MIN_FOUND_IMAGE_BYTES};
use virtio_spec::requests::{ImageChunk, ImageFind, ImageProof, Load, LoadOption, Loaded, opcode};

use super::image::Image;
use super::options::Options;
use crate::session::lane::Pending;
use crate::wire::Request;
use crate::{context, handles};

/// Chunks of an image that are under way at once.
const CHUNKS: usize = 2;

/// The device has said that it keeps no images.
static ASKS_IN_VAIN: AtomicBool = AtomicBool::new(false);

/// Has the device find an image that another process has sent; otherwise sends it. Returns its handle as [`send_image`]
/// does.
///
/// # Safety
/// The image is readable, and stays as it is.
unsafe fn find_or_send(image: Image) -> Result<u64, CUresult> {
    if !(MIN_FOUND_IMAGE_BYTES..=MAX_IMAGE_BYTES).contains(&image.length)
        || ASKS_IN_VAIN.load(Ordering::Relaxed)
    {
        // SAFETY: as the caller promises.
        return unsafe { send_image(image) };
    }
    let handle = handles::mint(Kind::Image)?;
    // SAFETY: as the caller promises.
    let found = unsafe { find(image, handle) };
    // Whatever went wrong, an image that is sent needs nothing of it.
    // SAFETY: as the caller promises.
    if let Err(error) = found.or_else(|_| unsafe { send_chunks(image, handle) }) {
        handles::release(Kind::Image, handle);
        return Err(error);
    }
    Ok(handle)
}

/// # Safety
/// The image is readable, and stays as it is.
unsafe fn find(image: Image, handle: u64) -> Result<(), CUresult> {
    let length = usize::try_from(image.length).map_err(|_| CUresult::ERROR_INVALID_IMAGE)?;
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(image.start, length) };
    let context = context::current().unwrap_or(0);
    let room = u32::try_from(size_of::<Secret>()).unwrap_or(u32::MAX);
    let mut request = Request::start(opcode::IMAGE_FIND, context)?.with_room(room);
    request.structure(&ImageFind { image: handle, total: image.length, sample: image_tag::sample(bytes) });
    let secret =
        request.answer().and_then(|mut response| response.take::<Secret>()).inspect_err(|error| {
            if *error == CUresult::ERROR_NOT_SUPPORTED {
                ASKS_IN_VAIN.store(true, Ordering::Relaxed);
            }
        })?;
    let mut request = Request::start(opcode::IMAGE_PROOF, context)?;
    request.structure(&ImageProof { image: handle, tag: image_tag::tag(bytes, &secret) });
    request.answer().map(drop)
}

/// Sends an image and returns its handle, which the device keeps until a load consumes it.
///
/// # Safety
/// The image is readable.
pub(crate) unsafe fn send_image(image: Image) -> Result<u64, CUresult> {
    if image.length == 0 || image.length > MAX_IMAGE_BYTES {
        return Err(CUresult::ERROR_INVALID_IMAGE);
    }
    let handle = handles::mint(Kind::Image)?;
    // SAFETY: as the caller promises.
    let sent = unsafe { send_chunks(image, handle) };
    if let Err(error) = sent {
        handles::release(Kind::Image, handle);
        return Err(error);
    }
    Ok(handle)
}

/// # Safety
/// The image is readable.
unsafe fn send_chunks(image: Image, handle: u64) -> Result<(), CUresult> {
    let mut burst = Request::start(opcode::IMAGE_CHUNK, context::current().unwrap_or(0))?.into_burst();
    let (staging, bytes) = burst.staging();
    let half = bytes / CHUNKS as u64;
    let mut under_way: [Option<Pending>; CHUNKS] = [None; CHUNKS];
    let mut outcome = Ok(());
    let mut offset = 0;
    let mut number = 0;
    while offset < image.length && outcome.is_ok() {
        let chunk = number % CHUNKS;
        if let Some(pending) = under_way[chunk].take() {
            outcome = burst.receive(pending);
            if outcome.is_err() {
                break;
            }
        }
        let length = half.min(image.length - offset);
        let place = chunk as u64 * half;
        let count = usize::try_from(length).map_err(|_| CUresult::ERROR_INVALID_IMAGE)?;
        let from =
            image.start.wrapping_add(usize::try_from(offset).map_err(|_| CUresult::ERROR_INVALID_IMAGE)?);
        let to = burst.memory(staging + place, length);
        // SAFETY: a part of the image, and staging of this lane that nothing under way uses.
        unsafe { std::ptr::copy_nonoverlapping(from, to, count) };
        match burst.send(&ImageChunk { image: handle, total: image.length, offset, staging: place, length }) {
            Ok(pending) => under_way[chunk] = Some(pending),
            Err(error) => outcome = Err(error),
        }
        offset += length;
        number += 1;
    }
    // In the order in which they were sent: the chunk that would come next holds the older one.
    for step in 0..CHUNKS {
        if let Some(pending) = under_way[(number + step) % CHUNKS].take() {
            outcome = outcome.and(burst.receive(pending));
        }
    }
    outcome
}

/// Makes a module or a library of an image.
///
/// # Safety
/// The image is readable, and `options` are those of the application's live arrays.
pub(crate) unsafe fn load(
    kind: Kind,
    image: Image,
    options: &Options,
    library_options: &[LoadOption],
) -> Result<u64, CUresult> {
    // SAFETY: as the caller promises.
    let sent = unsafe { find_or_send(image) }?;
    let target = handles::mint(kind);
    let outcome = target.and_then(|target| {
        // SAFETY: as the caller promises.
        unsafe { load_sent(target, sent, options, library_options) }
            .inspect_err(|_| handles::release(kind, target))
            .map(|()| target)
    });
    handles::release(Kind::Image, sent);
    outcome
}

/// # Safety
/// `options` are those of the application's live arrays.
unsafe fn load_sent(
    target: u64,
    image: u64,
    options: &Options,
    library_options: &[LoadOption],
) -> Result<(), CUresult> {
    let (info_log_bytes, error_log_bytes) = options.log_bytes();
    let context = context::current().unwrap_or(0);
    let mut request = Request::start(opcode::LOAD, context)?.with_room(options.room());
    request.structure(&Load {
        target,
        image,
        option_count: u32::try_from(options.sent.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
        library_option_count: u32::try_from(library_options.len())
            .map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
        info_log_bytes,
        error_log_bytes,
    });
    for option in options.sent.iter().chain(library_options) {
        request.structure(option);
    }
    let (result, mut response) = request.exchange()?;
    match response.take::<Loaded>() {
        // SAFETY: as the caller promises.
        Ok(loaded) => unsafe { options.write_back(&loaded, &mut response) }?,
        // A load that failed before the compiler says nothing.
        // SAFETY: as the caller promises.
        Err(_) => unsafe { options.write_empty() },
    }
    if result == CUresult::SUCCESS { Ok(()) } else { Err(result) }
}
