//! Arrays, and textures and surfaces of them and of plain memory.

use std::ffi::c_void;

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::kernels;

area!("arrays":
    descriptors_are_what_was_asked_for,
    bad_descriptors_are_refused,
    rows_go_in_and_out,
    a_large_array_of_pageable_memory,
    copies_between_arrays_and_memory,
    slices_go_in_and_out,
    copies_outside_are_refused,
    a_copy_on_a_stream,
    a_graph_copies_arrays,
    forged_arrays_are_refused,
    levels_of_detail,
    a_texture_is_read,
    texels_are_mixed,
    edges,
    normalized_coordinates,
    integers_as_floats_and_as_integers,
    halves_are_widened,
    a_volume_is_read,
    layers_are_told_apart,
    faces_of_a_cube,
    four_texels_are_gathered,
    plain_memory_as_a_texture,
    rows_of_memory_as_a_texture,
    a_surface_is_read_and_written,
    writes_outside_a_surface_are_dropped,
    sizes_are_asked_by_kernels,
    what_an_object_was_made_of,
    forged_objects_are_refused,
    memory_comes_back,
);

const FLOAT: u32 = 0x20;
const UNSIGNED_8: u32 = 0x01;
const SIGNED_16: u32 = 0x09;
const UNSIGNED_32: u32 = 0x03;
const HALF: u32 = 0x10;

const LAYERED: u32 = 1;
const SURFACE: u32 = 2;
const CUBE: u32 = 4;
const GATHER: u32 = 8;

const WRAP: u32 = 0;
const CLAMP: u32 = 1;
const MIRROR: u32 = 2;
const BORDER: u32 = 3;

const AS_INTEGER: u32 = 1;
const NORMALIZED: u32 = 2;

/// `CUDA_ARRAY3D_DESCRIPTOR`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Descriptor {
    width: usize,
    height: usize,
    depth: usize,
    format: u32,
    channels: u32,
    flags: u32,
}

/// `CUDA_ARRAY_DESCRIPTOR`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Flat {
    width: usize,
    height: usize,
    format: u32,
    channels: u32,
}

/// `CUDA_RESOURCE_DESC`
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resource {
    kind: u32,
    words: [u64; 16],
    flags: u32,
}

/// `CUDA_TEXTURE_DESC`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sampling {
    edges: [u32; 3],
    filter: u32,
    flags: u32,
    anisotropy: u32,
    level_filter: u32,
    bias: f32,
    clamp: [f32; 2],
    border: [f32; 4],
    reserved: [i32; 12],
}

/// `CUDA_MEMCPY3D`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Copy3 {
    from: End,
    to: End,
    width: usize,
    height: usize,
    depth: usize,
}

/// One side of `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct End {
    x: usize,
    y: usize,
    z: usize,
    level: usize,
    kind: u32,
    host: *const c_void,
    device: u64,
    array: Handle,
    reserved: usize,
    pitch: usize,
    rows: usize,
}

impl End {
    const NOWHERE: Self = Self {
        x: 0,
        y: 0,
        z: 0,
        level: 0,
        kind: 0,
        host: std::ptr::null(),
        device: 0,
        array: 0,
        reserved: 0,
        pitch: 0,
        rows: 0,
    };

    fn host<T>(values: *const T, pitch: usize, rows: usize) -> Self {
        Self { kind: 1, host: values.cast(), pitch, rows, ..Self::NOWHERE }
    }

    fn device(address: u64, pitch: usize, rows: usize) -> Self {
        Self { kind: 2, device: address, pitch, rows, ..Self::NOWHERE }
    }

    fn array(array: Handle, x: usize, y: usize, z: usize) -> Self {
        Self { kind: 3, array, x, y, z, ..Self::NOWHERE }
    }
}

fn at<T>(value: &T) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

fn place<T>(value: &mut T) -> *mut c_void {
    std::ptr::from_mut(value).cast()
}

fn copy(gpu: &Gpu, to: End, from: End, [width, height, depth]: [usize; 3]) -> Code {
    let copy = Copy3 { from, to, width, height, depth };
    gpu.cu.cuMemcpy3D_v2(at(&copy).cast())
}

fn flat(width: usize, height: usize, format: u32, channels: u32, flags: u32) -> Descriptor {
    Descriptor { width, height, depth: 0, format, channels, flags }
}

