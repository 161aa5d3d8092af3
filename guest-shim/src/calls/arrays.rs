//! Arrays, textures and surfaces.
//!
//! A texture or surface goes to kernels as the device's own number, so the program has that number; what it was made of
//! is remembered here, with the program's own handles.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{
    CUDA_ARRAY_MEMORY_REQUIREMENTS, CUDA_RESOURCE_DESC, CUDA_RESOURCE_VIEW_DESC, CUDA_TEXTURE_DESC, CUarray,
    CUdevice, CUdeviceptr, CUmipmappedArray, CUresult, CUstream, CUsurfObject, CUtexObject,
};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{ArrayDestroy, MipmapLevel, Origin, ViewCreate, ViewCreated, opcode, view_flags};
use zerocopy::FromZeros;

use super::copies::{On, run};
use super::give;
use crate::device::devices;
use crate::entry::{Flavour, status};
use crate::exports::arrays::{wire_cuArrayGetMemoryRequirements, wire_cuMipmappedArrayGetMemoryRequirements};
use crate::memory::copy::{Claim, End, Shape};
use crate::wire::Request;
use crate::{context, handles};

/// A texture or surface.
#[derive(Clone, Copy, Debug)]
struct View {
    /// What the session calls it by.
    handle: u64,
    resource: CUDA_RESOURCE_DESC,
    texture: CUDA_TEXTURE_DESC,
    view: Option<CUDA_RESOURCE_VIEW_DESC>,
}

/// Context, kind, and the device's number: numbers are a context's own.
type Key = (u64, Kind, u64);

static VIEWS: Mutex<Option<HashMap<Key, View>>> = Mutex::new(None);

/// Arrays of levels, by mipmapped array and level.
static LEVELS: Mutex<Option<HashMap<(u64, u32), u64>>> = Mutex::new(None);

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A view of the current context, if it is still there.
fn find(kind: Kind, object: u64) -> Result<(Key, View), CUresult> {
    let key = (context::required()?, kind, object);
    let found = lock(&VIEWS).as_ref().and_then(|views| views.get(&key).copied());
    // What was made in a context that is gone is not here, though its number may be.
    let found = found.filter(|view| handles::check(&[kind], view.handle));
    found.map(|view| (key, view)).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn destroy(handle: u64) -> Result<(), CUresult> {
    let mut request = Request::start(opcode::ARRAY_DESTROY, context::required()?)?;
    request.structure(&ArrayDestroy { handle });
    request.synchronising().answer().map(drop)
}

fn destroy_view(kind: Kind, object: u64) -> Result<(), CUresult> {
    let (key, view) = find(kind, object)?;
    destroy(view.handle)?;
    if let Some(views) = lock(&VIEWS).as_mut() {
        views.remove(&key);
    }
    handles::release(kind, view.handle);
    Ok(())
}

/// Makes a texture or a surface; the device's number of it.
fn create_view(kind: Kind, mut view: View) -> Result<u64, CUresult> {
    let context = context::required()?;
    // What lies between the structure's parts is nobody's business.
    (view.resource.padding, view.resource.end) = (0, 0);
    view.handle = handles::mint(kind)?;
    let flags = if view.view.is_some() { view_flags::HAS_VIEW } else { 0 };
    let body = ViewCreate {
        handle: view.handle,
        resource: view.resource,
        texture: view.texture,
        view: view.view.unwrap_or_default(),
        flags,
        reserved: 0,
    };
    let ask = || -> Result<u64, CUresult> {
        let mut request = Request::start(opcode::VIEW_CREATE, context)?;
        request.structure(&body);
        Ok(request.answer()?.take::<ViewCreated>()?.object)
    };
    let object = ask().inspect_err(|_| handles::release(kind, view.handle))?;
    lock(&VIEWS).get_or_insert_default().insert((context, kind, object), view);
    Ok(object)
}

/// Reads what the application points to.
///
/// # Safety
/// `from` is null, or valid for reading.
unsafe fn given<T: Copy>(from: *const T) -> Result<T, CUresult> {
    if from.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { from.read() })
}

