//! A process whose first thread runs instruction by instruction between its marks.
//!
//! This file has unsafe code: ptrace, and signals to processes that this one started.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::keep_on;

/// What a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Instructions in user space; one that repeats itself (`rep movsb`) is one.
    pub(super) instructions: u64,
    pub(super) system_calls: u64,
}

/// The instruction of a mark, `int3`.
const MARK: u8 = 0xcc;
/// `syscall`.
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];

/// More than any path has: whoever comes here has lost its way.
const MOST_INSTRUCTIONS: u64 = 1_000_000;
/// `FUTEX_WAIT` and `FUTEX_WAIT_BITSET`.
const FUTEX_WAITS: [u64; 2] = [0, 9];
/// More than a thread executes that wakes up, finds nothing, and sleeps again.
const FEW_INSTRUCTIONS: u64 = 2_000;

/// A thread that runs instruction by instruction, and what was counted of it.
#[derive(Debug)]
struct Traced {
    thread: libc::pid_t,
    /// Instructions that were counted, by their addresses.
    seen: HashMap<u64, Instruction>,
    /// How many, ever.
    counted: u64,
    /// Its registers, if they have been read since it stopped.
    registers: Cell<Option<libc::user_regs_struct>>,
}

/// A traced process, stopped between two of its methods' calls. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Stepped {
    child: Child,
    traced: Traced,
}

/// An instruction that was counted.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: [u8; 2],
    /// How often, since the last [`Stepped::take_seen`].
    times: u64,
}

impl Traced {
    fn new(thread: libc::pid_t) -> Self {
        Self { thread, seen: HashMap::new(), counted: 0, registers: Cell::new(None) }
    }

    /// Executes one instruction; which it was, and the signal that came then.
    fn step(&mut self, signal: i32) -> Result<([u8; 2], i32)> {
        let at = self.instruction_pointer()?;
        let code = self.next_code()?;
        self.go_on(libc::PTRACE_SINGLESTEP, signal)?;
        let signal = self.wait()?;
        // What repeats itself stops after each time.
        let times = u64::from(code.first() != Some(&MARK) && self.instruction_pointer()? != at);
        self.seen.entry(at).or_insert(Instruction { code, times: 0 }).times += times;
        self.counted += times;
        Ok((code, signal))
    }

    /// The instruction that it is about to execute.
    fn next_code(&self) -> Result<[u8; 2]> {
        let at = self.instruction_pointer()?;
        match self.seen.get(&at) {
            Some(instruction) => Ok(instruction.code),
            None => self.code(at),
        }
    }

    /// What was counted since the last time, as file, offset in it, and how often.
    fn take_seen(&mut self) -> Result<Vec<(String, u64, u64)>> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.thread)).context("its maps")?;
        let mut found = Vec::new();
        for (address, instruction) in self.seen.iter_mut().filter(|(_, instruction)| instruction.times > 0) {
            let (file, offset) = place(&maps, *address).unwrap_or_else(|| ("unknown".to_owned(), *address));
            found.push((file, offset, std::mem::take(&mut instruction.times)));
        }
        found.sort();
        Ok(found)
    }

    fn go_on(&self, how: libc::c_uint, signal: i32) -> Result<()> {
        self.registers.set(None);
        // SAFETY: a stopped thread that this one traces.
        let result = unsafe { libc::ptrace(how, self.thread, 0, signal) };
        ensure!(result == 0, "the process does not go on: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// The signal that it has stopped with.
    fn wait(&self) -> Result<i32> {
        let mut status = 0;
        // SAFETY: room for a status.
        let waited = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
        ensure!(waited == self.thread, "waiting for the process: {}", std::io::Error::last_os_error());
        if libc::WIFSTOPPED(status) {
            return Ok(libc::WSTOPSIG(status));
        }
        if libc::WIFEXITED(status) {
            bail!("the counted process has ended too early, with {}", libc::WEXITSTATUS(status));
        }
        bail!("the counted process was ended by signal {}", libc::WTERMSIG(status));
    }

    /// Whether it has just executed a mark.
    fn is_at_mark(&self) -> Result<bool> {
        Ok(self.code(self.instruction_pointer()?.wrapping_sub(1))?.first() == Some(&MARK))
    }

    fn instruction_pointer(&self) -> Result<u64> {
        Ok(self.registers()?.rip)
    }

    fn registers(&self) -> Result<libc::user_regs_struct> {
        if let Some(registers) = self.registers.get() {
            return Ok(registers);
        }
        let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
        // SAFETY: a stopped thread that this one traces, and room for its registers.
        let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.thread, 0, registers.as_mut_ptr()) };
        ensure!(result == 0, "reading its registers: {}", std::io::Error::last_os_error());
        // SAFETY: filled by the kernel.
        let registers = unsafe { registers.assume_init() };
        self.registers.set(Some(registers));
        Ok(registers)
    }

    /// The two bytes at an address.
    fn code(&self, address: u64) -> Result<[u8; 2]> {
        // SAFETY: reading errno's place is always allowed.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: it is this thread's.
        unsafe { errno.write(0) };
        // SAFETY: a stopped thread that this one traces.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.thread, address, 0) };
        // SAFETY: as above.
        ensure!(unsafe { errno.read() } == 0, "reading its code at {address:#x}");
        let [first, second, ..] = word.to_le_bytes();
        Ok([first, second])
    }
}

