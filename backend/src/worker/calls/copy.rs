//! Linear, 2D and 3D copies between device memory, arrays, regions, staging and the request itself.
//!
//! Unsafe code: calls of the driver, addresses inside session memory.

use std::ffi::c_void;

use virtio_spec::{
    codec::Scalar,
    cuda::{CUDA_MEMCPY3D, CUarray, CUdeviceptr, CUmemorytype, CUresult, CUstream},
    handle::Kind,
    requests::{ArrayCopy, Copy, Origin, Place, Side, copy_flags},
};

use super::{
    Invocation,
    host_memory::{self, pointer},
    ok,
};

/// Bytes from which a copy through staging is done by DMA: smaller ones CUDA's driver takes with it in its commands, so
/// pinning would only cost.
const WORTH_PINNING: usize = 64 << 10;

/// One side of a copy, checked.
#[derive(Clone, Copy)]
enum Memory {
    Device(CUdeviceptr),
    Host(*mut c_void),
    Array(CUarray, Origin),
}

/// Bytes from the first to the last byte that a side covers.
fn extent(copy: &Copy, side: &Side) -> Option<u64> {
    // Rows or slices that overlap are no copy of CUDA's, and its driver may take a pitch of zero for another.
    if (copy.height > 1 || copy.depth > 1) && side.pitch < copy.width
        || copy.depth > 1 && side.slice_height < copy.height
    {
        return None;
    }
    let rows = copy
        .depth
        .checked_sub(1)?
        .checked_mul(side.slice_height)?
        .checked_add(copy.height.checked_sub(1)?)?;
    rows.checked_mul(side.pitch)?.checked_add(copy.width)
}

pub(super) fn run(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let copy: Copy = call.structure()?;
    if [copy.destination.place, copy.source.place].contains(&(Place::Array as u32)) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let nowhere = Origin::default();
    perform(call, &ArrayCopy { copy, destination: nowhere, source: nowhere })
}

pub(super) fn run_with_arrays(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let copy: ArrayCopy = call.structure()?;
    perform(call, &copy)
}

fn perform(call: &mut Invocation<'_>, whole: &ArrayCopy) -> Result<(), CUresult> {
    let copy = whole.copy;
    if copy.flags & !copy_flags::ALL != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let bytes = copy.width.checked_mul(copy.height).and_then(|area| area.checked_mul(copy.depth));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let inline = if copy.source.place == Place::Inline as u32 { call.bytes(bytes)? } else { &[] };
    call.end_of_parameters()?;
    call.set_current()?;
    if bytes == 0 {
        return Ok(());
    }
    let sides = [copy.destination.place, copy.source.place];
    if bytes >= WORTH_PINNING && sides.contains(&(Place::Staging as u32)) {
        host_memory::pin_staging(call);
    }
    let mut result = Vec::new();
    let source = match Place::from_u32(copy.source.place) {
        Some(Place::Inline) => Memory::Host(inline.as_ptr().cast_mut().cast()),
        Some(Place::Array) => array(call, &copy.source, whole.source)?,
        _ => resolve(call, &copy, &copy.source, false)?,
    };
    let destination = match Place::from_u32(copy.destination.place) {
        Some(Place::Inline) => {
            result = call.room::<u8>(bytes as u64)?;
            Memory::Host(result.as_mut_ptr().cast())
        }
        Some(Place::Array) => array(call, &copy.destination, whole.destination)?,
        _ => resolve(call, &copy, &copy.destination, true)?,
    };
    let asynchronous = copy.flags & copy_flags::ASYNC != 0;
    let stream: CUstream = Scalar::from_u64(call.handle(Kind::Stream, copy.stream)?);
    let has_array = [destination, source].iter().any(|memory| matches!(memory, Memory::Array(..)));
    if copy.height == 1 && copy.depth == 1 && !has_array {
        linear(call, destination, source, bytes, asynchronous.then_some(stream))?;
    } else {
        let packed = |side: &Side| {
            if side.place == Place::Inline as u32 || copy.height == 1 && copy.depth == 1 {
                (copy.width, copy.height)
            } else {
                (side.pitch, side.slice_height)
            }
        };
        let description =
            describe(&copy, destination, packed(&copy.destination), source, packed(&copy.source))?;
        volume(call, &description, asynchronous.then_some(stream))?;
    }
    if asynchronous && (copy.flags & copy_flags::WAIT != 0 || !result.is_empty()) {
        let synchronize = call.driver().streams.cuStreamSynchronize.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
        // SAFETY: a stream of the session, or one of CUDA's own.
        ok(call.relaxed(|| call.in_driver(|| unsafe { synchronize(stream) })))?;
    }
    if result.is_empty() { Ok(()) } else { call.put_bytes(&result) }
}