fn create(gpu: &Gpu, descriptor: Descriptor) -> Result<Handle> {
    let mut array = 0;
    gpu.cu.cuArray3DCreate_v2(&mut array, at(&descriptor)).ok()?;
    ensure!(array != 0, "an array is a null handle");
    Ok(array)
}

/// An array that holds these values, row after row and slice after slice.
fn filled<T: Copy>(gpu: &Gpu, descriptor: Descriptor, values: &[T]) -> Result<Handle> {
    let array = create(gpu, descriptor)?;
    let (rows, slices) = (descriptor.height.max(1), descriptor.depth.max(1));
    let row = size_of_val(values) / rows / slices;
    copy(gpu, End::array(array, 0, 0, 0), End::host(values.as_ptr(), row, rows), [row, rows, slices]).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    Ok(array)
}

fn of_array(array: Handle) -> Result<Resource> {
    let mut words = [0; 16];
    words[0] = u64::try_from(array)?;
    Ok(Resource { kind: 0, words, flags: 0 })
}

fn texture(gpu: &Gpu, resource: &Resource, sampling: &Sampling) -> Result<u64> {
    let mut object = 0;
    gpu.cu.cuTexObjectCreate(&mut object, at(resource), at(sampling), std::ptr::null()).ok()?;
    Ok(object)
}

fn clamped(filter: u32) -> Sampling {
    Sampling { edges: [CLAMP; 3], filter, ..Sampling::default() }
}

/// What one of the kernels reads at some places.
fn read<T: Copy + Default>(gpu: &Gpu, name: &str, object: u64, places: &[[f32; 4]]) -> Result<Vec<[T; 4]>>
where
    [T; 4]: Default,
{
    let (from, to) = (gpu.upload(places)?, gpu.alloc(16 * places.len())?);
    let kernel = gpu.kernel(kernels::TEXTURES, name)?;
    let threads = u32::try_from(places.len())?;
    gpu.run(kernel, shape(1, threads), arguments![object, from, to])?;
    gpu.read(to, places.len())
}

/// The first channel of what a kernel reads.
fn first(gpu: &Gpu, name: &str, object: u64, places: &[[f32; 4]]) -> Result<Vec<f32>> {
    Ok(read::<f32>(gpu, name, object, places)?.iter().map(|texel| texel[0]).collect())
}

fn ramp(count: u16) -> Vec<f32> {
    (0..count).map(f32::from).collect()
}

fn descriptors_are_what_was_asked_for() -> CaseResult {
    let gpu = Gpu::new()?;
    let asked = [
        flat(64, 0, FLOAT, 1, 0),
        flat(64, 32, UNSIGNED_8, 4, SURFACE),
        Descriptor { depth: 8, ..flat(16, 16, HALF, 2, 0) },
        Descriptor { depth: 3, ..flat(16, 8, UNSIGNED_32, 1, LAYERED) },
        Descriptor { depth: 6, ..flat(16, 16, FLOAT, 1, CUBE) },
    ];
    for descriptor in asked {
        let array = create(&gpu, descriptor)?;
        let mut got = Descriptor::default();
        gpu.cu.cuArray3DGetDescriptor_v2(place(&mut got), array).ok()?;
        ensure!(got == descriptor, "{descriptor:?} became {got:?}");
        gpu.cu.cuArrayDestroy(array).ok()?;
    }
    let asked = Flat { width: 20, height: 10, format: SIGNED_16, channels: 2 };
    let (mut array, mut got) = (0, Flat::default());
    gpu.cu.cuArrayCreate_v2(&mut array, at(&asked)).ok()?;
    gpu.cu.cuArrayGetDescriptor_v2(place(&mut got), array).ok()?;
    ensure!(got == asked, "{asked:?} became {got:?}");
    gpu.cu.cuArrayDestroy(array).ok()?;
    pass()
}

