//! Several threads of one process: at once, and one after another's signal.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, mpsc};

use anyhow::{Result, anyhow, ensure};

use crate::driver::Code;
use crate::gpu::{Gpu, arguments, host, shape, threads};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::copies::{pattern, there_and_back};
use super::gate::Gate;
use super::kernels;

area!("threads":
    launches_and_copies_at_once,
    contexts_at_once,
    allocations_at_once,
    large_copies_at_once,
    a_signal_carries_what_came_before,
    an_event_carries_what_came_before,
    a_blocked_thread_holds_nobody_up,
    threads_come_and_go,
    threads_that_end_leave_their_work,
    an_error_of_one_thread_is_its_own,
    a_hundred_threads_at_once,
);

/// Runs a body on each of so many threads with the context current, and returns the first error.
fn on_threads(gpu: &Gpu, count: u32, body: impl Fn(u32) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let body = &body;
        let handles: Vec<_> = (0..count)
            .map(|index| {
                scope.spawn(move || {
                    gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
                    body(index)
                })
            })
            .collect();
        handles.into_iter().try_for_each(|handle| handle.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

fn launches_and_copies_at_once() -> CaseResult {
    let gpu = Gpu::new()?;
    let (add, step) = (gpu.kernel(kernels::BASIC, "add_u32")?, gpu.kernel(kernels::BASIC, "step")?);
    let start = Barrier::new(8);
    on_threads(&gpu, 8, |thread| {
        start.wait();
        let stream = gpu.stream(1)?;
        for round in 0..25u32 {
            let count = 1000 + 37 * usize::try_from(round)?;
            let words: Vec<u32> = (0u32..).take(count).map(|index| index * (thread + 1) + round).collect();
            let (input, out) = (gpu.upload(&words)?, gpu.upload(&vec![0u32; count])?);
            gpu.launch_on(stream, add, threads(count), arguments![input, input, out, u32::try_from(count)?])
                .ok()?;
            for _ in 0..10 {
                gpu.launch_on(stream, step, shape(1, 1), arguments![out, 3u32, thread]).ok()?;
            }
            gpu.cu.cuStreamSynchronize(stream).ok()?;
            let mut expected: Vec<u32> = words.iter().map(|word| word * 2).collect();
            for _ in 0..10 {
                expected[0] = expected[0].wrapping_mul(3).wrapping_add(thread);
            }
            ensure!(gpu.read::<u32>(out, count)? == expected, "thread {thread}, round {round}");
            gpu.cu.cuMemFree_v2(input).ok()?;
            gpu.cu.cuMemFree_v2(out).ok()?;
        }
        Ok(())
    })?;
    pass()
}

fn contexts_at_once() -> CaseResult {
    let gpu = Gpu::new()?;
    let start = Barrier::new(4);
    on_threads(&gpu, 4, |thread| {
        start.wait();
        for round in 0..3 {
            let mut own = 0;
            gpu.cu.cuCtxCreate_v2(&mut own, 0, gpu.device).ok()?;
            let bytes = pattern(10_000, thread * 10 + round);
            let pointer = gpu.upload(&bytes)?;
            ensure!(gpu.read::<u8>(pointer, 10_000)? == bytes, "thread {thread}, round {round}");
            gpu.cu.cuCtxDestroy_v2(own).ok()?;
            let mut current = 0;
            gpu.cu.cuCtxGetCurrent(&mut current).ok()?;
            ensure!(current == gpu.context, "thread {thread} is left with the context {current:#x}");
        }
        Ok(())
    })?;
    pass()
}

fn allocations_at_once() -> CaseResult {
    let gpu = Gpu::new()?;
    on_threads(&gpu, 8, |thread| {
        let mut kept = Vec::new();
        for round in 0..100u32 {
            let value = thread << 16 | round;
            kept.push((gpu.upload(&[value; 64])?, value));
            if round % 3 == 0 {
                let (pointer, value) = kept.swap_remove(kept.len() / 2);
                ensure!(gpu.read::<u32>(pointer, 64)? == [value; 64], "thread {thread} lost {value:#x}");
                gpu.cu.cuMemFree_v2(pointer).ok()?;
            }
        }
        for (pointer, value) in kept {
            ensure!(gpu.read::<u32>(pointer, 64)? == [value; 64], "thread {thread} lost {value:#x}");
        }
        Ok(())
    })?;
    pass()
}

fn large_copies_at_once() -> CaseResult {
    let gpu = Gpu::new()?;
    let start = Barrier::new(4);
    on_threads(&gpu, 4, |thread| {
        let bytes = (9 << 20) + 1001 * usize::try_from(thread)?;
        let device = gpu.alloc(bytes)?;
        start.wait();
        for round in 0..3 {
            there_and_back(&gpu, device, bytes, thread * 10 + round)?;
        }
        gpu.cu.cuMemFree_v2(device).ok()
    })?;
    pass()
}

fn a_signal_carries_what_came_before() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[0u32])?;
    let turn = AtomicU32::new(0);
    // The threads take turns on the legacy stream. Each posts a launch without waiting and passes the turn
    // by an atomic alone; the launches must have been executed in the order of the turns.
    on_threads(&gpu, 2, |thread| {
        for round in 0..200u32 {
            let mine = round * 2 + thread;
            while turn.load(Ordering::Acquire) != mine {
                std::hint::spin_loop();
                std::thread::yield_now();
            }
            gpu.launch_on(0, step, shape(1, 1), arguments![cell, 7u32, mine]).ok()?;
            turn.store(mine + 1, Ordering::Release);
        }
        Ok(())
    })?;
    let expected = (0..400u32).fold(0u32, |value, turn| value.wrapping_mul(7).wrapping_add(turn));
    ensure!(gpu.read::<u32>(cell, 1)? == [expected], "what one thread did before its signal came later");
    pass()
}

