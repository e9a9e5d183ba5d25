//! `go build`, from the modules pinned in fixtures/.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use super::cache::{Workshop, unwritable};
use super::program::arch;
use super::version::{Pinned, known};
use super::{Failure, Search};
use crate::timing::{GO_BUILD_LIMIT, LOOK_EVERY, PROGRESS_EVERY};

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

/// The Go release that these modules need, as their go.mod says.
pub(super) fn needs_go(pinned: &Pinned) -> &'static str {
    pinned.go_mod.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("1.26")
}

/// Builds the program in the workshop.
pub(super) fn go_build(search: &Search<'_>, workshop: &Workshop<'_>) -> Result<PathBuf, Failure> {
    let wanted = search.wanted;
    let unavailable = |why: String| Err(Failure::Unavailable(why));
    let disk = |error: io::Error| unwritable(workshop.entry.folder(), &error);
    let Some(pinned) = wanted.pinned() else {
        return unavailable(format!("no pinned modules for it, only for {}", known(wanted.program.pinned())));
    };
    let Some(go) = search.sources.on_path("go").next() else {
        return unavailable("there is no go in PATH".to_owned());
    };
    let (modules, temporary, log) = (workshop.path("modules"), workshop.path("tmp"), workshop.path("log"));
    let made = workshop.path("built");
    for folder in [&modules, &temporary] {
        fs::create_dir(folder).map_err(disk)?;
    }
    fs::write(modules.join("go.mod"), pinned.go_mod).map_err(disk)?;
    fs::write(modules.join("go.sum"), pinned.go_sum).map_err(disk)?;
    let output = File::create(&log).map_err(disk)?;

    search.say(&format!("building {wanted} with {}: {}", go.display(), wanted.program.usual_build()));
    let mut command = Command::new("sh");
    command.args(["-c", UNTIL_INPUT_ENDS, "sh"]).arg(&go);
    // With the same flags every time, Go's own cache serves every build. A user's go.work, vendor folder or cross
    // compilation is not ours.
    command.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", &wanted.ldflags(), "-o"]);
    command.arg(&made).arg(wanted.program.package());
    command.current_dir(&modules).env("PWD", &modules);
    command.envs([
        ("CGO_ENABLED", "0"),
        ("GOWORK", "off"),
        ("GO111MODULE", "on"),
        ("GOOS", "linux"),
        ("GOARCH", arch()),
    ]);
    command.env("GOTMPDIR", &temporary);
    command.stdin(Stdio::piped()).stderr(output.try_clone().map_err(disk)?).stdout(output).process_group(0);

    let began = Instant::now();
    let mut said = began;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return unavailable(format!("cannot run sh: {error}")),
    };
    // `Child::wait` would close it, and end the build.
    let input = child.stdin.take();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(anyhow::Error::from)? {
            break status;
        }
        if began.elapsed() > GO_BUILD_LIMIT {
            drop(input);
            let _ = child.wait();
            return unavailable(format!("not done after {} s: {}", GO_BUILD_LIMIT.as_secs(), tail(&log, 1)));
        }
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            let doing = Some(tail(&log, 1)).filter(|line| !line.is_empty()).map(|line| format!(" ({line})"));
            let so_far = began.elapsed().as_secs();
            search.say(&format!("building {wanted}: {so_far} s so far{}", doing.unwrap_or_default()));
        }
        thread::sleep(LOOK_EVERY);
    };
    if status.success() {
        return Ok(made);
    }
    let said = tail(&log, 8);
    if said.contains("no space left on device") {
        let error = io::Error::new(io::ErrorKind::StorageFull, format!("go build says: {said}"));
        return Err(disk(error).into());
    }
    unavailable(format!("{} build: {status}: {said}", go.display()))
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
