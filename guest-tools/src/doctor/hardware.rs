//! The kernel, the device, its driver and its node.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::Finding;
use crate::device;
use crate::driver;
use crate::layout;
use crate::system::System;

/// The oldest kernel that the driver is built for.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// The kernel.
pub(super) fn kernel() -> Finding {
    const ABOUT: &str = "kernel";
    let release = driver::running_release();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if version >= OLDEST_KERNEL {
        Finding::good(ABOUT, format!("Linux {release}"))
    } else {
        Finding::broken(ABOUT, format!("Linux {release}"), "the driver needs Linux 6.1 or newer")
    }
}

/// The device, whatever drives it.
pub(super) fn bus() -> Finding {
    const ABOUT: &str = "device";
    let found = device::on_the_bus();
    if found.is_empty() {
        Finding::broken(
            ABOUT,
            "none on the PCI bus",
            "start the VM with the device: -device vhost-user-test-device-pci,virtio-id=38,… and the backend",
        )
    } else {
        Finding::good(ABOUT, format!("at {}", found.join(", ")))
    }
}

/// The driver.
pub(super) fn module(system: &System) -> Finding {
    const ABOUT: &str = "driver";
    let release = driver::running_release();
    if system.has(&format!("sys/module/{}", layout::MODULE)) {
        let bound =
            fs::read_dir(format!("/sys/bus/virtio/drivers/{}", layout::MODULE)).is_ok_and(|entries| {
                entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("virtio"))
            });
        return if bound {
            Finding::good(ABOUT, format!("{} is loaded", layout::MODULE))
        } else {
            Finding::broken(
                ABOUT,
                "loaded, but it has no device",
                "see `dmesg | grep vcompute`: versions may differ, or the host's backend is gone",
            )
        };
    }
    let built = fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).is_ok_and(|list| {
        list.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains("/vcompute.ko")))
    });
    if built {
        Finding::broken(
            ABOUT,
            "not loaded",
            "modprobe vcompute; with Secure Boot, enrol DKMS's key (mokutil --import /var/lib/dkms/mok.pub)",
        )
    } else {
        Finding::broken(
            ABOUT,
            format!("not built for the running kernel {release}"),
            "install its headers and run `vcompute-guest install` again (or `dkms autoinstall`)",
        )
    }
}

/// The node, who may open it, and what the device says.
pub(super) fn node() -> Vec<Finding> {
    const ABOUT: &str = "device node";
    const STATE: &str = "device state";
    let path = virtio_spec::uapi::DEVICE_PATH;
    let about = match fs::metadata(path) {
        Ok(about) if about.file_type().is_char_device() => about,
        Ok(_) => {
            return vec![Finding::broken(
                ABOUT,
                format!("{path} is no device"),
                "remove it, and load the driver again",
            )];
        }
        Err(error) => {
            return vec![Finding::broken(
                ABOUT,
                format!("{path}: {error}"),
                "the driver makes it when it finds the device; see above",
            )];
        }
    };
    let mode = about.mode() & 0o777;
    let who = format!("{path}, mode {mode:04o}, group {}", group_name(about.gid()));
    let mut findings = Vec::new();
    let mut opened = device::open();
    findings.push(match &opened {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Finding::broken(
            ABOUT,
            format!("{who}: you may not open it"),
            "usermod --append --groups render USER, and log in again; in a service, SupplementaryGroups=render and DeviceAllow=/dev/vcompute0",
        ),
        Err(error) => Finding::broken(ABOUT, format!("{who}: {error}"), "see `dmesg | grep vcompute`"),
        Ok(_) if about.gid() == 0 => Finding::doubtful(
            ABOUT,
            format!("{who}: only root can use it"),
            "udevadm trigger --action=add --subsystem-match=vcompute (the udev rule gives it to the group render)",
        ),
        Ok(_) => Finding::good(ABOUT, who),
    });
    let Ok(node) = &mut opened else { return findings };
    let state = match device::ask(node) {
        Ok(state) => state,
        Err(error) => {
            findings.push(Finding::broken(
                STATE,
                error.to_string(),
                "the device is gone or the driver is another version: see `dmesg | grep vcompute`",
            ));
            return findings;
        }
    };
    let gpus: Vec<_> =
        state.gpus.iter().map(|gpu| format!("{} ({} MiB)", gpu.name, gpu.memory_mib)).collect();
    let cuda = state.cuda.as_deref().map_or(String::new(), |version| format!(", CUDA {version}"));
    findings.push(if state.ready && !gpus.is_empty() {
        Finding::good(STATE, format!("ready{cuda}: {}", gpus.join(", ")))
    } else {
        Finding::broken(STATE, format!("{}{cuda}", state.state), "see the backend's log on the host")
    });
    if state.shim_off {
        findings.push(Finding::doubtful(
            "early start",
            "switched off by the module's parameter",
            "echo on > /sys/module/vcompute/parameters/shim, and take vcompute.shim=off from the kernel's command line",
        ));
    }
    findings
}

fn group_name(id: u32) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| id.to_string())
}
