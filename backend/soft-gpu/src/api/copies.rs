//! Copies and fills.
//!
//! Unsafe code: the promise that host memory of the program is valid.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUDA_MEMCPY3D_PEER, CUarray, CUcontext, CUdeviceptr, CUmemorytype,
    CUresult, CUstream,
};

use super::entry::{Call, In, exports};
use crate::driver::array;
use crate::driver::copy::{self, Extent3, Pattern, Place, Side};
use crate::driver::{Driver, Result, driver};
use crate::exec::view::Level;

exports! {
    context cuMemcpy / cuMemcpy_ptds (to: CUdeviceptr, from: CUdeviceptr, bytes: usize) = unified;
    context cuMemcpyAsync / cuMemcpyAsync_ptsz (
        to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream,
    ) = unified_async;
    context cuMemcpyPeer / cuMemcpyPeer_ptds (
        to: CUdeviceptr, to_context: CUcontext, from: CUdeviceptr, from_context: CUcontext, bytes: usize,
    ) = peer;
    context cuMemcpyPeerAsync / cuMemcpyPeerAsync_ptsz (
        to: CUdeviceptr, to_context: CUcontext, from: CUdeviceptr, from_context: CUcontext, bytes: usize,
        stream: CUstream,
    ) = peer_async;
    context cuMemcpyHtoD_v2 / cuMemcpyHtoD_v2_ptds (to: CUdeviceptr, from: *const c_void, bytes: usize) = to_device;
    context cuMemcpyDtoH_v2 / cuMemcpyDtoH_v2_ptds (to: *mut c_void, from: CUdeviceptr, bytes: usize) = to_host;
    context cuMemcpyDtoD_v2 / cuMemcpyDtoD_v2_ptds (to: CUdeviceptr, from: CUdeviceptr, bytes: usize) = on_device;
    context cuMemcpyHtoDAsync_v2 / cuMemcpyHtoDAsync_v2_ptsz (
        to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream,
    ) = to_device_async;
    context cuMemcpyDtoHAsync_v2 / cuMemcpyDtoHAsync_v2_ptsz (
        to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream,
    ) = to_host_async;
    context cuMemcpyDtoDAsync_v2 / cuMemcpyDtoDAsync_v2_ptsz (
        to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream,
    ) = on_device_async;
    context cuMemcpy2D_v2 / cuMemcpy2D_v2_ptds (copy: *const CUDA_MEMCPY2D) = copy_2d;
    context cuMemcpy2DUnaligned_v2 / cuMemcpy2DUnaligned_v2_ptds (copy: *const CUDA_MEMCPY2D) = copy_2d;
    context cuMemcpy2DAsync_v2 / cuMemcpy2DAsync_v2_ptsz (copy: *const CUDA_MEMCPY2D, stream: CUstream)
        = copy_2d_async;
    context cuMemcpy3D_v2 / cuMemcpy3D_v2_ptds (copy: *const CUDA_MEMCPY3D) = copy_3d;
    context cuMemcpy3DAsync_v2 / cuMemcpy3DAsync_v2_ptsz (copy: *const CUDA_MEMCPY3D, stream: CUstream)
        = copy_3d_async;
    context cuMemcpy3DPeer / cuMemcpy3DPeer_ptds (copy: *const CUDA_MEMCPY3D_PEER) = copy_3d_peer;
    context cuMemcpy3DPeerAsync / cuMemcpy3DPeerAsync_ptsz (copy: *const CUDA_MEMCPY3D_PEER, stream: CUstream)
        = copy_3d_peer_async;
    context cuMemsetD8_v2 / cuMemsetD8_v2_ptds (to: CUdeviceptr, value: u8, count: usize) = set_8;
    context cuMemsetD16_v2 / cuMemsetD16_v2_ptds (to: CUdeviceptr, value: u16, count: usize) = set_16;
    context cuMemsetD32_v2 / cuMemsetD32_v2_ptds (to: CUdeviceptr, value: u32, count: usize) = set_32;
    context cuMemsetD8Async / cuMemsetD8Async_ptsz (to: CUdeviceptr, value: u8, count: usize, stream: CUstream)
        = set_8_async;
    context cuMemsetD16Async / cuMemsetD16Async_ptsz (to: CUdeviceptr, value: u16, count: usize, stream: CUstream)
        = set_16_async;
    context cuMemsetD32Async / cuMemsetD32Async_ptsz (to: CUdeviceptr, value: u32, count: usize, stream: CUstream)
        = set_32_async;
    context cuMemsetD2D8_v2 / cuMemsetD2D8_v2_ptds (
        to: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize,
    ) = set_2d_8;
    context cuMemsetD2D16_v2 / cuMemsetD2D16_v2_ptds (
        to: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize,
    ) = set_2d_16;
    context cuMemsetD2D32_v2 / cuMemsetD2D32_v2_ptds (
        to: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize,
    ) = set_2d_32;
    context cuMemsetD2D8Async / cuMemsetD2D8Async_ptsz (
        to: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize, stream: CUstream,
    ) = set_2d_8_async;
    context cuMemsetD2D16Async / cuMemsetD2D16Async_ptsz (
        to: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize, stream: CUstream,
    ) = set_2d_16_async;
    context cuMemsetD2D32Async / cuMemsetD2D32Async_ptsz (
        to: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize, stream: CUstream,
    ) = set_2d_32_async;
}

