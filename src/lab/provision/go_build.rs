//! `go build`, from the modules pinned in fixtures/.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::cache::{Workshop, unwritable};
use super::command::{Ended, Long, dies_with_us};
use super::program::arch;
use super::version::{Pinned, known};
use super::{Failure, Search};
use crate::timing::GO_BUILD_LIMIT;

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
    let (modules, temporary) = (workshop.path("modules"), workshop.path("tmp"));
    let made = workshop.path("built");
    for folder in [&modules, &temporary] {
        fs::create_dir(folder).map_err(disk)?;
    }
    let main = wanted.program.main().map(|text| ("main.go", text));
    for (name, text) in [("go.mod", pinned.go_mod), ("go.sum", pinned.go_sum)].into_iter().chain(main) {
        fs::write(modules.join(name), text).map_err(disk)?;
    }

    search.say(&format!("building {wanted} with {}: {}", go.display(), wanted.program.usual_build()));
    let mut command = dies_with_us(&go);
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

    let doing = format!("building {wanted}");
    let build = Long { doing: &doing, log: workshop.path("log"), limit: GO_BUILD_LIMIT, progress: search.progress };
    match build.run(&mut command)? {
        Ended::Well => Ok(made),
        Ended::Badly(_, said) if said.contains("no space left on device") => {
            let error = io::Error::new(io::ErrorKind::StorageFull, format!("go build says: {said}"));
            Err(disk(error).into())
        }
        Ended::Badly(status, said) => unavailable(format!("{} build: {status}: {said}", go.display())),
        Ended::TooLate(line) => unavailable(format!("not done after {} s: {line}", GO_BUILD_LIMIT.as_secs())),
    }
}
