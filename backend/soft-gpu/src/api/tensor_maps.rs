//! Tensor maps. Kernels here cannot use them, so that their bits are this driver's own: what was asked for, in order.
//!
//! Unsafe code: arrays whose length another argument says.

#![allow(non_snake_case, clippy::too_many_arguments, reason = "CUDA's own names and signatures")]

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUresult, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapIm2ColWideMode,
    CUtensorMapInterleave, CUtensorMapL2promotion, CUtensorMapSwizzle,
};

use super::entry::{Call, List, exports};
use crate::driver::Result;

exports! {
    context cuTensorMapEncodeTiled(
        map: *mut CUtensorMap, data_type: CUtensorMapDataType, rank: u32, address: *mut c_void,
        dimensions: *const u64, strides: *const u64, sizes: *const u32, steps: *const u32,
        interleave: CUtensorMapInterleave, swizzle: CUtensorMapSwizzle, promotion: CUtensorMapL2promotion,
        fill: CUtensorMapFloatOOBfill,
    ) = tiled;
    context cuTensorMapEncodeIm2col(
        map: *mut CUtensorMap, data_type: CUtensorMapDataType, rank: u32, address: *mut c_void,
        dimensions: *const u64, strides: *const u64, lower: *const i32, upper: *const i32, channels: u32, pixels: u32,
        steps: *const u32, interleave: CUtensorMapInterleave, swizzle: CUtensorMapSwizzle,
        promotion: CUtensorMapL2promotion, fill: CUtensorMapFloatOOBfill,
    ) = im2col;
    context cuTensorMapEncodeIm2colWide(
        map: *mut CUtensorMap, data_type: CUtensorMapDataType, rank: u32, address: *mut c_void,
        dimensions: *const u64, strides: *const u64, lower: i32, upper: i32, channels: u32, pixels: u32,
        steps: *const u32, interleave: CUtensorMapInterleave, mode: CUtensorMapIm2ColWideMode,
        swizzle: CUtensorMapSwizzle, promotion: CUtensorMapL2promotion, fill: CUtensorMapFloatOOBfill,
    ) = im2col_wide;
    context cuTensorMapReplaceAddress(map: *mut CUtensorMap, address: *mut c_void) = replace_address;
}

const BAD: CUresult = CUresult::ERROR_INVALID_VALUE;

/// A place for a map.
#[derive(Clone, Copy)]
struct Place(*mut CUtensorMap);

impl Place {
    /// Refuses what is no place for a map.
    fn new(pointer: *mut CUtensorMap) -> Result<Self> {
        if pointer.is_null() { Err(BAD) } else { Ok(Self(pointer)) }
    }

    /// Fills the place with words, the rest with zeros.
    fn put(self, words: &[u64]) {
        let mut map = CUtensorMap { opaque: [0; 16] };
        map.opaque.iter_mut().zip(words).for_each(|(to, from)| *to = *from);
        // SAFETY: not NULL, so a place for a map by the function's contract.
        unsafe { self.0.write_unaligned(map) };
    }
}

/// Bytes of an element, for types that are not packed.
fn element_bytes(data_type: CUtensorMapDataType) -> Result<u64> {
    Ok(match data_type.0 {
        0 => 1,
        1 | 6 | 9 => 2,
        2 | 3 | 7 | 10 | 11 | 12 => 4,
        4 | 5 | 8 => 8,
        // Packed types are of younger devices.
        _ => return Err(BAD),
    })
}

/// What all forms say about a tensor.
struct Tensor {
    data_type: CUtensorMapDataType,
    rank: u32,
    address: u64,
    dimensions: List<u64>,
    strides: List<u64>,
    steps: List<u32>,
}

struct Manner {
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    promotion: CUtensorMapL2promotion,
    fill: CUtensorMapFloatOOBfill,
}

impl Tensor {
    /// The words that describe it, if all of it is as CUDA asks for.
    fn words(&self, manner: &Manner, lowest_rank: u32) -> Result<Vec<u64>> {
        if !(lowest_rank..=5).contains(&self.rank) {
            return Err(BAD);
        }
        let rank = self.rank as usize;
        let dimensions = self.dimensions.get(rank)?;
        let strides = if rank > 1 { self.strides.get(rank - 1)? } else { Vec::new() };
        let steps = self.steps.get(rank)?;
        element_bytes(self.data_type)?;
        let unit = if manner.interleave == CUtensorMapInterleave::BY_32_BYTES { 32 } else { 16 };
        let integer = matches!(self.data_type.0, 0..=5);
        let good = self.address.is_multiple_of(unit)
            && dimensions.iter().all(|size| (1..=1 << 32).contains(size))
            && strides.iter().all(|stride| stride.is_multiple_of(unit) && *stride < 1 << 40)
            && steps.iter().all(|step| (1..=8).contains(step))
            && manner.interleave.c_name().is_some()
            && manner.swizzle.0 <= CUtensorMapSwizzle::SPAN_128B.0
            && manner.promotion.c_name().is_some()
            && manner.fill.c_name().is_some()
            && (manner.interleave == CUtensorMapInterleave::NONE || rank >= 3)
            && (manner.interleave != CUtensorMapInterleave::BY_32_BYTES
                || manner.swizzle == CUtensorMapSwizzle::SPAN_32B)
            && !(integer && manner.fill != CUtensorMapFloatOOBfill::NONE);
        if !good {
            return Err(BAD);
        }
        let pack = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let mut words = vec![self.address, pack(self.data_type.0, self.rank)];
        words.push(pack(manner.interleave.0, manner.swizzle.0));
        words.push(pack(manner.promotion.0, manner.fill.0));
        words.extend(dimensions);
        words.extend(strides);
        Ok(words)
    }
}