/// Checks a side and finds its address in this process.
fn resolve(call: &Invocation<'_>, copy: &Copy, side: &Side, written: bool) -> Result<Memory, CUresult> {
    let invalid = CUresult::ERROR_INVALID_VALUE;
    let extent = extent(copy, side).ok_or(invalid)?;
    match Place::from_u32(side.place).ok_or(invalid)? {
        Place::Device => Ok(Memory::Device(Scalar::from_u64(side.address))),
        Place::Region => {
            let flags = call.session().regions.lookup(side.address, extent).ok_or(invalid)?;
            if written && flags.read_only {
                return Err(invalid);
            }
            Ok(Memory::Host(pointer(side.address)))
        }
        Place::Staging => {
            if copy.flags & copy_flags::ASYNC != 0 && copy.flags & copy_flags::WAIT == 0 {
                return Err(invalid);
            }
            Ok(Memory::Host(staging(call, side.address, extent)?))
        }
        Place::Inline | Place::Array => Err(invalid),
    }
}

/// An array of the session; the driver checks the copy against its size.
fn array(call: &Invocation<'_>, side: &Side, origin: Origin) -> Result<Memory, CUresult> {
    Ok(Memory::Array(Scalar::from_u64(call.handle(Kind::Array, side.address)?), origin))
}

/// The address of a part of the lane's staging.
pub(super) fn staging(call: &Invocation<'_>, offset: u64, length: u64) -> Result<*mut c_void, CUresult> {
    let session = call.session();
    let end = offset.checked_add(length).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if end > session.layout.staging_bytes() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let start = session.layout.staging(call.lane()).saturating_add(offset);
    let start = usize::try_from(start).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    // SAFETY: the layout was checked against the length of session memory, and the range against the layout.
    Ok(unsafe { session.memory.base().as_ptr().add(start) }.cast())
}

fn linear(
    call: &Invocation<'_>,
    destination: Memory,
    source: Memory,
    bytes: usize,
    stream: Option<CUstream>,
) -> Result<(), CUresult> {
    let copies = &call.driver().copies;
    let per_thread = call.per_thread();
    macro_rules! pick {
        ($plain:ident, $per_thread:ident) => {
            if per_thread { copies.$per_thread } else { copies.$plain }
                .ok_or(CUresult::ERROR_NOT_SUPPORTED)?
        };
    }
    // SAFETY (all arms): host addresses were checked to lie in memory of the session for `bytes`; CUDA checks device
    // addresses; the stream is the session's or one of CUDA's own.
    let result = match (destination, source, stream) {
        (Memory::Array(..), ..) | (_, Memory::Array(..), _) => return Err(CUresult::ERROR_INVALID_VALUE),
        (Memory::Device(to), Memory::Host(from), None) => {
            let copy = pick!(cuMemcpyHtoD_v2, cuMemcpyHtoD_v2_ptds);
            // SAFETY: as above.
            call.in_driver(|| unsafe { copy(to, from, bytes) })
        }
        (Memory::Device(to), Memory::Host(from), Some(stream)) => {
            let copy = pick!(cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync_v2_ptsz);
            // SAFETY: as above.
            call.in_driver(|| unsafe { copy(to, from, bytes, stream) })
        }
        (Memory::Host(to), Memory::Device(from), None) => {
            let copy = pick!(cuMemcpyDtoH_v2, cuMemcpyDtoH_v2_ptds);
            // SAFETY: as above.
            call.in_driver(|| unsafe { copy(to, from, bytes) })
        }
        (Memory::Host(to), Memory::Device(from), Some(stream)) => {
            let copy = pick!(cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync_v2_ptsz);
            // SAFETY: as above.
            call.in_driver(|| unsafe { copy(to, from, bytes, stream) })
        }
        (Memory::Device(to), Memory::Device(from), None) => {
            let copy = pick!(cuMemcpyDtoD_v2, cuMemcpyDtoD_v2_ptds);
            // SAFETY: as above.
            call.in_driver(|| unsafe { copy(to, from, bytes) })
        }
        (Memory::Device(to), Memory::Device(from), Some(stream)) => {
            let copy = pick!(cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync_v2_ptsz);
            // SAFETY: as above.
            call.in_driver(|| unsafe { copy(to, from, bytes, stream) })
        }
        (Memory::Host(to), Memory::Host(from), None) => {
            let copy = pick!(cuMemcpy, cuMemcpy_ptds);
            // SAFETY: as above; under unified addressing a host address is a CUdeviceptr too.
            call.in_driver(|| unsafe { copy(unified(to), unified(from), bytes) })
        }
        (Memory::Host(to), Memory::Host(from), Some(stream)) => {
            let copy = pick!(cuMemcpyAsync, cuMemcpyAsync_ptsz);
            // SAFETY: as above.
            call.in_driver(|| unsafe { copy(unified(to), unified(from), bytes, stream) })
        }
    };
    ok(result)
}