impl Stepped {
    /// Starts it, up to the first instruction of its program.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        stay_on_one_processor();
        let traced = || {
            // SAFETY: numbers only.
            match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: one system call between fork and exec.
        let child = unsafe { command.pre_exec(traced) }.spawn().context("start the process to be counted")?;
        let traced = Traced::new(libc::pid_t::try_from(child.id())?);
        let stepped = Self { child, traced };
        ensure!(stepped.traced.wait()? == libc::SIGTRAP, "the process does not begin with its program");
        // SAFETY: a stopped child of this thread.
        unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, stepped.traced.thread, 0, libc::PTRACE_O_EXITKILL) };
        Ok(stepped)
    }

    /// Lets it run at full speed up to its next mark.
    pub(super) fn run_to_mark(&mut self) -> Result<()> {
        let mut signal = 0;
        loop {
            self.traced.go_on(libc::PTRACE_CONT, signal)?;
            signal = self.traced.wait()?;
            if signal == libc::SIGTRAP && self.traced.is_at_mark()? {
                return Ok(());
            }
        }
    }

    /// Lets it run to its end, which must be a good one.
    pub(super) fn run_to_end(mut self) -> Result<()> {
        self.traced.go_on(libc::PTRACE_CONT, 0)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the counted process ended with {status}");
        Ok(())
    }

    /// Counts from its next mark to the one after that.
    pub(super) fn count(&mut self) -> Result<Count> {
        self.run_to_mark()?;
        let before = self.traced.counted;
        let mut system_calls = 0;
        loop {
            let (code, signal) = self.traced.step(0)?;
            ensure!(signal == libc::SIGTRAP, "a signal {signal} came while instructions were counted");
            let instructions = self.traced.counted - before;
            if code.first() == Some(&MARK) {
                return Ok(Count { instructions, system_calls });
            }
            system_calls += u64::from(code == SYSTEM_CALL);
            ensure!(instructions < MOST_INSTRUCTIONS, "the call does not end");
        }
    }

    /// What was counted since the last time, as file, offset in it, and how often.
    pub(super) fn take_seen(&mut self) -> Result<Vec<(String, u64, u64)>> {
        self.traced.take_seen()
    }
}

/// A lane's thread of a worker that is held. Dropping it lets it go on at full speed.
#[derive(Debug)]
pub(super) struct LaneThread(Traced);

impl LaneThread {
    /// Finds the lane's thread and stops it, whatever the others do from now on. It stays on this thread's processor, where
    /// the two take turns.
    pub(super) fn hold(worker: u32, lane: u32) -> Result<Self> {
        let name = format!("lane-{lane}");
        keep_on(worker, &name, this_processor()?)?;
        for entry in std::fs::read_dir(format!("/proc/{worker}/task")).context("the worker's threads")? {
            let path = entry?.path();
            if std::fs::read_to_string(path.join("comm")).is_ok_and(|text| text.trim_end() == name) {
                let thread = path.file_name().and_then(|number| number.to_str()?.parse().ok());
                return Self::seize(thread.context("a thread's number")?);
            }
        }
        bail!("the worker has no thread {name}")
    }

