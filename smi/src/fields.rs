//! Each number by the name that `nvidia-smi` gives it.

use virtio_spec::management::{Fixed, Live};

use crate::gpu::Gpu;

/// A field of a GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: &'static str,
    unit: &'static str,
    kind: Kind,
}

/// Where a field's value comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Index,
    Count,
    Name,
    Uuid,
    Pci,
    Driver,
    Capability,
    ComputeMode,
    State,
    MemoryTotal,
    MemoryUsed,
    MemoryFree,
    /// A number that stays the same.
    Fixed(Fixed),
    /// A number that changes.
    Live(Live),
    /// Milliwatts, shown as watts.
    FixedPower(Fixed),
    /// The same.
    LivePower,
    /// On or off.
    Switch(Fixed),
    /// Never known in a guest.
    Unknown,
}

/// A value.
enum Value {
    Unknown,
    Text(String),
    Number(u64),
    Watts(f64),
}

impl Kind {
    const fn unit(self) -> &'static str {
        match self {
            Self::MemoryTotal | Self::MemoryUsed | Self::MemoryFree => "MiB",
            Self::FixedPower(_) | Self::LivePower => "W",
            Self::Fixed(
                Fixed::ClockGraphicsMax
                | Fixed::ClockProcessorsMax
                | Fixed::ClockMemoryMax
                | Fixed::ClockVideoMax,
            )
            | Self::Live(
                Live::ClockGraphics | Live::ClockProcessors | Live::ClockMemory | Live::ClockVideo,
            ) => "MHz",
            Self::Live(
                Live::GpuUtilization
                | Live::MemoryUtilization
                | Live::EncoderUtilization
                | Live::DecoderUtilization
                | Live::FanSpeed,
            ) => "%",
            _ => "",
        }
    }

    fn value(self, gpu: &Gpu<'_>) -> Value {
        let number = |value: Option<u64>| value.map_or(Value::Unknown, Value::Number);
        let watts = |value: Option<u64>| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .map_or(Value::Unknown, |value| Value::Watts(f64::from(value) / 1000.0))
        };
        match self {
            Self::Index => Value::Number(gpu.index as u64),
            Self::Count => Value::Number(gpu.system.gpus().len() as u64),
            Self::Name => Value::Text(gpu.name()),
            Self::Uuid => Value::Text(gpu.uuid()),
            Self::Pci => Value::Text(gpu.pci()),
            Self::Driver => Value::Text(gpu.system.driver_version()),
            Self::Capability => match (gpu.attribute(75), gpu.attribute(76)) {
                (Some(major), Some(minor)) => Value::Text(format!("{major}.{minor}")),
                _ => Value::Unknown,
            },
            Self::ComputeMode => Value::Text(
                match gpu.attribute(20) {
                    Some(0) => "Default",
                    Some(2) => "Prohibited",
                    Some(3) => "Exclusive_Process",
                    _ => return Value::Unknown,
                }
                .to_owned(),
            ),
            Self::State => gpu
                .live(Live::PerformanceState)
                .map_or(Value::Unknown, |state| Value::Text(format!("P{state}"))),
            Self::MemoryTotal => Value::Number(gpu.memory_total() >> 20),
            Self::MemoryUsed => number(gpu.memory_used().map(|bytes| bytes >> 20)),
            Self::MemoryFree => number(gpu.live(Live::MemoryFree).map(|bytes| bytes >> 20)),
            Self::Fixed(which) => number(gpu.fixed(which)),
            Self::Live(which) => number(gpu.live(which)),
            Self::FixedPower(which) => watts(gpu.fixed(which)),
            Self::LivePower => watts(gpu.live(Live::Power)),
            Self::Switch(which) => match gpu.fixed(which) {
                Some(0) => Value::Text("Disabled".to_owned()),
                Some(_) => Value::Text("Enabled".to_owned()),
                None => Value::Unknown,
            },
            Self::Unknown => Value::Unknown,
        }
    }
}

impl Field {
    /// Its name in the first line.
    pub(crate) fn header(&self, units: bool) -> String {
        if units && !self.unit.is_empty() {
            format!("{} [{}]", self.name, self.unit)
        } else {
            self.name.to_owned()
        }
    }

    /// Its value in a line.
    pub(crate) fn text(&self, gpu: &Gpu<'_>, units: bool) -> String {
        let value = match self.kind.value(gpu) {
            Value::Unknown => return "[N/A]".to_owned(),
            Value::Text(text) => return text,
            Value::Number(number) => number.to_string(),
            Value::Watts(watts) => format!("{watts:.2}"),
        };
        if units && !self.unit.is_empty() { format!("{value} {}", self.unit) } else { value }
    }

    /// Its value as JSON.
    pub(crate) fn json(&self, gpu: &Gpu<'_>) -> serde_json::Value {
        match self.kind.value(gpu) {
            Value::Unknown => serde_json::Value::Null,
            Value::Text(text) => text.into(),
            Value::Number(number) => number.into(),
            Value::Watts(watts) => watts.into(),
        }
    }
}

