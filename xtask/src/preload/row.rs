//! One row: a guest boots in its state, is asked, is repaired, and shuts down.

mod questions;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qemu::{Accelerator, Config, Qemu, Report, Vm, disk};
use tempfile::TempDir;

use super::boot::Boot;
use super::doctor;
use super::harass::{Harassment, Signal};
use super::image::Images;
use super::login::{self, Login};
use super::states::{Cuda, Device, Gate, Repair, Start, State, Trouble};
use crate::artifacts::Artifacts;
use crate::backend::{Backend, Running, Socket};

/// From QEMU's start until systemd says that all is started; translated code on a busy machine is slow.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// From the request to QEMU's end. systemd gives a stuck service 90 s; nothing may need that.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);

/// The backend looks for a GPU again after pauses of a minute at most.
const REPAIR_LIMIT: Duration = Duration::from_secs(100);

/// The guest's memory; nothing of the test needs more.
const MEMORY_MIB: u32 = 1024;

/// What is booted, and by what.
pub(super) struct Bench<'a> {
    /// The emulator.
    pub qemu: &'a Qemu,
    /// The disks.
    pub images: &'a Images,
    /// The backend and the devices.
    pub artifacts: &'a Artifacts,
    /// Where logs go.
    pub logs: PathBuf,
}

/// What a row has shown.
#[derive(Debug, Default, Clone)]
pub(super) struct Figures {
    /// The start.
    pub boot: Boot,
    /// systemd's own account.
    pub analyze: String,
    /// What `systemctl is-system-running` says when asked.
    pub state: String,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// `/bin/true` in microseconds: median and longest time, median of its processor time.
    pub exec: [u64; 3],
    /// Complaints of the dynamic linker in the journal.
    pub complaints: u64,
    /// What became of CUDA.
    pub cuda: String,
    /// From the request to the end.
    pub shutdown: Duration,
    /// What was right.
    pub passed: u64,
    /// What was wrong.
    pub failures: Vec<String>,
}

impl Figures {
    /// Counts one more answer.
    pub(super) fn check(&mut self, good: bool, complaint: impl FnOnce() -> String) {
        if good {
            self.passed += 1;
        } else {
            self.failures.push(complaint());
        }
    }
}

impl Bench<'_> {
    /// Runs a row. An error is a guest that could not be asked at all.
    pub(super) fn run(&self, state: &State) -> Result<Figures> {
        let logs = self.logs.join(state.name.replace([' ', ',', '(', ')', '\''], "-"));
        fs::create_dir_all(&logs)?;
        let mut guest = self.start(state, &logs)?;
        let result = guest.all(state);
        result.with_context(|| format!("logs are in {}", logs.display()))
    }

    /// How long a start takes; the guest is ended then.
    pub(super) fn boot_only(&self, state: &State) -> Result<Boot> {
        let logs = self.logs.join("boot-only");
        fs::create_dir_all(&logs)?;
        let mut guest = self.start(state, &logs)?;
        guest.boot(state)?;
        guest.vm.monitor.quit()?;
        Ok(guest.figures.boot)
    }

    fn start(&self, state: &State, logs: &Path) -> Result<Guest<'_>> {
        let directory = tempfile::tempdir().context("make a directory for sockets")?;
        let device = directory.path().join("device");
        self.set_gate(match state.device {
            Device::Backend(gate) => gate,
            Device::Absent | Device::Faulty(_) => Gate::Open,
        })?;
        let backend = match state.device {
            Device::Absent => None,
            Device::Backend(_) => Some(Backend {
                program: self.artifacts.backend(),
                driver: self.images.gated_driver.display().to_string(),
            }),
            Device::Faulty(fault) => {
                Some(Backend { program: self.artifacts.faulty_device(), driver: fault.to_owned() })
            }
        };
        let backend = backend
            .map(|backend| backend.start(Socket::VhostUser(&device), &logs.join("backend.log")))
            .transpose()?;
        let harassment = match (&backend, state.trouble) {
            (Some(backend), Trouble::KilledFromTheStart) => {
                Some(Harassment::begin(backend.process_id(), Signal::Kill)?)
            }
            (Some(backend), Trouble::StoppedFromTheStart) => {
                Some(Harassment::begin(backend.process_id(), Signal::Stop)?)
            }
            _ => None,
        };
        let initrd = directory.path().join("initrd");
        let mut append = state.append.to_owned();
        if state.start == Start::Test {
            fs::write(&initrd, [self.images.initrd.as_slice(), &disk::setup(state.setup)].concat())?;
        } else {
            ensure!(state.setup.is_empty(), "the system's own RAM disk does not know the test");
            fs::copy(&self.images.own_initrd, &initrd)?;
            append.push_str(" root=/dev/vda rootfstype=ext4 ro");
        }
        let port = login::free_port()?;
        let disk = match (state.cuda, state.start) {
            (Cuda::NotInstalled, _) => &self.images.reference,
            (_, Start::OwnAndCut) => &self.images.damaged,
            _ => &self.images.installed,
        };
        let config = Config {
            accelerator: Accelerator::of_this_machine(),
            memory_mib: MEMORY_MIB,
            processors: 2,
            kernel: self.images.vmlinuz.clone(),
            initrd,
            console: logs.join("console.log"),
            monitor: directory.path().join("monitor"),
            device: backend.is_some().then_some(device),
            disk: Some(disk.clone()),
            ssh: Some(port),
            append,
            restart_on_reset: false,
        };
        Ok(Guest {
            bench: self,
            vm: Vm::start(self.qemu, &config)?,
            harassment,
            backend,
            login: Login { key: self.images.key.clone(), port, log: logs.join("ssh.log") },
            logs: logs.to_owned(),
            figures: Figures::default(),
            _directory: directory,
        })
    }

    fn set_gate(&self, gate: Gate) -> Result<()> {
        let word = match gate {
            Gate::Open => "open",
            Gate::Gone => "gone",
            Gate::Hangs => "hang",
        };
        fs::write(&self.images.gate, word).context("set the gate")
    }
}