/// The stream of a call that names none.
const DEFAULT: CUstream = CUstream(0);

pub(super) fn run(
    call: &Call,
    sides: (Side, Side),
    extent: Extent3,
    stream: CUstream,
    synchronous: bool,
) -> Result<()> {
    let (context, stream) = call.stream(stream)?;
    // SAFETY: the program promises that host memory which it names is its own, as long as CUDA demands.
    unsafe { copy::copy(&context, &stream, sides, extent, synchronous) }
}

pub(super) fn device(address: CUdeviceptr) -> Side {
    Side::linear(Place::Device, address.0)
}

pub(super) fn host(pointer: *const c_void) -> Side {
    Side::linear(Place::Host, pointer.expose_provenance() as u64)
}

fn any(address: CUdeviceptr) -> Side {
    Side::linear(Place::Unified, address.0)
}

fn bytes(count: usize) -> Extent3 {
    Extent3::linear(count as u64)
}

fn unified(call: &Call, to: CUdeviceptr, from: CUdeviceptr, count: usize) -> Result<()> {
    run(call, (any(to), any(from)), bytes(count), DEFAULT, true)
}

fn unified_async(
    call: &Call,
    to: CUdeviceptr,
    from: CUdeviceptr,
    count: usize,
    stream: CUstream,
) -> Result<()> {
    run(call, (any(to), any(from)), bytes(count), stream, false)
}

/// Refuses contexts that there are not.
fn check_contexts(call: &Call, contexts: [CUcontext; 2]) -> Result<()> {
    let known = |context: &CUcontext| call.driver().contexts.find(context.0).is_some();
    if contexts.iter().all(known) { Ok(()) } else { Err(CUresult::ERROR_INVALID_CONTEXT) }
}

fn peer(
    call: &Call,
    to: CUdeviceptr,
    to_context: CUcontext,
    from: CUdeviceptr,
    from_context: CUcontext,
    count: usize,
) -> Result<()> {
    check_contexts(call, [to_context, from_context])?;
    run(call, (device(to), device(from)), bytes(count), DEFAULT, true)
}

fn peer_async(
    call: &Call,
    to: CUdeviceptr,
    to_context: CUcontext,
    from: CUdeviceptr,
    from_context: CUcontext,
    count: usize,
    stream: CUstream,
) -> Result<()> {
    check_contexts(call, [to_context, from_context])?;
    run(call, (device(to), device(from)), bytes(count), stream, false)
}

