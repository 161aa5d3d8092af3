//! Runs a program, keeps what it prints in a log, and shows that it is alive.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use qemu::read_lines;

/// A line is shown this often even when nothing noteworthy is printed.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Whether the program lives is looked at this often while it is silent.
const TICK: Duration = Duration::from_secs(2);

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and error, line by line.
    pub lines: Vec<String>,
    /// The same in a file.
    pub log: PathBuf,
}

impl Finished {
    /// All lines.
    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.lines.iter().map(String::as_str)
    }

    /// An error with the end of the log, unless the program succeeded.
    pub(crate) fn expect_success(&self, what: &str) -> Result<()> {
        if self.status.success() {
            return Ok(());
        }
        bail!("{what} failed ({}):\n{}\n(all of it: {})", self.status, self.tail(60), self.log.display())
    }

    fn tail(&self, count: usize) -> String {
        self.lines.iter().skip(self.lines.len().saturating_sub(count)).cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Runs `command` to its end, at most `limit`. Lines for which `show` holds are shown as they come.
pub(crate) fn run(
    command: &mut Command,
    log: &Path,
    limit: Duration,
    mut show: impl FnMut(&str) -> bool,
) -> Result<Finished> {
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut kept = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let (reader, writer) = std::io::pipe()?;
    let program = command.get_program().display().to_string();
    let child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("start {program}"))?;
    // The command holds the pipe's other end too; without this the end would never be seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = EndOnDrop(child);

    let begin = Instant::now();
    let received = read_lines(reader);
    let mut lines: Vec<String> = Vec::new();
    let mut shown = Instant::now();
    loop {
        match received.recv_timeout(TICK.min(limit.saturating_sub(begin.elapsed()))) {
            Ok(line) => {
                writeln!(kept, "{line}")?;
                if show(&line) {
                    log::info!("  {}", line.trim_end());
                    shown = Instant::now();
                }
                lines.push(line);
            }
            Err(RecvTimeoutError::Timeout) if begin.elapsed() >= limit => {
                bail!("{program} has not ended after {} s (log: {})", limit.as_secs(), log.display())
            }
            // A process that it left behind may hold the pipe open for ever.
            Err(RecvTimeoutError::Timeout) if child.0.try_wait()?.is_some() => break,
            Err(RecvTimeoutError::Timeout) if shown.elapsed() < HEARTBEAT => {}
            Err(RecvTimeoutError::Timeout) => {
                let last = lines.last().map_or("nothing printed yet", |line| line.trim());
                let last: String = last.chars().take(100).collect();
                log::info!("  … {:.0} s: {last}", begin.elapsed().as_secs_f32());
                shown = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.0.wait()?;
    Ok(Finished { status, lines, log: log.to_owned() })
}

struct EndOnDrop(Child);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Finished> {
        let directory = tempfile::tempdir()?;
        run(Command::new("sh").args(["-c", script]), &directory.path().join("log"), limit, |_| false)
    }

    #[test]
    fn both_outputs_and_the_status_are_kept() {
        let finished = shell("echo out; echo err >&2; exit 3", Duration::from_secs(20)).expect("run");

        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.lines().collect::<Vec<_>>(), ["out", "err"]);
        assert!(finished.expect_success("sh").is_err());
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let begin = Instant::now();

        let finished = shell("sleep 60 & echo $!", Duration::from_secs(50)).expect("run");

        assert!(begin.elapsed() < Duration::from_secs(30));
        let left = finished.lines().next().expect("its process number").to_owned();
        Command::new("kill").arg(left).status().expect("kill");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let begin = Instant::now();

        let result = shell("exec sleep 60", Duration::from_millis(100));

        assert!(result.is_err());
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
