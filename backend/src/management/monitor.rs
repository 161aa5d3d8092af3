//! The monitor: a process that answers what the devices are doing, whenever the supervisor asks.
//!
//! NVML may take long, hang or crash; here it takes nobody with it. The supervisor ends the process when nobody has
//! asked for a while.

use std::collections::HashMap;

use rustix::net::{RecvFlags, SendFlags};
use virtio_spec::{
    limits,
    management::{Live, MAX_PROCESSES, ProcessUse, Quantities, StatusReply},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    nvml::{Device, Nvml},
    software::{Looks, Use},
};
use crate::{logging, packet, spawner, spawner::SpawnerError};

/// First argument of the process.
pub(crate) const ROLE: &str = "@monitor";

/// Bytes of the longest answer.
pub(crate) const ANSWER_BYTES: usize = size_of::<StatusReply>()
    + limits::MAX_DEVICES as usize * size_of::<Quantities>()
    + MAX_PROCESSES * size_of::<ProcessUse>();

/// Bytes of the longest question.
const QUESTION_BYTES: usize = size_of::<Question>()
    + limits::MAX_DEVICES as usize * size_of::<QuestionedDevice>()
    + MAX_PROCESSES * size_of::<u32>();

/// The supervisor's question; devices and workers' process IDs follow. The answer is the reply to STATUS, with these
/// process IDs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Question {
    /// Comes back.
    pub(crate) generation: u32,
    /// Devices that follow.
    pub(crate) devices: u32,
    /// Workers that follow.
    pub(crate) workers: u32,
    /// Zero.
    pub(crate) reserved: u32,
}

/// A device of the question.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct QuestionedDevice {
    /// Its UUID.
    pub(crate) uuid: [u8; 16],
    /// Its bytes of memory, as CUDA tells them.
    pub(crate) memory: u64,
}

/// Answers until the supervisor closes the socket.
pub(crate) fn run() -> Result<(), SpawnerError> {
    let log = std::env::args().nth(2).ok_or(SpawnerError::Arguments)?;
    logging::start("monitor", &log);
    let socket = spawner::take_standard_input()?;
    let nvml = Nvml::start();
    let mut looks = Looks::default();
    let mut buffer = vec![0; QUESTION_BYTES];
    loop {
        let received = packet::receive(&socket, &mut buffer, 0, RecvFlags::empty());
        let Some(packet) = received.map_err(SpawnerError::Receive)? else { return Ok(()) };
        let bytes = buffer.get(..packet.length).unwrap_or_default();
        let Some((question, devices, workers)) = parse(bytes) else {
            log::error!("a packet of {} bytes is no question", packet.length);
            continue;
        };
        let answer = answer(nvml.as_ref(), &mut looks, &question, &devices, &workers);
        packet::send(&socket, &answer, &[], SendFlags::empty()).map_err(SpawnerError::Receive)?;
    }
}

fn parse(bytes: &[u8]) -> Option<(Question, Vec<QuestionedDevice>, Vec<u32>)> {
    let (question, rest) = Question::read_from_prefix(bytes).ok()?;
    let devices = usize::try_from(question.devices).ok()?.checked_mul(size_of::<QuestionedDevice>())?;
    let (devices, workers) = rest.split_at_checked(devices)?;
    let devices = devices
        .chunks(size_of::<QuestionedDevice>())
        .map(|bytes| QuestionedDevice::read_from_bytes(bytes).ok())
        .collect::<Option<_>>()?;
    let workers: Vec<u32> =
        workers.chunks(4).map(|bytes| u32::read_from_bytes(bytes).ok()).collect::<Option<_>>()?;
    (usize::try_from(question.workers) == Ok(workers.len())).then_some((question, devices, workers))
}

fn answer(
    nvml: Option<&Nvml>,
    looks: &mut Looks,
    question: &Question,
    devices: &[QuestionedDevice],
    workers: &[u32],
) -> Vec<u8> {
    let mut numbers = Vec::new();
    let mut processes = Vec::new();
    for (place, asked) in (0_u32..).zip(devices) {
        let found = nvml.and_then(|nvml| Some((nvml, nvml.device(&asked.uuid)?)));
        let (quantities, uses) = match found {
            Some((nvml, device)) => (measured(nvml, device), on_device(nvml, device, workers, devices.len())),
            None => estimated(looks.look(workers), asked.memory),
        };
        numbers.push(quantities);
        processes.extend(uses.into_iter().map(|(process, memory, utilization)| ProcessUse {
            device: place,
            process,
            memory,
            utilization,
            reserved: 0,
        }));
    }
    processes.truncate(MAX_PROCESSES);
    let head = StatusReply {
        generation: question.generation,
        device_count: u32::try_from(numbers.len()).unwrap_or(0),
        process_count: u32::try_from(processes.len()).unwrap_or(0),
        reserved: 0,
    };
    [head.as_bytes(), numbers.as_bytes(), processes.as_bytes()].concat()
}

/// Workers on a device: process, memory and percent, all ones where unknown.
type Uses = Vec<(u32, u64, u32)>;

