//! The linker (`cuLink…`): inputs are sent like images, the result is fetched once and kept for the program.
//!
//! Unsafe code: the application's inputs, names and option arrays.

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::CUresult;
use virtio_spec::handle::Kind;
use virtio_spec::limits::{MAX_IMAGE_BYTES, MAX_NAME_BYTES};
use virtio_spec::requests::{LinkAdd, LinkComplete, LinkCreate, LinkRead, Linked, Loaded, opcode};

use super::image::Image;
use super::load::send_image;
use super::options::Options;
use crate::wire::Request;
use crate::{context, handles};

/// A link that is not destroyed.
#[derive(Default)]
struct Link {
    /// Options with the logs, which every later call of the link writes to.
    options: Options,
    /// The linked image, which the program reads until it destroys the link.
    image: Vec<u8>,
}

// SAFETY: the pointers are the application's log buffers, which CUDA's contract keeps alive until the link is destroyed;
// whichever thread calls writes to them under the lock.
unsafe impl Send for Link {}

static LINKS: Mutex<Option<HashMap<u64, Link>>> = Mutex::new(None);

fn links() -> MutexGuard<'static, Option<HashMap<u64, Link>>> {
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `cuLinkCreate`.
pub(crate) fn create(options: Options) -> Result<u64, CUresult> {
    let context = context::required()?;
    let link = handles::mint(Kind::Link)?;
    let (info_log_bytes, error_log_bytes) = options.log_bytes();
    let ask = || {
        let mut request = Request::start(opcode::LINK_CREATE, context)?.with_room(0);
        request.structure(&LinkCreate {
            link,
            option_count: u32::try_from(options.sent.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
            info_log_bytes,
            error_log_bytes,
            reserved: 0,
        });
        for option in &options.sent {
            request.structure(option);
        }
        request.answer().map(|_| ())
    };
    if let Err(error) = ask() {
        handles::release(Kind::Link, link);
        return Err(error);
    }
    links().get_or_insert_default().insert(link, Link { options, image: Vec::new() });
    Ok(link)
}

/// `cuLinkAddData`.
///
/// # Safety
/// The image is readable, the name is NUL-terminated or null, and the log buffers of the link are live.
pub(crate) unsafe fn add(
    link: u64,
    input_type: u32,
    image: Image,
    name: *const c_char,
    options: &Options,
) -> Result<(), CUresult> {
    if !handles::check(&[Kind::Link], link) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    let name = if name.is_null() {
        &[][..]
    } else {
        // SAFETY: NUL-terminated, as the caller promises.
        unsafe { CStr::from_ptr(name) }.to_bytes_with_nul()
    };
    if name.len() > MAX_NAME_BYTES as usize {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let sent = unsafe { send_image(image) }?;
    let mut links = links();
    let known = links.get_or_insert_default().entry(link).or_default();
    let ask = || {
        let context = context::current().unwrap_or(0);
        let mut request = Request::start(opcode::LINK_ADD, context)?.with_room(known.options.room());
        request.structure(&LinkAdd {
            link,
            image: sent,
            input_type,
            option_count: u32::try_from(options.sent.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
            name_bytes: u32::try_from(name.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
            reserved: 0,
        });
        for option in &options.sent {
            request.structure(option);
        }
        request.slice(name);
        let (result, mut response) = request.exchange()?;
        if let Ok(loaded) = response.take::<Loaded>() {
            // SAFETY: the link's log buffers, as the caller promises.
            unsafe { known.options.write_back(&loaded, &mut response) }?;
        }
        if result == CUresult::SUCCESS { Ok(()) } else { Err(result) }
    };
    let outcome = ask();
    handles::release(Kind::Image, sent);
    outcome
}

/// `cuLinkComplete`: address and length of the linked image.
///
/// # Safety
/// The log buffers of the link are live.
pub(crate) unsafe fn complete(link: u64) -> Result<(*mut u8, usize), CUresult> {
    if !handles::check(&[Kind::Link], link) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    let mut links = links();
    let known = links.get_or_insert_default().entry(link).or_default();
    let context = context::current().unwrap_or(0);
    let mut request = Request::start(opcode::LINK_COMPLETE, context)?.with_room(known.options.room());
    request.structure(&LinkComplete { link });
    let (result, mut response) = request.exchange()?;
    let linked = match response.take::<Linked>() {
        Ok(linked) => {
            // SAFETY: the link's log buffers, as the caller promises.
            unsafe { known.options.write_back(&linked.logs, &mut response) }?;
            linked
        }
        Err(_) if result != CUresult::SUCCESS => return Err(result),
        Err(error) => return Err(error),
    };
    drop(response);
    if result != CUresult::SUCCESS {
        return Err(result);
    }
    if linked.image_bytes > MAX_IMAGE_BYTES {
        return Err(CUresult::ERROR_UNKNOWN);
    }
    known.image = fetch(link, linked.image_bytes)?;
    Ok((known.image.as_mut_ptr(), known.image.len()))
}

fn fetch(link: u64, bytes: u64) -> Result<Vec<u8>, CUresult> {
    let mut burst = Request::start(opcode::LINK_READ, context::current().unwrap_or(0))?.into_burst();
    let (staging, room) = burst.staging();
    let mut image = Vec::new();
    let mut offset = 0;
    while offset < bytes {
        let length = room.min(bytes - offset);
        let pending = burst.send(&LinkRead { link, offset, staging: 0, length })?;
        burst.receive(pending)?;
        burst.read(staging, usize::try_from(length).map_err(|_| CUresult::ERROR_UNKNOWN)?, &mut image);
        offset += length;
    }
    Ok(image)
}

/// Forgets a link that was destroyed.
pub(crate) fn destroyed(link: u64) {
    links().get_or_insert_default().remove(&link);
}
