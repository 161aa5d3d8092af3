//! Launches and synchronisation.

use std::time::Instant;

use anyhow::Result;

use super::{Bench, Case};
use crate::series::{Series, Unit};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "launch/async",
        what: "an asynchronous cuLaunchKernel, each timed, in bursts of N onto an idle stream (no queue is full)",
        body: asynchronous,
    },
    Case {
        name: "launch/sustained",
        what: "launches per second of 20,000 on one stream, waited for at the end",
        body: sustained,
    },
    Case { name: "launch/synchronized", what: "cuLaunchKernel and cuStreamSynchronize", body: synchronized },
    Case { name: "synchronize/idle", what: "synchronisation where nothing is under way", body: idle },
];

/// How many launches are under way at most. The device's lane has 512 slots, the native driver's queue 1,024.
const DEPTHS: [usize; 3] = [1, 32, 96];

fn asynchronous(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let stream = bench.gpu.stream(0)?;
    let series = DEPTHS
        .into_iter()
        .map(|depth| {
            let name = format!("launch/async/depth-{depth}");
            let wait = || cu.cuStreamSynchronize(stream).ok();
            bench.bursts(
                name,
                if depth == 1 { 2000 } else { 9600 },
                depth,
                || bench.kernels.count(stream),
                wait,
            )
        })
        .collect::<Result<_>>()?;
    cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(series)
}

fn sustained(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let stream = bench.gpu.stream(0)?;
    let launches = bench.effort.of(20_000);
    let mut empty = Vec::new();
    let mut counting = Vec::new();
    for round in 0..=bench.effort.of(8) {
        for (samples, is_counted) in [(&mut empty, false), (&mut counting, true)] {
            let start = Instant::now();
            for _ in 0..launches {
                if is_counted {
                    bench.kernels.count(stream)?;
                } else {
                    bench.kernels.nothing(stream)?;
                }
            }
            cu.cuStreamSynchronize(stream).ok()?;
            if round > 0 {
                samples.push(launches as f64 / start.elapsed().as_secs_f64());
            }
        }
    }
    cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(vec![
        Series::new("launch/sustained/empty", Unit::PerSecond, empty),
        Series::new("launch/sustained/counting", Unit::PerSecond, counting),
    ])
}

fn synchronized(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let stream = bench.gpu.stream(0)?;
    let series = bench.calls("launch/synchronized", 3000, 1, || {
        bench.kernels.count(stream)?;
        cu.cuStreamSynchronize(stream).ok()
    })?;
    cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(vec![series])
}

fn idle(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    cu.cuCtxSynchronize().ok()?;
    Ok(vec![
        bench.calls("synchronize/idle/context", 500, 20, || cu.cuCtxSynchronize().ok())?,
        bench.calls("synchronize/idle/stream", 500, 20, || cu.cuStreamSynchronize(0).ok())?,
    ])
}
