//! Arrays, textures and surfaces.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;
use std::sync::Arc;

use virtio_spec::cuda::{
    CUDA_ARRAY_DESCRIPTOR, CUDA_ARRAY3D_DESCRIPTOR, CUDA_RESOURCE_DESC, CUDA_RESOURCE_VIEW_DESC,
    CUDA_TEXTURE_DESC, CUarray, CUarray_format, CUdevice, CUdeviceptr, CUmipmappedArray, CUresult, CUstream,
    CUsurfObject, CUtexObject,
};

use super::copies::{array_side, device, host, run};
use super::entry::{Call, In, Out, check_device, exports};
use crate::driver::array::{self, Object};
use crate::driver::copy::Extent3;
use crate::driver::handles::{Table, kind, mint};
use crate::driver::{Driver, Result};

exports! {
    context cuArrayCreate_v2(array: *mut CUarray, descriptor: *const CUDA_ARRAY_DESCRIPTOR) = create_flat;
    context cuArray3DCreate_v2(array: *mut CUarray, descriptor: *const CUDA_ARRAY3D_DESCRIPTOR) = create;
    current cuArrayGetDescriptor_v2(descriptor: *mut CUDA_ARRAY_DESCRIPTOR, array: CUarray) = describe_flat;
    current cuArray3DGetDescriptor_v2(descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR, array: CUarray) = describe;
    current cuArrayDestroy(array: CUarray) = destroy;
    context cuMipmappedArrayCreate(
        array: *mut CUmipmappedArray, descriptor: *const CUDA_ARRAY3D_DESCRIPTOR, levels: u32,
    ) = create_mipmapped;
    current cuMipmappedArrayGetLevel(level: *mut CUarray, array: CUmipmappedArray, number: u32) = get_level;
    current cuMipmappedArrayDestroy(array: CUmipmappedArray) = destroy_mipmapped;
    context cuTexObjectCreate(
        texture: *mut CUtexObject, resource: *const CUDA_RESOURCE_DESC, sampling: *const CUDA_TEXTURE_DESC,
        view: *const CUDA_RESOURCE_VIEW_DESC,
    ) = create_texture;
    current cuTexObjectDestroy(texture: CUtexObject) = destroy_texture;
    current cuTexObjectGetResourceDesc(resource: *mut CUDA_RESOURCE_DESC, texture: CUtexObject) = texture_resource;
    current cuTexObjectGetTextureDesc(sampling: *mut CUDA_TEXTURE_DESC, texture: CUtexObject) = texture_sampling;
    current cuTexObjectGetResourceViewDesc(view: *mut CUDA_RESOURCE_VIEW_DESC, texture: CUtexObject) = texture_view;
    context cuSurfObjectCreate(surface: *mut CUsurfObject, resource: *const CUDA_RESOURCE_DESC) = create_surface;
    current cuSurfObjectDestroy(surface: CUsurfObject) = destroy_surface;
    current cuSurfObjectGetResourceDesc(resource: *mut CUDA_RESOURCE_DESC, surface: CUsurfObject) = surface_resource;
    init cuDeviceGetTexture1DLinearMaxWidth(
        width: *mut usize, format: CUarray_format, channels: u32, device: CUdevice,
    ) = linear_width;
    context cuMemcpyAtoA_v2 / cuMemcpyAtoA_v2_ptds (
        to: CUarray, to_offset: usize, from: CUarray, from_offset: usize, bytes: usize,
    ) = array_to_array;
    context cuMemcpyAtoD_v2 / cuMemcpyAtoD_v2_ptds (
        to: CUdeviceptr, from: CUarray, offset: usize, bytes: usize,
    ) = array_to_device;
    context cuMemcpyDtoA_v2 / cuMemcpyDtoA_v2_ptds (
        to: CUarray, offset: usize, from: CUdeviceptr, bytes: usize,
    ) = device_to_array;
    context cuMemcpyAtoH_v2 / cuMemcpyAtoH_v2_ptds (
        to: *mut c_void, from: CUarray, offset: usize, bytes: usize,
    ) = array_to_host;
    context cuMemcpyHtoA_v2 / cuMemcpyHtoA_v2_ptds (
        to: CUarray, offset: usize, from: *const c_void, bytes: usize,
    ) = host_to_array;
    context cuMemcpyAtoHAsync_v2 / cuMemcpyAtoHAsync_v2_ptsz (
        to: *mut c_void, from: CUarray, offset: usize, bytes: usize, stream: CUstream,
    ) = array_to_host_async;
    context cuMemcpyHtoAAsync_v2 / cuMemcpyHtoAAsync_v2_ptsz (
        to: CUarray, offset: usize, from: *const c_void, bytes: usize, stream: CUstream,
    ) = host_to_array_async;
}

