//! Copies of linear memory, and 2D and 3D copies of any.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUDA_MEMCPY3D_PEER, CUarray, CUcontext, CUdeviceptr, CUmemorytype,
    CUresult, CUstream,
};

use virtio_spec::requests::Origin;

use super::outcome;
use crate::context;
use crate::entry::{Flavour, status};
use crate::exports::contexts::wire_cuCtxSynchronize;
use crate::exports::streams::wire_cuStreamSynchronize;
use crate::memory::copy::{Claim, End, Manner, Shape, copy};

/// The stream of a call, where it has one.
#[derive(Clone, Copy)]
pub(super) enum On {
    Nothing(Flavour),
    Stream(CUstream, Flavour),
}

impl On {
    fn manner(self) -> Manner {
        match self {
            Self::Nothing(flavour) => Manner::synchronous(flavour.is_per_thread()),
            Self::Stream(stream, flavour) => Manner::on_stream(flavour.stream(stream)),
        }
    }

    /// Waits for what was ordered before a copy that the process does itself.
    fn synchronise(self) -> Result<(), CUresult> {
        outcome(match self {
            // SAFETY: no pointers.
            Self::Nothing(_) => unsafe { wire_cuCtxSynchronize() },
            // SAFETY: no pointers.
            Self::Stream(stream, flavour) => unsafe { wire_cuStreamSynchronize(stream, flavour) },
        })
    }
}

/// # Safety
/// What the process reaches of the two ends is valid over the shape.
pub(super) unsafe fn run(destination: End, source: End, shape: Shape, on: On) -> CUresult {
    // SAFETY: as the caller promises.
    status(unsafe { copy(destination, source, shape, on.manner(), || on.synchronise()) })
}

/// # Safety
/// What the process reaches of the two ends has `bytes` bytes.
unsafe fn linear(to: (u64, Claim), from: (u64, Claim), bytes: usize, on: On) -> CUresult {
    // SAFETY: as the caller promises.
    unsafe { run(End::linear(to.0, to.1), End::linear(from.0, from.1), Shape::linear(bytes as u64), on) }
}

fn address(pointer: *const c_void) -> u64 {
    pointer.expose_provenance() as u64
}

