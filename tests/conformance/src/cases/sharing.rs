//! Memory and events that another process opens.

use anyhow::{Context, Result, ensure};

use crate::driver::{Code, IpcHandle};
use crate::gpu::{Gpu, arguments, shape, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::probe::{Probe, ask};
use crate::registry::area;

use super::kernels;

area!("sharing":
    another_process_sees_memory,
    another_process_writes_memory,
    what_lies_inside_an_allocation,
    one_allocation_has_one_handle,
    it_opens_twice_at_one_address,
    the_own_memory_is_refused,
    memory_outlives_the_other_process,
    handles_are_not_guessed,
    memory_that_cannot_be_shared,
    a_close_of_other_memory_is_refused,
    another_process_waits_for_an_event,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "sharing-sum", body: sum },
    Probe { name: "sharing-write", body: write },
    Probe { name: "sharing-twice", body: twice },
    Probe { name: "sharing-guess", body: guess },
    Probe { name: "sharing-event", body: wait_for_event },
];

/// `CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`, which the documentation demands.
const LAZY: u32 = 1;

pub(super) fn to_text(handle: &IpcHandle) -> String {
    handle.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_text(text: &str) -> Result<IpcHandle> {
    let mut handle = IpcHandle([0; 64]);
    for (index, byte) in handle.0.iter_mut().enumerate() {
        let digits = text.get(2 * index..2 * index + 2).context("a handle of 128 digits")?;
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok(handle)
}

#[track_caller]
fn share(gpu: &Gpu, pointer: u64) -> Result<IpcHandle> {
    let mut handle = IpcHandle([0; 64]);
    gpu.cu.cuIpcGetMemHandle(&mut handle, pointer).ok()?;
    ensure!(handle.0 != [0; 64], "the handle is empty");
    Ok(handle)
}

#[track_caller]
fn open(gpu: &Gpu, handle: IpcHandle) -> Result<u64> {
    let mut pointer = 0;
    gpu.cu.cuIpcOpenMemHandle_v2(&mut pointer, handle, LAZY).ok()?;
    ensure!(pointer != 0, "shared memory is at address 0");
    Ok(pointer)
}

/// The first argument: a handle.
fn given(arguments: &[String]) -> Result<IpcHandle> {
    from_text(arguments.first().context("a handle")?)
}

/// Reads what another process has shared.
fn sum(arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let pointer = open(&gpu, given(arguments)?)?;
    let values: Vec<u32> = gpu.read(pointer, 1000)?;
    gpu.cu.cuIpcCloseMemHandle(pointer).ok()?;
    gpu.cu.cuIpcCloseMemHandle(pointer).is(Code::INVALID_VALUE)?;
    Ok(values.iter().sum::<u32>().to_string())
}

fn another_process_sees_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[3u32; 1000])?;
    let handle = share(&gpu, pointer)?;
    ensure!(ask("sharing-sum", &[&to_text(&handle)], &[])? == "3000", "the other process sees other values");
    gpu.write(pointer, &[5u32; 1000])?;
    ensure!(ask("sharing-sum", &[&to_text(&handle)], &[])? == "5000", "the other process sees old values");
    pass()
}

/// Writes what another process has shared, with a kernel and a copy.
fn write(arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let pointer = open(&gpu, given(arguments)?)?;
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    gpu.run(ramp, threads(1000), arguments![pointer, 100u32, 1000u32])?;
    gpu.write(pointer, &[7u32; 10])?;
    Ok(String::new())
}

fn another_process_writes_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[0u32; 1000])?;
    ask("sharing-write", &[&to_text(&share(&gpu, pointer)?)], &[])?;
    let mut expected: Vec<u32> = (100..1100).collect();
    expected[..10].fill(7);
    ensure!(gpu.read::<u32>(pointer, 1000)? == expected, "the other process's values are not there");
    pass()
}

fn what_lies_inside_an_allocation() -> CaseResult {
    let gpu = Gpu::new()?;
    // Small allocations share pages; a handle is of the whole allocation wherever in it the pointer is.
    let (_before, pointer) = (gpu.upload(&[1u32; 100])?, gpu.upload(&[2u32; 1000])?);
    let handle = share(&gpu, pointer + 400)?;
    ensure!(ask("sharing-sum", &[&to_text(&handle)], &[])? == "2000", "the other process sees other values");
    pass()
}

fn one_allocation_has_one_handle() -> CaseResult {
    let gpu = Gpu::new()?;
    let (first, second) = (gpu.alloc(4 << 20)?, gpu.alloc(4 << 20)?);
    ensure!(share(&gpu, first)? == share(&gpu, first)?, "an allocation has two handles");
    ensure!(share(&gpu, first)? != share(&gpu, second)?, "two allocations have one handle");
    pass()
}

