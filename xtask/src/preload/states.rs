//! The states that a guest must bear, one row each.

/// The hardware that the guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Device {
    /// None.
    Absent,
    /// The backend on the software GPU, with a gate before `cuInit` that says this.
    Backend(Gate),
    /// A device that misbehaves in this way (`tests/faulty-device`).
    Faulty(&'static str),
}

/// What happens to `cuInit` on the host, until the state is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// It works.
    Open,
    /// There is no GPU.
    Gone,
    /// It never returns.
    Hangs,
}

/// What is done to the backend's processes below the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// Killed as often as they come back, from before the start until the repair.
    KilledFromTheStart,
    /// Killed once, while the guest boots.
    KilledDuringBoot,
    /// Stopped as often as they come back, from before the start until the repair.
    StoppedFromTheStart,
    /// Killed while a program computes.
    KilledDuringCall,
    /// Stopped while a program computes, as often as they come back, until the repair.
    StoppedDuringCall,
    /// The supervisor itself is killed when the guest is up.
    SupervisorKilled,
    /// Another build of the library is installed when the guest is up.
    Upgraded,
    /// Everything is uninstalled when the guest is up.
    Uninstalled,
    /// What `vcompute-guest doctor` can find is broken and mended, one after the other.
    Ailing,
}

/// What goes over to the system on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Start {
    /// The test's RAM disk, which can change the system before it starts.
    Test,
    /// The RAM disk that the system has made for itself, with the library preloaded.
    Own,
    /// The same; on the disk, the preloaded file has been cut short.
    OwnAndCut,
}

impl Start {
    /// How the guest starts that such a start is compared with.
    pub(super) fn of_reference(self) -> Self {
        if self == Self::Test { Self::Test } else { Self::Own }
    }
}

/// What can be expected of CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cuda {
    /// There is no library.
    NotInstalled,
    /// It works from the start.
    Works,
    /// It fails with an error until the repair, and works after it.
    WorksAfter(Repair),
    /// It fails with an error.
    Fails,
    /// Either, in its own time: the state does not say.
    Open(Repair),
}

/// How the state ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// By what the host does: the trouble ends, or the gate opens.
    Host,
    /// By a command in the guest.
    Guest(&'static str),
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is among those of a quick run.
    pub quick: bool,
    /// The guest's hardware.
    pub device: Device,
    /// What is done to the backend.
    pub trouble: Trouble,
    /// What starts its system.
    pub start: Start,
    /// Changes the installed system (at `/system`) before it starts.
    pub setup: &'static str,
    /// What is added to the kernel's command line.
    pub append: &'static str,
    /// What is expected of CUDA.
    pub cuda: Cuda,
    /// Whether the dynamic linker has a reason to complain.
    pub complaints: bool,
    /// What `vcompute-guest doctor` says, among other things, when everything else has been asked.
    pub doctor: &'static [&'static str],
}

/// Of a guest in which everything works.
pub(super) const HEALTHY: &[&str] = &[
    "ok        driver        vcompute is loaded",
    "ok        device state  ready",
    "ok        a program     cuInit works; CUDA devices: 1",
    "Nothing is broken.",
];

const GOOD: State = State {
    name: "GPU working",
    quick: true,
    device: Device::Backend(Gate::Open),
    trouble: Trouble::None,
    start: Start::Test,
    setup: "",
    append: "",
    cuda: Cuda::Works,
    complaints: false,
    doctor: HEALTHY,
};

/// The guest that all others are compared with: the same device, and nothing of ours in the system.
pub(super) const REFERENCE: State = State { name: "no shim (reference)", cuda: Cuda::NotInstalled, ..GOOD };

