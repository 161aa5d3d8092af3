//! Batches of copies: the copies that they stand for, one after the other. CUDA promises no order within a batch, so that
//! the stream's is as good as any.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::calls::arrays::rows;
use virtio_spec::cuda::{
    CUDA_ARRAY3D_DESCRIPTOR, CUDA_MEMCPY3D_BATCH_OP, CUdeviceptr, CUmemcpy3DOperand, CUmemcpy3DOperandType,
    CUmemcpyAttributes, CUmemcpySrcAccessOrder, CUresult, CUstream,
};
use virtio_spec::requests::Origin;

use super::copies::{On, run};
use super::{give_if_wanted, outcome};
use crate::context;
use crate::entry::{Flavour, Row, status};
use crate::exports::streams::wire_cuStreamSynchronize;
use crate::memory::copy::{Claim, End, Shape, is_stream};
use crate::wire::Request;

/// `CU_STREAM_LEGACY`.
const LEGACY: u64 = 1;

/// What `failIdx` is for an error that is not about one of the copies.
const NO_COPY: usize = usize::MAX;

/// A copy of a batch.
struct Copy {
    to: End,
    from: End,
    shape: Shape,
    /// The source may be gone when the call returns.
    at_once: bool,
}

/// An error, and which copy of the batch it is about.
type Failed = (CUresult, usize);

/// The application's list.
///
/// # Safety
/// `list` is null, or has `count` elements.
unsafe fn list<'a, T>(list: *const T, count: usize) -> Result<&'a [T], CUresult> {
    if list.is_null() || count == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(list, count) })
}

/// The stream, which must not be the one that all others wait for.
fn check_stream(stream: CUstream, flavour: Flavour) -> Result<(), CUresult> {
    context::required()?;
    match flavour.stream(stream) {
        0 | LEGACY => Err(CUresult::ERROR_INVALID_VALUE),
        other if is_stream(other) => Ok(()),
        _ => Err(CUresult::ERROR_INVALID_HANDLE),
    }
}