fn bad_descriptors_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let bad = [
        flat(0, 0, FLOAT, 1, 0),
        flat(16, 16, FLOAT, 0, 0),
        flat(16, 16, FLOAT, 5, 0),
        flat(16, 16, 0x7777, 1, 0),
        flat(1 << 40, 16, FLOAT, 1, 0),
        Descriptor { depth: 5, ..flat(16, 16, FLOAT, 1, CUBE) },
    ];
    for descriptor in bad {
        let mut array = 0;
        let code = gpu.cu.cuArray3DCreate_v2(&mut array, at(&descriptor));
        ensure!(code != Code::SUCCESS, "{descriptor:?} was made");
    }
    let good = flat(16, 16, FLOAT, 1, 0);
    gpu.cu.cuArray3DCreate_v2(std::ptr::null_mut(), at(&good)).is(Code::INVALID_VALUE)?;
    gpu.cu.cuArray3DCreate_v2(&mut 0, std::ptr::null()).is(Code::INVALID_VALUE)?;
    pass()
}

fn rows_go_in_and_out() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = ramp(33 * 7);
    let array = filled(&gpu, flat(33, 7, FLOAT, 1, 0), &values)?;
    let mut got = vec![0f32; values.len()];
    copy(&gpu, End::host(got.as_mut_ptr(), 132, 7), End::array(array, 0, 0, 0), [132, 7, 1]).ok()?;
    ensure!(got == values, "other rows came back");
    // A part, into rows that are further apart.
    let mut part = vec![-1f32; 16 * 3];
    copy(&gpu, End::host(part.as_mut_ptr(), 64, 3), End::array(array, 8, 2, 0), [40, 3, 1]).ok()?;
    for row in 0..3 {
        for column in 0..16 {
            let expected = if column < 10 { values[(row + 2) * 33 + column + 2] } else { -1.0 };
            ensure!(
                part[row * 16 + column] == expected,
                "row {row}, column {column}: {}",
                part[row * 16 + column]
            );
        }
    }
    pass()
}

fn a_large_array_of_pageable_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let (width, height) = (1500usize, 1100usize);
    let values: Vec<u32> = (0..u32::try_from(width * height)?).collect();
    let array = filled(&gpu, flat(width, height, UNSIGNED_32, 1, 0), &values)?;
    let mut got = vec![0u32; values.len()];
    let row = 4 * width;
    copy(&gpu, End::host(got.as_mut_ptr(), row, height), End::array(array, 0, 0, 0), [row, height, 1])
        .ok()?;
    ensure!(got == values, "other rows came back");
    pass()
}

fn copies_between_arrays_and_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = ramp(64);
    let (first, second) = (create(&gpu, flat(64, 0, FLOAT, 1, 0))?, create(&gpu, flat(64, 0, FLOAT, 1, 0))?);
    let memory = gpu.upload(&values)?;
    gpu.cu.cuMemcpyDtoA_v2(first, 0, memory, 256).ok()?;
    gpu.cu.cuMemcpyAtoA_v2(second, 128, first, 0, 128).ok()?;
    gpu.cu.cuMemcpyHtoA_v2(second, 0, values.as_ptr().cast(), 128).ok()?;
    let other = gpu.alloc(256)?;
    gpu.cu.cuMemcpyAtoD_v2(other, second, 0, 256).ok()?;
    let expected: Vec<f32> = values[..32].iter().chain(&values[..32]).copied().collect();
    ensure!(gpu.read::<f32>(other, 64)? == expected, "other values came to memory");
    let mut got = vec![0f32; 32];
    gpu.cu.cuMemcpyAtoH_v2(got.as_mut_ptr().cast(), second, 64, 128).ok()?;
    ensure!(got == expected[16..48], "other values came to the host");
    pass()
}

fn slices_go_in_and_out() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = ramp(8 * 6 * 5);
    let array = filled(&gpu, Descriptor { depth: 5, ..flat(8, 6, FLOAT, 1, 0) }, &values)?;
    let memory = gpu.alloc(4 * 4 * 2 * 3)?;
    copy(&gpu, End::device(memory, 16, 2), End::array(array, 8, 3, 1), [16, 2, 3]).ok()?;
    let mut expected = Vec::new();
    for z in 1..4 {
        for y in 3..5 {
            expected.extend((2..6).map(|x| values[(z * 6 + y) * 8 + x]));
        }
    }
    ensure!(gpu.read::<f32>(memory, expected.len())? == expected, "another part came");
    pass()
}

