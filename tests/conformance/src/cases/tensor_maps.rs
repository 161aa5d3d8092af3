//! Tensor maps: what the tensor memory accelerator is told about tensors.

use std::ffi::c_void;

use anyhow::{Result, ensure};

use crate::driver::Code;
use crate::gpu::{Argument, Gpu, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("tensor_maps":
    a_tile_is_fetched,
    the_same_question_has_the_same_answer,
    the_address_is_replaced,
    all_ranks,
    columns_of_images,
    bad_tensors_are_refused,
    bad_places_are_refused,
);

/// `CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED`.
const SUPPORTED: i32 = 127;
const UINT32: u32 = 2;

#[repr(C, align(128))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Map([u64; 16]);

impl Map {
    const NONE: Self = Self([0x5555_5555_5555_5555; 16]);

    fn place(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }
}

/// A tensor of words, and boxes in it.
#[derive(Debug, Clone)]
struct Tensor {
    address: u64,
    data_type: u32,
    dimensions: Vec<u64>,
    strides: Vec<u64>,
    sizes: Vec<u32>,
    steps: Vec<u32>,
    /// Interleave, swizzle, promotion, fill.
    manner: [u32; 4],
}

impl Tensor {
    /// A tensor without gaps.
    fn new(address: u64, dimensions: &[u64], sizes: &[u32]) -> Self {
        let mut stride = 4;
        let strides = dimensions.iter().map(|size| {
            stride *= size;
            stride
        });
        Self {
            address,
            data_type: UINT32,
            strides: strides.take(dimensions.len() - 1).collect(),
            dimensions: dimensions.to_vec(),
            sizes: sizes.to_vec(),
            steps: vec![1; dimensions.len()],
            manner: [0; 4],
        }
    }

    fn encode(&self, gpu: &Gpu, map: *mut c_void) -> Result<Code> {
        let [interleave, swizzle, promotion, fill] = self.manner;
        Ok(gpu.cu.cuTensorMapEncodeTiled(
            map,
            self.data_type,
            u32::try_from(self.dimensions.len())?,
            place(self.address),
            self.dimensions.as_ptr(),
            self.strides.as_ptr(),
            self.sizes.as_ptr(),
            self.steps.as_ptr(),
            interleave,
            swizzle,
            promotion,
            fill,
        ))
    }
}

fn place(address: u64) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Whether the device computes maps at all: those before compute capability 9.0 do not.
fn is_there(gpu: &Gpu) -> Result<bool> {
    let mut map = Map::NONE;
    let tensor = Tensor::new(gpu.alloc(4096)?, &[32, 32], &[8, 8]);
    Ok(tensor.encode(gpu, map.place())? != Code::NOT_SUPPORTED)
}

macro_rules! needs_maps {
    ($gpu:ident) => {
        if !is_there(&$gpu)? {
            return skip("the device has no tensor maps");
        }
    };
}

fn a_tile_is_fetched() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(SUPPORTED)? == 0 {
        return skip("kernels cannot use tensor maps here");
    }
    let values: Vec<u32> = (0..32 * 16).collect();
    let (tensor, out) = (gpu.upload(&values)?, gpu.alloc(256)?);
    let mut map = Map::NONE;
    Tensor::new(tensor, &[32, 16], &[8, 8]).encode(&gpu, map.place())?.ok()?;
    let bytes: Vec<u8> = map.0.iter().flat_map(|word| word.to_le_bytes()).collect();
    let fetch = gpu.kernel(kernels::TENSOR_MAP, "fetch_tile")?;
    for (x, y) in [(0u32, 0u32), (8, 4), (24, 8)] {
        let arguments = [Argument::bytes(&bytes), out.into(), x.into(), y.into()];
        gpu.run(fetch, shape(1, 1), &arguments)?;
        let expected: Vec<u32> = (0..64).map(|index| (y + index / 8) * 32 + x + index % 8).collect();
        ensure!(gpu.read::<u32>(out, 64)? == expected, "the tile at ({x}, {y}) has other values");
    }
    pass()
}

fn the_same_question_has_the_same_answer() -> CaseResult {
    let gpu = Gpu::new()?;
    needs_maps!(gpu);
    let tensor = Tensor::new(gpu.alloc(1 << 20)?, &[64, 64], &[16, 16]);
    let mut maps = [Map::NONE; 3];
    let [first, second, third] = &mut maps;
    tensor.encode(&gpu, first.place())?.ok()?;
    tensor.encode(&gpu, second.place())?.ok()?;
    Tensor { sizes: vec![16, 8], ..tensor }.encode(&gpu, third.place())?.ok()?;
    ensure!(first == second, "{first:x?} and {second:x?}");
    ensure!(first != third && *first != Map::NONE, "the sizes of boxes are not in the map");
    pass()
}

