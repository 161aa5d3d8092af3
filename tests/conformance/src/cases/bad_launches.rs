//! Launches that must be refused, at once and without a trace.

use std::ffi::c_void;

use anyhow::ensure;

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, Shape, arguments, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("bad_launches":
    a_buffer_of_the_wrong_size_is_refused,
    both_parameter_forms_are_refused,
    too_much_shared_memory_is_refused,
    a_block_too_big_is_refused,
    an_empty_grid_is_refused,
    a_grid_too_big_is_refused,
    a_null_function_is_refused,
    a_declared_block_limit_holds,
    refused_launches_leave_no_trace,
    a_context_other_than_the_functions_is_refused,
);

/// Launches with all parameters in one buffer.
pub(crate) fn launch_by_buffer(
    gpu: &Gpu,
    function: Handle,
    shape: Shape,
    buffer: &mut [u8],
    size: usize,
) -> Code {
    let mut size = size;
    let mut extra: [*mut c_void; 5] = [
        std::ptr::without_provenance_mut(1),
        buffer.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(2),
        (&raw mut size).cast(),
        std::ptr::null_mut(),
    ];
    let ((gx, gy, gz), (bx, by, bz)) = (shape.grid, shape.block);
    let none = std::ptr::null_mut();
    gpu.cu.cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shape.shared, 0, none, extra.as_mut_ptr())
}

fn a_buffer_of_the_wrong_size_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[5u32])?;
    let mut buffer = [0u8; 64];
    buffer[..8].copy_from_slice(&cell.to_le_bytes());
    // Too little is refused by some drivers and filled up by others: what must not happen is a crash or a
    // write elsewhere.
    let code = launch_by_buffer(&gpu, step, shape(1, 1), &mut buffer, 4);
    code.is_one_of(&[Code::SUCCESS, Code::INVALID_VALUE, Code::LAUNCH_OUT_OF_RESOURCES])?;
    if code == Code::SUCCESS {
        return skip("this driver takes a short parameter buffer");
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [5], "a refused launch ran");
    pass()
}

fn both_parameter_forms_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let mut cell = gpu.upload(&[5u32])?;
    let (mut multiply, mut add, mut size) = (1u32, 1u32, 16usize);
    let mut list: [*mut c_void; 3] =
        [(&raw mut cell).cast(), (&raw mut multiply).cast(), (&raw mut add).cast()];
    let mut buffer = [0u64; 2];
    let mut extra: [*mut c_void; 5] = [
        std::ptr::without_provenance_mut(1),
        buffer.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(2),
        (&raw mut size).cast(),
        std::ptr::null_mut(),
    ];
    gpu.cu
        .cuLaunchKernel(step, 1, 1, 1, 1, 1, 1, 0, 0, list.as_mut_ptr(), extra.as_mut_ptr())
        .is(Code::INVALID_VALUE)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [5], "a refused launch ran");
    pass()
}

pub(crate) const MAX_DYNAMIC_SHARED: i32 = 8;

fn too_much_shared_memory_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let most = gpu.attribute(97)?;
    let last_word = gpu.kernel(kernels::LAUNCH, "last_word")?;
    let out = gpu.upload(&[5u32])?;
    gpu.cu.cuFuncSetAttribute(last_word, MAX_DYNAMIC_SHARED, most + 4).is(Code::INVALID_VALUE)?;
    let shape = Shape { grid: (1, 1, 1), block: (1, 1, 1), shared: 1 << 30 };
    gpu.launch_on(0, last_word, shape, arguments![out, 4u32]).is(Code::INVALID_VALUE)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(out, 1)? == [5], "a refused launch ran");
    pass()
}

fn a_block_too_big_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    for block in [(2048, 1, 1), (1025, 1, 1), (1, 1025, 1), (1, 1, 65), (32, 33, 1), (0x8000_0000, 2, 1)] {
        let shape = Shape { grid: (1, 1, 1), block, shared: 0 };
        gpu.launch_on(0, nothing, shape, &[]).is(Code::INVALID_VALUE)?;
    }
    gpu.run(nothing, Shape { grid: (1, 1, 1), block: (32, 32, 1), shared: 0 }, &[])?;
    gpu.run(nothing, Shape { grid: (1, 1, 1), block: (4, 4, 64), shared: 0 }, &[])?;
    pass()
}

fn an_empty_grid_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    for (grid, block) in [
        ((0, 1, 1), (1, 1, 1)),
        ((1, 0, 1), (1, 1, 1)),
        ((1, 1, 0), (1, 1, 1)),
        ((1, 1, 1), (0, 1, 1)),
        ((1, 1, 1), (1, 0, 1)),
        ((1, 1, 1), (1, 1, 0)),
    ] {
        gpu.launch_on(0, nothing, Shape { grid, block, shared: 0 }, &[]).is(Code::INVALID_VALUE)?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    pass()
}

fn a_grid_too_big_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    for grid in [(1, 65536, 1), (1, 1, 65536), (0x8000_0000, 1, 1), (u32::MAX, u32::MAX, u32::MAX)] {
        gpu.launch_on(0, nothing, Shape { grid, block: (1, 1, 1), shared: 0 }, &[])
            .is(Code::INVALID_VALUE)?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    pass()
}

fn a_null_function_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    gpu.launch_on(0, 0, shape(1, 1), &[]).is(Code::INVALID_HANDLE)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    pass()
}

fn a_declared_block_limit_holds() -> CaseResult {
    let gpu = Gpu::new()?;
    let small = gpu.kernel(kernels::LAUNCH, "small_blocks")?;
    let cell = gpu.upload(&[0u32])?;
    gpu.run(small, shape(2, 64), arguments![cell])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [128], "{:?} threads ran", gpu.read::<u32>(cell, 1)?);
    // A kernel that declares its largest block is refused with either code, by the driver's version.
    gpu.launch_on(0, small, shape(1, 128), arguments![cell])
        .is_one_of(&[Code::INVALID_VALUE, Code::LAUNCH_OUT_OF_RESOURCES])?;
    let mut most = 0;
    gpu.cu.cuFuncGetAttribute(&mut most, 0, small).ok()?;
    ensure!(most == 64, "the function says that blocks have at most {most} threads");
    pass()
}

fn refused_launches_leave_no_trace() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    for _ in 0..50 {
        gpu.launch_on(0, step, shape(1, 4096), arguments![cell, 7u32, 7u32]).is(Code::INVALID_VALUE)?;
        gpu.launch_on(0, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
        gpu.launch_on(0, step, shape(0, 1), arguments![cell, 7u32, 7u32]).is(Code::INVALID_VALUE)?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [51], "{:?} after fifty steps", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn a_context_other_than_the_functions_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[5u32])?;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    // Documented nowhere with its code; drivers answer one of these.
    let refused = [Code::INVALID_HANDLE, Code::INVALID_CONTEXT, Code::INVALID_VALUE];
    gpu.launch_on(0, step, shape(1, 1), arguments![cell, 2u32, 1u32]).is_one_of(&refused)?;
    gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [5], "a refused launch ran");
    pass()
}