fn unified(address: *mut c_void) -> CUdeviceptr {
    Scalar::from_u64(address.expose_provenance() as u64)
}

fn describe(
    copy: &Copy,
    destination: Memory,
    (destination_pitch, destination_height): (u64, u64),
    source: Memory,
    (source_pitch, source_height): (u64, u64),
) -> Result<CUDA_MEMCPY3D, CUresult> {
    let size = |value: u64| usize::try_from(value).map_err(|_| CUresult::ERROR_INVALID_VALUE);
    let mut description = CUDA_MEMCPY3D {
        WidthInBytes: size(copy.width)?,
        Height: size(copy.height)?,
        Depth: size(copy.depth)?,
        srcPitch: size(source_pitch)?,
        srcHeight: size(source_height)?,
        dstPitch: size(destination_pitch)?,
        dstHeight: size(destination_height)?,
        ..CUDA_MEMCPY3D::default()
    };
    match source {
        Memory::Device(address) => {
            description.srcMemoryType = CUmemorytype::DEVICE;
            description.srcDevice = address;
        }
        Memory::Host(address) => {
            description.srcMemoryType = CUmemorytype::HOST;
            description.srcHost = address;
        }
        Memory::Array(array, Origin { x, y, z }) => {
            description.srcMemoryType = CUmemorytype::ARRAY;
            description.srcArray = array;
            (description.srcXInBytes, description.srcY, description.srcZ) = (size(x)?, size(y)?, size(z)?);
        }
    }
    match destination {
        Memory::Device(address) => {
            description.dstMemoryType = CUmemorytype::DEVICE;
            description.dstDevice = address;
        }
        Memory::Host(address) => {
            description.dstMemoryType = CUmemorytype::HOST;
            description.dstHost = address;
        }
        Memory::Array(array, Origin { x, y, z }) => {
            description.dstMemoryType = CUmemorytype::ARRAY;
            description.dstArray = array;
            (description.dstXInBytes, description.dstY, description.dstZ) = (size(x)?, size(y)?, size(z)?);
        }
    }
    Ok(description)
}

fn volume(
    call: &Invocation<'_>,
    description: &CUDA_MEMCPY3D,
    stream: Option<CUstream>,
) -> Result<(), CUresult> {
    let copies = &call.driver().copies;
    let result = if let Some(stream) = stream {
        let copy = if call.per_thread() { copies.cuMemcpy3DAsync_v2_ptsz } else { copies.cuMemcpy3DAsync_v2 };
        let copy = copy.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
        // SAFETY: both sides were checked for the extent that the description covers.
        call.in_driver(|| unsafe { copy(description, stream) })
    } else {
        let copy = if call.per_thread() { copies.cuMemcpy3D_v2_ptds } else { copies.cuMemcpy3D_v2 };
        let copy = copy.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
        // SAFETY: both sides were checked for the extent that the description covers.
        call.in_driver(|| unsafe { copy(description) })
    };
    ok(result)
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn rows_that_overlap_have_no_extent() {
        let copy = Copy { width: 16, height: 4, depth: 2, ..Copy::new_zeroed() };
        let side = |pitch, slice_height| Side { pitch, slice_height, ..Side::new_zeroed() };
        assert_eq!(extent(&copy, &side(32, 5)), Some(32 * 5 + 32 * 3 + 16));
        assert_eq!(extent(&copy, &side(0, 5)), None, "a driver may take it for rows without gaps");
        assert_eq!(extent(&copy, &side(15, 5)), None);
        assert_eq!(extent(&copy, &side(32, 3)), None);
        assert_eq!(extent(&copy, &side(u64::MAX, 5)), None);
        let row = Copy { height: 1, depth: 1, ..copy };
        assert_eq!(extent(&row, &side(0, 0)), Some(16));
    }
}
