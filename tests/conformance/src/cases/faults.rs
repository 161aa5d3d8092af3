//! What a kernel's mistake does: an error that stays, in this process alone.

use anyhow::{Context, Result, ensure};

use crate::driver::Code;
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass};
use crate::probe::{Probe, ask};
use crate::registry::area;

use super::kernels;

area!("faults":
    a_write_to_nowhere,
    a_read_of_nowhere,
    a_write_far_beyond_an_allocation,
    a_write_to_freed_memory,
    a_misaligned_access,
    a_trap,
    a_trap_in_one_thread,
    shared_memory_has_an_end,
    a_failed_assertion,
    an_assertion_that_holds,
    the_error_stays,
    the_error_reaches_every_thread,
    an_asynchronous_error_comes_at_the_next_wait,
    other_processes_are_unharmed,
    a_new_process_starts_clean,
    exit_after_a_fault,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "fault-good-neighbour", body: good_neighbour },
    Probe { name: "fault-bad-neighbour", body: bad_neighbour },
    Probe { name: "fault-assertion", body: failing_assertion },
];

/// Launches the kernel `poke` on an address and returns what the next wait says.
fn poke(gpu: &Gpu, address: u64) -> Result<Code> {
    let poke = gpu.kernel(kernels::BASIC, "poke")?;
    gpu.launch_on(0, poke, shape(1, 1), arguments![address]).ok()?;
    Ok(gpu.cu.cuCtxSynchronize())
}

fn a_write_to_nowhere() -> CaseResult {
    poke(&Gpu::new()?, 0)?.is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

fn a_read_of_nowhere() -> CaseResult {
    let gpu = Gpu::new()?;
    let (peek, out) = (gpu.kernel(kernels::FAULTS, "peek")?, gpu.upload(&[7u32])?);
    gpu.launch_on(0, peek, shape(1, 1), arguments![0x10u64, out]).ok()?;
    gpu.cu.cuCtxSynchronize().is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

fn a_write_far_beyond_an_allocation() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    // Far enough that nothing of this process lies there.
    poke(&gpu, pointer + (1 << 44))?.is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

fn a_write_to_freed_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(64 << 20)?;
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    poke(&gpu, pointer)?.is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

fn a_misaligned_access() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    poke(&gpu, pointer + 2)?.is(Code::MISALIGNED_ADDRESS)?;
    pass()
}

fn a_trap() -> CaseResult {
    let gpu = Gpu::new()?;
    let trap = gpu.kernel(kernels::FAULTS, "trap_always")?;
    gpu.launch_on(0, trap, shape(1, 32), &[]).ok()?;
    // Drivers tell a trap as a failed launch; some as an illegal instruction.
    gpu.cu.cuCtxSynchronize().is_one_of(&[Code::LAUNCH_FAILED, Code::ILLEGAL_INSTRUCTION])?;
    pass()
}

fn a_trap_in_one_thread() -> CaseResult {
    let gpu = Gpu::new()?;
    let trap = gpu.kernel(kernels::FAULTS, "trap_one")?;
    gpu.run(trap, shape(10, 100), arguments![1000u32])?;
    gpu.launch_on(0, trap, shape(10, 100), arguments![777u32]).ok()?;
    gpu.cu.cuCtxSynchronize().is_one_of(&[Code::LAUNCH_FAILED, Code::ILLEGAL_INSTRUCTION])?;
    pass()
}

fn shared_memory_has_an_end() -> CaseResult {
    let gpu = Gpu::new()?;
    let beyond = gpu.kernel(kernels::FAULTS, "shared_beyond")?;
    gpu.run(beyond, shape(1, 1), arguments![0u32])?;
    gpu.launch_on(0, beyond, shape(1, 1), arguments![0x0100_0000u32]).ok()?;
    // Driver 580 tells it as an illegal instruction on an H200.
    gpu.cu.cuCtxSynchronize().is_one_of(&[
        Code::ILLEGAL_ADDRESS,
        Code::ILLEGAL_INSTRUCTION,
        Code::INVALID_ADDRESS_SPACE,
        Code::LAUNCH_FAILED,
    ])?;
    pass()
}

/// Fails an assertion in a kernel and tells the code.
fn failing_assertion(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let assert = gpu.kernel(kernels::FAULTS, "assert_42")?;
    gpu.launch_on(0, assert, shape(1, 1), arguments![41u32]).ok()?;
    Ok(format!("{}", gpu.cu.cuCtxSynchronize().0))
}

fn a_failed_assertion() -> CaseResult {
    let seen = crate::probe::watch(crate::probe::command("fault-assertion", &[])?)?;
    let told = seen.err.clone() + &seen.out;
    let code = seen.text()?;
    let last = code.lines().last().unwrap_or_default();
    ensure!(last == "710", "the code is {code:?}");
    for part in ["faults.cu", "17", "checked", "v == 42"] {
        ensure!(told.contains(part), "the message does not tell {part:?}: {told:?}");
    }
    pass()
}

fn an_assertion_that_holds() -> CaseResult {
    let gpu = Gpu::new()?;
    let assert = gpu.kernel(kernels::FAULTS, "assert_42")?;
    gpu.run(assert, shape(4, 64), arguments![42u32])?;
    pass()
}

fn the_error_stays() -> CaseResult {
    let gpu = Gpu::new()?;
    let (pointer, event, stream) = (gpu.alloc(4096)?, gpu.event(0)?, gpu.stream(1)?);
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    poke(&gpu, 0)?.is(Code::ILLEGAL_ADDRESS)?;
    let stays = Code::ILLEGAL_ADDRESS;
    let mut local = [7u32];
    for _ in 0..3 {
        gpu.cu.cuCtxSynchronize().is(stays)?;
        gpu.cu.cuStreamSynchronize(stream).is(stays)?;
        gpu.launch_on(0, nothing, shape(1, 1), &[]).is(stays)?;
        gpu.cu.cuMemcpyDtoH_v2(local.as_mut_ptr().cast(), pointer, 4).is(stays)?;
        gpu.cu.cuMemsetD8_v2(pointer, 0, 16).is(stays)?;
        gpu.cu.cuEventRecord(event, 0).is(stays)?;
        gpu.cu.cuMemAlloc_v2(&mut 0, 4096).is(stays)?;
        gpu.cu.cuStreamQuery(stream).is(stays)?;
    }
    ensure!(local == [7], "a refused copy wrote to the host");
    // What needs no context goes on.
    let mut count = 0;
    gpu.cu.cuDeviceGetCount(&mut count).ok()?;
    let mut name = std::ptr::null();
    gpu.cu.cuGetErrorName(700, &mut name).ok()?;
    ensure!(count >= 1, "{count} devices");
    pass()
}

fn the_error_reaches_every_thread() -> CaseResult {
    let gpu = Gpu::new()?;
    poke(&gpu, 0)?.is(Code::ILLEGAL_ADDRESS)?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                gpu.cu.cuCtxSetCurrent(gpu.context).is_one_of(&[Code::SUCCESS, Code::ILLEGAL_ADDRESS])?;
                gpu.cu.cuCtxSynchronize().is_one_of(&[Code::ILLEGAL_ADDRESS, Code::INVALID_CONTEXT])
            })
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    pass()
}

