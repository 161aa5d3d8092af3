//! The same on a real Debian, with the programs that a preload has broken elsewhere.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::tree::{self, Behaviour, Tree, has_program};

const PACKAGES: &str = "initramfs-tools,kmod,libc6-i386,python3-minimal,udev,zstd";

fn inside(top: &Path, script: &str) -> (bool, String, String) {
    let output = Command::new("chroot")
        .arg(top)
        .args(["sh", "-c", script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("chroot");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
#[ignore = "makes a Debian with debootstrap: root, network, half a minute"]
fn a_debian_goes_on_as_before() {
    assert!(
        has_program("debootstrap") && fs::metadata("/proc/self").expect("proc").uid() == 0,
        "this test needs root and debootstrap"
    );
    let tree = Tree::new();
    let debian = tree.payload.with_file_name("debian");
    let made = Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), "trixie"])
        .arg(&debian)
        .stdout(Stdio::null())
        .status()
        .expect("debootstrap");
    assert!(made.success(), "debootstrap {made}");
    let kernel = debian.join("usr/lib/modules/6.12.0-test");
    fs::create_dir_all(kernel.join("kernel")).expect("a directory");
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::write(kernel.join(list), "").expect("a file");
    }
    assert!(inside(&debian, "depmod 6.12.0-test").0);
    if let Some(library) = std::env::var_os("VCOMPUTE_TEST_LIBRARY") {
        fs::copy(library, tree.payload.join("libcuda.so.1")).expect("the library that the environment names");
    } else {
        tree.offer(Behaviour::Harmless);
    }
    let succeed = |words: &[&str]| {
        let output = tree::run(&debian, &tree.payload, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };

    succeed(&["install", "--yes", "--no-driver"]);
    succeed(&["doctor"]);

    for script in [
        "python3 -c 'print(1)'",
        "su root -c true",
        "dpkg --list >/dev/null",
        "apt-get --version >/dev/null",
        "perl -e 1",
        "/lib32/ld-linux.so.2 /usr/lib32/libc.so.6",
        "ldconfig",
    ] {
        let (success, _, complaints) = inside(&debian, script);
        assert!(success && complaints.is_empty(), "{script}: {complaints}");
    }
    let (_, libraries, _) = inside(&debian, "ldd /usr/bin/true");
    assert!(libraries.contains("virtio-compute/preload.so"), "{libraries}");

    let (success, said, complaints) = inside(
        &debian,
        "mkinitramfs -o /tmp/initrd 6.12.0-test && lsinitramfs /tmp/initrd && rm /tmp/initrd",
    );
    assert!(success, "{complaints}");
    assert!(said.contains("libc.so.6"), "the list is that of an initial RAM disk:\n{said}");
    let traces: Vec<_> =
        said.lines().filter(|line| line.contains("cuda") || line.contains("preload")).collect();
    assert!(traces.is_empty(), "{traces:?}");

    fs::remove_file(debian.join(tree::LIBRARIES).join("libcuda.so.0.1.0")).expect("it was there");
    let (success, _, complaints) = inside(&debian, "true");
    assert!(success && complaints.contains("cannot be preloaded"), "{complaints}");
    let (success, ..) = inside(&debian, "vcompute-guest rescue");
    assert!(success);
    let (success, _, complaints) = inside(&debian, "true");
    assert!(success && complaints.is_empty(), "{complaints}");
    succeed(&["uninstall", "--yes"]);
    for file in
        ["etc/ld.so.preload", "etc/virtio-compute", "var/lib/virtio-compute", "usr/sbin/vcompute-guest"]
    {
        assert!(fs::symlink_metadata(debian.join(file)).is_err(), "{file} is left");
    }
}
