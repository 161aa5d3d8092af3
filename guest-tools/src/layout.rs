//! Where everything lies in a guest.

use std::time::Duration;

use crate::elf::Machine;
use crate::system::{self, System};

/// Of this program, and of what it installs.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// This program.
pub(crate) const PROGRAM: &str = "usr/sbin/vcompute-guest";
/// The program that stands for one that uses CUDA.
pub(crate) const PROBE: &str = "usr/libexec/virtio-compute/vcompute-probe";
/// What was installed, for `uninstall`.
pub(crate) const RECORD: &str = "var/lib/virtio-compute/installed.toml";
/// Other vendors' libraries that had to make way, under the paths that they had.
pub(crate) const KEPT: &str = "var/lib/virtio-compute/kept";
/// What the dynamic linker loads into every process.
pub(crate) const PRELOAD_LIST: &str = "etc/ld.so.preload";
/// The policy, for people.
pub(crate) const CONFIG: &str = "etc/virtio-compute/shim.toml";
/// The policy, for processes: a link whose text it is.
pub(crate) const POLICY: &str = "etc/virtio-compute/shim.policy";
/// Who may open the device node.
pub(crate) const UDEV_RULE: &str = "etc/udev/rules.d/70-virtio-compute.rules";
/// Loads the module when the guest starts.
pub(crate) const MODULES_LOAD: &str = "etc/modules-load.d/virtio-compute.conf";
/// Keeps the preloaded library out of initial RAM disks.
pub(crate) const INITRAMFS_HOOK: &str = "etc/initramfs-tools/hooks/zz-virtio-compute";
/// Looks at the preloaded library before the system starts.
pub(crate) const INITRAMFS_CHECK: &str = "etc/initramfs-tools/scripts/local-bottom/virtio-compute";
/// The driver's sources, as DKMS names their directory.
pub(crate) const DRIVER_SOURCE: &str = "usr/src/virtio-compute";
/// The module's name.
pub(crate) const MODULE: &str = "vcompute";

/// A library that is installed, and what it is called beside this program.
#[derive(Debug)]
pub(crate) struct Library {
    /// Its own name, by which the dynamic linker knows it.
    pub soname: &'static str,
    /// Its file, below the directory of libraries.
    pub file: &'static str,
    /// Links to it, beside that file.
    pub links: &'static [&'static str],
}

/// The library that answers CUDA's functions, which the first call loads. Where no program looks by itself, and where both
/// the preloaded file and `libcuda.so.1` find it by their own place.
pub(crate) const ENGINE: Library =
    Library { soname: "libvcompute.so", file: "virtio-compute/libvcompute.so", links: &[] };

/// The library that programs ask for, and that is preloaded.
pub(crate) const CUDA: Library = Library {
    soname: SONAME,
    file: concat!("libcuda.so.", env!("CARGO_PKG_VERSION")),
    links: &[SONAME, LINK_NAME],
};

/// The library that management programs ask for. In no process but theirs.
pub(crate) const MANAGEMENT: Library = Library {
    soname: "libnvidia-ml.so.1",
    file: concat!("libnvidia-ml.so.", env!("CARGO_PKG_VERSION")),
    links: &["libnvidia-ml.so.1", "libnvidia-ml.so"],
};

/// The program that shows the GPUs.
pub(crate) const SMI: &str = "usr/bin/vcompute-smi";
/// Its name.
pub(crate) const SMI_NAME: &str = "vcompute-smi";
/// The name by which programs and people look for such a one: a link, where there is none.
pub(crate) const OTHER_SMI: &str = "usr/bin/nvidia-smi";

/// The name that programs ask for.
pub(crate) const SONAME: &str = "libcuda.so.1";
/// The name that linkers ask for.
pub(crate) const LINK_NAME: &str = "libcuda.so";
/// The preloaded file, below the directory of libraries. Not `libcuda.so.1` itself: where another architecture's
/// processes look for theirs there must be a file as well, and that must not pass for a CUDA library.
pub(crate) const PRELOADED: &str = "virtio-compute/preload.so";