fn to_device(call: &Call, to: CUdeviceptr, from: *const c_void, count: usize) -> Result<()> {
    run(call, (device(to), host(from)), bytes(count), DEFAULT, true)
}

fn to_host(call: &Call, to: *mut c_void, from: CUdeviceptr, count: usize) -> Result<()> {
    run(call, (host(to), device(from)), bytes(count), DEFAULT, true)
}

fn on_device(call: &Call, to: CUdeviceptr, from: CUdeviceptr, count: usize) -> Result<()> {
    run(call, (device(to), device(from)), bytes(count), DEFAULT, true)
}

fn to_device_async(
    call: &Call,
    to: CUdeviceptr,
    from: *const c_void,
    count: usize,
    stream: CUstream,
) -> Result<()> {
    run(call, (device(to), host(from)), bytes(count), stream, false)
}

fn to_host_async(
    call: &Call,
    to: *mut c_void,
    from: CUdeviceptr,
    count: usize,
    stream: CUstream,
) -> Result<()> {
    run(call, (host(to), device(from)), bytes(count), stream, false)
}

fn on_device_async(
    call: &Call,
    to: CUdeviceptr,
    from: CUdeviceptr,
    count: usize,
    stream: CUstream,
) -> Result<()> {
    run(call, (device(to), device(from)), bytes(count), stream, false)
}

/// A part of an array: where it begins, in bytes, rows and slices, and what is copied.
pub(super) fn array_side(
    driver: &Driver,
    array: CUarray,
    offset: [usize; 3],
    extent: &Extent3,
) -> Result<Side> {
    let handle = array.0;
    let array = driver.arrays.get(handle)?;
    let descriptor = &array.descriptor;
    let (_, _, element) = array::element(descriptor.Format, descriptor.NumChannels)?;
    let Level { address, size, pitch, slice } = array.level;
    let [width, height, depth] = size.map(u64::from);
    let [x, y, z] = offset.map(|offset| offset as u64);
    let ends = [(x, extent.width, width * element), (y, extent.height, height), (z, extent.depth, depth)];
    let inside =
        ends.iter().all(|(start, count, most)| start.checked_add(*count).is_some_and(|end| end <= *most));
    if !inside || !x.is_multiple_of(element) || !extent.width.is_multiple_of(element) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let address = address + x + y * pitch + z * slice;
    Ok(Side { place: Place::Device, address, pitch, slice, array: Some((handle, offset)) })
}

/// One side of a copy structure.
struct Described {
    kind: CUmemorytype,
    host: u64,
    device: CUdeviceptr,
    array: CUarray,
    /// Bytes into a row, rows into a slice, slices.
    offset: [usize; 3],
    pitch: usize,
    /// Rows of a slice.
    rows: usize,
}

impl Described {
    fn side(&self, extent: &Extent3) -> Result<Side> {
        let invalid = CUresult::ERROR_INVALID_VALUE;
        let (place, base) = match self.kind {
            CUmemorytype::HOST => (Place::Host, self.host),
            CUmemorytype::DEVICE => (Place::Device, self.device.0),
            CUmemorytype::UNIFIED => (Place::Unified, self.device.0),
            CUmemorytype::ARRAY => return array_side(driver(), self.array, self.offset, extent),
            _ => return Err(invalid),
        };
        let [x, y, z] = self.offset.map(|offset| offset as u64);
        let row = x.checked_add(extent.width).ok_or(invalid)?;
        let pitch = if self.pitch == 0 { row } else { self.pitch as u64 };
        let rows =
            if self.rows == 0 { y.checked_add(extent.height).ok_or(invalid)? } else { self.rows as u64 };
        if (extent.height > 1 || extent.depth > 1) && pitch < row
            || extent.depth > 1 && rows < y.saturating_add(extent.height)
        {
            return Err(invalid);
        }
        let slice = pitch.checked_mul(rows).ok_or(invalid)?;
        let start = (|| {
            let offset = x.checked_add(y.checked_mul(pitch)?)?.checked_add(z.checked_mul(slice)?)?;
            base.checked_add(offset)
        })();
        Ok(Side { place, address: start.ok_or(invalid)?, pitch, slice, array: None })
    }
}