fn create_flat(call: &Call, place: Out<CUarray>, descriptor: In<CUDA_ARRAY_DESCRIPTOR>) -> Result<()> {
    let flat = descriptor.get()?;
    let descriptor = CUDA_ARRAY3D_DESCRIPTOR {
        Width: flat.Width,
        Height: flat.Height,
        Format: flat.Format,
        NumChannels: flat.NumChannels,
        ..CUDA_ARRAY3D_DESCRIPTOR::default()
    };
    place.check()?;
    place.put(CUarray(call.driver().create_array(call.context.handle, descriptor)?))
}

fn create(call: &Call, place: Out<CUarray>, descriptor: In<CUDA_ARRAY3D_DESCRIPTOR>) -> Result<()> {
    place.check()?;
    place.put(CUarray(call.driver().create_array(call.context.handle, descriptor.get()?)?))
}

fn describe_flat(call: &Call, place: Out<CUDA_ARRAY_DESCRIPTOR>, array: CUarray) -> Result<()> {
    let descriptor = call.driver().arrays.get(array.0)?.descriptor;
    place.put(CUDA_ARRAY_DESCRIPTOR {
        Width: descriptor.Width,
        Height: descriptor.Height,
        Format: descriptor.Format,
        NumChannels: descriptor.NumChannels,
    })
}

fn describe(call: &Call, place: Out<CUDA_ARRAY3D_DESCRIPTOR>, array: CUarray) -> Result<()> {
    let descriptor = call.driver().arrays.get(array.0)?.descriptor;
    place.put(CUDA_ARRAY3D_DESCRIPTOR { padding: 0, ..descriptor })
}

fn destroy(call: &Call, array: CUarray) -> Result<()> {
    call.driver().destroy_array(array.0)
}

fn create_mipmapped(
    call: &Call,
    place: Out<CUmipmappedArray>,
    descriptor: In<CUDA_ARRAY3D_DESCRIPTOR>,
    levels: u32,
) -> Result<()> {
    place.check()?;
    let handle = call.driver().create_mipmapped(call.context.handle, descriptor.get()?, levels)?;
    place.put(CUmipmappedArray(handle))
}

fn get_level(call: &Call, place: Out<CUarray>, mipmapped: CUmipmappedArray, number: u32) -> Result<()> {
    let mipmapped = call.driver().mipmapped.get(mipmapped.0)?;
    let level = usize::try_from(number).ok().and_then(|number| mipmapped.levels.get(number));
    place.put(CUarray(level.ok_or(CUresult::ERROR_INVALID_VALUE)?.handle))
}

fn destroy_mipmapped(call: &Call, mipmapped: CUmipmappedArray) -> Result<()> {
    call.driver().destroy_mipmapped(mipmapped.0)
}

fn create_texture(
    call: &Call,
    place: Out<CUtexObject>,
    resource: In<CUDA_RESOURCE_DESC>,
    sampling: In<CUDA_TEXTURE_DESC>,
    view: In<CUDA_RESOURCE_VIEW_DESC>,
) -> Result<()> {
    place.check()?;
    let (resource, sampling, view) = (resource.get()?, sampling.get()?, view.get().ok());
    let seen = Arc::new(call.driver().look_at(&resource, Some(&sampling), view.as_ref())?);
    let object = Object { context: call.context.handle, resource, sampling: Some(sampling), view, seen };
    let number = mint(kind::TEXTURE);
    call.driver().textures.insert(number, Arc::new(object));
    place.put(CUtexObject(number))
}

fn create_surface(call: &Call, place: Out<CUsurfObject>, resource: In<CUDA_RESOURCE_DESC>) -> Result<()> {
    place.check()?;
    let resource = resource.get()?;
    let seen = Arc::new(call.driver().look_at(&resource, None, None)?);
    let object = Object { context: call.context.handle, resource, sampling: None, view: None, seen };
    let number = mint(kind::SURFACE);
    call.driver().surfaces.insert(number, Arc::new(object));
    place.put(CUsurfObject(number))
}

