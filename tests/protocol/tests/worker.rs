//! What a worker is started with: addresses, environment, descriptors.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use protocol_tests::{
    backend::{self, Backend},
    message,
    vm::{self, Vm},
};
use virtio_spec::{
    control::{Extent, SessionCreate, SessionOptions, Status, Type, options},
    window,
};
use zerocopy::IntoBytes as _;

/// A VM's worker, as its folder in `/proc`.
fn worker(backend: &Backend, vm: &mut Vm) -> Result<PathBuf> {
    assert_eq!(vm.ask(&message::hello(1))?.status, Status::Ok);
    vm.create_session(vm::page(0))?;
    let [worker] = backend.workers()?[..] else { anyhow::bail!("one worker") };
    Ok(PathBuf::from(format!("/proc/{worker}")))
}

#[test]
fn the_executable_is_linked_at_a_fixed_address() -> Result<()> {
    const ET_EXEC: [u8; 2] = [2, 0];
    let header = fs::read(backend::executable())?;
    assert_eq!(header[16..18], ET_EXEC, "e_type of the ELF header");
    Ok(())
}

#[test]
fn the_guests_addresses_are_free() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    let folder = worker(&backend, &mut vm)?;
    let maps = fs::read_to_string(folder.join("maps"))?;
    let mut reserved = false;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').context("address range")?;
        let (start, end) = range.split_once('-').context("start and end")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        if (start, end) == (window::PINNED_START, window::PINNED_END) {
            ensure!(rest.starts_with("---p"), "{line}");
            reserved = true;
            continue;
        }
        let program = end <= window::LOW_START;
        let libraries = start >= window::PINNED_END && end <= window::END;
        let kernels = start >= 0x7ff0_0000_0000;
        ensure!(program || libraries || kernels, "this lies where guests have their memory: {line}");
    }
    ensure!(reserved, "the place of pinned memory is not reserved:\n{maps}");
    Ok(())
}

/// The environment of a process.
fn environment(folder: &Path) -> Result<BTreeSet<String>> {
    let bytes = fs::read(folder.join("environ"))?;
    let variables = bytes.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
    variables.map(|variable| Ok(String::from_utf8(variable.to_vec())?)).collect()
}

const ALWAYS: [&str; 2] = ["CUDA_CACHE_DISABLE=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"];

#[test]
fn the_environment_is_enumerated() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    let folder = worker(&backend, &mut vm)?;
    assert_eq!(environment(&folder)?, ALWAYS.map(str::to_owned).into());
    Ok(())
}

#[test]
fn what_operator_and_guest_have_chosen_reaches_the_driver() -> Result<()> {
    let backend = Backend::start_with("gpu = '1,GPU-8932f937'")?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    assert_eq!(vm.ask(&message::hello(1))?.status, Status::Ok);
    let length = message::layout().total_bytes();
    let create = SessionCreate {
        length,
        extent_count: 1,
        reserved: 0,
        options: SessionOptions {
            flags: options::EAGER_LOADING,
            max_connections: 8,
            ..SessionOptions::default()
        },
    };
    let extent = Extent { address: vm::page(0), length };
    let request = message::request(Type::SessionCreate, 0, &[create.as_bytes(), extent.as_bytes()]);
    assert_eq!(vm.ask(&request)?.status, Status::Ok);
    let [worker] = backend.workers()?[..] else { anyhow::bail!("one worker") };
    let chosen =
        ["CUDA_VISIBLE_DEVICES=1,GPU-8932f937", "CUDA_MODULE_LOADING=EAGER", "CUDA_DEVICE_MAX_CONNECTIONS=8"];
    let expected = ALWAYS.into_iter().chain(chosen).map(str::to_owned).collect();
    assert_eq!(environment(Path::new(&format!("/proc/{worker}")))?, expected);
    Ok(())
}

#[test]
fn core_files_are_switched_off() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    let folder = worker(&backend, &mut vm)?;
    let limits = fs::read_to_string(folder.join("limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("a line")?;
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    Ok(())
}

#[test]
fn no_descriptor_leads_to_the_guests_memory_or_to_another_session() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    let folder = worker(&backend, &mut vm)?;
    let mut sockets = 0;
    for entry in fs::read_dir(folder.join("fd"))? {
        // One that is closed meanwhile leads nowhere.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        ensure!(!target.contains("vm-memory"), "the guest's RAM can be reached: {target}");
        sockets += usize::from(target.starts_with("socket:"));
    }
    assert_eq!(sockets, 2, "its link to the supervisor, and the one for tokens");
    Ok(())
}