pub(crate) unsafe fn cuMemcpy(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { linear((dst.0, Claim::Unified), (src.0, Claim::Unified), byte_count, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpyAsync(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    let on = On::Stream(stream, flavour);
    // SAFETY: the same contract.
    unsafe { linear((dst.0, Claim::Unified), (src.0, Claim::Unified), byte_count, on) }
}

/// Copies between contexts are ordinary copies under unified addressing; the contexts must exist.
fn check_contexts(first: CUcontext, second: CUcontext) -> Result<(), CUresult> {
    if context::find(first.0).is_none() || context::find(second.0).is_none() {
        return Err(CUresult::ERROR_INVALID_CONTEXT);
    }
    Ok(())
}

pub(crate) unsafe fn cuMemcpyPeer(
    dst_device: CUdeviceptr,
    dst_context: CUcontext,
    src_device: CUdeviceptr,
    src_context: CUcontext,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    if let Err(error) = check_contexts(dst_context, src_context) {
        return error;
    }
    // SAFETY: the same contract.
    unsafe { cuMemcpyDtoD_v2(dst_device, src_device, byte_count, flavour) }
}

pub(crate) unsafe fn cuMemcpyPeerAsync(
    dst_device: CUdeviceptr,
    dst_context: CUcontext,
    src_device: CUdeviceptr,
    src_context: CUcontext,
    byte_count: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    if let Err(error) = check_contexts(dst_context, src_context) {
        return error;
    }
    // SAFETY: the same contract.
    unsafe { cuMemcpyDtoDAsync_v2(dst_device, src_device, byte_count, stream, flavour) }
}

pub(crate) unsafe fn cuMemcpyHtoD_v2(
    dst_device: CUdeviceptr,
    src_host: *const c_void,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    let on = On::Nothing(flavour);
    // SAFETY: the same contract.
    unsafe { linear((dst_device.0, Claim::Device), (address(src_host), Claim::Host), byte_count, on) }
}

pub(crate) unsafe fn cuMemcpyDtoH_v2(
    dst_host: *mut c_void,
    src_device: CUdeviceptr,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    let on = On::Nothing(flavour);
    // SAFETY: the same contract.
    unsafe { linear((address(dst_host), Claim::Host), (src_device.0, Claim::Device), byte_count, on) }
}

pub(crate) unsafe fn cuMemcpyDtoD_v2(
    dst_device: CUdeviceptr,
    src_device: CUdeviceptr,
    byte_count: usize,
    flavour: Flavour,
) -> CUresult {
    let on = On::Nothing(flavour);
    // SAFETY: the same contract.
    unsafe { linear((dst_device.0, Claim::Device), (src_device.0, Claim::Device), byte_count, on) }
}

pub(crate) unsafe fn cuMemcpyHtoDAsync_v2(
    dst_device: CUdeviceptr,
    src_host: *const c_void,
    byte_count: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    let on = On::Stream(stream, flavour);
    // SAFETY: the same contract.
    unsafe { linear((dst_device.0, Claim::Device), (address(src_host), Claim::Host), byte_count, on) }
}

pub(crate) unsafe fn cuMemcpyDtoHAsync_v2(
    dst_host: *mut c_void,
    src_device: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    let on = On::Stream(stream, flavour);
    // SAFETY: the same contract.
    unsafe { linear((address(dst_host), Claim::Host), (src_device.0, Claim::Device), byte_count, on) }
}

pub(crate) unsafe fn cuMemcpyDtoDAsync_v2(
    dst_device: CUdeviceptr,
    src_device: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    let on = On::Stream(stream, flavour);
    // SAFETY: the same contract.
    unsafe { linear((dst_device.0, Claim::Device), (src_device.0, Claim::Device), byte_count, on) }
}

/// One end of a 2D or 3D copy as the application describes it.
struct Described {
    kind: CUmemorytype,
    host: u64,
    device: CUdeviceptr,
    array: CUarray,
    x: usize,
    y: usize,
    z: usize,
    pitch: usize,
    height: usize,
}

impl Described {
    fn end(&self, shape: Shape) -> Result<End, CUresult> {
        let (base, claim) = match self.kind {
            CUmemorytype::HOST => (self.host, Claim::Host),
            CUmemorytype::DEVICE => (self.device.0, Claim::Device),
            CUmemorytype::UNIFIED => (self.device.0, Claim::Unified),
            CUmemorytype::ARRAY => {
                let origin = Origin { x: self.x as u64, y: self.y as u64, z: self.z as u64 };
                return Ok(End::array(self.array.0, origin));
            }
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        let invalid = CUresult::ERROR_INVALID_VALUE;
        let (x, y, z) = (self.x as u64, self.y as u64, self.z as u64);
        let row_end = x.checked_add(shape.width).ok_or(invalid)?;
        let last_row = y.checked_add(shape.height).ok_or(invalid)?;
        let pitch = if self.pitch == 0 { row_end } else { self.pitch as u64 };
        let slice_height = if self.height == 0 { last_row } else { self.height as u64 };
        if (pitch < row_end && (shape.height > 1 || shape.depth > 1))
            || (slice_height < last_row && shape.depth > 1)
        {
            return Err(invalid);
        }
        let offset = z
            .checked_mul(slice_height)
            .and_then(|rows| rows.checked_add(y))
            .and_then(|rows| rows.checked_mul(pitch))
            .and_then(|bytes| bytes.checked_add(x))
            .and_then(|bytes| bytes.checked_add(base))
            .ok_or(invalid)?;
        if base == 0 && shape.width != 0 && shape.height != 0 && shape.depth != 0 {
            return Err(invalid);
        }
        Ok(End { pitch, slice_height, ..End::linear(offset, claim) })
    }
}

/// # Safety
/// What the process reaches of the two ends is valid over the shape.
unsafe fn rectangles(destination: &Described, source: &Described, shape: Shape, on: On) -> CUresult {
    match destination.end(shape).and_then(|to| Ok((to, source.end(shape)?))) {
        // SAFETY: as the caller promises.
        Ok((to, from)) => unsafe { run(to, from, shape, on) },
        Err(error) => error,
    }
}

/// # Safety
/// As CUDA's documentation says of 2D copies.
unsafe fn copy_2d(p_copy: *const CUDA_MEMCPY2D, on: On) -> CUresult {
    if p_copy.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's structure.
    let wanted = unsafe { p_copy.read() };
    let source = Described {
        kind: wanted.srcMemoryType,
        host: address(wanted.srcHost),
        device: wanted.srcDevice,
        array: wanted.srcArray,
        x: wanted.srcXInBytes,
        y: wanted.srcY,
        z: 0,
        pitch: wanted.srcPitch,
        height: 0,
    };
    let destination = Described {
        kind: wanted.dstMemoryType,
        host: address(wanted.dstHost),
        device: wanted.dstDevice,
        array: wanted.dstArray,
        x: wanted.dstXInBytes,
        y: wanted.dstY,
        z: 0,
        pitch: wanted.dstPitch,
        height: 0,
    };
    let shape = Shape { width: wanted.WidthInBytes as u64, height: wanted.Height as u64, depth: 1 };
    // SAFETY: as the caller promises.
    unsafe { rectangles(&destination, &source, shape, on) }
}

pub(crate) unsafe fn cuMemcpy2D_v2(p_copy: *const CUDA_MEMCPY2D, flavour: Flavour) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_2d(p_copy, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpy2DUnaligned_v2(p_copy: *const CUDA_MEMCPY2D, flavour: Flavour) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_2d(p_copy, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpy2DAsync_v2(
    p_copy: *const CUDA_MEMCPY2D,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_2d(p_copy, On::Stream(stream, flavour)) }
}

/// The two 3D structures have the same fields, but for the contexts in place of reserved words.
macro_rules! copy_3d {
    ($wanted:ident, $on:expr) => {{
        let source = Described {
            kind: $wanted.srcMemoryType,
            host: address($wanted.srcHost),
            device: $wanted.srcDevice,
            array: $wanted.srcArray,
            x: $wanted.srcXInBytes,
            y: $wanted.srcY,
            z: $wanted.srcZ,
            pitch: $wanted.srcPitch,
            height: $wanted.srcHeight,
        };
        let destination = Described {
            kind: $wanted.dstMemoryType,
            host: address($wanted.dstHost),
            device: $wanted.dstDevice,
            array: $wanted.dstArray,
            x: $wanted.dstXInBytes,
            y: $wanted.dstY,
            z: $wanted.dstZ,
            pitch: $wanted.dstPitch,
            height: $wanted.dstHeight,
        };
        let shape = Shape {
            width: $wanted.WidthInBytes as u64,
            height: $wanted.Height as u64,
            depth: $wanted.Depth as u64,
        };
        if $wanted.srcLOD != 0 || $wanted.dstLOD != 0 {
            return CUresult::ERROR_INVALID_VALUE;
        }
        // SAFETY: as the caller promises.
        unsafe { rectangles(&destination, &source, shape, $on) }
    }};
}

/// # Safety
/// As CUDA's documentation says of 3D copies.
unsafe fn copy_3d(p_copy: *const CUDA_MEMCPY3D, on: On) -> CUresult {
    if p_copy.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's structure.
    let wanted = unsafe { p_copy.read() };
    copy_3d!(wanted, on)
}

/// # Safety
/// As CUDA's documentation says of 3D copies.
unsafe fn copy_3d_peer(p_copy: *const CUDA_MEMCPY3D_PEER, on: On) -> CUresult {
    if p_copy.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's structure.
    let wanted = unsafe { p_copy.read() };
    if let Err(error) = check_contexts(wanted.dstContext, wanted.srcContext) {
        return error;
    }
    copy_3d!(wanted, on)
}

pub(crate) unsafe fn cuMemcpy3D_v2(p_copy: *const CUDA_MEMCPY3D, flavour: Flavour) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_3d(p_copy, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpy3DAsync_v2(
    p_copy: *const CUDA_MEMCPY3D,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_3d(p_copy, On::Stream(stream, flavour)) }
}

pub(crate) unsafe fn cuMemcpy3DPeer(p_copy: *const CUDA_MEMCPY3D_PEER, flavour: Flavour) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_3d_peer(p_copy, On::Nothing(flavour)) }
}

pub(crate) unsafe fn cuMemcpy3DPeerAsync(
    p_copy: *const CUDA_MEMCPY3D_PEER,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { copy_3d_peer(p_copy, On::Stream(stream, flavour)) }
}
