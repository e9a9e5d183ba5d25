//! The run directory: where results lie, and what happens when they cannot.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rollproof::report::{self, RunDir};

use super::{SCENARIO, judged, mixed, run, verdicts};

#[test]
fn a_given_directory_must_be_new_or_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (new, empty, used) = (folder.path().join("a/b"), folder.path().join("empty"), folder.path().join("used"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&used).unwrap();
    fs::write(used.join("x"), "").unwrap();
    RunDir::open(&new).unwrap();
    RunDir::open(&empty).unwrap();

    let again = RunDir::open(&empty).unwrap_err().to_string();
    assert!(again.contains("is not empty"), "{again}");
    let error = RunDir::open(&used).unwrap_err().to_string();
    assert!(error.contains(&used.display().to_string()) && error.contains("new or empty"), "{error}");
    assert_eq!(fs::read_dir(&used).unwrap().count(), 1, "nothing was put there");
    let error = format!("{:#}", RunDir::open(&used.join("x")).unwrap_err());
    assert!(error.contains("cannot make the report directory"), "{error}");
}

#[test]
fn latest_points_at_the_newest_run() {
    let folder = tempfile::tempdir().unwrap();
    symlink("an-old-run", folder.path().join("latest")).unwrap();
    let run = RunDir::open_new_below(folder.path()).unwrap();
    assert_eq!(fs::canonicalize(folder.path().join("latest")).unwrap(), fs::canonicalize(run.path()).unwrap());
    let name = run.path().file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with(&format!("Z-{}", std::process::id())), "{name}");
    let mut entries: Vec<_> = fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    entries.sort();
    assert_eq!(entries, ["evidence", "junit", "recordings", "timelines", "verdicts.jsonl"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the run and latest, nothing else");
}

#[test]
fn file_names_are_safe_and_unique() {
    let run = run();
    let long = "x".repeat(4096);
    let names = ["a::b", "a.b", "a:b", "a/b", "a_b", "", ".", "..", "::", "/etc/passwd", "../a", "é", "a\0b", &long];
    let mut files = std::collections::HashSet::new();
    for name in names {
        for file in [run.dir.junit(name), run.dir.recording(name), run.dir.evidence(name)] {
            assert!(file.parent().unwrap().parent().unwrap() == run.dir.path(), "{}", file.display());
            let stem = file.file_name().unwrap().to_str().unwrap();
            assert!(stem.len() <= 140 && !stem.starts_with('.') && stem.is_ascii(), "{stem}");
            assert!(files.insert(file.clone()), "{} is there twice", file.display());
        }
        report::write(&run.dir, &judged(name, vec![])).unwrap();
    }
    assert_eq!(run.dir.junit("a::b").file_name().unwrap(), "a.b.xml");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_the_others_are_kept() {
    let first = run();
    fs::remove_dir(first.dir.path().join("junit")).unwrap();
    let error = report::write(&first.dir, &mixed()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot write {}: ", first.dir.junit(SCENARIO).display())), "{error}");
    assert_eq!(error.matches("cannot write").count(), 1, "{error}");
    assert_eq!(verdicts(&first.dir).len(), 5);
    assert_eq!(first.dir.rows().len(), 5);

    let second = run();
    report::write(&second.dir, &mixed()).unwrap();
    let before = fs::read(second.dir.junit(SCENARIO)).unwrap();
    let error = report::write(&second.dir, &judged(SCENARIO, vec![])).unwrap_err().to_string();
    assert!(error.contains(&second.dir.junit(SCENARIO).display().to_string()), "{error}");
    assert_eq!(fs::read(second.dir.junit(SCENARIO)).unwrap(), before, "the first report is kept");
    assert_eq!(fs::read_dir(second.dir.path().join("junit")).unwrap().count(), 1, "no partial file is left");
}

/// Not a claim: what the next test runs in a process of its own.
#[test]
#[ignore = "run by the_closing_table_is_printed_at_exit"]
fn a_process_that_reports() {
    let Some(folder) = std::env::var_os("SUITE_RUN_DIR") else { return };
    let run = RunDir::of_this_process(Some(Path::new(&folder))).unwrap();
    assert!(std::ptr::eq(run, RunDir::of_this_process(None).unwrap()), "one directory a process");
    report::write(run, &mixed()).unwrap();
}

#[test]
fn the_closing_table_is_printed_at_exit() {
    let folder = tempfile::tempdir().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["report::run_dir::a_process_that_reports", "--exact", "--ignored"])
        .env("SUITE_RUN_DIR", folder.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(child.stdout).unwrap(), String::from_utf8(child.stderr).unwrap());
    assert!(child.status.success() && out.contains("1 passed"), "{out}{err}");
    assert!(err.contains("FAIL"), "{err}");
    assert!(err.contains("1 upheld, 1 violated as expected, 1 violated, "), "{err}");
    assert!(err.ends_with(&format!("results in {}\n", folder.path().display())), "{err}");
    assert!(!err.contains('\u{1b}'), "no colours where there is no terminal: {err}");
}
