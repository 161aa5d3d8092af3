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
    /// Changes the installed system (at `/system`) before it starts.
    pub setup: &'static str,
    /// What is added to the kernel's command line.
    pub append: &'static str,
    /// What is expected of CUDA.
    pub cuda: Cuda,
    /// Whether the dynamic linker has a reason to complain.
    pub complaints: bool,
}

const GOOD: State = State {
    name: "GPU working",
    quick: true,
    device: Device::Backend(Gate::Open),
    trouble: Trouble::None,
    setup: "",
    append: "",
    cuda: Cuda::Works,
    complaints: false,
};

/// The guest that all others are compared with: the same device, and nothing of ours in the system.
pub(super) const REFERENCE: State = State { name: "no shim (reference)", cuda: Cuda::NotInstalled, ..GOOD };

/// All others.
pub(super) const STATES: &[State] = &[
    GOOD,
    State { name: "device absent", device: Device::Absent, cuda: Cuda::Fails, ..GOOD },
    State {
        name: "driver not loaded",
        quick: false,
        append: "modprobe.blacklist=vcompute systemd.mask=systemd-modules-load.service",
        cuda: Cuda::WorksAfter(Repair::Guest("sudo modprobe vcompute && udevadm settle")),
        ..GOOD
    },
    State {
        name: "device never answers its driver",
        device: Device::Faulty("hello-never"),
        cuda: Cuda::Fails,
        ..GOOD
    },
    State {
        name: "device information never given",
        quick: false,
        device: Device::Faulty("info-never"),
        cuda: Cuda::Fails,
        ..GOOD
    },
    State {
        name: "spawner and workers killed, again and again",
        quick: false,
        trouble: Trouble::KilledFromTheStart,
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "spawner and workers killed during boot",
        quick: false,
        trouble: Trouble::KilledDuringBoot,
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "spawner and workers stopped, resumed later",
        quick: false,
        trouble: Trouble::StoppedFromTheStart,
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
        cuda: Cuda::Open(Repair::Host),
        ..GOOD
    },
    State {
        name: "workers answer noise",
        quick: false,
        device: Device::Faulty("calls-wild"),
        cuda: Cuda::Fails,
        ..GOOD
    },
    State {
        name: "host's GPU gone, comes back",
        quick: false,
        device: Device::Backend(Gate::Gone),
        cuda: Cuda::WorksAfter(Repair::Host),
        ..GOOD
    },
    State {
        name: "host's driver hangs, then does not",
        quick: false,
        device: Device::Backend(Gate::Hangs),
        cuda: Cuda::WorksAfter(Repair::Host),
        ..GOOD
    },
    State {
        name: "preload line points to nothing",
        quick: false,
        setup: "echo /usr/lib/nothing.so >/system/etc/ld.so.preload",
        complaints: true,
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
    State { name: "vcompute.shim=off", quick: false, append: "vcompute.shim=off", ..GOOD },
    State {
        name: "supervisor killed",
        quick: false,
        trouble: Trouble::SupervisorKilled,
        cuda: Cuda::Works,
        ..GOOD
    },
];