/// Where the dynamic linker of x86-64 programs finds libraries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Libraries {
    /// The directory, such as `usr/lib/x86_64-linux-gnu`.
    pub directory: String,
    /// Whether it is `/usr/$LIB` for the dynamic linker.
    pub token: bool,
}

/// Where libraries can be, the best first.
const DIRECTORIES: &[&str] = &["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"];

impl Libraries {
    /// Where a library's file is.
    pub(crate) fn file(&self, library: &Library) -> String {
        format!("{}/{}", self.directory, library.file)
    }

    /// Of a system, if it is one of glibc and x86-64.
    pub(crate) fn of(system: &System) -> Option<Self> {
        let mut libraries = Self::in_place(system)?;
        libraries.token = token_of(system).is_some_and(|token| format!("usr/{token}") == libraries.directory);
        Some(libraries)
    }

    /// The same without asking the system's dynamic linker, which may not work.
    pub(crate) fn in_place(system: &System) -> Option<Self> {
        let directory = DIRECTORIES
            .iter()
            .find(|directory| system.path(&format!("{directory}/libc.so.6")).exists())?
            .to_string();
        Some(Self { directory, token: false })
    }

    /// What stands in the list of preloaded files. With `$LIB`, each architecture's dynamic linker looks in its own
    /// directory, and prints nothing if it finds a file there.
    pub(crate) fn preload_entry(&self) -> String {
        if self.token { format!("/usr/$LIB/{PRELOADED}") } else { format!("/{}/{PRELOADED}", self.directory) }
    }

    /// Which file an entry of the list of preloaded files means for x86-64 programs.
    pub(crate) fn entrys_file(&self, entry: &str) -> String {
        let library = self.directory.trim_start_matches("usr/");
        entry.replace("$LIB", library).replace("${LIB}", library)
    }

    /// What other architectures' processes preload: files that hold nothing.
    pub(crate) fn stubs(&self) -> Vec<(String, Machine)> {
        let directories: &[(&str, Machine)] = match (self.token, self.directory.as_str()) {
            (false, _) => &[],
            (true, "usr/lib64") => &[("usr/lib", Machine::I386)],
            (true, _) => &[
                ("usr/lib/i386-linux-gnu", Machine::I386),
                ("usr/lib32", Machine::I386),
                ("usr/lib/x86_64-linux-gnux32", Machine::X32),
                ("usr/lib/aarch64-linux-gnu", Machine::Aarch64),
            ],
        };
        directories
            .iter()
            .map(|(directory, machine)| (format!("{directory}/{PRELOADED}"), *machine))
            .collect()
    }
}

/// What `$LIB` means to the system's dynamic linker (glibc 2.33 and newer tell; before, it is as Debian has it).
fn token_of(system: &System) -> Option<String> {
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let mut command = system.command(loader, None).ok()?;
    command.arg("--list-diagnostics");
    let ended = system::run(command, Duration::from_secs(10)).ok()?;
    let line = ended.output.lines().find_map(|line| line.strip_prefix("dl_dst_lib="));
    match line {
        Some(quoted) => Some(quoted.trim_matches('"').to_owned()),
        None if system.has("etc/debian_version") => Some("lib/x86_64-linux-gnu".to_owned()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_each_architectures_own_where_the_dynamic_linker_can_tell() {
        let debian = Libraries { directory: "usr/lib/x86_64-linux-gnu".to_owned(), token: true };
        let other = Libraries { directory: "usr/lib".to_owned(), token: false };

        assert_eq!(debian.preload_entry(), "/usr/$LIB/virtio-compute/preload.so");
        assert!(
            debian.stubs().iter().any(|(path, _)| path == "usr/lib/i386-linux-gnu/virtio-compute/preload.so")
        );
        assert_eq!(other.preload_entry(), "/usr/lib/virtio-compute/preload.so");
        assert!(other.stubs().is_empty());
    }
}
