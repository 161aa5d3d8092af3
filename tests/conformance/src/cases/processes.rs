//! Processes: fork, exec, and exits of every kind.
//!
//! This file has unsafe code: it forks.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Result, bail, ensure};

use crate::driver::{Code, driver};
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass};
use crate::probe::{Probe, ask, command, watch};
use crate::registry::area;

use super::kernels;

area!("processes":
    a_forked_child_is_not_initialized,
    the_parent_of_a_fork_goes_on,
    a_fork_before_init_is_harmless,
    a_child_that_exits_normally_is_harmless,
    an_executed_child_works,
    exit_without_cleaning_up,
    return_from_main_with_work_pending,
    immediate_exit,
    death_by_signal_is_harmless,
    memory_of_a_killed_process_comes_back,
    many_processes_at_once,
    a_process_without_cuda_keeps_its_descriptors,
    signals_and_timers_are_left_alone,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "process-compute", body: compute },
    Probe { name: "process-untidy", body: untidy },
    Probe { name: "process-pending", body: pending },
    Probe { name: "process-immediate", body: immediate },
    Probe { name: "process-killed", body: killed },
    Probe { name: "process-hoarder", body: hoarder },
    Probe { name: "process-descriptors", body: descriptors },
    Probe { name: "process-fork-exit", body: fork_and_exit },
];

/// Forks; the child runs the body and leaves with its number, at once; returns the child's status.
fn fork(body: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: the child only calls the driver, as a program might, and leaves without running destructors.
    match unsafe { libc::fork() } {
        -1 => bail!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let status = body();
            // SAFETY: ends this process, with nothing else of it running.
            unsafe { libc::_exit(status) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the status is a valid place for the call's duration.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            ensure!(waited == child, "waitpid: {}", std::io::Error::last_os_error());
            ensure!(libc::WIFEXITED(status), "the child ended with the wait status {status:#x}");
            Ok(libc::WEXITSTATUS(status))
        }
    }
}

fn a_forked_child_is_not_initialized() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[1u32])?;
    let status = fork(|| {
        let mut local = 0u32;
        let answers = [
            gpu.cu.cuCtxSynchronize(),
            gpu.cu.cuMemAlloc_v2(&mut 0, 4096),
            gpu.cu.cuMemcpyDtoH_v2((&raw mut local).cast(), pointer, 4),
            gpu.cu.cuDeviceGetCount(&mut 0),
        ];
        // The number of the first call that was not refused as it must be, from 1.
        answers
            .iter()
            .position(|code| *code != Code::NOT_INITIALIZED)
            .map_or(0, |at| i32::try_from(at + 1).unwrap_or(99))
    })?;
    ensure!(status == 0, "call {status} of the child was not told that nothing is initialized");
    pass()
}

fn the_parent_of_a_fork_goes_on() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    let mut expected = 1u32;
    for round in 0..10u32 {
        gpu.launch_on(0, step, shape(1, 1), arguments![cell, 3u32, round]).ok()?;
        let status = fork(|| i32::from(gpu.cu.cuCtxSynchronize() == Code::SUCCESS))?;
        ensure!(status == 0, "the child could use the parent's context");
        gpu.run(step, shape(1, 1), arguments![cell, 1u32, 1u32])?;
        expected = expected.wrapping_mul(3).wrapping_add(round + 1);
        ensure!(gpu.read::<u32>(cell, 1)? == [expected], "round {round}: {:?}", gpu.read::<u32>(cell, 1)?);
    }
    pass()
}

fn a_fork_before_init_is_harmless() -> CaseResult {
    let cu = driver()?;
    // The library is loaded and not initialized: parent and child may both start.
    let status = fork(|| {
        let (mut count, mut device) = (0, 0);
        let codes = [cu.cuInit(0), cu.cuDeviceGetCount(&mut count), cu.cuDeviceGet(&mut device, 0)];
        i32::from(codes.iter().any(|code| *code != Code::SUCCESS) || count < 1)
    })?;
    ensure!(status == 0, "the child could not initialize");
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[5u32])?;
    ensure!(gpu.read::<u32>(pointer, 1)? == [5], "the parent cannot work after its child did");
    pass()
}

