//! QEMU's command line for a guest with our device.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;

use virtio_spec::device::{Config as Configuration, QUEUE_COUNT, QUEUE_SIZE, VIRTIO_ID};

use crate::install::DEVICE;

/// Bytes of the configuration space.
const CONFIGURATION_SIZE: usize = size_of::<Configuration>();

/// How guest code is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By translation; works everywhere.
    Tcg,
}

impl Accelerator {
    /// KVM where the processor has it and this user may use it. Nested without the processor's help, `/dev/kvm` can be
    /// there and not work.
    pub fn of_this_machine() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let supported = processor
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
        if supported && File::options().read(true).write(true).open("/dev/kvm").is_ok() {
            Self::Kvm
        } else {
            Self::Tcg
        }
    }
}

/// A virtual machine, as QEMU is told of it.
#[derive(Debug, Clone)]
pub struct Config {
    /// How guest code is executed.
    pub accelerator: Accelerator,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub processors: u32,
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initial RAM disk.
    pub initrd: PathBuf,
    /// Where the console's text goes.
    pub console: PathBuf,
    /// A Unix socket at which the caller listens for QEMU's monitor.
    pub monitor: PathBuf,
    /// The backend's vhost-user socket; without one the guest has no compute device. The backend must be listening.
    pub device: Option<PathBuf>,
    /// A disk's image; what the guest writes is forgotten.
    pub disk: Option<PathBuf>,
    /// A port of this machine's loopback address that leads to the guest's port 22; without one there is no network.
    pub ssh: Option<u16>,
    /// What is added to the kernel's command line.
    pub append: String,
    /// Whether a reset starts the guest again (otherwise QEMU ends).
    pub restart_on_reset: bool,
}

impl Config {
    /// QEMU's arguments. The guest's second serial port is QEMU's standard output.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |option: &str, value: String| arguments.extend([OsString::from(option), value.into()]);
        match self.accelerator {
            Accelerator::Kvm => {
                add("-accel", "kvm".into());
                add("-cpu", "host".into());
            }
            Accelerator::Tcg => {
                add("-accel", "tcg,thread=multi".into());
                add("-cpu", "max".into());
            }
        }
        add("-machine", "q35,memory-backend=ram".into());
        add("-m", format!("{}M", self.memory_mib));
        add("-object", format!("memory-backend-memfd,id=ram,size={}M,share=on", self.memory_mib));
        add("-smp", self.processors.to_string());
        add("-kernel", quoted(&self.kernel));
        add("-initrd", quoted(&self.initrd));
        let line = format!("console=ttyS0 panic=-1 quiet loglevel=4 random.trust_cpu=on {}", self.append);
        add("-append", line.trim_end().into());
        add("-chardev", format!("file,id=console,path={}", quoted(&self.console)));
        add("-serial", "chardev:console".into());
        add("-chardev", "stdio,id=report,signal=off".into());
        add("-serial", "chardev:report".into());
        add("-chardev", format!("socket,id=monitor,path={}", quoted(&self.monitor)));
        add("-mon", "chardev=monitor,mode=control".into());
        if let Some(socket) = &self.device {
            add("-chardev", format!("socket,id=compute,path={}", quoted(socket)));
            add(
                "-device",
                format!(
                    "{DEVICE},chardev=compute,virtio-id={VIRTIO_ID},num_vqs={QUEUE_COUNT},vq_size={QUEUE_SIZE},\
                     config_size={CONFIGURATION_SIZE}"
                ),
            );
        }
        if let Some(disk) = &self.disk {
            add("-drive", format!("file={},format=raw,if=virtio,snapshot=on", quoted(disk)));
        }
        if let Some(port) = self.ssh {
            add("-netdev", format!("user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"));
            add("-device", "virtio-net-pci,netdev=network,romfile=".into());
        }
        for switch in ["-nodefaults", "-no-user-config", "-nographic"] {
            arguments.push(switch.into());
        }
        arguments.extend(["-vga", "none"].map(OsString::from));
        if self.ssh.is_none() {
            arguments.extend(["-net", "none"].map(OsString::from));
        }
        if !self.restart_on_reset {
            arguments.push("-no-reboot".into());
        }
        arguments
    }
}

/// A path as part of an option: QEMU wants commas doubled.
fn quoted(path: &std::path::Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            accelerator: Accelerator::Tcg,
            memory_mib: 1024,
            processors: 2,
            kernel: "/k".into(),
            initrd: "/i".into(),
            console: "/c".into(),
            monitor: "/m".into(),
            device: Some("/run/a,b".into()),
            disk: None,
            ssh: None,
            append: String::new(),
            restart_on_reset: false,
        }
    }

    fn line(config: &Config) -> String {
        config.arguments().join(" ".as_ref()).into_string().expect("text")
    }

    #[test]
    fn guest_memory_is_shared_with_the_device() {
        let line = line(&config());

        assert!(line.contains("-object memory-backend-memfd,id=ram,size=1024M,share=on"));
        assert!(line.contains("-machine q35,memory-backend=ram"));
        assert!(line.contains("-device vhost-user-test-device-pci,chardev=compute,virtio-id=38,num_vqs=2,"));
        assert!(line.contains("path=/run/a,,b"));
    }

    #[test]
    fn the_libvirt_example_has_the_same_device() {
        let example = include_str!("../libvirt.xml");
        let line = line(&config());

        let device = line.split(' ').find(|word| word.starts_with(DEVICE)).expect("the device");

        assert!(example.contains(device), "{device}");
    }

    #[test]
    fn a_guest_with_a_disk_writes_nothing_to_it_and_is_reached_from_this_machine_only() {
        let line = line(&Config { disk: Some("/d".into()), ssh: Some(2222), ..config() });

        assert!(line.contains("-drive file=/d,format=raw,if=virtio,snapshot=on"));
        assert!(line.contains("restrict=on,hostfwd=tcp:127.0.0.1:2222-:22"));
        assert!(!line.contains("-net none"));
    }

    #[test]
    fn without_a_backend_there_is_no_device() {
        let line = line(&Config { device: None, ..config() });

        assert!(!line.contains("vhost-user"));
    }
}
