//! Tensor maps: the host's driver computes their bits, which the program passes to kernels as they are.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUresult, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapIm2ColWideMode,
    CUtensorMapInterleave, CUtensorMapL2promotion, CUtensorMapSwizzle,
};
use virtio_spec::requests::{TENSOR_DIMENSIONS, TensorMap, TensorMapBits, TensorMapForm, opcode};
use zerocopy::FromZeros;

use crate::context;
use crate::entry::status;
use crate::wire::Request;

/// The first elements of an array of the application, the others zero.
///
/// # Safety
/// `list` is null, or has `count` elements.
unsafe fn array<T: Copy + Default, const N: usize>(list: *const T, count: usize) -> Result<[T; N], CUresult> {
    let mut values = [T::default(); N];
    if count > N || (list.is_null() && count > 0) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    for (index, value) in values.iter_mut().take(count).enumerate() {
        // SAFETY: below `count`, by the caller's promise.
        *value = unsafe { list.wrapping_add(index).read() };
    }
    Ok(values)
}

/// What all forms say, but for boxes.
#[derive(Clone, Copy)]
struct Tensor {
    data_type: CUtensorMapDataType,
    rank: u32,
    address: *mut c_void,
    dimensions: *const u64,
    strides: *const u64,
    element_strides: *const u32,
}

#[derive(Clone, Copy)]
struct Manner {
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    l2_promotion: CUtensorMapL2promotion,
    fill: CUtensorMapFloatOOBfill,
}

impl Tensor {
    /// The number of dimensions, which says how long the arrays are.
    fn rank(&self) -> Result<usize, CUresult> {
        usize::try_from(self.rank)
            .ok()
            .filter(|rank| (1..=TENSOR_DIMENSIONS).contains(rank))
            .ok_or(CUresult::ERROR_INVALID_VALUE)
    }

    /// The part of the request that all forms have.
    ///
    /// # Safety
    /// The arrays are null, or as long as the rank says.
    unsafe fn request(&self, form: TensorMapForm, manner: Manner) -> Result<TensorMap, CUresult> {
        let rank = self.rank()?;
        let mut request = TensorMap::new_zeroed();
        request.form = form as u32;
        request.data_type = self.data_type.0;
        request.rank = self.rank;
        request.interleave = manner.interleave.0;
        request.swizzle = manner.swizzle.0;
        request.l2_promotion = manner.l2_promotion.0;
        request.fill = manner.fill.0;
        request.address = self.address.expose_provenance() as u64;
        // SAFETY: as the caller promises.
        request.dimensions = unsafe { array(self.dimensions, rank) }?;
        // SAFETY: as the caller promises; the first dimension's stride is the element's size.
        request.strides = unsafe { array(self.strides, rank - 1) }?;
        // SAFETY: as the caller promises.
        request.element_strides = unsafe { array(self.element_strides, rank) }?;
        Ok(request)
    }
}

/// Whether a place for a map is one. CUDA asks for an alignment that kernels need; its driver does not check it.
fn is_place(tensor_map: *mut CUtensorMap) -> bool {
    !tensor_map.is_null()
}

/// Has the host's driver compute a map, and writes it.
///
/// # Safety
/// `place` has room for a map.
unsafe fn encode(place: *mut CUtensorMap, request: &TensorMap) -> Result<(), CUresult> {
    let mut message = Request::start(opcode::TENSOR_MAP, context::required()?)?;
    message.structure(request);
    let bits = message.answer()?.take::<TensorMapBits>()?.bits;
    // SAFETY: as the caller promises.
    unsafe { place.write_unaligned(CUtensorMap { opaque: bits }) };
    Ok(())
}

