//! Which processes use a device: those of this VM, with their numbers in the guest.

use std::time::{SystemTime, UNIX_EPOCH};

use virtio_spec::management::ProcessUse;

use crate::abi::{Error, Handle, Process, ProcessSample, ProcessV1};
use crate::entry::Place;
use crate::state::Session;

/// `NVML_VALUE_NOT_AVAILABLE`, for parts of a device.
const NO_PART: u32 = u32::MAX;

/// Writes a list into room for `count` entries; what there is instead if that is too little.
fn put_list<T: Copy>(list: &[T], count: Place<u32>, places: Place<T>) -> Result<(), Error> {
    let room = count.get()?;
    if room != 0 && places.is_null() {
        return Err(Error::INVALID_ARGUMENT);
    }
    count.put(u32::try_from(list.len()).map_err(|_| Error::UNKNOWN)?)?;
    if list.len() > room as usize {
        return Err(Error::INSUFFICIENT_SIZE);
    }
    list.iter().enumerate().try_for_each(|(index, entry)| places.put_at(index, *entry))
}

/// A device's processes.
fn processes(session: &Session, device: Handle) -> Result<Vec<ProcessUse>, Error> {
    let place = session.device(device)?.place;
    let status = session.status()?;
    Ok(status.processes.iter().filter(|process| process.device as usize == place).copied().collect())
}

/// Writes processes in the form of one of the functions.
fn put_processes<T: Copy>(
    session: &Session,
    device: Handle,
    count: Place<u32>,
    places: Place<T>,
    form: impl Fn(&ProcessUse) -> T,
) -> Result<(), Error> {
    session.device(device)?;
    count.check()?;
    let list: Vec<T> = processes(session, device)?.iter().map(form).collect();
    put_list(&list, count, places)
}

/// There are none of a kind.
fn put_none(session: &Session, device: Handle, count: Place<u32>) -> Result<(), Error> {
    session.device(device)?;
    count.check()?;
    count.put(0)
}

nvml! {
    /// Processes with a CUDA session.
    [nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetComputeRunningProcesses_v2]
        (device: Handle, count: Place<u32>, places: Place<Process>) = |session| {
            put_processes(session, device, count, places, |process| Process {
                process: process.process,
                memory: process.memory,
                gpu_instance: NO_PART,
                compute_instance: NO_PART,
            })
        };
    /// The same in the shorter form.
    [nvmlDeviceGetComputeRunningProcesses](device: Handle, count: Place<u32>, places: Place<ProcessV1>) = |session| {
        put_processes(session, device, count, places, |process| ProcessV1 {
            process: process.process,
            memory: process.memory,
        })
    };
    /// No process draws.
    [nvmlDeviceGetGraphicsRunningProcesses_v3 nvmlDeviceGetGraphicsRunningProcesses_v2
     nvmlDeviceGetMPSComputeRunningProcesses_v3 nvmlDeviceGetMPSComputeRunningProcesses_v2]
        (device: Handle, count: Place<u32>, _places: Place<Process>) =
            |session| put_none(session, device, count);
    /// No process draws.
    [nvmlDeviceGetGraphicsRunningProcesses nvmlDeviceGetMPSComputeRunningProcesses]
        (device: Handle, count: Place<u32>, _places: Place<ProcessV1>) =
            |session| put_none(session, device, count);
    /// Percent of the device's time by process.
    [nvmlDeviceGetProcessUtilization]
        (device: Handle, places: Place<ProcessSample>, count: Place<u32>, last_seen: u64) = |session| {
            session.device(device)?;
            count.check()?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Error::UNKNOWN)?;
            let time = u64::try_from(now.as_micros()).map_err(|_| Error::UNKNOWN)?;
            let list: Vec<ProcessSample> = processes(session, device)?
                .iter()
                .filter(|process| process.utilization != u32::MAX && time > last_seen)
                .map(|process| ProcessSample {
                    process: process.process,
                    time,
                    processors: process.utilization,
                    memory: 0,
                    encoder: 0,
                    decoder: 0,
                })
                .collect();
            if list.is_empty() {
                count.put(0)?;
                return Err(Error::NOT_FOUND);
            }
            put_list(&list, count, places)
        };
}