/// What NVML knows.
fn on_device(nvml: &Nvml, device: Device, workers: &[u32], devices: usize) -> Uses {
    let list = nvml.processes(device).unwrap_or_default();
    let uses: Uses = list
        .into_iter()
        .filter(|(process, _)| workers.contains(process))
        .map(|(process, memory)| (process, memory.unwrap_or(u64::MAX), u32::MAX))
        .collect();
    if uses.is_empty() && devices == 1 {
        // In a container, NVML may count processes in another manner; with one device, it is known where they are.
        return workers.iter().map(|process| (*process, u64::MAX, u32::MAX)).collect();
    }
    uses
}

/// What the workers of a software GPU take of the host.
fn estimated(uses: HashMap<u32, Use>, memory: u64) -> (Quantities, Uses) {
    let mut quantities = Quantities::default();
    let used = uses.values().fold(0_u64, |sum, one| sum.saturating_add(one.memory));
    quantities.set_live(Live::MemoryFree, memory.saturating_sub(used));
    let percent = uses.values().fold(0_u32, |sum, one| sum.saturating_add(one.percent)).min(100);
    quantities.set_live(Live::GpuUtilization, percent.into());
    (quantities, uses.into_iter().map(|(process, one)| (process, one.memory, one.percent)).collect())
}

fn measured(nvml: &Nvml, device: Device) -> Quantities {
    let mut quantities = Quantities::default();
    for which in Live::ALL {
        if let Some(value) = value(nvml, device, which) {
            quantities.set_live(which, value);
        }
    }
    quantities
}

fn value(nvml: &Nvml, device: Device, which: Live) -> Option<u64> {
    /// `NVML_FI_DEV_MEMORY_TEMP`.
    const MEMORY_TEMPERATURE: u32 = 82;
    let number = |name: &str| nvml.number(device, name);
    let clock = |domain| nvml.number_of(device, "nvmlDeviceGetClockInfo", domain);
    let throughput = |counter| nvml.number_of(device, "nvmlDeviceGetPcieThroughput", counter);
    match which {
        Live::MemoryFree => nvml.memory(device).map(|[_, free, _]| free),
        Live::GpuUtilization => nvml.utilization(device).map(|[gpu, _]| gpu.into()),
        Live::MemoryUtilization => nvml.utilization(device).map(|[_, memory]| memory.into()),
        Live::EncoderUtilization => {
            nvml.pair(device, "nvmlDeviceGetEncoderUtilization").map(|[percent, _]| percent)
        }
        Live::DecoderUtilization => {
            nvml.pair(device, "nvmlDeviceGetDecoderUtilization").map(|[percent, _]| percent)
        }
        Live::Temperature => nvml.number_of(device, "nvmlDeviceGetTemperature", 0),
        Live::Power => number("nvmlDeviceGetPowerUsage"),
        Live::Energy => nvml.long(device, "nvmlDeviceGetTotalEnergyConsumption"),
        Live::ClockGraphics => clock(0),
        Live::ClockProcessors => clock(1),
        Live::ClockMemory => clock(2),
        Live::ClockVideo => clock(3),
        Live::FanSpeed => number("nvmlDeviceGetFanSpeed"),
        Live::PerformanceState => number("nvmlDeviceGetPerformanceState"),
        Live::ClockReasons => nvml.long(device, "nvmlDeviceGetCurrentClocksThrottleReasons"),
        Live::PcieGeneration => number("nvmlDeviceGetCurrPcieLinkGeneration"),
        Live::PcieWidth => number("nvmlDeviceGetCurrPcieLinkWidth"),
        Live::PcieSent => throughput(0),
        Live::PcieReceived => throughput(1),
        Live::Bar1Used => nvml.bar1(device).map(|[_, _, used]| used),
        Live::MemoryTemperature => nvml.field(device, MEMORY_TEMPERATURE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(devices: u32, workers: u32, extra: usize) -> Vec<u8> {
        let mut bytes = Question { generation: 1, devices, workers, reserved: 0 }.as_bytes().to_vec();
        bytes.resize(bytes.len() + extra, 7);
        bytes
    }

    #[test]
    fn questions_are_as_long_as_they_say() {
        assert!(parse(&question(1, 2, 32)).is_some());
        for bytes in [question(2, 2, 32), question(1, 1, 32), question(u32::MAX, 0, 32), Vec::new()] {
            assert!(parse(&bytes).is_none());
        }
    }

    #[test]
    fn without_nvml_the_workers_are_looked_at() {
        let own = std::process::id();
        let device = QuestionedDevice { uuid: [1; 16], memory: 1 << 40 };
        let question = Question { generation: 9, devices: 1, workers: 1, reserved: 0 };
        let bytes = answer(None, &mut Looks::default(), &question, &[device], &[own]);
        let (head, rest) = StatusReply::read_from_prefix(&bytes).unwrap();
        assert_eq!((head.generation, head.device_count, head.process_count), (9, 1, 1));
        let (numbers, rest) = Quantities::read_from_prefix(rest).unwrap();
        assert!(numbers.live(Live::MemoryFree).is_some_and(|free| free < 1 << 40));
        assert_eq!(numbers.live(Live::Temperature), None);
        assert_eq!(ProcessUse::read_from_bytes(rest).unwrap().process, own);
    }
}
