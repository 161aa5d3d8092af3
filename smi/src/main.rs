//! `vcompute-smi`: which GPUs there are and what they are doing, in a guest or beside the backend.
//!
//! Its options and texts are those of `nvidia-smi` as far as scripts read them, so it can stand in for it where there is
//! none. It makes no session: it reads the device information and asks STATUS.
//!
//! Read in this order: this file; [`gpu`], what is known of each; [`fields`], each number by its name; [`table`], the
//! table for people.
#![forbid(unsafe_code)]

mod fields;
mod gpu;
mod table;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use clap::Parser;
use fields::Field;
use gpu::{Gpu, System};
use guest_device::Error;

/// Which GPUs there are and what they are doing.
#[derive(Debug, Parser)]
#[command(name = "vcompute-smi", version)]
struct Arguments {
    /// One line for each GPU: its name and UUID.
    #[arg(short = 'L', long)]
    list_gpus: bool,
    /// These fields of each GPU, separated by commas (--help-query-gpu lists them).
    #[arg(long, value_name = "FIELDS")]
    query_gpu: Option<String>,
    /// These fields of each process: pid, process_name, used_memory, gpu_uuid, gpu_name.
    #[arg(long, value_name = "FIELDS")]
    query_compute_apps: Option<String>,
    /// How fields are printed: csv, and any of noheader and nounits.
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: String,
    /// The fields that there are.
    #[arg(long)]
    help_query_gpu: bool,
    /// Everything, as JSON.
    #[arg(long)]
    json: bool,
    /// Only these GPUs: indices, UUIDs or PCI places, separated by commas.
    #[arg(short = 'i', long, value_name = "GPUS")]
    id: Option<String>,
    /// The backend's local socket, on the host; without it, VCOMPUTE_SOCKET or the guest's driver.
    #[arg(long, value_name = "PATH")]
    socket: Option<OsString>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => {
            // Whoever closes the pipe has read enough.
            let _written = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err((text, code)) => {
            let _written = writeln!(std::io::stderr(), "{text}");
            ExitCode::from(code)
        }
    }
}

/// An error's text and the exit status, which are `nvidia-smi`'s.
type Failure = (String, u8);

fn run(arguments: &Arguments) -> Result<String, Failure> {
    if arguments.help_query_gpu {
        return Ok(fields::NAMES.iter().map(|(name, _)| format!("{name}\n")).collect());
    }
    // Before anything is asked of the device.
    let fields = arguments.query_gpu.as_deref().map(fields::parse).transpose().map_err(|text| (text, 2))?;
    let format = Format::parse(&arguments.format).map_err(|text| (text, 2))?;
    let socket =
        arguments.socket.as_ref().map(|path| path.as_bytes().to_vec()).or_else(guest_device::socket_path);
    let system = System::read(socket.as_deref()).map_err(|error| (problem(error, socket.is_some()), 9))?;
    let gpus = chosen(&system, arguments.id.as_deref()).map_err(|text| (text, 6))?;
    if arguments.list_gpus {
        return Ok(gpus
            .iter()
            .map(|gpu| format!("GPU {}: {} (UUID: {})\n", gpu.index, gpu.name(), gpu.uuid()))
            .collect());
    }
    if let Some(fields) = fields {
        return Ok(csv(&gpus, &fields, format));
    }
    if let Some(list) = &arguments.query_compute_apps {
        return processes(&gpus, list, format).map_err(|text| (text, 2));
    }
    if arguments.json {
        return Ok(format!("{:#}\n", json(&system, &gpus)));
    }
    Ok(table::table(&system, &gpus))
}

/// What is wrong, and what can be done about it.
fn problem(error: Error, by_socket: bool) -> String {
    let advice = match (error, by_socket) {
        (Error::Absent, false) => {
            "\nIn a guest: has the VM a virtio compute device, and is the module loaded (modprobe vcompute)? \
             `vcompute-guest doctor` looks.\nOn the host: name the backend's local socket with --socket or VCOMPUTE_SOCKET."
        }
        (Error::Absent, true) => {
            "\nIs the backend running (vhost-user-compute --local-socket), and is the path right?"
        }
        (Error::Starting, _) => "\nTry again in a moment; the backend's log says what it waits for.",
        (Error::Dead, _) => "\nThe backend's log says why.",
        (Error::Protocol, _) => "\nBring the guest's package and the host's to the same version.",
        _ => "",
    };
    format!("vcompute-smi cannot reach a GPU: {}.{advice}", error.about())
}

