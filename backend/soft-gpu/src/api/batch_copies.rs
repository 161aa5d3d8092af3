//! Batches of copies: one after the other.

#![allow(non_snake_case, reason = "CUDA's own names")]

use virtio_spec::cuda::{
    CUDA_MEMCPY3D_BATCH_OP, CUarray, CUdeviceptr, CUmemcpy3DOperand, CUmemcpy3DOperandType,
    CUmemcpyAttributes, CUmemcpySrcAccessOrder, CUresult, CUstream,
};

use super::copies::{array_side, run};
use super::entry::{Call, List, Out, exports};
use crate::driver::copy::{Extent3, Place, Side};
use crate::driver::{Result, array};

exports! {
    context cuMemcpyBatchAsync / cuMemcpyBatchAsync_ptsz (
        to: *const CUdeviceptr, from: *const CUdeviceptr, sizes: *const usize, count: usize,
        attributes: *const CUmemcpyAttributes, indexes: *const usize, number: usize, failed: *mut usize,
        stream: CUstream,
    ) = linear;
    context cuMemcpyBatchAsync_v2 / cuMemcpyBatchAsync_v2_ptsz (
        to: *const CUdeviceptr, from: *const CUdeviceptr, sizes: *const usize, count: usize,
        attributes: *const CUmemcpyAttributes, indexes: *const usize, number: usize, stream: CUstream,
    ) = linear_v2;
    context cuMemcpy3DBatchAsync / cuMemcpy3DBatchAsync_ptsz (
        count: usize, operations: *const CUDA_MEMCPY3D_BATCH_OP, failed: *mut usize, flags: u64, stream: CUstream,
    ) = boxes;
    context cuMemcpy3DBatchAsync_v2 / cuMemcpy3DBatchAsync_v2_ptsz (
        count: usize, operations: *const CUDA_MEMCPY3D_BATCH_OP, flags: u64, stream: CUstream,
    ) = boxes_v2;
}

const INVALID: CUresult = CUresult::ERROR_INVALID_VALUE;

/// Sides, what is copied, and whether the source must have been read when the call returns.
type Copy = ((Side, Side), Extent3, bool);

/// An error, and which copy it is about.
type Failed = (CUresult, usize);

fn whole(error: CUresult) -> Failed {
    (error, usize::MAX)
}

fn at_once(order: CUmemcpySrcAccessOrder) -> Result<bool> {
    match order {
        CUmemcpySrcAccessOrder::STREAM | CUmemcpySrcAccessOrder::ANY => Ok(false),
        CUmemcpySrcAccessOrder::DURING_API_CALL => Ok(true),
        _ => Err(INVALID),
    }
}

fn run_all(
    call: &Call,
    copies: Vec<core::result::Result<Copy, Failed>>,
    stream: CUstream,
) -> core::result::Result<(), Failed> {
    // The legacy default stream is not taken.
    if stream.0 == 1 || stream.0 == 0 && !call.per_thread {
        return Err(whole(INVALID));
    }
    let copies = copies.into_iter().collect::<core::result::Result<Vec<_>, _>>()?;
    for (index, (sides, extent, synchronous)) in copies.into_iter().enumerate() {
        run(call, sides, extent, stream, synchronous).map_err(|error| (error, index))?;
    }
    Ok(())
}

fn tell(result: core::result::Result<(), Failed>, failed: Out<usize>) -> Result<()> {
    result.map_err(|(error, index)| {
        failed.put_if_wanted(index);
        error
    })
}

fn linear_copies(
    (to, from, sizes, count): (List<CUdeviceptr>, List<CUdeviceptr>, List<usize>, usize),
    (attributes, indexes, number): (List<CUmemcpyAttributes>, List<usize>, usize),
) -> Result<Vec<core::result::Result<Copy, Failed>>> {
    let (to, from, sizes) = (to.get(count)?, from.get(count)?, sizes.get(count)?);
    if number > count {
        return Err(INVALID);
    }
    let (attributes, indexes) = (attributes.get(number)?, indexes.get(number)?);
    let ascending = indexes.is_sorted_by(|one, next| one < next);
    if indexes.first() != Some(&0) || !ascending || indexes.last().is_some_and(|last| *last >= count) {
        return Err(INVALID);
    }
    let mut orders = Vec::with_capacity(count);
    for (index, attribute) in attributes.iter().enumerate() {
        let end = indexes.get(index + 1).copied().unwrap_or(count);
        orders.resize(end, at_once(attribute.srcAccessOrder)?);
    }
    let copies = to.into_iter().zip(from).zip(sizes).zip(orders).enumerate();
    Ok(copies
        .map(|(index, (((to, from), bytes), at_once))| {
            if to.0 == 0 || from.0 == 0 || bytes == 0 {
                return Err((INVALID, index));
            }
            let sides = (Side::linear(Place::Unified, to.0), Side::linear(Place::Unified, from.0));
            Ok((sides, Extent3::linear(bytes as u64), at_once))
        })
        .collect())
}