pub(crate) unsafe fn cuArrayDestroy(array: CUarray) -> CUresult {
    if !handles::check(&[Kind::Array], array.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    status(destroy(array.0).inspect(|()| handles::release(Kind::Array, array.0)))
}

pub(crate) unsafe fn cuMipmappedArrayDestroy(mipmapped: CUmipmappedArray) -> CUresult {
    if !handles::check(&[Kind::MipmappedArray], mipmapped.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    let run = || -> Result<(), CUresult> {
        let mut levels = lock(&LEVELS);
        destroy(mipmapped.0)?;
        handles::release(Kind::MipmappedArray, mipmapped.0);
        levels.get_or_insert_default().retain(|(whole, _), array| {
            if *whole == mipmapped.0 {
                handles::release(Kind::Array, *array);
            }
            *whole != mipmapped.0
        });
        Ok(())
    };
    status(run())
}

pub(crate) unsafe fn cuMipmappedArrayGetLevel(
    level_array: *mut CUarray,
    mipmapped: CUmipmappedArray,
    level: u32,
) -> CUresult {
    if level_array.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    if !handles::check(&[Kind::MipmappedArray], mipmapped.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    let run = || -> Result<u64, CUresult> {
        // Held until the level is known, so that it has one handle only.
        let mut levels = lock(&LEVELS);
        let levels = levels.get_or_insert_default();
        if let Some(array) = levels.get(&(mipmapped.0, level)) {
            return Ok(*array);
        }
        let array = handles::mint(Kind::Array)?;
        let ask = || -> Result<(), CUresult> {
            let mut request = Request::start(opcode::MIPMAP_LEVEL, context::required()?)?;
            request.structure(&MipmapLevel { mipmapped: mipmapped.0, array, level, reserved: 0 });
            request.answer().map(drop)
        };
        ask().inspect_err(|_| handles::release(Kind::Array, array))?;
        levels.insert((mipmapped.0, level), array);
        Ok(array)
    };
    // SAFETY: checked above; the application's place.
    status(run().and_then(|array| unsafe { give(level_array, CUarray(array)) }))
}

pub(crate) unsafe fn cuTexObjectCreate(
    texture: *mut CUtexObject,
    resource: *const CUDA_RESOURCE_DESC,
    description: *const CUDA_TEXTURE_DESC,
    view: *const CUDA_RESOURCE_VIEW_DESC,
) -> CUresult {
    if texture.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<(), CUresult> {
        // SAFETY: the application's structure.
        let resource = unsafe { given(resource) }?;
        // SAFETY: the application's structure.
        let description = unsafe { given(description) }?;
        // SAFETY: the application's structure, if there is one.
        let view = (!view.is_null()).then(|| unsafe { view.read() });
        let wanted = View { handle: 0, resource, texture: description, view };
        let object = create_view(Kind::Texture, wanted)?;
        // SAFETY: checked above; the application's place.
        unsafe { give(texture, CUtexObject(object)) }
    };
    status(run())
}

pub(crate) unsafe fn cuTexObjectDestroy(texture: CUtexObject) -> CUresult {
    status(destroy_view(Kind::Texture, texture.0))
}

pub(crate) unsafe fn cuTexObjectGetResourceDesc(
    resource: *mut CUDA_RESOURCE_DESC,
    texture: CUtexObject,
) -> CUresult {
    let found = find(Kind::Texture, texture.0);
    // SAFETY: the application's place.
    status(found.and_then(|(_, view)| unsafe { give(resource, view.resource) }))
}

pub(crate) unsafe fn cuTexObjectGetTextureDesc(
    description: *mut CUDA_TEXTURE_DESC,
    texture: CUtexObject,
) -> CUresult {
    let found = find(Kind::Texture, texture.0);
    // SAFETY: the application's place.
    status(found.and_then(|(_, view)| unsafe { give(description, view.texture) }))
}

pub(crate) unsafe fn cuTexObjectGetResourceViewDesc(
    view: *mut CUDA_RESOURCE_VIEW_DESC,
    texture: CUtexObject,
) -> CUresult {
    let run = || -> Result<(), CUresult> {
        let (_, found) = find(Kind::Texture, texture.0)?;
        let found = found.view.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        // SAFETY: the application's place.
        unsafe { give(view, found) }
    };
    status(run())
}

pub(crate) unsafe fn cuSurfObjectCreate(
    surface: *mut CUsurfObject,
    resource: *const CUDA_RESOURCE_DESC,
) -> CUresult {
    if surface.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<(), CUresult> {
        // SAFETY: the application's structure.
        let resource = unsafe { given(resource) }?;
        let wanted = View { handle: 0, resource, texture: CUDA_TEXTURE_DESC::new_zeroed(), view: None };
        let object = create_view(Kind::Surface, wanted)?;
        // SAFETY: checked above; the application's place.
        unsafe { give(surface, CUsurfObject(object)) }
    };
    status(run())
}

pub(crate) unsafe fn cuSurfObjectDestroy(surface: CUsurfObject) -> CUresult {
    status(destroy_view(Kind::Surface, surface.0))
}

pub(crate) unsafe fn cuSurfObjectGetResourceDesc(
    resource: *mut CUDA_RESOURCE_DESC,
    surface: CUsurfObject,
) -> CUresult {
    let found = find(Kind::Surface, surface.0);
    // SAFETY: the application's place.
    status(found.and_then(|(_, view)| unsafe { give(resource, view.resource) }))
}

/// A device as the host knows it.
fn on_host(device: CUdevice) -> Result<CUdevice, CUresult> {
    Ok(CUdevice::from_u64(u64::from(devices()?.host_ordinal(device)?)))
}

pub(crate) unsafe fn cuArrayGetMemoryRequirements(
    requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    array: CUarray,
    device: CUdevice,
) -> CUresult {
    match on_host(device) {
        // SAFETY: the same contract.
        Ok(device) => unsafe { wire_cuArrayGetMemoryRequirements(requirements, array, device) },
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuMipmappedArrayGetMemoryRequirements(
    requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
    mipmapped: CUmipmappedArray,
    device: CUdevice,
) -> CUresult {
    match on_host(device) {
        // SAFETY: the same contract.
        Ok(device) => unsafe { wire_cuMipmappedArrayGetMemoryRequirements(requirements, mipmapped, device) },
        Err(error) => error,
    }
}

/// An end of a linear copy in an array.
fn within(array: CUarray, offset: usize) -> End {
    End::array(array.0, Origin { x: offset as u64, y: 0, z: 0 })
}

fn host(pointer: *const c_void) -> End {
    End::linear(pointer.expose_provenance() as u64, Claim::Host)
}

fn device(address: CUdeviceptr) -> End {
    End::linear(address.0, Claim::Device)
}

/// # Safety
/// What the process reaches of the two ends has `bytes` bytes.
unsafe fn linear(to: End, from: End, bytes: usize, on: On) -> CUresult {
    // SAFETY: as the caller promises.
    unsafe { run(to, from, Shape::linear(bytes as u64), on) }
}

pub(crate) unsafe fn cuMemcpyAtoA_v2(
    to: CUarray,
    to_offset: usize,
    from: CUarray,
    from_offset: usize,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    let on = On::Nothing(flavour);
    // SAFETY: nothing of the process's.
    unsafe { linear(within(to, to_offset), within(from, from_offset), byte_count, on) }
}

pub(crate) unsafe fn cuMemcpyAtoD_v2(
    to: CUdeviceptr,
    from: CUarray,
    from_offset: usize,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: nothing of the process's.
    unsafe { linear(device(to), within(from, from_offset), byte_count, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpyDtoA_v2(
    to: CUarray,
    to_offset: usize,
    from: CUdeviceptr,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: nothing of the process's.
    unsafe { linear(within(to, to_offset), device(from), byte_count, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpyAtoH_v2(
    to: *mut c_void,
    from: CUarray,
    from_offset: usize,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { linear(host(to), within(from, from_offset), byte_count, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpyAtoHAsync_v2(
    to: *mut c_void,
    from: CUarray,
    from_offset: usize,
    byte_count: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { linear(host(to), within(from, from_offset), byte_count, On::Stream(stream, flavour)) }
}

pub(crate) unsafe fn cuMemcpyHtoA_v2(
    to: CUarray,
    to_offset: usize,
    from: *const c_void,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { linear(within(to, to_offset), host(from), byte_count, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpyHtoAAsync_v2(
    to: CUarray,
    to_offset: usize,
    from: *const c_void,
    byte_count: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { linear(within(to, to_offset), host(from), byte_count, On::Stream(stream, flavour)) }
}