/// A texture or surface, which no handle names: a wrong number is a wrong value.
fn object(table: &Table<Object>, number: u64) -> Result<Arc<Object>> {
    table.find(number).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn remove(driver: &Driver, table: &Table<Object>, number: u64) -> Result<()> {
    object(table, number)?;
    // Work that was given before may still look at it.
    driver.idle();
    table.remove(number).map(drop)
}

fn destroy_texture(call: &Call, texture: CUtexObject) -> Result<()> {
    remove(call.driver(), &call.driver().textures, texture.0)
}

fn destroy_surface(call: &Call, surface: CUsurfObject) -> Result<()> {
    remove(call.driver(), &call.driver().surfaces, surface.0)
}

fn texture_resource(call: &Call, place: Out<CUDA_RESOURCE_DESC>, texture: CUtexObject) -> Result<()> {
    place.put(object(&call.driver().textures, texture.0)?.resource)
}

fn surface_resource(call: &Call, place: Out<CUDA_RESOURCE_DESC>, surface: CUsurfObject) -> Result<()> {
    place.put(object(&call.driver().surfaces, surface.0)?.resource)
}

fn texture_sampling(call: &Call, place: Out<CUDA_TEXTURE_DESC>, texture: CUtexObject) -> Result<()> {
    let found = object(&call.driver().textures, texture.0)?;
    place.put(found.sampling.ok_or(CUresult::ERROR_INVALID_VALUE)?)
}

fn texture_view(call: &Call, place: Out<CUDA_RESOURCE_VIEW_DESC>, texture: CUtexObject) -> Result<()> {
    let found = object(&call.driver().textures, texture.0)?;
    place.put(found.view.ok_or(CUresult::ERROR_INVALID_VALUE)?)
}

fn linear_width(
    _: &Driver,
    width: Out<usize>,
    format: CUarray_format,
    channels: u32,
    device: CUdevice,
) -> Result<()> {
    check_device(device)?;
    array::element(format, channels)?;
    width.put(usize::try_from(array::MAX_LINEAR).unwrap_or(usize::MAX))
}

/// The stream of a call that names none.
const DEFAULT: CUstream = CUstream(0);

fn array_to_array(
    call: &Call,
    to: CUarray,
    to_offset: usize,
    from: CUarray,
    from_offset: usize,
    bytes: usize,
) -> Result<()> {
    let extent = Extent3::linear(bytes as u64);
    let to = array_side(call.driver(), to, [to_offset, 0, 0], &extent)?;
    let from = array_side(call.driver(), from, [from_offset, 0, 0], &extent)?;
    run(call, (to, from), extent, DEFAULT, true)
}

fn array_to_device(call: &Call, to: CUdeviceptr, from: CUarray, offset: usize, bytes: usize) -> Result<()> {
    let extent = Extent3::linear(bytes as u64);
    let from = array_side(call.driver(), from, [offset, 0, 0], &extent)?;
    run(call, (device(to), from), extent, DEFAULT, true)
}

fn device_to_array(call: &Call, to: CUarray, offset: usize, from: CUdeviceptr, bytes: usize) -> Result<()> {
    let extent = Extent3::linear(bytes as u64);
    let to = array_side(call.driver(), to, [offset, 0, 0], &extent)?;
    run(call, (to, device(from)), extent, DEFAULT, true)
}

fn to_host(
    call: &Call,
    (to, from, offset): (*mut c_void, CUarray, usize),
    bytes: usize,
    stream: CUstream,
    synchronous: bool,
) -> Result<()> {
    let extent = Extent3::linear(bytes as u64);
    let from = array_side(call.driver(), from, [offset, 0, 0], &extent)?;
    run(call, (host(to), from), extent, stream, synchronous)
}

fn from_host(
    call: &Call,
    (to, offset, from): (CUarray, usize, *const c_void),
    bytes: usize,
    stream: CUstream,
    synchronous: bool,
) -> Result<()> {
    let extent = Extent3::linear(bytes as u64);
    let to = array_side(call.driver(), to, [offset, 0, 0], &extent)?;
    run(call, (to, host(from)), extent, stream, synchronous)
}

fn array_to_host(call: &Call, to: *mut c_void, from: CUarray, offset: usize, bytes: usize) -> Result<()> {
    to_host(call, (to, from, offset), bytes, DEFAULT, true)
}

fn host_to_array(call: &Call, to: CUarray, offset: usize, from: *const c_void, bytes: usize) -> Result<()> {
    from_host(call, (to, offset, from), bytes, DEFAULT, true)
}

fn array_to_host_async(
    call: &Call,
    to: *mut c_void,
    from: CUarray,
    offset: usize,
    bytes: usize,
    stream: CUstream,
) -> Result<()> {
    to_host(call, (to, from, offset), bytes, stream, false)
}

fn host_to_array_async(
    call: &Call,
    to: CUarray,
    offset: usize,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> Result<()> {
    from_host(call, (to, offset, from), bytes, stream, false)
}
