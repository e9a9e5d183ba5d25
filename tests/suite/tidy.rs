//! The house rules that a machine can check.

use std::path::{Path, PathBuf};

/// Each room and the rooms it may import. ARCHITECTURE.md has the same list.
const ROOMS: &[(&str, &[&str])] = &[
    ("timing", &[]),
    ("spec", &[]),
    ("timeline", &["timing"]),
    ("verdict", &["spec", "timeline", "timing"]),
    ("report", &["verdict", "spec", "timeline", "timing"]),
    ("config", &["report", "spec", "timing"]),
    ("lab", &["config", "timeline", "timing"]),
    ("probe", &["lab", "timeline", "timing"]),
    ("scenario", &["config", "lab", "probe", "report", "spec", "timeline", "timing", "verdict"]),
    ("prelude", &["lab", "probe", "scenario", "spec", "timeline", "timing"]),
];

fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the sources are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are text");
                found.push((path, text));
            }
        }
    }
    found
}

/// Every room that a line of code imports or names by path.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1)).filter_map(|rest| {
        let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
        Some(&rest[..end]).filter(|room| ROOMS.iter().any(|(known, _)| known == room))
    })
}

#[test]
fn rooms_import_downwards_only() {
    for (path, text) in files("src") {
        let source = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("below src");
        let room = source.components().next().expect("a file").as_os_str().to_string_lossy();
        let room = room.trim_end_matches(".rs");
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else { continue };
        for import in imports(&text).filter(|import| *import != room) {
            assert!(allowed.contains(&import), "{} imports {import}; {room} may import {allowed:?}", source.display());
        }
    }
}

#[test]
fn every_room_is_in_the_list() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("src").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        let known = ROOMS.iter().any(|(room, _)| *room == name) || ["lib", "bin"].contains(&name.as_str());
        assert!(known, "src/{name} is a new room: say in ARCHITECTURE.md and here what it may import");
    }
}

#[test]
fn nothing_sleeps_but_waits_for_a_condition() {
    /// Where a pause is what the file is about.
    const MAY: &[&str] = &["lab/wait.rs", "lab/mod.rs", "lab/balancer/builtin.rs", "probe/watch.rs", "lab/provision/"];
    for (path, text) in files("src").into_iter().chain(files("tests")) {
        let shown = path.display().to_string();
        let sleeps = ["time::sleep", "thread::sleep"].iter().any(|sleep| text.contains(&format!("{sleep}(")));
        let excused = MAY.iter().any(|may| shown.contains(may)) || shown.ends_with("tidy.rs");
        assert!(!sleeps || excused, "{shown} sleeps: wait for a condition instead (lab/wait.rs)");
    }
}

#[test]
fn verdicts_are_pure() {
    for (path, text) in files("src/verdict") {
        for impure in ["async ", ".await", "Moment::now", "std::fs", "Instant::now", "SystemTime", "println!"] {
            assert!(!text.contains(impure), "{} has {impure:?}: a verdict only reads its recording", path.display());
        }
    }
}

/// What code imports of `timing`, or names by path.
fn of_timing(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let named = |rest: &str| {
        let list = rest.strip_prefix('{').and_then(|list| list.split_once('}')).map(|(list, _)| list);
        let single = || rest.split(|char: char| !char.is_alphanumeric() && char != '_').next().unwrap_or_default();
        let names = list.unwrap_or_else(single).split(',').map(|name| name.trim().to_owned());
        names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    code.split("timing::").skip(1).flat_map(named).collect()
}

/// A saved recording is judged by its header alone: a constant that changes must not change its verdicts.
#[test]
fn verdicts_know_no_duration_but_those_of_the_header() {
    const HEADERS: &[&str] = &["Bounds", "Timers", "Profile"];
    for (path, text) in files("src/verdict") {
        for name in of_timing(&text) {
            let shown = path.display();
            assert!(HEADERS.contains(&name.as_str()), "{shown} uses timing::{name}: make it a bound of the header");
        }
    }
    // What verdicts ask of an observation is asked with a bound of the header, too.
    const HELD: &[&str] = &["Bounds", "Timers", "Profile", "GatewayTimers", "nanos", "FLUSH_EVERY"];
    for (path, text) in files("src/timeline") {
        for name in of_timing(&text) {
            assert!(HELD.contains(&name.as_str()), "{} uses timing::{name}: take it as an argument", path.display());
        }
    }
    // Pages print what was in force when a recording was made.
    for (path, text) in files("src/report") {
        for name in of_timing(&text) {
            let shown = path.display();
            assert!(HELD[..4].contains(&name.as_str()), "{shown} uses timing::{name}: print the recording's");
        }
    }
}

#[test]
fn imports_of_timing_are_found_however_they_are_written() {
    let text = "use crate::timing::{\n    self, Bounds,\n    HANG,\n};\n// timing::NOT\nlet x = timing::ALSO + y;";
    assert_eq!(of_timing(text), ["self", "Bounds", "HANG", "ALSO"]);
}

#[test]
fn durations_live_in_timing() {
    let timing = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/timing");
    for (path, text) in files("src").into_iter().filter(|(path, _)| !path.starts_with(&timing)) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let spelled = ["from_secs(", "from_millis("].iter().find_map(|call| line.split_once(call));
            let literal = spelled.is_some_and(|(_, rest)| rest.starts_with(|char: char| char.is_ascii_digit()));
            assert!(!literal, "{} spells a duration: {line}", path.display());
        }
    }
}

#[test]
fn the_front_page_is_one_page_and_knows_every_variable() {
    let readme = include_str!("../../README.md");
    assert!(readme.lines().count() <= 80, "the README has grown beyond one page");
    for variable in
        ["CONTROL_PLANE", "KUBERNETES_VERSION", "APISERVERS", "BALANCER", "PROFILE", "REPORT_DIR", "REQUIRE", "KEEP"]
    {
        assert!(readme.contains(variable), "the README does not tell of ROLLPROOF_{variable}");
    }
}
