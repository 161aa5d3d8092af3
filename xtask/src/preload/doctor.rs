//! What `vcompute-guest doctor` must say: in each state, and of a guest that is broken in all ways that it knows.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::login::Login;
use super::row::Figures;

/// Something that is broken, what doctor says then, and how it is mended.
struct Ailment {
    name: &'static str,
    /// As root. `$L` is the directory of libraries.
    break_it: &'static str,
    /// Who asks doctor.
    asked_by: &'static str,
    says: &'static [&'static str],
    mend: &'static str,
}

const GOOD: Ailment = Ailment { name: "", break_it: ":", asked_by: "root", says: &[], mend: ":" };

/// Programs that are started while the library is damaged may not start, so `mv` does it, and only the shell's own
/// commands and `vcompute-guest`, which needs no library, come between that and the end.
const AILMENTS: &[Ailment] = &[
    Ailment {
        name: "module not loaded",
        break_it: "modprobe -r vcompute",
        says: &[
            "BROKEN    driver        not loaded",
            "-> modprobe vcompute",
            "BROKEN    device node   /dev/vcompute0: No such file or directory",
            "BROKEN    a program     cuInit returned 100",
        ],
        mend: "modprobe vcompute; udevadm settle; wait_until_ready",
        ..GOOD
    },
    Ailment {
        name: "preload line points to nothing",
        break_it: "mv $L/virtio-compute/preload.so /root/preload.so",
        says: &[
            "BROKEN    preload       /usr/lib/x86_64-linux-gnu/virtio-compute/preload.so: No such file or directory",
            "-> run `vcompute-guest install` again; where programs do not start, `vcompute-guest rescue` first",
        ],
        mend: "mv /root/preload.so $L/virtio-compute/preload.so",
        ..GOOD
    },
    Ailment {
        name: "preloaded file cut short",
        break_it: "head -c 8192 $L/libcuda.so.1 >/root/cut
            mv /root/cut $L/virtio-compute/preload.so",
        says: &["BROKEN    preload       /usr/lib/x86_64-linux-gnu/virtio-compute/preload.so: it is cut off"],
        mend: "vcompute-guest rescue; vcompute-guest install --yes --no-driver",
        ..GOOD
    },
    Ailment {
        name: "engine gone",
        break_it: "mv $L/virtio-compute/libvcompute.so /root/",
        says: &[
            "BROKEN    engine        /usr/lib/x86_64-linux-gnu/virtio-compute/libvcompute.so: No such file or directory",
            "BROKEN    a program     cuInit returned 34",
        ],
        mend: "mv /root/libvcompute.so $L/virtio-compute/",
        ..GOOD
    },
    Ailment {
        name: "engine cut short",
        break_it: "mv $L/virtio-compute/libvcompute.so /root/
            head -c 100000 /root/libvcompute.so >$L/virtio-compute/libvcompute.so",
        says: &[
            "BROKEN    engine        /usr/lib/x86_64-linux-gnu/virtio-compute/libvcompute.so: it is cut off",
            "BROKEN    a program ",
        ],
        mend: "mv /root/libvcompute.so $L/virtio-compute/",
        ..GOOD
    },
    Ailment {
        name: "another vendor's libcuda",
        break_it: "cp /opt/test/other $L/libcuda.so.999.9; ldconfig",
        says: &[
            "BROKEN    library       /usr/lib/x86_64-linux-gnu/libcuda.so.1 is another vendor's",
            "-> run `vcompute-guest install --replace-other-libcuda`",
        ],
        mend: "rm $L/libcuda.so.999.9; vcompute-guest install --yes --no-driver; ldconfig",
        ..GOOD
    },
    Ailment {
        name: "library that only root may read",
        break_it: "chmod 0600 $L/libcuda.so.[0-9]*.*",
        says: &["BROKEN    library       /usr/lib/x86_64-linux-gnu/libcuda.so.1: mode 0600"],
        mend: "chmod 0644 $L/libcuda.so.[0-9]*.*",
        ..GOOD
    },
    Ailment {
        name: "library of another build",
        break_it: "cp $L/libcuda.so.1 /root/other; printf x >>/root/other
            mv /root/other $(readlink -f $L/libcuda.so.1)",
        says: &["doubtful  library       /usr/lib/x86_64-linux-gnu/libcuda.so.1 is not what was installed"],
        mend: "vcompute-guest install --yes --no-driver",
        ..GOOD
    },
    Ailment {
        name: "device node of root",
        break_it: "chmod 0600 /dev/vcompute0",
        asked_by: "other",
        says: &[
            "BROKEN    device node   /dev/vcompute0, mode 0600, group render: you may not open it",
            "-> usermod --append --groups render USER",
        ],
        mend: "chmod 0660 /dev/vcompute0",
    },
    Ailment {
        name: "early start switched off",
        break_it: "echo off >/sys/module/vcompute/parameters/shim",
        says: &["doubtful  early start   switched off by the module's parameter", "Nothing is broken."],
        mend: "echo on >/sys/module/vcompute/parameters/shim",
        ..GOOD
    },
    Ailment {
        name: "policy that is not compiled",
        break_it: "cp -p /etc/virtio-compute/shim.toml /root/
            sed -i 's/^#mode.*/mode = \"off\"/' /etc/virtio-compute/shim.toml",
        says: &["doubtful  policy        processes see", "-> vcompute-guest apply", "Nothing is broken."],
        mend: "mv /root/shim.toml /etc/virtio-compute/",
        ..GOOD
    },
    Ailment {
        name: "policy with a mistake",
        break_it: "cp -p /etc/virtio-compute/shim.toml /root/
            echo 'mode = \"sometimes\"' >/etc/virtio-compute/shim.toml",
        says: &["doubtful  policy        /etc/virtio-compute/shim.toml is not right: mode is \"sometimes\""],
        mend: "mv /root/shim.toml /etc/virtio-compute/",
        ..GOOD
    },
];