fn copies_outside_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = create(&gpu, flat(16, 8, FLOAT, 1, 0))?;
    let values = [0u8; 4096];
    for (x, y, z, size) in [
        (0, 0, 0, [68, 8, 1]),
        (4, 0, 0, [64, 8, 1]),
        (0, 1, 0, [64, 8, 1]),
        (0, 0, 1, [64, 8, 1]),
        (0, 0, 0, [64, 8, 2]),
        (usize::MAX - 3, 0, 0, [64, 8, 1]),
        (0, usize::MAX, 0, [64, 2, 1]),
    ] {
        let code = copy(&gpu, End::array(array, x, y, z), End::host(values.as_ptr(), 68, 8), size);
        ensure!(code == Code::INVALID_VALUE, "{x} {y} {z} {size:?}: {code:?}");
    }
    pass()
}

fn a_copy_on_a_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let array = create(&gpu, flat(256, 0, UNSIGNED_8, 1, 0))?;
    let (from, to) = (gpu.pinned(256, 0)?, gpu.pinned(256, 0)?);
    for (index, byte) in (0..=u8::MAX).zip(crate::gpu::host(from, 256)) {
        *byte = index;
    }
    gpu.cu.cuMemcpyHtoAAsync_v2(array, 0, from.cast(), 256, stream).ok()?;
    gpu.cu.cuMemcpyAtoHAsync_v2(to.cast(), array, 0, 256, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(crate::gpu::host(to, 256) == crate::gpu::host(from, 256), "other bytes came back");
    pass()
}

fn a_graph_copies_arrays() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let (array, memory) = (create(&gpu, flat(16, 4, UNSIGNED_32, 1, 0))?, gpu.alloc(256)?);
    let values: Vec<u32> = (0..64).collect();
    let source = gpu.upload(&values)?;
    let (mut graph, mut exec) = (0, 0);
    gpu.cu.cuStreamBeginCapture_v2(stream, 2).ok()?;
    for (to, from) in [
        (End::array(array, 0, 0, 0), End::device(source, 64, 4)),
        (End::device(memory, 64, 4), End::array(array, 0, 0, 0)),
    ] {
        let copy = Copy3 { from, to, width: 64, height: 4, depth: 1 };
        gpu.cu.cuMemcpy3DAsync_v2(at(&copy).cast(), stream).ok()?;
    }
    gpu.cu.cuStreamEndCapture(stream, &mut graph).ok()?;
    gpu.cu.cuGraphInstantiateWithFlags(&mut exec, graph, 0).ok()?;
    gpu.cu.cuGraphLaunch(exec, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(gpu.read::<u32>(memory, 64)? == values, "other values came");
    pass()
}

fn forged_arrays_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = create(&gpu, flat(16, 0, FLOAT, 1, 0))?;
    gpu.cu.cuArrayDestroy(array).ok()?;
    let mut values = [0f32; 16];
    let refused = [Code::INVALID_HANDLE, Code::INVALID_VALUE, Code::CONTEXT_IS_DESTROYED];
    gpu.cu.cuMemcpyAtoH_v2(place(&mut values), 0, 0, 64).is_one_of(&refused)?;
    gpu.cu.cuArrayDestroy(0).is_one_of(&refused)?;
    pass()
}

fn levels_of_detail() -> CaseResult {
    let gpu = Gpu::new()?;
    let descriptor = flat(16, 8, FLOAT, 1, 0);
    let mut mipmapped = 0;
    gpu.cu.cuMipmappedArrayCreate(&mut mipmapped, at(&descriptor), 3).ok()?;
    for (level, (width, height)) in (0u32..).zip([(16, 8), (8, 4), (4, 2)]) {
        let (mut array, mut got) = (0, Descriptor::default());
        gpu.cu.cuMipmappedArrayGetLevel(&mut array, mipmapped, level).ok()?;
        gpu.cu.cuArray3DGetDescriptor_v2(place(&mut got), array).ok()?;
        ensure!((got.width, got.height) == (width, height), "level {level} is {got:?}");
        let values = vec![10.0 * f32::from(u8::try_from(level)?); width * height];
        let size = [4 * width, height, 1];
        copy(&gpu, End::array(array, 0, 0, 0), End::host(values.as_ptr(), 4 * width, height), size).ok()?;
    }
    gpu.cu.cuMipmappedArrayGetLevel(&mut 0, mipmapped, 3).is(Code::INVALID_VALUE)?;
    let resource = Resource { kind: 1, ..of_array(mipmapped)? };
    let sampling = Sampling { flags: NORMALIZED, level_filter: 1, clamp: [0.0, 2.0], ..clamped(0) };
    let object = texture(&gpu, &resource, &sampling)?;
    let places = [0.0, 1.0, 1.5, 2.0, 9.0].map(|level| [0.5, 0.5, level, 0.0]);
    let got = first(&gpu, "sample_level", object, &places)?;
    ensure!(got == [0.0, 10.0, 15.0, 20.0, 20.0], "{got:?}");
    gpu.cu.cuTexObjectDestroy(object).ok()?;
    gpu.cu.cuMipmappedArrayDestroy(mipmapped).ok()?;
    pass()
}