/// Forks a child that exits normally, with its exit handlers; then works on.
fn fork_and_exit(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let cell = gpu.upload(&[1u32])?;
    // SAFETY: the child ends at once by the C library's exit, as a program's child might.
    match unsafe { libc::fork() } {
        -1 => bail!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: runs the exit handlers, among them the driver's, which is what is asked.
            unsafe { libc::exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the status is a valid place for the call's duration.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            ensure!(libc::WIFEXITED(status), "the child ended with the wait status {status:#x}");
        }
    }
    let step = gpu.kernel(kernels::BASIC, "step")?;
    gpu.run(step, shape(1, 1), arguments![cell, 4u32, 1u32])?;
    Ok(format!("{:?}", gpu.read::<u32>(cell, 1)?))
}

fn a_child_that_exits_normally_is_harmless() -> CaseResult {
    let told = ask("process-fork-exit", &[], &[])?;
    ensure!(told == "[5]", "after its child's exit the parent has {told}");
    pass()
}

/// Computes something and says it.
fn compute(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[6u32])?;
    gpu.run(step, shape(1, 1), arguments![cell, 7u32, 0u32])?;
    Ok(format!("{:?}", gpu.read::<u32>(cell, 1)?))
}

fn an_executed_child_works() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[9u32])?;
    let told = ask("process-compute", &[], &[])?;
    ensure!(told == "[42]", "the child computed {told}");
    ensure!(gpu.read::<u32>(pointer, 1)? == [9], "the child changed the parent's memory");
    pass()
}

/// Leaves everything lying about.
fn untidy(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    gpu.module(kernels::BASIC)?;
    for _ in 0..10 {
        gpu.alloc(1 << 20)?;
        gpu.pinned(1 << 16, 0)?;
        gpu.stream(0)?;
        gpu.event(0)?;
    }
    let mut own = 0;
    gpu.cu.cuCtxCreate_v2(&mut own, 0, gpu.device).ok()?;
    gpu.alloc(1 << 20)?;
    Ok("left".to_owned())
}

fn exit_without_cleaning_up() -> CaseResult {
    let told = ask("process-untidy", &[], &[])?;
    ensure!(told == "left", "{told}");
    pass()
}

/// Exits while launches and copies are pending.
fn pending(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let count = gpu.kernel(kernels::BASIC, "count")?;
    let (cell, stream) = (gpu.upload(&[0u32])?, gpu.stream(1)?);
    let pinned = gpu.pinned(1 << 20, 0)?;
    let device = gpu.alloc(1 << 20)?;
    for _ in 0..100 {
        gpu.launch_on(stream, count, shape(100, 128), arguments![cell]).ok()?;
        gpu.cu.cuMemcpyHtoDAsync_v2(device, pinned.cast(), 1 << 20, stream).ok()?;
    }
    Ok("posted".to_owned())
}

fn return_from_main_with_work_pending() -> CaseResult {
    let told = ask("process-pending", &[], &[])?;
    ensure!(told == "posted", "{told}");
    pass()
}

/// Leaves without exit handlers.
fn immediate(arguments: &[String]) -> Result<String> {
    pending(arguments)?;
    // SAFETY: ends this process at once, which is what is asked.
    unsafe { libc::_exit(23) }
}

fn immediate_exit() -> CaseResult {
    let seen = watch(command("process-immediate", &[])?)?;
    ensure!(seen.status.code() == Some(23), "the status is {:?}: {}", seen.status, seen.err);
    let told = ask("process-compute", &[], &[])?;
    ensure!(told == "[42]", "the next process computed {told}");
    pass()
}

/// Dies with work pending.
fn killed(arguments: &[String]) -> Result<String> {
    pending(arguments)?;
    // SAFETY: sends this process the signal that ends it, which is what is asked.
    unsafe { libc::raise(libc::SIGKILL) };
    Ok("alive".to_owned())
}