fn tiled(
    _: &Call,
    map: *mut CUtensorMap,
    data_type: CUtensorMapDataType,
    rank: u32,
    address: *mut c_void,
    dimensions: List<u64>,
    strides: List<u64>,
    sizes: List<u32>,
    steps: List<u32>,
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    promotion: CUtensorMapL2promotion,
    fill: CUtensorMapFloatOOBfill,
) -> Result<()> {
    let place = Place::new(map)?;
    let address = address.expose_provenance() as u64;
    let tensor = Tensor { data_type, rank, address, dimensions, strides, steps };
    let mut words = tensor.words(&Manner { interleave, swizzle, promotion, fill }, 1)?;
    let sizes = sizes.get(rank as usize)?;
    if !sizes.iter().all(|size| (1..=256).contains(size)) {
        return Err(BAD);
    }
    let inner = sizes.first().map_or(0, |size| u64::from(*size)) * element_bytes(data_type)?;
    let span = match swizzle {
        CUtensorMapSwizzle::NONE => u64::MAX,
        other => 16 << other.0,
    };
    if interleave == CUtensorMapInterleave::NONE && (!inner.is_multiple_of(16) || inner > span) {
        return Err(BAD);
    }
    words.extend(sizes.chunks(2).map(|pair| pair.iter().fold(0, |word, size| word << 32 | u64::from(*size))));
    place.put(&words);
    Ok(())
}

fn im2col(
    _: &Call,
    map: *mut CUtensorMap,
    data_type: CUtensorMapDataType,
    rank: u32,
    address: *mut c_void,
    dimensions: List<u64>,
    strides: List<u64>,
    lower: List<i32>,
    upper: List<i32>,
    channels: u32,
    pixels: u32,
    steps: List<u32>,
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    promotion: CUtensorMapL2promotion,
    fill: CUtensorMapFloatOOBfill,
) -> Result<()> {
    let place = Place::new(map)?;
    let address = address.expose_provenance() as u64;
    let tensor = Tensor { data_type, rank, address, dimensions, strides, steps };
    let mut words = tensor.words(&Manner { interleave, swizzle, promotion, fill }, 3)?;
    let corners = rank as usize - 2;
    let bound = match corners {
        1 => -32768..=32767,
        2 => -128..=127,
        _ => -16..=15,
    };
    let (lower, upper) = (lower.get(corners)?, upper.get(corners)?);
    let good = lower.iter().chain(&upper).all(|offset| bound.contains(offset))
        && (1..=256).contains(&channels)
        && (1..=1024).contains(&pixels);
    if !good {
        return Err(BAD);
    }
    words.push(u64::from(channels) << 32 | u64::from(pixels));
    place.put(&words);
    Ok(())
}

/// The wide form is of younger devices.
fn im2col_wide(
    _: &Call,
    map: *mut CUtensorMap,
    _data_type: CUtensorMapDataType,
    _rank: u32,
    _address: *mut c_void,
    _dimensions: List<u64>,
    _strides: List<u64>,
    _lower: i32,
    _upper: i32,
    _channels: u32,
    _pixels: u32,
    _steps: List<u32>,
    _interleave: CUtensorMapInterleave,
    _mode: CUtensorMapIm2ColWideMode,
    _swizzle: CUtensorMapSwizzle,
    _promotion: CUtensorMapL2promotion,
    _fill: CUtensorMapFloatOOBfill,
) -> Result<()> {
    Place::new(map)?;
    Err(CUresult::ERROR_NOT_SUPPORTED)
}

fn replace_address(_: &Call, map: *mut CUtensorMap, address: *mut c_void) -> Result<()> {
    let place = Place::new(map)?;
    let address = address.expose_provenance() as u64;
    if !address.is_multiple_of(16) {
        return Err(BAD);
    }
    // SAFETY: checked; the program's map.
    let mut words = unsafe { place.0.read_unaligned() }.opaque;
    words[0] = address;
    place.put(&words);
    Ok(())
}
