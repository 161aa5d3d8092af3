//! CUDA graphs.

use anyhow::{Result, ensure};

use super::{Bench, Case};
use crate::series::Series;

pub(super) const CASES: &[Case] = &[Case {
    name: "graph/100-kernels",
    what: "cuGraphLaunch of 100 kernels in a row: the call, and with cuStreamSynchronize",
    body: hundred_kernels,
}];

const KERNELS: i32 = 100;
/// Launches that are under way at most while the call alone is timed.
const DEPTH: usize = 16;

fn hundred_kernels(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let stream = bench.gpu.stream(1)?;
    // Relaxed: nothing else of this thread takes part.
    cu.cuStreamBeginCapture_v2(stream, 2).ok()?;
    for _ in 0..KERNELS {
        bench.kernels.count(stream)?;
    }
    bench.kernels.note(-KERNELS);
    let (mut graph, mut executable) = (0, 0);
    cu.cuStreamEndCapture(stream, &mut graph).ok()?;
    cu.cuGraphInstantiateWithFlags(&mut executable, graph, 0).ok()?;
    ensure!(executable != 0, "an executable graph is a null handle");

    let launch = || {
        bench.kernels.note(KERNELS);
        cu.cuGraphLaunch(executable, stream).ok()
    };
    let synchronized = bench.calls("graph/100-kernels/synchronized", 300, 1, || {
        launch()?;
        cu.cuStreamSynchronize(stream).ok()
    })?;
    let wait = || cu.cuStreamSynchronize(stream).ok();
    let call = bench.bursts("graph/100-kernels/async", 480, DEPTH, launch, wait)?;
    cu.cuGraphExecDestroy(executable).ok()?;
    cu.cuGraphDestroy(graph).ok()?;
    cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(vec![synchronized, call])
}