fn death_by_signal_is_harmless() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[9u32; 1000])?;
    for _ in 0..3 {
        let seen = watch(command("process-killed", &[])?)?;
        ensure!(seen.status.signal() == Some(libc::SIGKILL), "the status is {:?}: {}", seen.status, seen.err);
        ensure!(
            gpu.read::<u32>(pointer, 1000)? == [9; 1000],
            "another process's death changed this one's memory"
        );
    }
    let told = ask("process-compute", &[], &[])?;
    ensure!(told == "[42]", "the next process computed {told}");
    pass()
}

/// Takes memory, and dies.
fn hoarder(arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let bytes: usize = arguments.first().map_or(Ok(0), |text| text.parse())?;
    let pointer = gpu.alloc(bytes)?;
    gpu.cu.cuMemsetD8_v2(pointer, 1, bytes.min(1 << 20)).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    // SAFETY: sends this process the signal that ends it, which is what is asked.
    unsafe { libc::raise(libc::SIGKILL) };
    Ok("alive".to_owned())
}

fn memory_of_a_killed_process_comes_back() -> CaseResult {
    let gpu = Gpu::new()?;
    let free = || -> Result<usize> {
        let (mut free, mut total) = (0, 0);
        gpu.cu.cuMemGetInfo_v2(&mut free, &mut total).ok()?;
        Ok(free)
    };
    // Two fifths of what is free, five times: only possible when the dead give theirs back. The last may
    // still be in the clearing when the next one starts, so each may ask again for a while.
    let bytes = (free()? / 5 * 2).to_string();
    for round in 0..5 {
        let start = std::time::Instant::now();
        loop {
            let seen = watch(command("process-hoarder", &[&bytes])?)?;
            if seen.status.signal() == Some(libc::SIGKILL) {
                break;
            }
            ensure!(
                start.elapsed().as_secs() < 20,
                "round {round}: {} bytes are not free again: {}",
                bytes,
                seen.err
            );
        }
    }
    pass()
}

fn many_processes_at_once() -> CaseResult {
    let children: Vec<_> = (0..6).map(|_| std::thread::spawn(|| ask("process-compute", &[], &[]))).collect();
    for child in children {
        let told = child.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        ensure!(told == "[42]", "a process computed {told}");
    }
    pass()
}

/// The lowest free descriptor after the library was loaded, and the number of threads.
fn descriptors(_arguments: &[String]) -> Result<String> {
    driver()?;
    let file = std::fs::File::open("/dev/null")?;
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    use std::os::fd::AsRawFd;
    Ok(format!("{} {threads}", file.as_raw_fd()))
}

fn a_process_without_cuda_keeps_its_descriptors() -> CaseResult {
    let told = ask("process-descriptors", &[], &[])?;
    ensure!(told == "3 1", "after loading the library the next descriptor and the threads are {told}");
    pass()
}

/// The process's handlers of all signals, its mask and its timer, as text.
fn signal_state() -> Result<String> {
    // Two signals belong to the C library, which sets its handlers when the first thread starts.
    const OF_LIBC: u64 = 3 << 31;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mut kept = Vec::new();
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if ["SigBlk", "SigIgn", "SigCgt"].contains(&name) {
            kept.push(format!("{name} {:x}", u64::from_str_radix(value.trim(), 16)? & !OF_LIBC));
        }
    }
    let mut timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 0 },
    };
    // SAFETY: the structure is a valid place for the call's duration.
    unsafe { libc::getitimer(libc::ITIMER_REAL, &raw mut timer) };
    // A running timer counts down: whether it runs is what matters.
    Ok(format!("{} timer {}", kept.join(" "), timer.it_value.tv_sec > 0))
}

fn signals_and_timers_are_left_alone() -> CaseResult {
    // SAFETY: sets an alarm far beyond the case's time limit.
    unsafe { libc::alarm(10_000) };
    let before = signal_state()?;
    ensure!(before.contains("timer true"), "{before}");
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[1u32; 1000])?;
    gpu.cu.cuCtxSynchronize().ok()?;
    gpu.read::<u32>(pointer, 1000)?;
    let after = signal_state()?;
    // SAFETY: takes the alarm back.
    unsafe { libc::alarm(0) };
    ensure!(before == after, "{before} became {after}");
    pass()
}