fn an_event_carries_what_came_before() -> CaseResult {
    let gpu = Gpu::new()?;
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    let count = 4096usize;
    let cells = gpu.upload(&vec![0u32; count])?;
    for round in 1..=20u32 {
        let (event, writer) = (gpu.event(2)?, gpu.stream(1)?);
        let signal = AtomicU32::new(0);
        on_threads(&gpu, 2, |thread| {
            if thread == 0 {
                let list = arguments![cells, round * 10_000, u32::try_from(count)?];
                gpu.launch_on(writer, ramp, threads(count), list).ok()?;
                gpu.cu.cuEventRecord(event, writer).ok()?;
                signal.store(1, Ordering::Release);
                return Ok(());
            }
            let reader = gpu.stream(1)?;
            let pinned = gpu.pinned(4 * count, 0)?.cast::<u32>();
            while signal.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            gpu.cu.cuStreamWaitEvent(reader, event, 0).ok()?;
            gpu.cu.cuMemcpyDtoHAsync_v2(pinned.cast(), cells, 4 * count, reader).ok()?;
            gpu.cu.cuStreamSynchronize(reader).ok()?;
            let expected: Vec<u32> = (round * 10_000..).take(count).collect();
            ensure!(
                host(pinned, count) == expected.as_slice(),
                "round {round}: the other thread's kernel is not seen"
            );
            gpu.cu.cuMemFreeHost(pinned.cast()).ok()
        })?;
    }
    pass()
}