/// All others.
pub(super) const STATES: &[State] = &[
    GOOD,
    State {
        name: "device absent",
        device: Device::Absent,
        cuda: Cuda::Fails,
        doctor: &[
            "BROKEN    device        none on the PCI bus",
            "BROKEN    driver        loaded, but it has no device",
            "BROKEN    a program     cuInit returned 100",
        ],
        ..GOOD
    },
    State {
        name: "driver not loaded",
        quick: false,
        append: "modprobe.blacklist=vcompute systemd.mask=systemd-modules-load.service",
        cuda: Cuda::WorksAfter(Repair::Guest("sudo modprobe vcompute && udevadm settle")),
        doctor: &["BROKEN    driver        not loaded", "BROKEN    device node "],
        ..GOOD
    },
    State {
        name: "device never answers its driver",
        device: Device::Faulty("hello-never"),
        cuda: Cuda::Fails,
        doctor: &["BROKEN    device state  starting", "BROKEN    a program     cuInit returned"],
        ..GOOD
    },
    State {
        name: "device information never given",
        quick: false,
        device: Device::Faulty("info-never"),
        cuda: Cuda::Fails,
        doctor: &["BROKEN    device state  starting", "BROKEN    a program     cuInit returned"],
        ..GOOD
    },
    State {
        name: "spawner and workers killed, again and again",
        quick: false,
        trouble: Trouble::KilledFromTheStart,
        doctor: &[],
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "spawner and workers killed during boot",
        quick: false,
        trouble: Trouble::KilledDuringBoot,
        doctor: &[],
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "spawner and workers stopped, resumed later",
        quick: false,
        trouble: Trouble::StoppedFromTheStart,
        doctor: &[],
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "spawner and workers killed during a call",
        quick: false,
        trouble: Trouble::KilledDuringCall,
        ..GOOD
    },
    State {
        name: "spawner and workers stopped during a call, resumed later",
        quick: false,
        trouble: Trouble::StoppedDuringCall,
        doctor: &[],
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "workers answer noise",
        quick: false,
        device: Device::Faulty("calls-wild"),
        cuda: Cuda::Fails,
        doctor: &[
            "ok        device state  ready",
            "BROKEN    a program     cuDevicePrimaryCtxRetain returned",
        ],
        ..GOOD
    },
    State {
        name: "host's GPU gone, comes back",
        quick: false,
        device: Device::Backend(Gate::Gone),
        doctor: &[
            "BROKEN    device state  without a GPU on the host",
            "BROKEN    a program     cuInit returned 100",
        ],
        cuda: Cuda::WorksAfter(Repair::Host),
        ..GOOD
    },
    State {
        name: "host's driver hangs, then does not",
        quick: false,
        device: Device::Backend(Gate::Hangs),
        doctor: &["BROKEN    device state ", "BROKEN    a program     cuInit returned"],
        cuda: Cuda::WorksAfter(Repair::Host),
        ..GOOD
    },
    State {
        name: "preload line points to nothing",
        quick: false,
        setup: "echo /usr/lib/nothing.so >/system/etc/ld.so.preload",
        complaints: true,
        doctor: &["doubtful  preload       /usr/lib/nothing.so: No such file", "Nothing is broken."],
        ..GOOD
    },
    State {
        name: "preload line points to noise",
        quick: false,
        setup: "echo /usr/lib/noise.so >/system/etc/ld.so.preload
            head -c 100000 /dev/urandom >/system/usr/lib/noise.so",
        complaints: true,
        ..GOOD
    },
    State {
        name: "preloaded file cut short, started by init=vcompute-guest",
        quick: false,
        // Only the preloaded name: programs that are linked with the library still find all of it.
        setup: "file=/system/usr/lib/x86_64-linux-gnu/virtio-compute/preload.so
            head -c 8192 $file >/cut
            rm $file
            cp /cut $file",
        append: "init=/usr/sbin/vcompute-guest",
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "preloaded file cut short, started by its own RAM disk",
        quick: false,
        start: Start::OwnAndCut,
        doctor: &["ok        preload       no; programs find the library"],
        ..GOOD
    },
    State {
        name: "RAM disk made by update-initramfs with the library preloaded",
        quick: false,
        start: Start::Own,
        ..GOOD
    },
    State {
        name: "vcompute.shim=off",
        quick: false,
        append: "vcompute.shim=off",
        doctor: &["doubtful  early start   switched off by the module's parameter", "Nothing is broken."],
        ..GOOD
    },
    State { name: "upgraded under running programs", quick: false, trouble: Trouble::Upgraded, ..GOOD },
    State {
        name: "uninstalled under running programs",
        quick: false,
        trouble: Trouble::Uninstalled,
        doctor: &[],
        ..GOOD
    },
    State {
        name: "broken and mended in all ways that doctor knows",
        quick: false,
        trouble: Trouble::Ailing,
        // Programs that start while it is broken.
        complaints: true,
        ..GOOD
    },
    State {
        name: "supervisor killed",
        quick: false,
        trouble: Trouble::SupervisorKilled,
        cuda: Cuda::Works,
        doctor: &[],
        ..GOOD
    },
];
