//! Copies and fills of linear memory.
//!
//! Unsafe code: the copies themselves.

use std::sync::Arc;

use virtio_spec::cuda::{
    CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUarray, CUdeviceptr, CUmemorytype, CUresult,
};

use super::capture;
use super::context::Context;
use super::graph::{Described, Op, Replay};
use super::pages::host;
use super::queue::{Health, Stream};
use super::{Result, driver};

/// Bytes up to which pageable memory is copied aside when a copy from it is queued.
const SNAPSHOT_BYTES: usize = 1 << 20;

/// Which memory a side of a copy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Host memory, pinned or not.
    Host,
    /// Device memory, or pinned memory by its device address.
    Device,
    /// Whatever the address says.
    Unified,
}

/// One side of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    pub(crate) place: Place,
    pub(crate) address: u64,
    /// Bytes from row to row.
    pub(crate) pitch: u64,
    /// Bytes from slice to slice.
    pub(crate) slice: u64,
    /// The array that the address lies in, as the program knows it, and where: bytes, rows, slices.
    pub(crate) array: Option<(u64, [usize; 3])>,
}

impl Side {
    /// Memory without rows.
    pub(crate) fn linear(place: Place, address: u64) -> Self {
        Self { place, address, pitch: 0, slice: 0, array: None }
    }
}

/// What is copied: bytes of a row, rows, slices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent3 {
    pub(crate) width: u64,
    pub(crate) height: u64,
    pub(crate) depth: u64,
}

impl Extent3 {
    pub(crate) fn linear(bytes: u64) -> Self {
        Self { width: bytes, height: 1, depth: 1 }
    }

    fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    /// Bytes from the first to the last that a side has.
    fn span(&self, side: &Side) -> Option<u64> {
        let rows = side.pitch.checked_mul(self.height - 1)?;
        let slices = side.slice.checked_mul(self.depth - 1)?;
        rows.checked_add(slices)?.checked_add(self.width)
    }

    fn bytes(&self) -> Option<usize> {
        usize::try_from(self.width.checked_mul(self.height)?.checked_mul(self.depth)?).ok()
    }
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Device,
    Pinned,
    Pageable,
}