fn a_blocked_thread_holds_nobody_up() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[0u32])?;
    let (blocked, free) = (gpu.stream(1)?, gpu.stream(1)?);
    gpu.launch_on(free, step, shape(1, 1), arguments![cell, 1u32, 0u32]).ok()?;
    gpu.cu.cuStreamSynchronize(free).ok()?;
    gate.launch(&gpu, blocked)?;
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| -> Result<()> {
        let waiter = scope.spawn(move || -> Result<()> {
            gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
            tell.send(()).map_err(|_| anyhow!("nobody listens"))?;
            // This thread is inside the driver until the gate opens.
            gpu.cu.cuStreamSynchronize(blocked).ok()
        });
        told.recv()?;
        for _ in 0..100 {
            gpu.launch_on(free, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
            gpu.cu.cuStreamSynchronize(free).ok()?;
        }
        gpu.cu.cuStreamQuery(blocked).is(Code::NOT_READY)?;
        // Only now may the other thread go on.
        gate.open()?;
        waiter.join().map_err(|_| anyhow!("a thread panicked"))?
    })?;
    gate.check(&gpu)?;
    ensure!(gpu.read::<u32>(cell, 1)? == [100], "{:?} of 100 launches", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn threads_come_and_go() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[0u32])?;
    let mut expected = 0u32;
    for round in 0..150u32 {
        on_threads(&gpu, 1, |_| {
            // The thread's own default stream; its work must outlive the thread.
            gpu.launch_on(2, step, shape(1, 1), arguments![cell, 3u32, round]).ok()?;
            if round % 2 == 0 { gpu.cu.cuStreamSynchronize(2).ok() } else { gpu.cu.cuCtxSynchronize().ok() }
        })?;
        expected = expected.wrapping_mul(3).wrapping_add(round);
    }
    ensure!(gpu.read::<u32>(cell, 1)? == [expected], "a thread's work is lost");
    pass()
}

fn threads_that_end_leave_their_work() -> CaseResult {
    const THREADS: u32 = 12;
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cells = gpu.upload(&[0u32; THREADS as usize + 1])?;
    let write = |index: u32| {
        let cell = cells + 4 * u64::from(index);
        gpu.launch_on(0, step, shape(1, 1), arguments![cell, 0u32, index + 7]).ok()
    };
    // Further launches of this shape need no answer.
    write(THREADS)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    on_threads(&gpu, THREADS, write)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    let expected: Vec<u32> = (7..=7 + THREADS).collect();
    let values = gpu.read::<u32>(cells, THREADS as usize + 1)?;
    ensure!(values == expected, "{values:?} were written instead of {expected:?}");
    pass()
}

fn an_error_of_one_thread_is_its_own() -> CaseResult {
    let gpu = Gpu::new()?;
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    let failed = AtomicU32::new(0);
    on_threads(&gpu, 4, |thread| {
        for _ in 0..200 {
            if thread == 0 {
                // Errors that do not stay: they belong to this call of this thread alone.
                gpu.launch_on(0, nothing, shape(1, 4096), &[]).is(Code::INVALID_VALUE)?;
                gpu.cu.cuMemFree_v2(0x1234).is(Code::INVALID_VALUE)?;
                failed.fetch_add(1, Ordering::Relaxed);
            } else {
                gpu.launch_on(0, nothing, shape(1, 32), &[]).ok()?;
                let pointer = gpu.alloc(4096)?;
                gpu.cu.cuMemFree_v2(pointer).ok()?;
                gpu.cu.cuStreamSynchronize(0).ok()?;
            }
        }
        Ok(())
    })?;
    ensure!(failed.load(Ordering::Relaxed) == 200, "the failing thread stopped early");
    pass()
}

fn a_hundred_threads_at_once() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cells = gpu.upload(&[1u32; 100])?;
    let together = Barrier::new(100);
    on_threads(&gpu, 100, |thread| {
        // All are alive at once, and stay so until each has worked.
        together.wait();
        let cell = cells + 4 * u64::from(thread);
        let mut expected = 1u32;
        let outcome = (0..5u32).try_for_each(|round| {
            gpu.launch_on(2, step, shape(1, 1), arguments![cell, 3u32, thread + round]).ok()?;
            gpu.cu.cuStreamSynchronize(2).ok()?;
            expected = expected.wrapping_mul(3).wrapping_add(thread + round);
            let told = gpu.read::<u32>(cell, 1)?;
            ensure!(told == [expected], "thread {thread}, round {round}: {told:?} instead of {expected}");
            Ok(())
        });
        together.wait();
        outcome
    })?;
    pass()
}
