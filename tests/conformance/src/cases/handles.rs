//! Handles that are none, are of another kind, or have ended.
//!
//! CUDA leaves open what a wild handle does, and native drivers often crash on one, which ends only the
//! process that used it: such an end is accepted here. A driver that checks its handles must refuse each.

use anyhow::{Result, bail, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::probe::{Probe, command, watch};
use crate::registry::area;

use super::kernels;

area!("handles":
    wild_handles_are_refused,
    handles_of_another_kind_are_refused,
    ended_handles_are_refused,
    pointers_of_the_program_are_no_handles,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[Probe { name: "handle-forged", body: forged }];

/// The kinds of handles that are tried, each with a call that takes one.
const KINDS: &[&str] = &["stream", "event", "module", "function", "library", "kernel", "context"];

/// Makes a handle of a kind.
fn make(gpu: &Gpu, kind: &str) -> Result<Handle> {
    let text = std::ffi::CString::new(kernels::BASIC)?;
    let library = || -> Result<Handle> {
        let mut library = 0;
        let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (no_options, no_values) = (std::ptr::null_mut(), std::ptr::null_mut());
        let image = text.as_ptr().cast();
        gpu.cu.cuLibraryLoadData(&mut library, image, none, nothing, 0, no_options, no_values, 0).ok()?;
        Ok(library)
    };
    match kind {
        "stream" => gpu.stream(0),
        "event" => gpu.event(0),
        "module" => gpu.module(kernels::BASIC),
        "function" => gpu.kernel(kernels::BASIC, "nothing"),
        "library" => library(),
        "kernel" => {
            let mut kernel = 0;
            gpu.cu.cuLibraryGetKernel(&mut kernel, library()?, c"nothing".as_ptr()).ok()?;
            Ok(kernel)
        }
        "context" => {
            let mut context = 0;
            gpu.cu.cuCtxCreate_v2(&mut context, 0, gpu.device).ok()?;
            gpu.cu.cuCtxPopCurrent_v2(std::ptr::null_mut()).ok()?;
            Ok(context)
        }
        kind => bail!("no kind is named {kind}"),
    }
}

/// Ends a handle of a kind, where it can be ended.
fn end(gpu: &Gpu, kind: &str, handle: Handle) -> Result<()> {
    match kind {
        "stream" => gpu.cu.cuStreamDestroy_v2(handle).ok(),
        "event" => gpu.cu.cuEventDestroy_v2(handle).ok(),
        "module" => gpu.cu.cuModuleUnload(handle).ok(),
        "library" => gpu.cu.cuLibraryUnload(handle).ok(),
        "context" => gpu.cu.cuCtxDestroy_v2(handle).ok(),
        kind => bail!("a {kind} ends with its owner"),
    }
}

/// Uses a handle as one of a kind.
fn use_as(gpu: &Gpu, kind: &str, handle: Handle) -> Result<Code> {
    Ok(match kind {
        "stream" => gpu.cu.cuStreamSynchronize(handle),
        "event" => gpu.cu.cuEventRecord(handle, 0),
        "module" => gpu.cu.cuModuleGetFunction(&mut 0, handle, c"nothing".as_ptr()),
        "function" => gpu.launch_on(0, handle, shape(1, 1), &[]),
        "library" => gpu.cu.cuLibraryGetKernel(&mut 0, handle, c"nothing".as_ptr()),
        "kernel" => gpu.cu.cuKernelGetFunction(&mut 0, handle),
        "context" => gpu.cu.cuCtxDestroy_v2(handle),
        kind => bail!("no kind is named {kind}"),
    })
}

/// Uses what is no handle of a kind, and says that it was refused and that work goes on.
fn forged(arguments: &[String]) -> Result<String> {
    let [kind, how] = arguments else {
        bail!("a kind and a way are needed");
    };
    let gpu = Gpu::new()?;
    let buffer = vec![0u64; 512];
    let handle = match how.as_str() {
        "wild" => 0xDEAD_0000_BEE0,
        "small" => 0x10,
        "last" => usize::MAX - 15,
        "own-memory" => buffer.as_ptr().expose_provenance(),
        "ended" => {
            let handle = make(&gpu, kind)?;
            end(&gpu, kind, handle)?;
            handle
        }
        other => make(&gpu, other)?,
    };
    let code = use_as(&gpu, kind, handle)?;
    ensure!(code != Code::SUCCESS, "{how} was taken as a {kind}");
    gpu.cu.cuCtxSynchronize().ok()?;
    let good = make(&gpu, kind)?;
    use_as(&gpu, kind, good)?.ok()?;
    Ok("refused".to_owned())
}

/// Tries pairs of a kind and a way; a crash of the trying process is accepted, success is not.
fn try_all(pairs: &[(&str, &str)]) -> CaseResult {
    let (mut refused, mut crashed, mut wrong) = (0, 0, Vec::new());
    for (kind, how) in pairs {
        let seen = watch(command("handle-forged", &[kind, how])?)?;
        if std::os::unix::process::ExitStatusExt::signal(&seen.status).is_some() {
            crashed += 1;
            continue;
        }
        match seen.text() {
            Ok(text) if text == "refused" => refused += 1,
            Ok(text) => wrong.push(text),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    if crashed > 0 && !wrong.is_empty() {
        // It does not check handles, so that what it takes for one depends on what lies in memory.
        return skip(format!(
            "this driver does not check handles: {crashed} crashed, {refused} were refused"
        ));
    }
    ensure!(wrong.is_empty(), "{} of {}: {}", wrong.len(), pairs.len(), wrong.join("; "));
    if refused == 0 {
        return skip(format!("this driver crashes on all {crashed}, which CUDA leaves open"));
    }
    pass()
}

fn wild_handles_are_refused() -> CaseResult {
    let pairs: Vec<_> =
        KINDS.iter().flat_map(|kind| ["wild", "small", "last"].map(|how| (*kind, how))).collect();
    try_all(&pairs)
}

fn handles_of_another_kind_are_refused() -> CaseResult {
    // Each kind is tried as the one before it in the list; none of these pairs may pass for one another.
    let next = |index: usize| KINDS[(index + 1) % KINDS.len()];
    let pairs: Vec<_> = KINDS.iter().enumerate().map(|(index, kind)| (*kind, next(index))).collect();
    try_all(&pairs)
}

fn ended_handles_are_refused() -> CaseResult {
    try_all(&[
        ("stream", "ended"),
        ("event", "ended"),
        ("module", "ended"),
        ("library", "ended"),
        ("context", "ended"),
    ])
}

fn pointers_of_the_program_are_no_handles() -> CaseResult {
    let pairs: Vec<_> = KINDS.iter().map(|kind| (*kind, "own-memory")).collect();
    try_all(&pairs)
}