fn a_texture_is_read() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = ramp(16 * 8);
    let array = filled(&gpu, flat(16, 8, FLOAT, 1, 0), &values)?;
    let object = texture(&gpu, &of_array(array)?, &clamped(0))?;
    let places =
        [[0.5, 0.5], [0.0, 0.0], [15.9, 7.9], [3.99, 2.0], [20.0, -5.0]].map(|[x, y]| [x, y, 0.0, 0.0]);
    let got = first(&gpu, "sample_2d", object, &places)?;
    ensure!(got == [0.0, 0.0, 127.0, 35.0, 15.0], "{got:?}");
    gpu.cu.cuTexObjectDestroy(object).ok()?;
    gpu.cu.cuArrayDestroy(array).ok()?;
    pass()
}

fn texels_are_mixed() -> CaseResult {
    let gpu = Gpu::new()?;
    let values: Vec<f32> =
        (0..8u8).flat_map(|y| (0..8u8).map(move |x| f32::from(x) + 100.0 * f32::from(y))).collect();
    let array = filled(&gpu, flat(8, 8, FLOAT, 1, 0), &values)?;
    let object = texture(&gpu, &of_array(array)?, &clamped(1))?;
    let places =
        [[0.5, 0.5], [1.0, 0.5], [2.75, 3.25], [0.0, 0.0], [8.0, 8.0]].map(|[x, y]| [x, y, 0.0, 0.0]);
    let got = first(&gpu, "sample_2d", object, &places)?;
    ensure!(got == [0.0, 0.5, 277.25, 0.0, 707.0], "{got:?}");
    pass()
}

fn edges() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = filled(&gpu, flat(4, 0, FLOAT, 1, 0), &[1f32, 2.0, 3.0, 4.0])?;
    let places = [-0.375, -0.125, 0.125, 1.125, 1.375].map(|x| [x, 0.0, 0.0, 0.0]);
    let border = [9.0; 4];
    for (edge, expected) in [
        (WRAP, [3.0, 4.0, 1.0, 1.0, 2.0]),
        (CLAMP, [1.0, 1.0, 1.0, 4.0, 4.0]),
        (MIRROR, [2.0, 1.0, 1.0, 4.0, 3.0]),
        (BORDER, [9.0, 9.0, 1.0, 9.0, 9.0]),
    ] {
        let sampling = Sampling { edges: [edge; 3], flags: NORMALIZED, border, ..Sampling::default() };
        let object = texture(&gpu, &of_array(array)?, &sampling)?;
        let got = first(&gpu, "sample_1d", object, &places)?;
        ensure!(got == expected, "edge {edge}: {got:?}");
    }
    pass()
}

fn normalized_coordinates() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = filled(&gpu, flat(8, 4, FLOAT, 1, 0), &ramp(32))?;
    let object = texture(&gpu, &of_array(array)?, &Sampling { flags: NORMALIZED, ..clamped(1) })?;
    let places =
        [[0.0625, 0.125], [0.125, 0.125], [0.9375, 0.875], [0.5, 0.5]].map(|[x, y]| [x, y, 0.0, 0.0]);
    let got = first(&gpu, "sample_2d", object, &places)?;
    ensure!(got == [0.0, 0.5, 31.0, 15.5], "{got:?}");
    pass()
}

