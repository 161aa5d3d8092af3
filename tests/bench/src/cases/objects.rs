//! Events and streams.

use anyhow::{Result, ensure};

use super::{Bench, Case};
use crate::series::Series;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "event",
        what: "cuEventRecord on an idle stream; cuEventQuery of one that has happened",
        body: events,
    },
    Case { name: "stream/create", what: "cuStreamCreate and cuStreamDestroy", body: streams },
];

/// `CU_EVENT_DISABLE_TIMING`.
const WITHOUT_TIME: u32 = 2;

fn events(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let stream = bench.gpu.stream(0)?;
    let event = bench.gpu.event(WITHOUT_TIME)?;
    let wait = || cu.cuStreamSynchronize(stream).ok();
    let record = bench.bursts("event/record", 3200, 32, || cu.cuEventRecord(event, stream).ok(), wait)?;
    bench.kernels.count(stream)?;
    cu.cuEventRecord(event, stream).ok()?;
    cu.cuStreamSynchronize(stream).ok()?;
    let query = bench.calls("event/query", 500, 20, || cu.cuEventQuery(event).ok())?;
    cu.cuEventDestroy_v2(event).ok()?;
    cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(vec![record, query])
}

fn streams(bench: &Bench) -> Result<Vec<Series>> {
    let cu = bench.gpu.cu;
    let series = bench.calls("stream/create", 300, 1, || {
        let mut stream = 0;
        cu.cuStreamCreate(&mut stream, 1).ok()?;
        ensure!(stream > 2, "a new stream has a reserved handle");
        cu.cuStreamDestroy_v2(stream).ok()
    })?;
    Ok(vec![series])
}
