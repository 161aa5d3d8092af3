//! What kernels print: it comes out of the process's standard output.

use anyhow::{Result, ensure};

use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass};
use crate::probe::{Probe, ask};
use crate::registry::area;

use super::kernels;

area!("output":
    a_formatted_line,
    a_line_from_every_thread,
    output_comes_with_synchronisation,
    nothing_is_printed_otherwise,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "output-line", body: line },
    Probe { name: "output-threads", body: many },
    Probe { name: "output-synchronised", body: synchronised },
    Probe { name: "output-none", body: none },
];

/// Prints one line from a kernel; then says what vprintf returned.
fn line(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let kernel = gpu.kernel(kernels::OUTPUT, "print_line")?;
    let returned = gpu.upload(&[-77i32])?;
    gpu.run(kernel, shape(1, 1), arguments![-12i32, returned])?;
    Ok(format!("returned {:?}", gpu.read::<i32>(returned, 1)?))
}

fn a_formatted_line() -> CaseResult {
    let text = ask("output-line", &[], &[])?;
    // It returns the number of arguments, as CUDA's documentation says.
    ensure!(text == "line -12: 4000000000 word -1.250 !%\nreturned [5]", "{text:?}");
    pass()
}

/// Prints from every thread.
fn many(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let kernel = gpu.kernel(kernels::OUTPUT, "print_threads")?;
    gpu.run(kernel, shape(5, 40), &[])?;
    Ok(String::new())
}

fn a_line_from_every_thread() -> CaseResult {
    let text = ask("output-threads", &[], &[])?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (0..5)
        .flat_map(|block| (0..40).map(move |thread| format!("thread {thread} of block {block}")))
        .collect();
    expected.sort_unstable();
    ensure!(lines == expected, "{} lines, the first are {:?}", lines.len(), lines.get(..3));
    pass()
}

/// Prints from the host, the device and the host again.
fn synchronised(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let kernel = gpu.kernel(kernels::OUTPUT, "print_threads")?;
    let stream = gpu.stream(1)?;
    for round in 0..3 {
        use std::io::Write;
        let mut out = std::io::stdout();
        writeln!(out, "before {round}")?;
        out.flush()?;
        gpu.launch_on(stream, kernel, shape(1, 1), &[]).ok()?;
        match round {
            0 => gpu.cu.cuStreamSynchronize(stream).ok()?,
            1 => gpu.cu.cuCtxSynchronize().ok()?,
            _ => {
                let event = gpu.event(0)?;
                gpu.cu.cuEventRecord(event, stream).ok()?;
                gpu.cu.cuEventSynchronize(event).ok()?;
                gpu.cu.cuCtxSynchronize().ok()?;
            }
        }
        writeln!(out, "after {round}")?;
        out.flush()?;
    }
    Ok(String::new())
}

fn output_comes_with_synchronisation() -> CaseResult {
    let text = ask("output-synchronised", &[], &[])?;
    let expected: Vec<String> =
        (0..3).map(|round| format!("before {round}\nthread 0 of block 0\nafter {round}")).collect();
    ensure!(text == expected.join("\n"), "{text:?}");
    pass()
}

/// Works without printing.
fn none(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let add = gpu.kernel(kernels::BASIC, "count")?;
    let cell = gpu.upload(&[0u32])?;
    gpu.run(add, shape(4, 32), arguments![cell])?;
    Ok(format!("{:?}", gpu.read::<u32>(cell, 1)?))
}

fn nothing_is_printed_otherwise() -> CaseResult {
    let seen = crate::probe::watch(crate::probe::command("output-none", &[])?)?;
    ensure!(
        seen.out == "[128]" && seen.err.is_empty(),
        "{:?}, and on standard error {:?}",
        seen.out,
        seen.err
    );
    pass()
}
