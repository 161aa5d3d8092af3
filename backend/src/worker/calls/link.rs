//! The linker: PTX and cubins in, one cubin out, which the guest reads back through staging.
//!
//! Unsafe code: calls of the driver.

use std::{ffi::c_void, sync::PoisonError};

use virtio_spec::{
    codec::Scalar,
    cuda::{CUjitInputType, CUlinkState, CUresult},
    handle::Kind,
    requests::{LinkAdd, LinkComplete, LinkCreate, LinkRead, Linked},
};

use super::{
    Invocation,
    copy::staging,
    image::{JitOptions, take},
    ok,
};

/// A link under way. The driver writes into the options' log buffers until the link is destroyed.
pub(crate) struct Link {
    options: JitOptions,
    /// The worker's copy of the linked image.
    image: Vec<u8>,
}

pub(super) fn create(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: LinkCreate = call.structure()?;
    let mut options =
        JitOptions::read(call, request.option_count, request.info_log_bytes, request.error_log_bytes)?;
    call.end_of_parameters()?;
    call.check_free(Kind::Link, request.link)?;
    call.set_current()?;
    let create = call.driver().modules.cuLinkCreate_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let (count, ids, values) = options.arguments();
    let mut link = CUlinkState::default();
    // SAFETY: the options live as long as the link, in the session's table; moving them moves no buffer.
    ok(call.in_driver(|| unsafe { create(count, ids, values, &raw mut link) }))?;
    call.insert(Kind::Link, request.link, link.to_u64())?;
    let mut links = call.session().links.lock().unwrap_or_else(PoisonError::into_inner);
    links.retain(|handle, _| call.handle(Kind::Link, *handle).is_ok());
    links.insert(request.link, Link { options, image: Vec::new() });
    Ok(())
}

pub(super) fn add(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: LinkAdd = call.structure()?;
    let mut image = take(call, request.image)?.into_bytes();
    let mut options = JitOptions::read(call, request.option_count, 0, 0)?;
    let name =
        if request.name_bytes == 0 { None } else { Some(call.text_of(u64::from(request.name_bytes))?) };
    call.end_of_parameters()?;
    let link = CUlinkState::from_u64(call.handle(Kind::Link, request.link)?);
    call.set_current()?;
    let add = call.driver().modules.cuLinkAddData_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let (count, ids, values) = options.arguments();
    let kind = CUjitInputType(request.input_type);
    let length = if kind == CUjitInputType::PTX { image.len() } else { image.len().saturating_sub(1) };
    let name = name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
    // SAFETY: a live link; image, name and options are the worker's own, of the sizes given.
    let result = call.in_driver(|| unsafe {
        add(link, kind, image.as_mut_ptr().cast(), length, name, count, ids, values)
    });
    put_logs(call, request.link)?;
    ok(result)
}

fn put_logs(call: &mut Invocation<'_>, handle: u64) -> Result<(), CUresult> {
    let session = call.session();
    let links = session.links.lock().unwrap_or_else(PoisonError::into_inner);
    let link = links.get(&handle).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
    link.options.put(call)
}

pub(super) fn complete(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: LinkComplete = call.structure()?;
    call.end_of_parameters()?;
    let link = CUlinkState::from_u64(call.handle(Kind::Link, request.link)?);
    call.set_current()?;
    let complete = call.driver().modules.cuLinkComplete.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let (mut address, mut length) = (std::ptr::null_mut::<c_void>(), 0_usize);
    // SAFETY: a live link, room for an address and a length.
    let result = call.in_driver(|| unsafe { complete(link, &raw mut address, &raw mut length) });
    let mut image = Vec::new();
    if result == CUresult::SUCCESS && !address.is_null() {
        // SAFETY: the driver's image, which lives until the link is destroyed.
        image.extend_from_slice(unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) });
    }
    let session = call.session();
    let mut links = session.links.lock().unwrap_or_else(PoisonError::into_inner);
    let link = links.get_mut(&request.link).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
    link.image = image;
    let (logs, info, error) = link.options.loaded();
    call.put(&Linked { image_bytes: link.image.len() as u64, logs })?;
    call.put_bytes(info)?;
    call.put_bytes(error)?;
    ok(result)
}

pub(super) fn read(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: LinkRead = call.structure()?;
    call.end_of_parameters()?;
    call.handle(Kind::Link, request.link)?;
    let target = staging(call, request.staging, request.length)?;
    let links = call.session().links.lock().unwrap_or_else(PoisonError::into_inner);
    let invalid = CUresult::ERROR_INVALID_VALUE;
    let image = &links.get(&request.link).ok_or(CUresult::ERROR_INVALID_HANDLE)?.image;
    let start = usize::try_from(request.offset).map_err(|_| invalid)?;
    let length = usize::try_from(request.length).map_err(|_| invalid)?;
    let part = start.checked_add(length).and_then(|end| image.get(start..end)).ok_or(invalid)?;
    // SAFETY: `target` is `length` bytes of staging, and `part` is as long.
    unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target.cast::<u8>(), part.len()) };
    Ok(())
}