    fn seize(thread: libc::pid_t) -> Result<Self> {
        for how in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
            // SAFETY: numbers only.
            let result = unsafe { libc::ptrace(how, thread, 0, 0) };
            ensure!(result == 0, "stopping a lane's thread: {}", std::io::Error::last_os_error());
        }
        let traced = Traced::new(thread);
        traced.wait()?;
        Ok(Self(traced))
    }

    /// Lets it work until it sleeps, and says what it executed for that, as [`Stepped::take_seen`] does.
    pub(super) fn run_to_sleep(&mut self) -> Result<Vec<(String, u64, u64)>> {
        // It is stopped in the middle of its sleep, from which somebody has woken it or will.
        let mut has_worked = false;
        let mut signal = 0;
        loop {
            let registers = self.0.registers()?;
            let at_system_call = self.0.next_code()? == SYSTEM_CALL;
            let waits = FUTEX_WAITS.contains(&(registers.rsi & 0x7f));
            let is_futex = libc::c_long::try_from(registers.rax) == Ok(libc::SYS_futex);
            if at_system_call && is_futex && waits && has_worked {
                return self.0.take_seen();
            }
            let (_, stop) = self.0.step(signal)?;
            has_worked |= self.0.counted > FEW_INSTRUCTIONS;
            // Its stops are the tracer's; other signals are its own, as SIGCONT is.
            signal = if stop == libc::SIGTRAP { 0 } else { stop };
            ensure!(self.0.counted < MOST_INSTRUCTIONS, "the lane's thread does not sleep");
        }
    }
}

impl Drop for LaneThread {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.go_on(libc::PTRACE_DETACH, 0);
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file that is mapped at an address, and the offset in it.
fn place(maps: &str, address: u64) -> Option<(String, u64)> {
    maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (range, offset, file) = (words.next()?, words.nth(1)?, words.nth(2)?);
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (number(start)?, number(end)?, number(offset)?);
        (start..end).contains(&address).then(|| (file.to_owned(), address - start + offset))
    })
}

/// The number of the processor that this thread is on.
fn this_processor() -> Result<usize> {
    // SAFETY: no parameters.
    usize::try_from(unsafe { libc::sched_getcpu() }).context("the processor")
}

/// Keeps this process and those that it starts from here on on the processor that it is on: tracer and traced take turns, and
/// waking each other across processors would take most of the time.
fn stay_on_one_processor() {
    let Ok(here) = this_processor() else { return };
    // SAFETY: all bytes zero are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel's number of a processor; a larger one than the set has is ignored.
    unsafe { libc::CPU_SET(here, &mut set) };
    // SAFETY: a set of this size. Without it, counting takes longer.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// A process that is kept from running. Dropping it lets it go on.
#[derive(Debug)]
pub(super) struct Held(libc::pid_t);

impl Held {
    /// Stops a process that a process of ours has started, and waits until none of its threads runs.
    pub(super) fn hold(process: u32) -> Result<Self> {
        let held = Self(libc::pid_t::try_from(process)?);
        // SAFETY: numbers only.
        let result = unsafe { libc::kill(held.0, libc::SIGSTOP) };
        ensure!(result == 0, "stopping the worker: {}", std::io::Error::last_os_error());
        let begin = Instant::now();
        while !is_stopped(process)? {
            ensure!(begin.elapsed() < Duration::from_secs(10), "the worker does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: numbers only.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(process: u32) -> Result<bool> {
    for entry in std::fs::read_dir(format!("/proc/{process}/task")).context("the worker's threads")? {
        let text = std::fs::read_to_string(entry?.path().join("stat")).context("a thread's state")?;
        // Behind the name, which may have anything in it.
        let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if state != Some('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_a_file() {
        let maps = "7f0000001000-7f0000003000 r-xp 00002000 fe:00 12 /lib/libcuda.so.1\n7f0000004000-7f0000005000 rw-p 0 00:00 0\n";
        assert_eq!(place(maps, 0x7f00_0000_1010), Some(("/lib/libcuda.so.1".to_owned(), 0x2010)));
        assert_eq!(place(maps, 0x7f00_0000_4000), None);
    }

    #[test]
    fn a_process_is_held_and_goes_on() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let held = Held::hold(child.id()).expect("held");
        assert!(is_stopped(child.id()).expect("its state"));
        drop(held);
        let begin = Instant::now();
        while is_stopped(child.id()).expect("its state") {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        child.kill().expect("ended");
        child.wait().expect("waited for");
    }
}