fn integers_as_floats_and_as_integers() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = [0u8, 51, 102, 255, 255, 0, 204, 153];
    let array = filled(&gpu, flat(2, 1, UNSIGNED_8, 4, 0), &bytes)?;
    let object = texture(&gpu, &of_array(array)?, &clamped(0))?;
    let places = [[0.5, 0.5, 0.0, 0.0], [1.5, 0.5, 0.0, 0.0]];
    let got = read::<f32>(&gpu, "sample_2d", object, &places)?;
    let expected = [[0.0f32, 0.2, 0.4, 1.0], [1.0, 0.0, 0.8, 0.6]];
    let close = got.iter().flatten().zip(expected.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-6);
    ensure!(close, "{got:?}");
    let object = texture(&gpu, &of_array(array)?, &Sampling { flags: AS_INTEGER, ..clamped(0) })?;
    let got = read::<u32>(&gpu, "sample_integers", object, &places)?;
    ensure!(got == [[0, 51, 102, 255], [255, 0, 204, 153]], "{got:?}");
    let array = filled(&gpu, flat(2, 1, SIGNED_16, 2, 0), &[-5i16, 7, -32768, 32767])?;
    let object = texture(&gpu, &of_array(array)?, &Sampling { flags: AS_INTEGER, ..clamped(0) })?;
    let got = read::<i32>(&gpu, "sample_integers", object, &places)?;
    ensure!(got[0][..2] == [-5, 7] && got[1][..2] == [-32768, 32767], "{got:?}");
    let object = texture(&gpu, &of_array(array)?, &clamped(0))?;
    let got = read::<f32>(&gpu, "sample_2d", object, &places)?;
    ensure!(got[1][..2] == [-1.0, 1.0], "{got:?}");
    pass()
}

fn halves_are_widened() -> CaseResult {
    let gpu = Gpu::new()?;
    // 1, -2, 0.5, 65504
    let array = filled(&gpu, flat(2, 1, HALF, 2, 0), &[0x3c00u16, 0xc000, 0x3800, 0x7bff])?;
    let object = texture(&gpu, &of_array(array)?, &clamped(0))?;
    let got = read::<f32>(&gpu, "sample_2d", object, &[[0.5, 0.5, 0.0, 0.0], [1.5, 0.5, 0.0, 0.0]])?;
    ensure!(got[0][..2] == [1.0, -2.0] && got[1][..2] == [0.5, 65504.0], "{got:?}");
    pass()
}

fn a_volume_is_read() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = filled(&gpu, Descriptor { depth: 4, ..flat(4, 4, FLOAT, 1, 0) }, &ramp(64))?;
    let object = texture(&gpu, &of_array(array)?, &clamped(0))?;
    let places = [[0.5, 0.5, 0.5, 0.0], [3.5, 2.5, 1.5, 0.0], [9.0, 9.0, 9.0, 0.0]];
    let got = first(&gpu, "sample_3d", object, &places)?;
    ensure!(got == [0.0, 27.0, 63.0], "{got:?}");
    let object = texture(&gpu, &of_array(array)?, &clamped(1))?;
    let got = first(&gpu, "sample_3d", object, &[[1.0, 1.0, 1.0, 0.0]])?;
    ensure!(got == [10.5], "{got:?}");
    pass()
}

fn layers_are_told_apart() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = filled(&gpu, Descriptor { depth: 3, ..flat(4, 4, FLOAT, 1, LAYERED) }, &ramp(48))?;
    let object = texture(&gpu, &of_array(array)?, &clamped(1))?;
    let places = [[1.5, 0.5, 0.0, 0.0], [1.5, 0.5, 1.0, 0.0], [2.0, 3.5, 2.0, 0.0]];
    let got = first(&gpu, "sample_layer", object, &places)?;
    ensure!(got == [1.0, 17.0, 45.5], "{got:?}");
    pass()
}