#[allow(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn linear(
    call: &Call,
    to: List<CUdeviceptr>,
    from: List<CUdeviceptr>,
    sizes: List<usize>,
    count: usize,
    attributes: List<CUmemcpyAttributes>,
    indexes: List<usize>,
    number: usize,
    failed: Out<usize>,
    stream: CUstream,
) -> Result<()> {
    let copies = linear_copies((to, from, sizes, count), (attributes, indexes, number)).map_err(whole);
    tell(copies.and_then(|copies| run_all(call, copies, stream)), failed)
}

#[allow(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn linear_v2(
    call: &Call,
    to: List<CUdeviceptr>,
    from: List<CUdeviceptr>,
    sizes: List<usize>,
    count: usize,
    attributes: List<CUmemcpyAttributes>,
    indexes: List<usize>,
    number: usize,
    stream: CUstream,
) -> Result<()> {
    let failed = Out::at(std::ptr::null_mut());
    linear(call, to, from, sizes, count, attributes, indexes, number, failed, stream)
}

fn is_array(side: &CUmemcpy3DOperand) -> bool {
    side.kind == CUmemcpy3DOperandType::ARRAY
}

fn number(word: u64) -> Result<usize> {
    usize::try_from(word).map_err(|_| INVALID)
}

fn side(call: &Call, given: &CUmemcpy3DOperand, unit: u64, extent: &Extent3) -> Result<Side> {
    let [first, ..] = given.words;
    match given.kind {
        CUmemcpy3DOperandType::ARRAY => {
            let [_, x, y, z] = given.words;
            let x = x.checked_mul(unit).ok_or(INVALID)?;
            array_side(call.driver(), CUarray(first), [number(x)?, number(y)?, number(z)?], extent)
        }
        CUmemcpy3DOperandType::POINTER => {
            let [_, row, layer, _] = given.words;
            let pitch = if row == 0 { extent.width } else { row.checked_mul(unit).ok_or(INVALID)? };
            let rows = if layer == 0 { extent.height } else { layer };
            if first == 0 || pitch < extent.width || rows < extent.height {
                return Err(INVALID);
            }
            let slice = pitch.checked_mul(rows).ok_or(INVALID)?;
            Ok(Side { place: Place::Unified, address: first, pitch, slice, array: None })
        }
        _ => Err(INVALID),
    }
}

fn described(call: &Call, operation: &CUDA_MEMCPY3D_BATCH_OP) -> Result<Copy> {
    let array = [&operation.src, &operation.dst].into_iter().find(|side| is_array(side));
    let unit = match array {
        Some(CUmemcpy3DOperand { words: [handle, ..], .. }) => {
            let array = call.driver().arrays.get(*handle)?;
            array::element(array.descriptor.Format, array.descriptor.NumChannels)?.2
        }
        None => 1,
    };
    let [width, height, depth] = operation.extent;
    let width = width.checked_mul(unit).ok_or(INVALID)?;
    if width == 0 || height == 0 || depth == 0 {
        return Err(INVALID);
    }
    let extent = Extent3 { width, height, depth };
    let sides = (side(call, &operation.dst, unit, &extent)?, side(call, &operation.src, unit, &extent)?);
    Ok((sides, extent, at_once(operation.srcAccessOrder)?))
}

fn boxes(
    call: &Call,
    count: usize,
    operations: List<CUDA_MEMCPY3D_BATCH_OP>,
    failed: Out<usize>,
    flags: u64,
    stream: CUstream,
) -> Result<()> {
    let copies = || -> core::result::Result<Vec<_>, Failed> {
        if flags != 0 {
            return Err(whole(INVALID));
        }
        let operations = operations.get(count).map_err(whole)?.into_iter().enumerate();
        Ok(operations.map(|(index, one)| described(call, &one).map_err(|error| (error, index))).collect())
    };
    tell(copies().and_then(|copies| run_all(call, copies, stream)), failed)
}

fn boxes_v2(
    call: &Call,
    count: usize,
    operations: List<CUDA_MEMCPY3D_BATCH_OP>,
    flags: u64,
    stream: CUstream,
) -> Result<()> {
    boxes(call, count, operations, Out::at(std::ptr::null_mut()), flags, stream)
}