/// Whether all of a side is memory of the kind that it claims.
fn classify(side: &Side, extent: &Extent3) -> Result<Found> {
    let memory = &driver().memory;
    let span = extent.span(side).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    match memory.find(side.address) {
        Some(found) if memory.contains(side.address, span) => {
            Ok(if found.is_device() { Found::Device } else { Found::Pinned })
        }
        // Registered memory need not be all of what the program copies.
        Some(found) if !found.is_device() && side.place != Place::Device => Ok(Found::Pageable),
        None if side.place != Place::Device && side.address != 0 && !memory.in_window(side.address) => {
            Ok(Found::Pageable)
        }
        // Its memory comes with the launch that allocates it.
        None if driver().graph_memory.contains(side.address, span) => Ok(Found::Device),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// Copies row by row; the sides may overlap within a row.
///
/// # Safety
/// Both sides are readable or writable for the extent.
unsafe fn transfer(target: *mut u8, to: &Side, source: *const u8, from: &Side, extent: &Extent3) {
    let whole = extent.height == 1 && extent.depth == 1;
    let rows = if whole { 1 } else { extent.height };
    let offset = |side: &Side, slice: u64, row: u64| {
        usize::try_from(slice * side.slice + row * side.pitch).unwrap_or(usize::MAX)
    };
    let width = usize::try_from(extent.width).unwrap_or(0);
    for slice in 0..extent.depth {
        for row in 0..rows {
            // SAFETY: within the extent.
            let source = unsafe { source.add(offset(from, slice, row)) };
            // SAFETY: within the extent.
            let target = unsafe { target.add(offset(to, slice, row)) };
            // SAFETY: the caller's.
            unsafe { target.copy_from(source, width) };
        }
    }
}

/// Checks a copy; what it does when its turn comes, any number of times.
///
/// # Safety
/// Host memory that the sides name is the program's, whenever the copy happens.
pub(crate) unsafe fn replay((to, from): (Side, Side), extent: Extent3) -> Result<Replay> {
    if extent.is_empty() {
        return Ok(Arc::new(|_: &Health| Ok(())));
    }
    let (target, source) = (classify(&to, &extent)?, classify(&from, &extent)?);
    Ok(Arc::new(move |_: &Health| {
        for (found, side) in [(target, &to), (source, &from)] {
            if found != Found::Pageable {
                still_there(side, &extent)?;
            }
        }
        // SAFETY: live ranges, or pageable memory of the program.
        unsafe { transfer(host(to.address), &to, host(from.address), &from, &extent) };
        Ok(())
    }))
}

/// The copy as a program would describe it.
fn describe(to: &Side, from: &Side, extent: &Extent3) -> Described {
    let size = |value: u64| usize::try_from(value).unwrap_or(0);
    let kind = |side: &Side| match side.place {
        _ if side.array.is_some() => CUmemorytype::ARRAY,
        Place::Host => CUmemorytype::HOST,
        Place::Device => CUmemorytype::DEVICE,
        Place::Unified => CUmemorytype::UNIFIED,
    };
    // An array's address and rows are the driver's business.
    let shown = |side: &Side, value: u64| if side.array.is_some() { 0 } else { size(value) };
    let rows = |side: &Side| shown(side, side.slice.checked_div(side.pitch).unwrap_or(0));
    let (to_array, [to_x, to_y, to_z]) = to.array.unwrap_or_default();
    let (from_array, [from_x, from_y, from_z]) = from.array.unwrap_or_default();
    Described(CUDA_MEMCPY3D {
        srcXInBytes: from_x,
        srcY: from_y,
        srcZ: from_z,
        srcMemoryType: kind(from),
        srcHost: std::ptr::with_exposed_provenance(shown(from, from.address)),
        srcDevice: CUdeviceptr(shown(from, from.address) as u64),
        srcArray: CUarray(from_array),
        srcPitch: shown(from, from.pitch),
        srcHeight: rows(from),
        dstXInBytes: to_x,
        dstY: to_y,
        dstZ: to_z,
        dstMemoryType: kind(to),
        dstHost: std::ptr::with_exposed_provenance_mut(shown(to, to.address)),
        dstDevice: CUdeviceptr(shown(to, to.address) as u64),
        dstArray: CUarray(to_array),
        dstPitch: shown(to, to.pitch),
        dstHeight: rows(to),
        WidthInBytes: size(extent.width),
        Height: size(extent.height),
        Depth: size(extent.depth),
        ..CUDA_MEMCPY3D::default()
    })
}

/// Queues a copy, and waits for it where CUDA does.
///
/// # Safety
/// Host memory that the sides name is the program's, valid as CUDA demands for this copy.
pub(crate) unsafe fn copy(
    context: &Context,
    stream: &Arc<Stream>,
    (to, from): (Side, Side),
    extent: Extent3,
    synchronous: bool,
) -> Result<()> {
    context.health.check()?;
    if extent.is_empty() {
        return Ok(());
    }
    let node = || {
        // SAFETY: the caller's.
        let replay = unsafe { replay((to, from), extent) }?;
        Ok(Op::Copy { described: describe(&to, &from, &extent), replay })
    };
    if synchronous {
        capture::refuse(stream)?;
    } else if capture::add(driver(), stream, node)? {
        return Ok(());
    }
    let (target, source) = (classify(&to, &extent)?, classify(&from, &extent)?);
    let bytes = extent.bytes().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let on_device = target == Found::Device && source == Found::Device;
    let memops = |side: &Side| driver().memory.find(side.address).is_some_and(|found| found.sync_memops);
    let snapshot = source == Found::Pageable && target != Found::Pageable && bytes <= SNAPSHOT_BYTES;
    let wait = (synchronous && !on_device)
        || target == Found::Pageable
        || (source == Found::Pageable && !snapshot)
        || memops(&to)
        || memops(&from);
    if snapshot && !wait {
        let packed = Side { pitch: extent.width, slice: extent.width * extent.height, ..from };
        let mut data = vec![0; bytes];
        // SAFETY: `data` has room for the packed extent; the source is the program's.
        unsafe { transfer(data.as_mut_ptr(), &packed, host(from.address), &from, &extent) };
        context.submit(stream, Vec::new(), move |health: &Health| {
            if health.check().is_err() {
                return Ok(());
            }
            still_there(&to, &extent)?;
            // SAFETY: `data` holds the packed extent; the target is a live range.
            unsafe { transfer(host(to.address), &to, data.as_ptr(), &packed, &extent) };
            Ok(())
        })?;
        return Ok(());
    }
    let work = move |health: &Health| {
        if health.check().is_err() {
            return Ok(());
        }
        if target != Found::Pageable {
            still_there(&to, &extent)?;
        }
        if source != Found::Pageable {
            still_there(&from, &extent)?;
        }
        // SAFETY: live ranges, or pageable memory of the program, which waits for the end.
        unsafe { transfer(host(to.address), &to, host(from.address), &from, &extent) };
        Ok(())
    };
    if wait {
        return context.run(stream, work);
    }
    context.submit(stream, Vec::new(), work).map(drop)
}

/// Whether a range is still live when its turn comes.
fn still_there(side: &Side, extent: &Extent3) -> Result<()> {
    match extent.span(side) {
        Some(span) if driver().memory.contains(side.address, span) => Ok(()),
        _ => Err(CUresult::ERROR_ILLEGAL_ADDRESS),
    }
}

/// What memory is filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    Byte(u8),
    Half(u16),
    Word(u32),
}

impl Pattern {
    fn bytes(self) -> u64 {
        match self {
            Self::Byte(_) => 1,
            Self::Half(_) => 2,
            Self::Word(_) => 4,
        }
    }
}

/// Queues a fill of `width` elements in each of `height` rows.
pub(crate) fn fill(
    context: &Context,
    stream: &Arc<Stream>,
    (address, pitch): (u64, u64),
    pattern: Pattern,
    (width, height): (u64, u64),
    synchronous: bool,
) -> Result<()> {
    context.health.check()?;
    let size = pattern.bytes();
    let width = width.checked_mul(size).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let extent = Extent3 { width, height, depth: 1 };
    let side = Side { pitch, ..Side::linear(Place::Device, address) };
    if !address.is_multiple_of(size) || (height > 1 && (pitch < width || !pitch.is_multiple_of(size))) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if extent.is_empty() {
        return Ok(());
    }
    if synchronous {
        capture::refuse(stream)?;
    } else if capture::add(driver(), stream, || fill_node((address, pitch), pattern, (width / size, height)))?
    {
        return Ok(());
    }
    let found = classify(&side, &extent)?;
    let work = move |health: &Health| {
        if health.check().is_err() {
            return Ok(());
        }
        write_pattern(&side, &extent, pattern)
    };
    if synchronous && found != Found::Device {
        return context.run(stream, work);
    }
    context.submit(stream, Vec::new(), work).map(drop)
}

/// A fill of `width` elements in each of `height` rows as a node of a graph.
pub(crate) fn fill_node(
    (address, pitch): (u64, u64),
    pattern: Pattern,
    (width, height): (u64, u64),
) -> Result<Op> {
    let size = pattern.bytes();
    let bytes = width.checked_mul(size).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let extent = Extent3 { width: bytes, height, depth: 1 };
    let side = Side { pitch, ..Side::linear(Place::Device, address) };
    if !address.is_multiple_of(size) || (height > 1 && (pitch < bytes || !pitch.is_multiple_of(size))) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let (value, element) = match pattern {
        Pattern::Byte(value) => (u32::from(value), 1),
        Pattern::Half(value) => (u32::from(value), 2),
        Pattern::Word(value) => (value, 4),
    };
    let described = CUDA_MEMSET_NODE_PARAMS {
        dst: CUdeviceptr(address),
        pitch,
        value,
        elementSize: element,
        width,
        height,
    };
    if extent.is_empty() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    classify(&side, &extent)?;
    let replay = Arc::new(move |_: &Health| write_pattern(&side, &extent, pattern));
    Ok(Op::Fill { described, replay })
}

/// Fills the rows of a live range.
fn write_pattern(side: &Side, extent: &Extent3, pattern: Pattern) -> Result<()> {
    still_there(side, extent)?;
    let (address, pitch, width, height, size) =
        (side.address, side.pitch, extent.width, extent.height, pattern.bytes());
    for row in 0..height {
        let count = usize::try_from(width / size).unwrap_or(0);
        let start = host(address + row * pitch);
        match pattern {
            // SAFETY: the row lies in a live range.
            Pattern::Byte(value) => unsafe { start.write_bytes(value, count) },
            // SAFETY: as above; address and pitch are aligned.
            Pattern::Half(value) => unsafe { repeat(start.cast(), value, count) },
            // SAFETY: as above; address and pitch are aligned.
            Pattern::Word(value) => unsafe { repeat(start.cast(), value, count) },
        }
    }
    Ok(())
}

/// # Safety
/// `start` is aligned and writable for `count` elements.
unsafe fn repeat<T: Copy>(start: *mut T, value: T, count: usize) {
    for index in 0..count {
        // SAFETY: the caller's.
        let place = unsafe { start.add(index) };
        // SAFETY: the caller's.
        unsafe { place.write(value) };
    }
}
