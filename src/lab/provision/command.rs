//! Commands that take minutes: with progress, a limit, and an end when we end.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::timing::{LOOK_EVERY, PROGRESS_EVERY};

/// Runs a command in a process group of its own, which is killed when standard input ends.
///
/// So the compilers die with us, whatever we die of: Ctrl-C, SIGKILL, or a panic. Sharing the terminal's process group
/// would cover only the first.
pub(super) const UNTIL_INPUT_ENDS: &str = r#"
exec 3<&0
{ read -r _ <&3; kill -KILL 0; } &
"$@" </dev/null 3<&-
status=$?
kill "$!"
exit "$status""#;

/// A program with its arguments, that dies with us.
pub(super) fn dies_with_us(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", UNTIL_INPUT_ENDS, "sh"]).arg(program);
    command.stdin(Stdio::piped()).process_group(0);
    command
}

/// How a [`Long`] command ended.
pub(super) enum Ended {
    Well,
    /// With the last lines that it wrote.
    Badly(ExitStatus, String),
    /// It had to be killed; with the last line that it wrote.
    TooLate(String),
}

/// A command from [`dies_with_us`] that takes long.
pub(super) struct Long<'a> {
    /// Completes "...: 5 s so far".
    pub(super) doing: &'a str,
    /// Where all that it writes goes.
    pub(super) log: PathBuf,
    pub(super) limit: Duration,
    pub(super) progress: &'a dyn Fn(&str),
}

impl Long<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// The log cannot be written, or there is no `sh`.
    pub(super) fn run(&self, command: &mut Command) -> anyhow::Result<Ended> {
        let output = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        command.stderr(output.try_clone()?).stdout(output);
        let began = Instant::now();
        let mut said = began;
        let mut child = command.spawn().context("cannot run sh")?;
        // `Child::wait` would close it, and end the command.
        let input = child.stdin.take();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > self.limit {
                drop(input);
                let _ = child.wait();
                return Ok(Ended::TooLate(tail(&self.log, 1)));
            }
            if said.elapsed() >= PROGRESS_EVERY {
                said = Instant::now();
                let line = Some(tail(&self.log, 1)).filter(|line| !line.is_empty()).map(|line| format!(" ({line})"));
                let so_far = began.elapsed().as_secs();
                (self.progress)(&format!("{}: {so_far} s so far{}", self.doing, line.unwrap_or_default()));
            }
            thread::sleep(LOOK_EVERY);
        };
        Ok(if status.success() { Ended::Well } else { Ended::Badly(status, tail(&self.log, 8)) })
    }
}

/// The last lines of a file that may be long.
fn tail(file: &Path, lines: usize) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n    ")
}