macro_rules! fields {
    ($($name:literal: $kind:expr;)*) => {
        /// Every field.
        pub(crate) const NAMES: &[(&str, Field)] =
            &[$(($name, Field { name: $name, unit: $kind.unit(), kind: $kind })),*];
    };
}

fields! {
    "index": Kind::Index;
    "count": Kind::Count;
    "name": Kind::Name;
    "gpu_name": Kind::Name;
    "uuid": Kind::Uuid;
    "gpu_uuid": Kind::Uuid;
    "pci.bus_id": Kind::Pci;
    "gpu_bus_id": Kind::Pci;
    "driver_version": Kind::Driver;
    "compute_cap": Kind::Capability;
    "compute_mode": Kind::ComputeMode;
    "pstate": Kind::State;
    "memory.total": Kind::MemoryTotal;
    "memory.used": Kind::MemoryUsed;
    "memory.free": Kind::MemoryFree;
    "utilization.gpu": Kind::Live(Live::GpuUtilization);
    "utilization.memory": Kind::Live(Live::MemoryUtilization);
    "utilization.encoder": Kind::Live(Live::EncoderUtilization);
    "utilization.decoder": Kind::Live(Live::DecoderUtilization);
    "temperature.gpu": Kind::Live(Live::Temperature);
    "temperature.memory": Kind::Live(Live::MemoryTemperature);
    "fan.speed": Kind::Live(Live::FanSpeed);
    "power.draw": Kind::LivePower;
    "power.draw.instant": Kind::LivePower;
    "power.limit": Kind::FixedPower(Fixed::PowerLimit);
    "enforced.power.limit": Kind::FixedPower(Fixed::PowerLimitEnforced);
    "power.default_limit": Kind::FixedPower(Fixed::PowerLimitDefault);
    "power.min_limit": Kind::FixedPower(Fixed::PowerLimitMin);
    "power.max_limit": Kind::FixedPower(Fixed::PowerLimitMax);
    "clocks.gr": Kind::Live(Live::ClockGraphics);
    "clocks.current.graphics": Kind::Live(Live::ClockGraphics);
    "clocks.sm": Kind::Live(Live::ClockProcessors);
    "clocks.current.sm": Kind::Live(Live::ClockProcessors);
    "clocks.mem": Kind::Live(Live::ClockMemory);
    "clocks.current.memory": Kind::Live(Live::ClockMemory);
    "clocks.video": Kind::Live(Live::ClockVideo);
    "clocks.max.gr": Kind::Fixed(Fixed::ClockGraphicsMax);
    "clocks.max.graphics": Kind::Fixed(Fixed::ClockGraphicsMax);
    "clocks.max.sm": Kind::Fixed(Fixed::ClockProcessorsMax);
    "clocks.max.mem": Kind::Fixed(Fixed::ClockMemoryMax);
    "clocks.max.memory": Kind::Fixed(Fixed::ClockMemoryMax);
    "pcie.link.gen.current": Kind::Live(Live::PcieGeneration);
    "pcie.link.gen.gpucurrent": Kind::Live(Live::PcieGeneration);
    "pcie.link.gen.max": Kind::Fixed(Fixed::PcieGenerationMax);
    "pcie.link.width.current": Kind::Live(Live::PcieWidth);
    "pcie.link.width.max": Kind::Fixed(Fixed::PcieWidthMax);
    "persistence_mode": Kind::Switch(Fixed::Persistence);
    "ecc.mode.current": Kind::Switch(Fixed::ErrorCorrection);
    "mig.mode.current": Kind::Unknown;
    "display_active": Kind::Unknown;
    "display_mode": Kind::Unknown;
    "serial": Kind::Unknown;
    "gpu_serial": Kind::Unknown;
    "vbios_version": Kind::Unknown;
}

/// The fields of a list.
pub(crate) fn parse(list: &str) -> Result<Vec<Field>, String> {
    list.split(',')
        .map(|word| {
            let word = word.trim();
            let found = NAMES.iter().find(|(name, _)| *name == word).map(|(_, field)| *field);
            found.ok_or_else(|| {
                format!(
                    "Field \"{word}\" is not a valid field to query.\n--help-query-gpu lists the valid ones."
                )
            })
        })
        .collect()
}

/// A field's value for the table.
pub(crate) fn shown(gpu: &Gpu<'_>, name: &str) -> String {
    let field = NAMES.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
    match field.map(|field| field.text(gpu, false)) {
        Some(text) if text != "[N/A]" => text,
        _ => "N/A".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (place, (name, _)) in NAMES.iter().enumerate() {
            assert!(NAMES.iter().skip(place + 1).all(|(other, _)| other != name), "{name}");
        }
        assert_eq!(parse("name, memory.total").map(|fields| fields.len()), Ok(2));
        assert!(parse("name,colour").is_err_and(|text| text.contains("\"colour\"")));
    }

    #[test]
    fn units_stand_in_the_first_line() {
        let fields = parse("memory.used,power.draw,clocks.sm,utilization.gpu,name").expect("all known");
        let heads: Vec<String> = fields.iter().map(|field| field.header(true)).collect();
        assert_eq!(
            heads,
            ["memory.used [MiB]", "power.draw [W]", "clocks.sm [MHz]", "utilization.gpu [%]", "name"]
        );
    }
}