fn described(
    call: &Call,
    (to, from): (Described, Described),
    size: [usize; 3],
    stream: CUstream,
    synchronous: bool,
) -> Result<()> {
    let [width, height, depth] = size.map(|size| size as u64);
    let extent = Extent3 { width, height, depth };
    let sides = (to.side(&extent)?, from.side(&extent)?);
    run(call, sides, extent, stream, synchronous)
}

fn sides_2d(copy: &CUDA_MEMCPY2D) -> (Described, Described) {
    let to = Described {
        kind: copy.dstMemoryType,
        host: copy.dstHost.expose_provenance() as u64,
        device: copy.dstDevice,
        array: copy.dstArray,
        offset: [copy.dstXInBytes, copy.dstY, 0],
        pitch: copy.dstPitch,
        rows: 0,
    };
    let from = Described {
        kind: copy.srcMemoryType,
        host: copy.srcHost.expose_provenance() as u64,
        device: copy.srcDevice,
        array: copy.srcArray,
        offset: [copy.srcXInBytes, copy.srcY, 0],
        pitch: copy.srcPitch,
        rows: 0,
    };
    (to, from)
}

fn copy_2d(call: &Call, copy: In<CUDA_MEMCPY2D>) -> Result<()> {
    let copy = copy.get()?;
    described(call, sides_2d(&copy), [copy.WidthInBytes, copy.Height, 1], DEFAULT, true)
}

fn copy_2d_async(call: &Call, copy: In<CUDA_MEMCPY2D>, stream: CUstream) -> Result<()> {
    let copy = copy.get()?;
    described(call, sides_2d(&copy), [copy.WidthInBytes, copy.Height, 1], stream, false)
}

/// The structures for copies within a context and between two have the same fields for the sides.
macro_rules! sides_3d {
    ($copy:expr) => {{
        let copy = $copy;
        let to = Described {
            kind: copy.dstMemoryType,
            host: copy.dstHost.expose_provenance() as u64,
            device: copy.dstDevice,
            array: copy.dstArray,
            offset: [copy.dstXInBytes, copy.dstY, copy.dstZ],
            pitch: copy.dstPitch,
            rows: copy.dstHeight,
        };
        let from = Described {
            kind: copy.srcMemoryType,
            host: copy.srcHost.expose_provenance() as u64,
            device: copy.srcDevice,
            array: copy.srcArray,
            offset: [copy.srcXInBytes, copy.srcY, copy.srcZ],
            pitch: copy.srcPitch,
            rows: copy.srcHeight,
        };
        if copy.srcLOD != 0 || copy.dstLOD != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        ((to, from), [copy.WidthInBytes, copy.Height, copy.Depth])
    }};
}

/// What a copy node's structure describes.
pub(super) fn node_sides(copy: &CUDA_MEMCPY3D) -> Result<((Side, Side), Extent3)> {
    let ((to, from), [width, height, depth]) = sides_3d!(copy);
    let extent = Extent3 { width: width as u64, height: height as u64, depth: depth as u64 };
    Ok(((to.side(&extent)?, from.side(&extent)?), extent))
}

fn copy_3d(call: &Call, copy: In<CUDA_MEMCPY3D>) -> Result<()> {
    let (sides, size) = sides_3d!(copy.get()?);
    described(call, sides, size, DEFAULT, true)
}

fn copy_3d_async(call: &Call, copy: In<CUDA_MEMCPY3D>, stream: CUstream) -> Result<()> {
    let (sides, size) = sides_3d!(copy.get()?);
    described(call, sides, size, stream, false)
}

