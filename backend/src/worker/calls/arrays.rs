//! Levels of mipmapped arrays, textures, surfaces, and the end of each.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    codec::Scalar,
    cuda::{CUarray, CUmipmappedArray, CUresourcetype, CUresult, CUsurfObject, CUtexObject},
    handle::{Handle, Kind},
    requests::{ArrayDestroy, MipmapLevel, ViewCreate, ViewCreated, view_flags},
};

use super::{Invocation, ok};

const MISSING: CUresult = CUresult::ERROR_NOT_SUPPORTED;

/// The kind that a handle says it is of.
fn kind_of(handle: u64) -> Result<Kind, CUresult> {
    Handle::from_u64(handle).map(|handle| handle.kind).ok_or(CUresult::ERROR_INVALID_HANDLE)
}

pub(super) fn level(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: MipmapLevel = call.structure()?;
    call.end_of_parameters()?;
    let raw = call.handle(Kind::MipmappedArray, request.mipmapped)?;
    call.check_free(Kind::Array, request.array)?;
    call.set_current()?;
    let get = call.driver().arrays.cuMipmappedArrayGetLevel.ok_or(MISSING)?;
    let mut array = CUarray::default();
    // SAFETY: a live mipmapped array, and a place for an array.
    ok(call.in_driver(|| unsafe { get(&raw mut array, CUmipmappedArray::from_u64(raw), request.level) }))?;
    call.insert_child(Kind::Array, request.array, array.to_u64(), request.mipmapped)
}

pub(super) fn view(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ViewCreate = call.structure()?;
    call.end_of_parameters()?;
    let kind = kind_of(request.handle)?;
    call.check_free(kind, request.handle)?;
    let object = request.resource.object();
    let object = match request.resource.resType {
        CUresourcetype::ARRAY => call.handle(Kind::Array, object)?,
        CUresourcetype::MIPMAPPED_ARRAY => call.handle(Kind::MipmappedArray, object)?,
        // Addresses of the device, which it checks whenever a kernel reads them.
        CUresourcetype::LINEAR | CUresourcetype::PITCH2D => object,
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    let resource = request.resource.with_object(object);
    call.set_current()?;
    let arrays = &call.driver().arrays;
    let made = match kind {
        Kind::Texture => {
            let create = arrays.cuTexObjectCreate.ok_or(MISSING)?;
            let has_view = request.flags & view_flags::HAS_VIEW != 0;
            let view = if has_view { &raw const request.view } else { std::ptr::null() };
            let mut texture = CUtexObject::default();
            // SAFETY: structures of this request, with live arrays, and a place for a number.
            ok(call.in_driver(|| unsafe {
                create(&raw mut texture, &raw const resource, &raw const request.texture, view)
            }))?;
            texture.0
        }
        Kind::Surface => {
            let create = arrays.cuSurfObjectCreate.ok_or(MISSING)?;
            let mut surface = CUsurfObject::default();
            // SAFETY: a structure of this request, with a live array, and a place for a number.
            ok(call.in_driver(|| unsafe { create(&raw mut surface, &raw const resource) }))?;
            surface.0
        }
        _ => return Err(CUresult::ERROR_INVALID_HANDLE),
    };
    call.insert(kind, request.handle, made)?;
    call.put(&ViewCreated { object: made })
}

pub(super) fn destroy(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ArrayDestroy = call.structure()?;
    call.end_of_parameters()?;
    let kind = kind_of(request.handle)?;
    let object = call.session().handles.get(kind, request.handle)?;
    // A level of a mipmapped array is a part of it.
    if kind == Kind::Array && object.parent != 0 {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    call.set_current()?;
    let arrays = &call.driver().arrays;
    let raw = object.raw;
    // SAFETY (of the four calls below): a live object of the session, of the kind that the function takes.
    let result = match kind {
        Kind::Array => {
            let function = arrays.cuArrayDestroy.ok_or(MISSING)?;
            // SAFETY: as above.
            call.in_driver(|| unsafe { function(CUarray::from_u64(raw)) })
        }
        Kind::MipmappedArray => {
            let function = arrays.cuMipmappedArrayDestroy.ok_or(MISSING)?;
            // SAFETY: as above.
            call.in_driver(|| unsafe { function(CUmipmappedArray::from_u64(raw)) })
        }
        Kind::Texture => {
            let function = arrays.cuTexObjectDestroy.ok_or(MISSING)?;
            // SAFETY: as above.
            call.in_driver(|| unsafe { function(CUtexObject::from_u64(raw)) })
        }
        Kind::Surface => {
            let function = arrays.cuSurfObjectDestroy.ok_or(MISSING)?;
            // SAFETY: as above.
            call.in_driver(|| unsafe { function(CUsurfObject::from_u64(raw)) })
        }
        _ => CUresult::ERROR_INVALID_HANDLE,
    };
    ok(result)?;
    call.remove(kind, request.handle);
    Ok(())
}
