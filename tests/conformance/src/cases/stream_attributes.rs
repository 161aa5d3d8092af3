//! Attributes of streams.

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("stream_attributes":
    they_begin_as_documented,
    the_synchronisation_policy_is_kept,
    a_window_is_kept,
    a_domain_is_kept,
    they_are_copied,
    work_goes_on_with_them,
    bad_ones_are_refused,
    no_stream_is_of_a_green_context,
);

const WINDOW: u32 = 1;
const POLICY: u32 = 3;
const PRIORITY: u32 = 8;
const DOMAIN_MAP: u32 = 9;
const DOMAIN: u32 = 10;

/// What the program writes into the room that it asks for, and the driver has no business with.
const MARK: u64 = 0x5a5a_5a5a_5a5a_5a5a;

#[track_caller]
fn ask(gpu: &Gpu, stream: Handle, attribute: u32) -> Result<[u64; 8]> {
    let mut value = [0; 8];
    gpu.cu.cuStreamGetAttribute(stream, attribute, &mut value).ok()?;
    Ok(value)
}

/// An attribute that is one 32-bit number.
#[track_caller]
fn number(gpu: &Gpu, stream: Handle, attribute: u32) -> Result<u32> {
    Ok(u32::try_from(ask(gpu, stream, attribute)?[0] & 0xffff_ffff)?)
}

#[track_caller]
fn set(gpu: &Gpu, stream: Handle, attribute: u32, value: u64) -> Code {
    gpu.cu.cuStreamSetAttribute(stream, attribute, &[value, 0, 0, 0, 0, 0, 0, 0])
}

fn they_begin_as_documented() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    // None that could be set: driver 580 says -1.
    let policy = number(&gpu, stream, POLICY)?;
    ensure!(policy <= 4 || policy == u32::MAX, "the synchronisation policy is {policy}");
    ensure!(ask(&gpu, stream, WINDOW)?[1] == 0, "the access policy window has bytes");
    ensure!(number(&gpu, stream, DOMAIN)? == 0, "the domain is not the default one");
    let mut priority = 7;
    gpu.cu.cuStreamGetPriority(stream, &mut priority).ok()?;
    ensure!(number(&gpu, stream, PRIORITY)? == priority.cast_unsigned(), "there are two priorities");
    // A program of CUDA 11 has 32 bytes of room.
    let mut value = [MARK; 8];
    gpu.cu.cuStreamGetAttribute(stream, POLICY, &mut value).ok()?;
    ensure!(value[4..] == [MARK; 4], "more was written than the attribute has");
    pass()
}

fn the_synchronisation_policy_is_kept() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, other) = (gpu.stream(1)?, gpu.stream(1)?);
    let of_other = number(&gpu, other, POLICY)?;
    for policy in [2, 3, 4, 1] {
        set(&gpu, stream, POLICY, policy).ok()?;
        ensure!(u64::from(number(&gpu, stream, POLICY)?) == policy, "the policy {policy} is not kept");
        ensure!(number(&gpu, other, POLICY)? == of_other, "another stream has it, too");
    }
    pass()
}

fn window(gpu: &Gpu) -> Result<[u64; 8]> {
    let base = gpu.alloc(1 << 20)?;
    let ratio = u64::from(1f32.to_bits());
    // Hits persist, misses stream.
    Ok([base, 1 << 16, ratio | 2 << 32, 1, 0, 0, 0, 0])
}

fn a_window_is_kept() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(109)? < 1 << 16 {
        return skip("there is no access policy window");
    }
    let stream = gpu.stream(1)?;
    let wanted = window(&gpu)?;
    gpu.cu.cuStreamSetAttribute(stream, WINDOW, &wanted).ok()?;
    let found = ask(&gpu, stream, WINDOW)?;
    ensure!(found[..3] == wanted[..3] && found[3] & 0xffff_ffff == 1, "the window is {found:x?}");
    pass()
}

fn a_domain_is_kept() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(127)? < 2 {
        return skip("there is one domain of memory synchronisation");
    }
    let stream = gpu.stream(1)?;
    set(&gpu, stream, DOMAIN, 1).ok()?;
    ensure!(number(&gpu, stream, DOMAIN)? == 1, "the domain is not kept");
    set(&gpu, stream, DOMAIN_MAP, 0x0001).ok()?;
    ensure!(ask(&gpu, stream, DOMAIN_MAP)?[0] & 0xffff == 0x0001, "the map is not kept");
    pass()
}

fn they_are_copied() -> CaseResult {
    let gpu = Gpu::new()?;
    let (from, to) = (gpu.stream(1)?, gpu.stream(0)?);
    set(&gpu, from, POLICY, 3).ok()?;
    gpu.cu.cuStreamCopyAttributes(to, from).ok()?;
    ensure!(number(&gpu, to, POLICY)? == 3, "the policy was not copied");
    let mut flags = 7;
    gpu.cu.cuStreamGetFlags(to, &mut flags).ok()?;
    ensure!(flags == 0, "the flags were copied as well");
    pass()
}

fn work_goes_on_with_them() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (stream, cell) = (gpu.stream(1)?, gpu.upload(&[6u32])?);
    for policy in 1..=4 {
        set(&gpu, stream, POLICY, policy).ok()?;
        gpu.launch_on(stream, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
    }
    ensure!(gpu.read::<u32>(cell, 1)? == [10], "the stream's kernels did not run");
    pass()
}

fn bad_ones_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let mut value = [0; 8];
    let policy = number(&gpu, stream, POLICY)?;
    // A cluster's size, what there is not.
    for attribute in [4, 99] {
        gpu.cu.cuStreamGetAttribute(stream, attribute, &mut value).is(Code::INVALID_VALUE)?;
        set(&gpu, stream, attribute, 1).is(Code::INVALID_VALUE)?;
    }
    set(&gpu, stream, POLICY, 77).is(Code::INVALID_VALUE)?;
    ensure!(number(&gpu, stream, POLICY)? == policy, "a refused policy was taken");
    pass()
}

fn no_stream_is_of_a_green_context() -> CaseResult {
    let gpu = Gpu::new()?;
    if crate::gpu::version()? < 12_050 {
        return skip("the driver is older than CUDA 12.5");
    }
    let (stream, mut context, mut first, mut green) = (gpu.stream(1)?, 0, 0, 7);
    gpu.cu.cuStreamGetCtx_v2(stream, &mut context, &mut green).ok()?;
    gpu.cu.cuStreamGetCtx(stream, &mut first).ok()?;
    ensure!(context == first && green == 0, "the stream is of {context:#x} and {green:#x}");
    pass()
}