fn faces_of_a_cube() -> CaseResult {
    let gpu = Gpu::new()?;
    let values: Vec<f32> = (0..6u8).flat_map(|face| [f32::from(face); 16]).collect();
    let array = filled(&gpu, Descriptor { depth: 6, ..flat(4, 4, FLOAT, 1, CUBE) }, &values)?;
    let object = texture(&gpu, &of_array(array)?, &Sampling { flags: NORMALIZED, ..clamped(0) })?;
    let directions = [
        [1.0, 0.1, 0.2, 0.0],
        [-1.0, 0.1, 0.2, 0.0],
        [0.3, 2.0, 0.2, 0.0],
        [0.3, -2.0, 0.2, 0.0],
        [0.3, 0.1, 5.0, 0.0],
        [0.3, 0.1, -5.0, 0.0],
    ];
    let got = first(&gpu, "sample_cube", object, &directions)?;
    ensure!(got == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{got:?}");
    pass()
}

fn four_texels_are_gathered() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = filled(&gpu, flat(4, 4, FLOAT, 1, GATHER), &ramp(16))?;
    let object = texture(&gpu, &of_array(array)?, &clamped(0))?;
    let got = read::<f32>(&gpu, "gather", object, &[[2.0, 2.0, 0.0, 0.0]])?;
    ensure!(got == [[9.0, 10.0, 6.0, 5.0]], "{got:?}");
    pass()
}

fn plain_memory_as_a_texture() -> CaseResult {
    let gpu = Gpu::new()?;
    let memory = gpu.upload(&ramp(32))?;
    let mut words = [0; 16];
    (words[0], words[1], words[2]) = (memory, u64::from(FLOAT) | 1 << 32, 128);
    let object = texture(&gpu, &Resource { kind: 2, words, flags: 0 }, &Sampling::default())?;
    let got = first(&gpu, "fetch", object, &[[0.0; 4]; 32])?;
    ensure!(got == ramp(32), "{got:?}");
    let got = first(&gpu, "fetch", object, &[[0.0; 4]; 40])?;
    ensure!(got[32..].iter().all(|value| *value == 0.0), "outside there is something: {got:?}");
    let mut width = 0;
    gpu.cu.cuDeviceGetTexture1DLinearMaxWidth(&mut width, FLOAT, 1, gpu.device).ok()?;
    ensure!(width >= 1 << 20, "a texture of memory has at most {width} elements");
    pass()
}

fn rows_of_memory_as_a_texture() -> CaseResult {
    let gpu = Gpu::new()?;
    let values: Vec<f32> =
        (0..4u8).flat_map(|row| (0..128u8).map(move |x| f32::from(row) * 1000.0 + f32::from(x))).collect();
    let memory = gpu.upload(&values)?;
    let mut words = [0; 16];
    (words[0], words[1], words[2]) = (memory, u64::from(FLOAT) | 1 << 32, 100);
    (words[3], words[4]) = (4, 512);
    let object = texture(&gpu, &Resource { kind: 3, words, flags: 0 }, &clamped(0))?;
    let places = [[7.5, 2.5, 0.0, 0.0], [500.0, 0.5, 0.0, 0.0], [0.5, 50.0, 0.0, 0.0]];
    let got = first(&gpu, "sample_2d", object, &places)?;
    ensure!(got == [2007.0, 99.0, 3000.0], "{got:?}");
    pass()
}

fn surface(gpu: &Gpu, array: Handle) -> Result<u64> {
    let mut object = 0;
    gpu.cu.cuSurfObjectCreate(&mut object, at(&of_array(array)?)).ok()?;
    Ok(object)
}

fn a_surface_is_read_and_written() -> CaseResult {
    let gpu = Gpu::new()?;
    let values: Vec<u32> = (0..16 * 8).collect();
    let array = filled(&gpu, flat(16, 8, UNSIGNED_32, 1, SURFACE), &values)?;
    let object = surface(&gpu, array)?;
    let kernel = gpu.kernel(kernels::TEXTURES, "double_surface")?;
    gpu.run(kernel, shape(8, 16), arguments![object])?;
    let mut got = vec![0u32; values.len()];
    copy(&gpu, End::host(got.as_mut_ptr(), 64, 8), End::array(array, 0, 0, 0), [64, 8, 1]).ok()?;
    let expected: Vec<u32> = values.iter().map(|value| value * 2).collect();
    ensure!(got == expected, "{got:?}");
    gpu.cu.cuSurfObjectDestroy(object).ok()?;
    gpu.cu.cuArrayDestroy(array).ok()?;
    pass()
}