fn copy_3d_peer(call: &Call, copy: In<CUDA_MEMCPY3D_PEER>) -> Result<()> {
    let copy = copy.get()?;
    check_contexts(call, [copy.dstContext, copy.srcContext])?;
    let (sides, size) = sides_3d!(copy);
    described(call, sides, size, DEFAULT, true)
}

fn copy_3d_peer_async(call: &Call, copy: In<CUDA_MEMCPY3D_PEER>, stream: CUstream) -> Result<()> {
    let copy = copy.get()?;
    check_contexts(call, [copy.dstContext, copy.srcContext])?;
    let (sides, size) = sides_3d!(copy);
    described(call, sides, size, stream, false)
}

fn set(
    call: &Call,
    (to, pitch): (CUdeviceptr, usize),
    pattern: Pattern,
    (width, height): (usize, usize),
    stream: CUstream,
    synchronous: bool,
) -> Result<()> {
    let (context, stream) = call.stream(stream)?;
    let size = (width as u64, height as u64);
    copy::fill(&context, &stream, (to.0, pitch as u64), pattern, size, synchronous)
}

fn set_8(call: &Call, to: CUdeviceptr, value: u8, count: usize) -> Result<()> {
    set(call, (to, 0), Pattern::Byte(value), (count, 1), DEFAULT, true)
}

fn set_16(call: &Call, to: CUdeviceptr, value: u16, count: usize) -> Result<()> {
    set(call, (to, 0), Pattern::Half(value), (count, 1), DEFAULT, true)
}

fn set_32(call: &Call, to: CUdeviceptr, value: u32, count: usize) -> Result<()> {
    set(call, (to, 0), Pattern::Word(value), (count, 1), DEFAULT, true)
}

fn set_8_async(call: &Call, to: CUdeviceptr, value: u8, count: usize, stream: CUstream) -> Result<()> {
    set(call, (to, 0), Pattern::Byte(value), (count, 1), stream, false)
}

fn set_16_async(call: &Call, to: CUdeviceptr, value: u16, count: usize, stream: CUstream) -> Result<()> {
    set(call, (to, 0), Pattern::Half(value), (count, 1), stream, false)
}

fn set_32_async(call: &Call, to: CUdeviceptr, value: u32, count: usize, stream: CUstream) -> Result<()> {
    set(call, (to, 0), Pattern::Word(value), (count, 1), stream, false)
}

fn set_2d_8(
    call: &Call,
    to: CUdeviceptr,
    pitch: usize,
    value: u8,
    width: usize,
    height: usize,
) -> Result<()> {
    set(call, (to, pitch), Pattern::Byte(value), (width, height), DEFAULT, true)
}

fn set_2d_16(
    call: &Call,
    to: CUdeviceptr,
    pitch: usize,
    value: u16,
    width: usize,
    height: usize,
) -> Result<()> {
    set(call, (to, pitch), Pattern::Half(value), (width, height), DEFAULT, true)
}

fn set_2d_32(
    call: &Call,
    to: CUdeviceptr,
    pitch: usize,
    value: u32,
    width: usize,
    height: usize,
) -> Result<()> {
    set(call, (to, pitch), Pattern::Word(value), (width, height), DEFAULT, true)
}

fn set_2d_8_async(
    call: &Call,
    to: CUdeviceptr,
    pitch: usize,
    value: u8,
    width: usize,
    height: usize,
    stream: CUstream,
) -> Result<()> {
    set(call, (to, pitch), Pattern::Byte(value), (width, height), stream, false)
}

fn set_2d_16_async(
    call: &Call,
    to: CUdeviceptr,
    pitch: usize,
    value: u16,
    width: usize,
    height: usize,
    stream: CUstream,
) -> Result<()> {
    set(call, (to, pitch), Pattern::Half(value), (width, height), stream, false)
}

fn set_2d_32_async(
    call: &Call,
    to: CUdeviceptr,
    pitch: usize,
    value: u32,
    width: usize,
    height: usize,
    stream: CUstream,
) -> Result<()> {
    set(call, (to, pitch), Pattern::Word(value), (width, height), stream, false)
}