fn twice(arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let handle = given(arguments)?;
    let (first, second) = (open(&gpu, handle)?, open(&gpu, handle)?);
    gpu.cu.cuIpcCloseMemHandle(first).ok()?;
    let values: Vec<u32> = gpu.read(second, 10)?;
    gpu.cu.cuIpcCloseMemHandle(second).ok()?;
    Ok(format!("{} {}", first == second, values.iter().sum::<u32>()))
}

fn it_opens_twice_at_one_address() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[3u32; 1000])?;
    let told = ask("sharing-twice", &[&to_text(&share(&gpu, pointer)?)], &[])?;
    ensure!(told == "true 30", "the other process said {told}");
    pass()
}

fn the_own_memory_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[3u32; 10])?;
    let (handle, mut again) = (share(&gpu, pointer)?, 0);
    let refused = [Code::INVALID_CONTEXT, Code::INVALID_VALUE];
    gpu.cu.cuIpcOpenMemHandle_v2(&mut again, handle, LAZY).is_one_of(&refused)?;
    ensure!(gpu.read::<u32>(pointer, 10)? == [3; 10], "the refused call changed the memory");
    pass()
}

fn memory_outlives_the_other_process() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[0u32; 1000])?;
    let handle = to_text(&share(&gpu, pointer)?);
    for _ in 0..3 {
        // It ends without closing.
        ask("sharing-write", &[&handle], &[])?;
        ensure!(gpu.read::<u32>(pointer, 10)? == [7; 10], "the memory went with the other process");
        gpu.write(pointer, &[0u32; 10])?;
    }
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    pass()
}

/// Tries handles that nobody has given it.
fn guess(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let own = share(&gpu, gpu.alloc(4096)?)?;
    let mut changed = own;
    changed.0[20] ^= 0x10;
    for handle in [IpcHandle([0; 64]), IpcHandle([0xff; 64]), changed] {
        let mut pointer = 7;
        let code = gpu.cu.cuIpcOpenMemHandle_v2(&mut pointer, handle, LAZY);
        ensure!(code != Code::SUCCESS, "a forged handle opened memory at {pointer:#x}");
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    Ok("refused".to_owned())
}

fn handles_are_not_guessed() -> CaseResult {
    ensure!(ask("sharing-guess", &[], &[])? == "refused", "a forged handle was taken");
    pass()
}

fn memory_that_cannot_be_shared() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut handle = IpcHandle([0; 64]);
    let pinned = u64::try_from(gpu.pinned(4096, 0)?.expose_provenance())?;
    for pointer in [0, 0x1234, pinned] {
        gpu.cu.cuIpcGetMemHandle(&mut handle, pointer).is(Code::INVALID_VALUE)?;
    }
    gpu.cu.cuIpcGetMemHandle(std::ptr::null_mut(), gpu.alloc(4096)?).is(Code::INVALID_VALUE)?;
    pass()
}

fn a_close_of_other_memory_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[3u32; 10])?;
    gpu.cu.cuIpcCloseMemHandle(pointer).is(Code::INVALID_VALUE)?;
    gpu.cu.cuIpcCloseMemHandle(0).is(Code::INVALID_VALUE)?;
    ensure!(gpu.read::<u32>(pointer, 10)? == [3; 10], "the refused close changed the memory");
    pass()
}

/// Waits on the device and on the host for another process's event.
fn wait_for_event(arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let mut event = 0;
    gpu.cu.cuIpcOpenEventHandle(&mut event, given(arguments)?).ok()?;
    let stream = gpu.stream(1)?;
    gpu.cu.cuStreamWaitEvent(stream, event, 0).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    gpu.cu.cuEventSynchronize(event).ok()?;
    gpu.cu.cuEventQuery(event).ok()?;
    gpu.cu.cuEventDestroy_v2(event).ok()?;
    Ok("waited".to_owned())
}

fn another_process_waits_for_an_event() -> CaseResult {
    const INTERPROCESS_WITHOUT_TIMING: u32 = 4 | 2;
    let gpu = Gpu::new()?;
    if gpu.attribute(125)? == 0 {
        return skip("events cannot be shared here");
    }
    let event = gpu.event(INTERPROCESS_WITHOUT_TIMING)?;
    let mut handle = IpcHandle([0; 64]);
    gpu.cu.cuIpcGetEventHandle(&mut handle, event).ok()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[6u32])?;
    gpu.launch_on(0, step, shape(1, 1), arguments![cell, 7u32, 0u32]).ok()?;
    gpu.cu.cuEventRecord(event, 0).ok()?;
    ensure!(ask("sharing-event", &[&to_text(&handle)], &[])? == "waited", "the other process did not wait");
    let plain = gpu.event(0)?;
    gpu.cu.cuIpcGetEventHandle(&mut handle, plain).is_one_of(&[Code::INVALID_VALUE, Code::INVALID_HANDLE])?;
    pass()
}