fn writes_outside_a_surface_are_dropped() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = filled(&gpu, flat(16, 0, UNSIGNED_32, 1, SURFACE), &[7u32; 16])?;
    let kernel = gpu.kernel(kernels::TEXTURES, "write_around")?;
    gpu.run(kernel, shape(1, 32), arguments![surface(&gpu, array)?])?;
    let mut got = [0u32; 16];
    gpu.cu.cuMemcpyAtoH_v2(place(&mut got), array, 0, 64).ok()?;
    ensure!(got.iter().copied().eq(8..24), "{got:?}");
    pass()
}

fn sizes_are_asked_by_kernels() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = create(&gpu, flat(40, 24, UNSIGNED_32, 1, SURFACE))?;
    let to = gpu.alloc(8)?;
    let sampling = Sampling { flags: AS_INTEGER, ..clamped(0) };
    for (name, object) in [
        ("size_of_texture", texture(&gpu, &of_array(array)?, &sampling)?),
        ("size_of_surface", surface(&gpu, array)?),
    ] {
        gpu.run(gpu.kernel(kernels::TEXTURES, name)?, shape(1, 1), arguments![object, to])?;
        let got = gpu.read::<u32>(to, 2)?;
        ensure!(got == [40, 24], "{name}: {got:?}");
    }
    pass()
}

fn what_an_object_was_made_of() -> CaseResult {
    let gpu = Gpu::new()?;
    let array = create(&gpu, flat(16, 16, FLOAT, 1, SURFACE))?;
    let (resource, sampling) = (of_array(array)?, clamped(1));
    let object = texture(&gpu, &resource, &sampling)?;
    let mut got = Resource { kind: 99, words: [0; 16], flags: 99 };
    gpu.cu.cuTexObjectGetResourceDesc(place(&mut got), object).ok()?;
    ensure!((got.kind, got.words[0]) == (0, resource.words[0]), "{got:?}");
    let mut how = Sampling::default();
    gpu.cu.cuTexObjectGetTextureDesc(place(&mut how), object).ok()?;
    ensure!((how.edges, how.filter, how.flags) == (sampling.edges, 1, 0), "{how:?}");
    let object = surface(&gpu, array)?;
    gpu.cu.cuSurfObjectGetResourceDesc(place(&mut got), object).ok()?;
    ensure!((got.kind, got.words[0]) == (0, resource.words[0]), "{got:?}");
    pass()
}

fn forged_objects_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let refused = [Code::INVALID_VALUE, Code::INVALID_HANDLE];
    let array = create(&gpu, flat(16, 16, FLOAT, 1, 0))?;
    let resource = of_array(array)?;
    let (mut object, good) = (0, clamped(0));
    let null = std::ptr::null();
    gpu.cu.cuTexObjectCreate(std::ptr::null_mut(), at(&resource), at(&good), null).is(Code::INVALID_VALUE)?;
    gpu.cu.cuTexObjectCreate(&mut object, null, at(&good), null).is(Code::INVALID_VALUE)?;
    gpu.cu.cuTexObjectCreate(&mut object, at(&resource), null, null).is(Code::INVALID_VALUE)?;
    let unknown = Resource { kind: 77, ..resource };
    gpu.cu.cuTexObjectCreate(&mut object, at(&unknown), at(&good), null).is_one_of(&refused)?;
    let nothing = of_array(0)?;
    gpu.cu.cuTexObjectCreate(&mut object, at(&nothing), at(&good), null).is_one_of(&refused)?;
    gpu.cu.cuSurfObjectCreate(&mut object, at(&nothing)).is_one_of(&refused)?;
    pass()
}

fn memory_comes_back() -> CaseResult {
    let gpu = Gpu::new()?;
    let free = || -> Result<usize> {
        let (mut free, mut total) = (0, 0);
        gpu.cu.cuMemGetInfo_v2(&mut free, &mut total).ok()?;
        Ok(free)
    };
    // What the driver keeps for itself it has after the first.
    let descriptor = flat(4096, 4096, FLOAT, 1, 0);
    gpu.cu.cuArrayDestroy(create(&gpu, descriptor)?).ok()?;
    let before = free()?;
    let array = create(&gpu, descriptor)?;
    ensure!(free()? + (60 << 20) <= before, "an array of 64 MiB takes no memory");
    gpu.cu.cuArrayDestroy(array).ok()?;
    ensure!(free()? >= before, "an array's memory did not come back");
    pass()
}