pub(crate) unsafe fn cuTensorMapEncodeTiled(
    tensor_map: *mut CUtensorMap,
    data_type: CUtensorMapDataType,
    rank: u32,
    address: *mut c_void,
    dimensions: *const u64,
    strides: *const u64,
    box_dimensions: *const u32,
    element_strides: *const u32,
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    l2_promotion: CUtensorMapL2promotion,
    fill: CUtensorMapFloatOOBfill,
) -> CUresult {
    if !is_place(tensor_map) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let tensor = Tensor { data_type, rank, address, dimensions, strides, element_strides };
    let manner = Manner { interleave, swizzle, l2_promotion, fill };
    let run = || -> Result<(), CUresult> {
        // SAFETY: the application's arrays.
        let mut request = unsafe { tensor.request(TensorMapForm::Tiled, manner) }?;
        // SAFETY: the application's array.
        request.box_dimensions = unsafe { array(box_dimensions, tensor.rank()?) }?;
        // SAFETY: checked above.
        unsafe { encode(tensor_map, &request) }
    };
    status(run())
}

pub(crate) unsafe fn cuTensorMapEncodeIm2col(
    tensor_map: *mut CUtensorMap,
    data_type: CUtensorMapDataType,
    rank: u32,
    address: *mut c_void,
    dimensions: *const u64,
    strides: *const u64,
    lower_corner: *const i32,
    upper_corner: *const i32,
    channels: u32,
    pixels: u32,
    element_strides: *const u32,
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    l2_promotion: CUtensorMapL2promotion,
    fill: CUtensorMapFloatOOBfill,
) -> CUresult {
    if !is_place(tensor_map) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let tensor = Tensor { data_type, rank, address, dimensions, strides, element_strides };
    let manner = Manner { interleave, swizzle, l2_promotion, fill };
    let run = || -> Result<(), CUresult> {
        // SAFETY: the application's arrays.
        let mut request = unsafe { tensor.request(TensorMapForm::Im2col, manner) }?;
        // The corners have a number for each dimension but channels and batch.
        let corners = tensor.rank()?.checked_sub(2).filter(|corners| *corners > 0);
        let corners = corners.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        // SAFETY: the application's array.
        request.lower_corner = unsafe { array(lower_corner, corners) }?;
        // SAFETY: the application's array.
        request.upper_corner = unsafe { array(upper_corner, corners) }?;
        (request.channels, request.pixels) = (channels, pixels);
        // SAFETY: checked above.
        unsafe { encode(tensor_map, &request) }
    };
    status(run())
}

pub(crate) unsafe fn cuTensorMapEncodeIm2colWide(
    tensor_map: *mut CUtensorMap,
    data_type: CUtensorMapDataType,
    rank: u32,
    address: *mut c_void,
    dimensions: *const u64,
    strides: *const u64,
    lower_width: i32,
    upper_width: i32,
    channels: u32,
    pixels: u32,
    element_strides: *const u32,
    interleave: CUtensorMapInterleave,
    mode: CUtensorMapIm2ColWideMode,
    swizzle: CUtensorMapSwizzle,
    l2_promotion: CUtensorMapL2promotion,
    fill: CUtensorMapFloatOOBfill,
) -> CUresult {
    if !is_place(tensor_map) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let tensor = Tensor { data_type, rank, address, dimensions, strides, element_strides };
    let manner = Manner { interleave, swizzle, l2_promotion, fill };
    let run = || -> Result<(), CUresult> {
        // SAFETY: the application's arrays.
        let mut request = unsafe { tensor.request(TensorMapForm::Im2colWide, manner) }?;
        request.lower_corner = [lower_width, 0, 0];
        request.upper_corner = [upper_width, 0, 0];
        (request.channels, request.pixels, request.mode) = (channels, pixels, mode.0);
        // SAFETY: checked above.
        unsafe { encode(tensor_map, &request) }
    };
    status(run())
}

pub(crate) unsafe fn cuTensorMapReplaceAddress(
    tensor_map: *mut CUtensorMap,
    address: *mut c_void,
) -> CUresult {
    if !is_place(tensor_map) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let mut request = TensorMap::new_zeroed();
    request.form = TensorMapForm::ReplaceAddress as u32;
    request.address = address.expose_provenance() as u64;
    // SAFETY: checked above; the application's map.
    request.bits = unsafe { tensor_map.read_unaligned() }.opaque;
    // SAFETY: checked above.
    status(unsafe { encode(tensor_map, &request) })
}