/// A guest in its state. QEMU ends before the backend.
struct Guest<'a> {
    bench: &'a Bench<'a>,
    vm: Vm,
    harassment: Option<Harassment>,
    backend: Option<Running>,
    login: Login,
    logs: PathBuf,
    figures: Figures,
    _directory: TempDir,
}

impl Guest<'_> {
    fn all(&mut self, state: &State) -> Result<Figures> {
        self.boot(state)?;
        self.settle_service(state)?;
        self.strike(state)?;
        self.ask(state)?;
        if state.cuda != Cuda::NotInstalled && state.trouble != Trouble::Uninstalled {
            doctor::ask(&self.login, &self.logs, state.doctor, &mut self.figures)?;
        }
        self.cuda(state)?;
        self.busy_program(state)?;
        self.shut_down()?;
        Ok(self.figures.clone())
    }

    /// Waits until systemd has started everything.
    fn boot(&mut self, state: &State) -> Result<()> {
        let deadline = Instant::now() + BOOT_LIMIT;
        let mut killed = state.trouble != Trouble::KilledDuringBoot;
        let console = self.logs.join("console.log");
        loop {
            // The kernel's part of the start takes some seconds; what follows is the system's.
            if !killed && self.vm.elapsed() > Duration::from_secs(8) {
                self.harass_once()?;
                killed = true;
            }
            let tick = deadline.min(Instant::now() + Duration::from_millis(500));
            let report = match self.vm.next_line(tick) {
                Ok(report) => report,
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).with_context(|| format!("boot ({})", console.display()));
                }
                Err(_) => continue,
            };
            match report {
                None => bail!("QEMU ended during boot"),
                Some(Report::Exit(_)) => bail!("the system on the disk could not be started"),
                Some(Report::Guest(line)) => {
                    if let Some(analyze) = line.strip_prefix("analyze ") {
                        analyze
                            .trim_start_matches("Startup finished in ")
                            .clone_into(&mut self.figures.analyze);
                        return Ok(());
                    }
                    if line.starts_with("state ") {
                        self.figures.boot = Boot::of(self.vm.process_id(), self.vm.elapsed())?;
                    } else {
                        bail!("{line}");
                    }
                }
                Some(Report::Job(line)) => log::debug!("  {line}"),
            }
        }
    }

    fn harass_once(&self) -> Result<()> {
        let backend = self.backend.as_ref().context("there is a backend")?;
        Harassment::once(backend.process_id(), Signal::Kill)
    }

    /// The service that uses CUDA comes to its end, whatever that is.
    fn settle_service(&mut self, state: &State) -> Result<()> {
        if state.cuda == Cuda::NotInstalled {
            "not installed".clone_into(&mut self.figures.cuda);
            return Ok(());
        }
        let script = "for _ in $(seq 60); do
                state=$(systemctl show --value -p SubState cuda.service)
                [ \"$state\" = running ] || break
                sleep 1
            done
            echo \"service $state\"
            sudo journalctl -b -q -o cat --no-pager -u cuda.service | grep -E 'error|sums' | tail -n 1";
        let lines = self.ssh(script)?;
        let ended =
            lines.iter().find_map(|line| line.strip_prefix("service ")).unwrap_or("unknown").to_owned();
        let words = lines.iter().rfind(|line| !line.starts_with("service ")).cloned().unwrap_or_default();
        self.figures.cuda = match ended.as_str() {
            "exited" => "works".to_owned(),
            "failed" => words
                .rsplit_once('(')
                .map_or(words.clone(), |(_, name)| name.trim_end_matches(')').to_owned()),
            other => other.to_owned(),
        };
        let works = ended == "exited";
        let expected = match state.cuda {
            Cuda::Works => works,
            Cuda::WorksAfter(_) | Cuda::Fails => ended == "failed" || ended == "running",
            Cuda::Open(_) | Cuda::NotInstalled => true,
        };
        self.figures.check(expected, || format!("the CUDA service: {ended}: {words}"));
        Ok(())
    }

    /// What happens to the backend when the guest is up.
    fn strike(&mut self, state: &State) -> Result<()> {
        match state.trouble {
            Trouble::SupervisorKilled => self.backend = None,
            Trouble::KilledDuringCall => {
                self.begin_busy_program()?;
                self.harass_once()?;
            }
            Trouble::StoppedDuringCall => {
                self.begin_busy_program()?;
                let backend = self.backend.as_ref().context("there is a backend")?;
                self.harassment = Some(Harassment::begin(backend.process_id(), Signal::Stop)?);
            }
            Trouble::Ailing => doctor::ail(&self.login, &self.logs, &mut self.figures)?,
            Trouble::Upgraded => self.upgrade()?,
            Trouble::Uninstalled => {
                let lines = self.ssh("sudo vcompute-guest uninstall --yes 2>&1")?;
                let done = lines.iter().any(|line| line.starts_with("Done."));
                self.figures.check(done, || format!("uninstall: {}", lines.join(" | ")));
            }
            Trouble::None
            | Trouble::KilledFromTheStart
            | Trouble::KilledDuringBoot
            | Trouble::StoppedFromTheStart => {}
        }
        Ok(())
    }

    /// Another build of the libraries takes the place of those that all processes have loaded.
    fn upgrade(&mut self) -> Result<()> {
        let lines = self.ssh(
            "mkdir new; cd new
            L=/usr/lib/x86_64-linux-gnu
            for file in $L/libcuda.so.1 $L/virtio-compute/libvcompute.so; do
                [ ! -e $file ] || { cp $file . && printf x >>${file##*/}; }
            done
            sudo vcompute-guest install --yes --no-driver --library libcuda.so.1 2>&1
            cmp libcuda.so.1 $L/libcuda.so.1 && echo replaced",
        )?;
        let done = lines.iter().any(|line| line == "replaced");
        self.figures.check(done, || format!("upgrade: {}", lines.join(" | ")));
        Ok(())
    }

    /// A program that computes without end; it does so when this returns.
    fn begin_busy_program(&mut self) -> Result<()> {
        let lines = self.ssh(
            "sudo systemd-run --quiet --unit=busy -p RemainAfterExit=yes -p User=tester stdbuf -oL /opt/test/demo 1000000
            for _ in $(seq 60); do
                round=$(sudo journalctl -q -o cat --no-pager -u busy.service | grep -c round)
                [ \"$round\" -lt 3 ] || break
                sleep 1
            done
            echo \"round $round\"",
        )?;
        let round = lines.iter().find_map(|line| line.strip_prefix("round ")?.parse::<u32>().ok());
        ensure!(round >= Some(3), "no program computes: {lines:?}");
        Ok(())
    }

    /// What became of the program that computed: it has had an error, or it goes on.
    fn busy_program(&mut self, state: &State) -> Result<()> {
        let wanted = match state.trouble {
            Trouble::KilledDuringCall => "failed",
            Trouble::StoppedDuringCall => "running",
            _ => return Ok(()),
        };
        let lines = self.ssh(
            "rounds() { sudo journalctl -q -o cat --no-pager -u busy.service | grep -c round; }
            before=$(rounds); sleep 3; after=$(rounds)
            [ \"$before\" = \"$after\" ] || echo it computes
            sudo journalctl -q -o cat --no-pager -u busy.service | grep error
            echo \"busy $(systemctl show --value -p SubState busy.service)\"
            sudo systemctl stop busy.service; sudo systemctl reset-failed busy.service",
        )?;
        let right = lines.iter().any(|line| line.strip_prefix("busy ") == Some(wanted))
            && (wanted == "failed" || lines.iter().any(|line| line == "it computes"));
        self.figures.check(right, || format!("the program that computed: {}", lines.join(" | ")));
        let end = if wanted == "failed" { "error, as it must" } else { "goes on" };
        self.figures
            .cuda
            .push_str(&format!("; the program in the call: {}", if right { end } else { "wrong" }));
        Ok(())
    }

    /// The program that has waited since the start calls CUDA, after the repair if there is one.
    fn cuda(&mut self, state: &State) -> Result<()> {
        let (repair, works) = match state.cuda {
            Cuda::NotInstalled => return Ok(()),
            _ if matches!(state.trouble, Trouble::SupervisorKilled | Trouble::Uninstalled) => (None, false),
            Cuda::Works => (None, true),
            Cuda::Fails => (None, false),
            Cuda::WorksAfter(repair) | Cuda::Open(repair) => (Some(repair), true),
        };
        match repair {
            Some(Repair::Host) => {
                self.bench.set_gate(Gate::Open)?;
                if let Some(harassment) = self.harassment.take() {
                    harassment.end()?;
                }
                self.wait_until_ready()?;
            }
            Some(Repair::Guest(command)) => {
                self.ssh(command)?;
            }
            None => {}
        }
        let script = "systemctl is-active late.service
            sudo systemctl kill --kill-whom=main -s USR1 late.service
            for _ in $(seq 90); do
                state=$(systemctl show --value -p SubState late.service)
                [ \"$state\" = running ] || break
                sleep 1
            done
            echo \"late $state\"
            sudo journalctl -b -q -o cat --no-pager -u late.service | grep -E 'first|error|right|libvcompute'";
        let lines = self.ssh(script)?;
        let right =
            lines.iter().any(|line| line == "right") && lines.iter().any(|line| line == "late exited");
        let first = lines.iter().find(|line| line.starts_with("first call")).cloned().unwrap_or_default();
        let error = lines.iter().find(|line| line.contains("error") && !line.contains("libvcompute"));
        let error = error.cloned().unwrap_or_default();
        let ended = lines.iter().find(|line| line.starts_with("late ")).cloned().unwrap_or_default();
        self.figures.check(right == works, || format!("the waiting program: {ended} {first} {error}"));
        if state.trouble == Trouble::Uninstalled {
            let said = lines.iter().filter(|line| line.contains("libvcompute.so cannot be loaded")).count();
            self.figures
                .check(said == 1, || format!("a library without its engine said: {}", lines.join(" | ")));
            self.figures.cuda.push_str(&format!("; without the library: {error}"));
        }
        if repair.is_some() {
            self.figures.cuda.push_str(if right {
                "; works after the repair"
            } else {
                "; fails after the repair"
            });
        }
        if right {
            self.figures.cuda.push_str(&format!(" ({first})"));
        }
        Ok(())
    }

    /// The host's part of a repair takes its time: a GPU is looked for with pauses. The guest's node says when.
    fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        let probe =
            "/usr/libexec/virtio-compute/vcompute-probe >/dev/null 2>&1 && echo ready || echo not yet";
        while begin.elapsed() < REPAIR_LIMIT {
            if self.ssh(probe)?.iter().any(|line| line == "ready") {
                return Ok(());
            }
            thread::sleep(Duration::from_secs(1));
        }
        // What the waiting program finds is judged, not this.
        Ok(())
    }

    fn shut_down(&mut self) -> Result<()> {
        let begin = Instant::now();
        // The machine may close the connection before the command has returned; whether it shuts down is seen below.
        let _closed = self.ssh("sudo systemctl poweroff --no-block");
        let deadline = begin + SHUTDOWN_LIMIT;
        loop {
            match self.vm.next_line(deadline) {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(_) => {
                    self.figures.failures.push(format!("no shutdown within {SHUTDOWN_LIMIT:?}"));
                    self.figures.shutdown = begin.elapsed();
                    return Ok(());
                }
            }
        }
        self.figures.shutdown = begin.elapsed();
        self.figures.passed += 1;
        Ok(())
    }

    fn ssh(&mut self, script: &str) -> Result<Vec<String>> {
        self.login.run(script)
    }
}