fn the_address_is_replaced() -> CaseResult {
    let gpu = Gpu::new()?;
    needs_maps!(gpu);
    let (here, there) = (gpu.alloc(1 << 20)?, gpu.alloc(1 << 20)?);
    let (mut map, mut other) = (Map::NONE, Map::NONE);
    Tensor::new(here, &[64, 64], &[16, 16]).encode(&gpu, map.place())?.ok()?;
    Tensor::new(there, &[64, 64], &[16, 16]).encode(&gpu, other.place())?.ok()?;
    gpu.cu.cuTensorMapReplaceAddress(map.place(), place(there)).ok()?;
    ensure!(map == other, "{map:x?} instead of {other:x?}");
    gpu.cu.cuTensorMapReplaceAddress(map.place(), place(there + 4)).is(Code::INVALID_VALUE)?;
    ensure!(map == other, "a refused replacement changed the map");
    pass()
}

fn all_ranks() -> CaseResult {
    let gpu = Gpu::new()?;
    needs_maps!(gpu);
    let address = gpu.alloc(1 << 20)?;
    let mut seen = Vec::new();
    for rank in 1..=5 {
        let mut map = Map::NONE;
        Tensor::new(address, &[8; 5][..rank], &[4; 5][..rank]).encode(&gpu, map.place())?.ok()?;
        ensure!(!seen.contains(&map), "two ranks have one map");
        seen.push(map);
    }
    pass()
}

fn columns_of_images() -> CaseResult {
    let gpu = Gpu::new()?;
    needs_maps!(gpu);
    let tensor = Tensor::new(gpu.alloc(1 << 20)?, &[16, 8, 8, 4], &[]);
    let (lower, upper) = ([-1, -1], [-1, -1]);
    let encode = |map: *mut c_void, rank, lower: *const i32, channels, pixels| {
        gpu.cu.cuTensorMapEncodeIm2col(
            map,
            UINT32,
            rank,
            place(tensor.address),
            tensor.dimensions.as_ptr(),
            tensor.strides.as_ptr(),
            lower,
            upper.as_ptr(),
            channels,
            pixels,
            tensor.steps.as_ptr(),
            0,
            0,
            0,
            0,
        )
    };
    let (mut first, mut second) = (Map::NONE, Map::NONE);
    encode(first.place(), 4, lower.as_ptr(), 16, 8).ok()?;
    encode(second.place(), 4, lower.as_ptr(), 16, 16).ok()?;
    ensure!(first != second && first != Map::NONE, "the pixels of a column are not in the map");
    let mut map = Map::NONE;
    encode(map.place(), 2, lower.as_ptr(), 16, 8).is(Code::INVALID_VALUE)?;
    encode(map.place(), 4, lower.as_ptr(), 512, 8).is(Code::INVALID_VALUE)?;
    encode(map.place(), 4, lower.as_ptr(), 16, 2048).is(Code::INVALID_VALUE)?;
    encode(map.place(), 4, [1000, 0].as_ptr(), 16, 8).is(Code::INVALID_VALUE)?;
    pass()
}

fn bad_tensors_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    needs_maps!(gpu);
    let good = Tensor::new(gpu.alloc(1 << 20)?, &[64, 64], &[16, 16]);
    let bad = [
        ("address", Tensor { address: good.address + 8, ..good.clone() }),
        ("data type", Tensor { data_type: 100, ..good.clone() }),
        ("no elements", Tensor { dimensions: vec![0, 64], ..good.clone() }),
        ("too many elements", Tensor { dimensions: vec![64, (1 << 32) + 1], ..good.clone() }),
        ("stride", Tensor { strides: vec![260], ..good.clone() }),
        ("long stride", Tensor { strides: vec![1 << 40], ..good.clone() }),
        ("no box", Tensor { sizes: vec![16, 0], ..good.clone() }),
        ("large box", Tensor { sizes: vec![16, 257], ..good.clone() }),
        ("narrow box", Tensor { sizes: vec![3, 16], ..good.clone() }),
        ("no step", Tensor { steps: vec![1, 0], ..good.clone() }),
        ("large step", Tensor { steps: vec![1, 9], ..good.clone() }),
        ("interleave", Tensor { manner: [7, 0, 0, 0], ..good.clone() }),
        ("swizzle", Tensor { manner: [0, 77, 0, 0], ..good.clone() }),
        ("box wider than swizzle", Tensor { manner: [0, 1, 0, 0], ..good.clone() }),
        ("promotion", Tensor { manner: [0, 0, 77, 0], ..good.clone() }),
        ("fill", Tensor { manner: [0, 0, 0, 77], ..good.clone() }),
        ("fill of integers", Tensor { manner: [0, 0, 0, 1], ..good.clone() }),
        ("six dimensions", Tensor::new(good.address, &[8; 6], &[4; 6])),
    ];
    let mut map = Map::NONE;
    for (what, tensor) in bad {
        let code = tensor.encode(&gpu, map.place())?;
        ensure!(code == Code::INVALID_VALUE, "{what}: {code:?}");
    }
    good.encode(&gpu, map.place())?.ok()?;
    pass()
}

fn bad_places_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    needs_maps!(gpu);
    let good = Tensor::new(gpu.alloc(1 << 20)?, &[64, 64], &[16, 16]);
    good.encode(&gpu, std::ptr::null_mut())?.is(Code::INVALID_VALUE)?;
    let mut room = [Map::NONE; 2];
    good.encode(&gpu, room.as_mut_ptr().cast::<u8>().wrapping_add(64).cast())?.ok()?;
    pass()
}