/// Breaks the guest, asks, and mends it, again and again. All that is said is kept beside the guest's logs.
pub(super) fn ail(login: &Login, logs: &Path, figures: &mut Figures) -> Result<()> {
    let kept = logs.join("doctor.txt");
    for Ailment { name, break_it, asked_by, says, mend } in AILMENTS {
        let ask = match *asked_by {
            "root" => "/usr/sbin/vcompute-guest doctor".to_owned(),
            other => format!("su {other} -c '/usr/sbin/vcompute-guest doctor'"),
        };
        let script = format!(
            "L=/usr/lib/x86_64-linux-gnu
            wait_until_ready() {{
                for _ in $(seq 30); do
                    /usr/libexec/virtio-compute/vcompute-probe >/dev/null && break
                    sleep 1
                done
            }}
            {{ {break_it}
            }} </dev/null >/root/broken 2>&1
            {ask} </dev/null
            echo \"status $?\"
            {{ {mend}
            }} </dev/null >/root/mended 2>&1
            echo \"it is $(/usr/sbin/vcompute-guest doctor | tail -n 1)\""
        );
        let lines = login.run(&format!("sudo bash 2>&1 <<'END'\n{script}\nEND"))?;
        keep(&kept, name, &lines)?;
        judge(name, &lines, says, figures);
        let mended = lines.iter().any(|line| line == "it is Nothing is broken.");
        figures.check(mended, || format!("{name}: not mended: {}", lines.join(" | ")));
    }
    Ok(())
}

/// Asks in the state that the guest is in.
pub(super) fn ask(login: &Login, logs: &Path, says: &[&str], figures: &mut Figures) -> Result<()> {
    let lines = login.run("/usr/sbin/vcompute-guest doctor; echo \"status $?\"")?;
    keep(&logs.join("doctor.txt"), "as it is", &lines)?;
    judge("doctor", &lines, says, figures);
    Ok(())
}

/// Every line must be there, and the status must be that of what was found.
fn judge(name: &str, lines: &[String], says: &[&str], figures: &mut Figures) {
    for wanted in says {
        let found = lines.iter().any(|line| line.trim_start().starts_with(wanted));
        figures.check(found, || format!("{name}: no line {wanted:?} in: {}", lines.join(" | ")));
    }
    let broken = lines.iter().any(|line| line.starts_with("BROKEN"));
    let status = if broken { "status 1" } else { "status 0" };
    figures.check(lines.iter().any(|line| line == status), || format!("{name}: not {status}: {lines:?}"));
}

fn keep(file: &Path, name: &str, lines: &[String]) -> Result<()> {
    let mut kept =
        OpenOptions::new().create(true).append(true).open(file).context("keep what doctor says")?;
    writeln!(kept, "## {name}\n\n    {}\n", lines.join("\n    "))?;
    Ok(())
}