/// The GPUs that are asked for.
fn chosen<'a>(system: &'a System, list: Option<&str>) -> Result<Vec<Gpu<'a>>, String> {
    let all = system.gpus();
    let Some(list) = list else { return Ok(all) };
    list.split(',')
        .map(|word| {
            let found = all.iter().find(|gpu| gpu.is_called(word.trim()));
            found.copied().ok_or_else(|| format!("No devices were found: {word:?} is none of the GPUs."))
        })
        .collect()
}

/// How fields are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    header: bool,
    units: bool,
}

impl Format {
    fn parse(text: &str) -> Result<Self, String> {
        let mut format = Self { header: true, units: true };
        for word in text.split(',') {
            match word.trim() {
                "csv" => {}
                "noheader" => format.header = false,
                "nounits" => format.units = false,
                other => return Err(format!("\"{other}\" is not a format: csv, noheader and nounits are.")),
            }
        }
        Ok(format)
    }
}

fn csv(gpus: &[Gpu<'_>], fields: &[Field], format: Format) -> String {
    let mut text = String::new();
    if format.header {
        let names: Vec<String> = fields.iter().map(|field| field.header(format.units)).collect();
        text.push_str(&(names.join(", ") + "\n"));
    }
    for gpu in gpus {
        let values: Vec<String> = fields.iter().map(|field| field.text(gpu, format.units)).collect();
        text.push_str(&(values.join(", ") + "\n"));
    }
    text
}

fn processes(gpus: &[Gpu<'_>], list: &str, format: Format) -> Result<String, String> {
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    let unit = |name: &str| match name {
        "used_memory" | "used_gpu_memory" if format.units => " [MiB]",
        _ => "",
    };
    let mut text = String::new();
    if format.header {
        let heads: Vec<String> = names.iter().map(|name| format!("{name}{}", unit(name))).collect();
        text.push_str(&(heads.join(", ") + "\n"));
    }
    for gpu in gpus {
        for process in gpu.processes() {
            let values = names.iter().map(|name| match *name {
                "pid" => Ok(process.process.to_string()),
                "process_name" | "name" => Ok(gpu::process_name(process.process)),
                "gpu_uuid" => Ok(gpu.uuid()),
                "gpu_name" => Ok(gpu.name()),
                "used_memory" | "used_gpu_memory" if process.memory == u64::MAX => Ok("[N/A]".to_owned()),
                "used_memory" | "used_gpu_memory" => {
                    Ok(format!("{}{}", process.memory >> 20, if format.units { " MiB" } else { "" }))
                }
                other => Err(format!("Field \"{other}\" is not a valid field to query.")),
            });
            text.push_str(&(values.collect::<Result<Vec<_>, _>>()?.join(", ") + "\n"));
        }
    }
    Ok(text)
}

fn json(system: &System, gpus: &[Gpu<'_>]) -> serde_json::Value {
    let gpus: Vec<serde_json::Value> = gpus
        .iter()
        .map(|gpu| {
            let mut values: serde_json::Map<String, serde_json::Value> =
                fields::NAMES.iter().map(|(name, field)| ((*name).to_owned(), field.json(gpu))).collect();
            let processes: Vec<_> = gpu
                .processes()
                .map(|process| {
                    serde_json::json!({
                        "pid": process.process,
                        "process_name": gpu::process_name(process.process),
                        "used_memory": (process.memory != u64::MAX).then_some(process.memory >> 20),
                    })
                })
                .collect();
            values.insert("processes".to_owned(), processes.into());
            values.into()
        })
        .collect();
    serde_json::json!({
        "driver_version": system.driver_version(),
        "cuda_version": system.cuda_version(),
        "gpus": gpus,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_nvidia_smi() {
        assert_eq!(Format::parse("csv"), Ok(Format { header: true, units: true }));
        assert_eq!(Format::parse("csv,noheader,nounits"), Ok(Format { header: false, units: false }));
        assert_eq!(Format::parse("csv, noheader"), Ok(Format { header: false, units: true }));
        assert!(Format::parse("xml").is_err());
    }

    #[test]
    fn problems_say_what_to_do() {
        assert!(problem(Error::Absent, false).contains("vcompute-guest doctor"));
        assert!(problem(Error::Absent, true).contains("--local-socket"));
    }
}