/// Whether the source has to be read before the call returns.
fn at_once(order: CUmemcpySrcAccessOrder) -> Result<bool, CUresult> {
    match order {
        CUmemcpySrcAccessOrder::STREAM | CUmemcpySrcAccessOrder::ANY => Ok(false),
        CUmemcpySrcAccessOrder::DURING_API_CALL => Ok(true),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// Runs the copies of a batch, all of which have been checked.
///
/// # Safety
/// What the process reaches of the ends is valid over the shapes.
unsafe fn run_all(copies: &[Copy], stream: CUstream, flavour: Flavour) -> Result<(), Failed> {
    for (index, copy) in copies.iter().enumerate() {
        // SAFETY: as the caller promises.
        let result = unsafe { run(copy.to, copy.from, copy.shape, On::Stream(stream, flavour)) };
        outcome(result).map_err(|error| (error, index))?;
    }
    if copies.iter().any(|copy| copy.at_once) {
        // SAFETY: no pointers.
        outcome(unsafe { wire_cuStreamSynchronize(stream, flavour) }).map_err(|error| (error, NO_COPY))?;
    }
    Ok(())
}

/// Says which copy failed, if the application wants to know, and how.
///
/// # Safety
/// `place` is null, or the application's place for a number.
unsafe fn tell(result: Result<(), Failed>, place: *mut usize) -> CUresult {
    status(result.map_err(|(error, index)| {
        // SAFETY: as the caller promises.
        unsafe { give_if_wanted(place, index) };
        error
    }))
}

/// The attributes of each copy: an attribute is for the copies from its index on.
fn orders(attributes: &[CUmemcpyAttributes], indexes: &[usize], count: usize) -> Result<Vec<bool>, CUresult> {
    let ascending = indexes.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
    if indexes.first() != Some(&0) || !ascending || indexes.last().is_some_and(|last| *last >= count) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut orders = Vec::with_capacity(count);
    for (number, attribute) in attributes.iter().enumerate() {
        let end = indexes.get(number + 1).copied().unwrap_or(count);
        orders.resize(end, at_once(attribute.srcAccessOrder)?);
    }
    Ok(orders)
}

/// # Safety
/// As CUDA's documentation says of the call.
unsafe fn linear(
    (to, from, sizes, count): (*const CUdeviceptr, *const CUdeviceptr, *const usize, usize),
    (attributes, indexes, number): (*const CUmemcpyAttributes, *const usize, usize),
    stream: CUstream,
    flavour: Flavour,
) -> Result<(), Failed> {
    let whole = |error| (error, NO_COPY);
    check_stream(stream, flavour).map_err(whole)?;
    // SAFETY: the application's list.
    let to = unsafe { list(to, count) }.map_err(whole)?;
    // SAFETY: the application's list.
    let from = unsafe { list(from, count) }.map_err(whole)?;
    // SAFETY: the application's list.
    let sizes = unsafe { list(sizes, count) }.map_err(whole)?;
    if number > count {
        return Err(whole(CUresult::ERROR_INVALID_VALUE));
    }
    // SAFETY: the application's list.
    let attributes = unsafe { list(attributes, number) }.map_err(whole)?;
    // SAFETY: the application's list.
    let indexes = unsafe { list(indexes, number) }.map_err(whole)?;
    let orders = orders(attributes, indexes, count).map_err(whole)?;
    let mut copies = Vec::with_capacity(count);
    for (index, ((to, from), (bytes, at_once))) in
        to.iter().zip(from).zip(sizes.iter().zip(orders)).enumerate()
    {
        if to.0 == 0 || from.0 == 0 || *bytes == 0 {
            return Err((CUresult::ERROR_INVALID_VALUE, index));
        }
        let (to, from) = (End::linear(to.0, Claim::Unified), End::linear(from.0, Claim::Unified));
        copies.push(Copy { to, from, shape: Shape::linear(*bytes as u64), at_once });
    }
    // SAFETY: as the caller promises.
    unsafe { run_all(&copies, stream, flavour) }
}

/// Bytes of an array's element.
fn element_bytes(array: u64) -> Result<u64, CUresult> {
    let mut request = Request::new(const { Row::of(&rows::cuArray3DGetDescriptor_v2) }, false)?;
    request.handle(array);
    let found = request.answer()?.take::<CUDA_ARRAY3D_DESCRIPTOR>()?;
    let channel = found.Format.bytes().ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    Ok(channel * u64::from(found.NumChannels))
}

/// The element that sizes of a 3D copy count: an array's, or a byte.
fn unit(sides: [&CUmemcpy3DOperand; 2]) -> Result<u64, CUresult> {
    let array = sides.into_iter().find(|side| side.kind == CUmemcpy3DOperandType::ARRAY);
    array.map_or(Ok(1), |side| element_bytes(side.words[0]))
}

/// A side of a 3D copy whose shape is in bytes, rows and layers.
fn end(side: &CUmemcpy3DOperand, unit: u64, shape: Shape) -> Result<End, CUresult> {
    let invalid = CUresult::ERROR_INVALID_VALUE;
    match side.kind {
        CUmemcpy3DOperandType::ARRAY => {
            let [array, x, y, z] = side.words;
            let x = x.checked_mul(unit).ok_or(invalid)?;
            Ok(End::array(array, Origin { x, y, z }))
        }
        CUmemcpy3DOperandType::POINTER => {
            let [address, row, layer, _] = side.words;
            let pitch = if row == 0 { shape.width } else { row.checked_mul(unit).ok_or(invalid)? };
            let slice_height = if layer == 0 { shape.height } else { layer };
            if address == 0 || pitch < shape.width || slice_height < shape.height {
                return Err(invalid);
            }
            Ok(End { pitch, slice_height, ..End::linear(address, Claim::Unified) })
        }
        _ => Err(invalid),
    }
}

fn described(operation: &CUDA_MEMCPY3D_BATCH_OP) -> Result<Copy, CUresult> {
    let unit = unit([&operation.src, &operation.dst])?;
    let [width, height, depth] = operation.extent;
    let width = width.checked_mul(unit).filter(|width| *width > 0).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if height == 0 || depth == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let shape = Shape { width, height, depth };
    let (to, from) = (end(&operation.dst, unit, shape)?, end(&operation.src, unit, shape)?);
    Ok(Copy { to, from, shape, at_once: at_once(operation.srcAccessOrder)? })
}

/// # Safety
/// As CUDA's documentation says of the call.
unsafe fn boxes(
    (operations, count): (*const CUDA_MEMCPY3D_BATCH_OP, usize),
    flags: u64,
    stream: CUstream,
    flavour: Flavour,
) -> Result<(), Failed> {
    let whole = |error| (error, NO_COPY);
    check_stream(stream, flavour).map_err(whole)?;
    if flags != 0 {
        return Err(whole(CUresult::ERROR_INVALID_VALUE));
    }
    // SAFETY: the application's list.
    let operations = unsafe { list(operations, count) }.map_err(whole)?;
    let described = |(index, one)| described(one).map_err(|error| (error, index));
    let copies = operations.iter().enumerate().map(described).collect::<Result<Vec<_>, _>>()?;
    // SAFETY: as the caller promises.
    unsafe { run_all(&copies, stream, flavour) }
}

pub(crate) unsafe fn cuMemcpyBatchAsync(
    dsts: *const CUdeviceptr,
    srcs: *const CUdeviceptr,
    sizes: *const usize,
    count: usize,
    attrs: *const CUmemcpyAttributes,
    attrs_idxs: *const usize,
    num_attrs: usize,
    fail_idx: *mut usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    let done = unsafe { linear((dsts, srcs, sizes, count), (attrs, attrs_idxs, num_attrs), stream, flavour) };
    // SAFETY: the application's place for a number, or null.
    unsafe { tell(done, fail_idx) }
}

pub(crate) unsafe fn cuMemcpyBatchAsync_v2(
    dsts: *const CUdeviceptr,
    srcs: *const CUdeviceptr,
    sizes: *const usize,
    count: usize,
    attrs: *const CUmemcpyAttributes,
    attrs_idxs: *const usize,
    num_attrs: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    let done = unsafe { linear((dsts, srcs, sizes, count), (attrs, attrs_idxs, num_attrs), stream, flavour) };
    status(done.map_err(|(error, _)| error))
}

pub(crate) unsafe fn cuMemcpy3DBatchAsync(
    num_ops: usize,
    op_list: *const CUDA_MEMCPY3D_BATCH_OP,
    fail_idx: *mut usize,
    flags: u64,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    let done = unsafe { boxes((op_list, num_ops), flags, stream, flavour) };
    // SAFETY: the application's place for a number, or null.
    unsafe { tell(done, fail_idx) }
}

pub(crate) unsafe fn cuMemcpy3DBatchAsync_v2(
    num_ops: usize,
    op_list: *const CUDA_MEMCPY3D_BATCH_OP,
    flags: u64,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    let done = unsafe { boxes((op_list, num_ops), flags, stream, flavour) };
    status(done.map_err(|(error, _)| error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_for_the_copies_up_to_the_next() {
        let attribute = |order| CUmemcpyAttributes { srcAccessOrder: order, ..CUmemcpyAttributes::default() };
        let given =
            [attribute(CUmemcpySrcAccessOrder::STREAM), attribute(CUmemcpySrcAccessOrder::DURING_API_CALL)];
        assert_eq!(orders(&given, &[0, 2], 4), Ok(vec![false, false, true, true]));
        for bad in [[1, 2], [0, 4], [0, 0]] {
            assert_eq!(orders(&given, &bad, 4), Err(CUresult::ERROR_INVALID_VALUE));
        }
        assert!(orders(&[attribute(CUmemcpySrcAccessOrder(9))], &[0], 1).is_err());
    }
}