fn an_asynchronous_error_comes_at_the_next_wait() -> CaseResult {
    let gpu = Gpu::new()?;
    let (poke, stream) = (gpu.kernel(kernels::BASIC, "poke")?, gpu.stream(1)?);
    // The launch itself succeeds: its mistake is not known yet.
    gpu.launch_on(stream, poke, shape(1, 1), arguments![0u64]).ok()?;
    gpu.cu.cuStreamSynchronize(stream).is(Code::ILLEGAL_ADDRESS)?;
    gpu.cu.cuCtxSynchronize().is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

/// Computes two hundred rounds and checks each.
fn good_neighbour(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    let mut expected = 1u32;
    for index in 0..200 {
        gpu.run(step, shape(1, 1), arguments![cell, 3u32, index])?;
        expected = expected.wrapping_mul(3).wrapping_add(index);
        ensure!(gpu.read::<u32>(cell, 1)? == [expected], "round {index}: {:?}", gpu.read::<u32>(cell, 1)?);
    }
    Ok("right".to_owned())
}

/// Writes to nowhere.
fn bad_neighbour(_arguments: &[String]) -> Result<String> {
    Ok(format!("{}", poke(&Gpu::new()?, 0)?.0))
}

fn other_processes_are_unharmed() -> CaseResult {
    let gpu = Gpu::new()?;
    let cell = gpu.upload(&[4711u32])?;
    let neighbour = std::thread::spawn(|| ask("fault-good-neighbour", &[], &[]));
    for _ in 0..3 {
        let code = ask("fault-bad-neighbour", &[], &[])?;
        ensure!(code == "700", "the bad neighbour got {code}");
    }
    let good =
        neighbour.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?.context("the good neighbour")?;
    ensure!(good == "right", "the good neighbour is {good}");
    ensure!(gpu.read::<u32>(cell, 1)? == [4711], "this process lost its memory");
    pass()
}

fn a_new_process_starts_clean() -> CaseResult {
    let gpu = Gpu::new()?;
    poke(&gpu, 0)?.is(Code::ILLEGAL_ADDRESS)?;
    let good = ask("fault-good-neighbour", &[], &[])?;
    ensure!(good == "right", "a process after the fault is {good}");
    pass()
}

fn exit_after_a_fault() -> CaseResult {
    // The neighbour exits normally after its fault: status 0, within the time limit, is what is asked.
    let code = ask("fault-bad-neighbour", &[], &[])?;
    ensure!(code == "700", "the neighbour got {code}");
    pass()
}
