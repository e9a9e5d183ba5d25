//! The `rollproof` command, as scripts see it: exit codes, and what goes where.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rollproof::spec;
use rollproof::timeline::{ConnectionKind, ErrorClass};
use rstest::rstest;
use tempfile::TempDir;

use crate::keeper::stage::Home;
use crate::runs::{requester, run};

/// Exit code, stdout, stderr.
pub(crate) fn ended(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A steady recording: upheld, violated, without enough samples, and spoiled.
struct Files {
    _folder: TempDir,
    upheld: PathBuf,
    violated: PathBuf,
    inconclusive: PathBuf,
    spoiled: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = Self {
            upheld: path("upheld.jsonl"),
            violated: path("violated.jsonl"),
            inconclusive: path("inconclusive.jsonl"),
            spoiled: path("spoiled.jsonl"),
            _folder: folder,
        };
        run(None).whole().save(&files.upheld).unwrap();
        let outage = run(None).requests_fail(ConnectionKind::New, 8000..9000, ErrorClass::ConnectionRefused);
        outage.whole().save(&files.violated).unwrap();
        let quiet = run(None).without(|seen| {
            matches!(&seen.event, rollproof::timeline::Event::Request(request)
                if request.probe == requester(ConnectionKind::New))
        });
        quiet.whole().save(&files.inconclusive).unwrap();
        fs::write(&files.spoiled, "hello\n").unwrap();
        files
    }
}

#[test]
fn judge_tells_scripts_what_it_found() {
    let (home, files) = (Home::new(), Files::new());
    let judge = |files: &[&PathBuf]| ended(home.rollproof(&["judge"]).args(files));
    let (code, out, err) = judge(&[&files.upheld]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("9 upheld"), "{out}");
    let (code, out, err) = judge(&[&files.violated]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(out.contains("ROLLOUT-1") && out.contains("violated"), "{out}");
    let (code, out, err) = judge(&[&files.inconclusive]);
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    assert_eq!(judge(&[&files.violated, &files.inconclusive]).0, 1, "a violation is what matters most");
}

#[test]
fn a_recording_that_is_to_be_judged_by_nothing_is_not_good() {
    let (home, files) = (Home::new(), Files::new());
    let nothing = files.spoiled.with_file_name("nothing.jsonl");
    run(None).header(|header| header.judged_by.clear()).whole().save(&nothing).unwrap();
    let (code, _, err) = ended(home.rollproof(&["judge"]).arg(&nothing));
    let expected = format!("rollproof: {}: its header names no requirement to judge it by\n", nothing.display());
    assert_eq!((code, err), (3, expected));
    let (code, out, _) = ended(home.rollproof(&["judge", "--jsonl"]).args([&nothing, &files.upheld]));
    assert_eq!((code, out.lines().count()), (3, 9));
    assert_eq!(ended(home.rollproof(&["judge"]).args([&nothing, &files.violated])).0, 1);
}

#[test]
fn judge_goes_on_after_a_file_that_it_cannot_read() {
    let (home, files) = (Home::new(), Files::new());
    let missing = files.spoiled.with_file_name("missing");
    let judge = |args: &[&str], last: &PathBuf| {
        let mut command = home.rollproof(&["judge"]);
        ended(command.args(args).args([&files.spoiled, &missing]).arg(last))
    };
    let (code, out, err) = judge(&[], &files.upheld);
    assert_eq!(code, 3);
    let expected = format!(
        "rollproof: cannot read the recording {}: it does not begin with a recording's header; line 1, column 1: expected \
         value\nrollproof: cannot read the recording {}: No such file or directory (os error 2)\n",
        files.spoiled.display(),
        missing.display()
    );
    assert_eq!(err, expected);
    assert!(out.contains("9 upheld"), "{out}");
    let (code, out, err) = judge(&["--jsonl"], &files.violated);
    assert_eq!((code, err), (1, expected));
    assert_eq!(out.lines().count(), 9, "{out}");
}

#[test]
fn a_saved_recording_can_be_drawn() {
    let (home, files) = (Home::new(), Files::new());
    let svg = files.violated.with_extension("svg");
    let (code, out, err) = ended(home.rollproof(&["timeline"]).arg(&files.violated).arg("-o").arg(&svg));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    let (code, out, err) = ended(home.rollproof(&["timeline"]).arg(&files.violated));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("<?xml") && out == fs::read_to_string(&svg).unwrap(), "{out}");
    let (code, out, err) = ended(home.rollproof(&["timeline"]).arg(&files.spoiled));
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.starts_with("rollproof: cannot read the recording"), "{err}");
}

#[test]
fn cases_are_those_of_a_report_folder_or_of_single_recordings() {
    let (home, files) = (Home::new(), Files::new());
    let (code, out, err) = ended(home.rollproof(&["cases"]).args([&files.violated, &files.spoiled, &files.upheld]));
    assert_eq!(code, 3);
    assert!(err.contains("spoiled.jsonl") && err.lines().count() == 1, "{err}");
    assert_eq!(out.matches("| shorthand | nothing |").count(), 2, "{out}");
    assert!(out.contains("**ROLLOUT-1**"), "{out}");

    let folder = files.violated.with_file_name("run");
    fs::create_dir_all(folder.join("recordings")).unwrap();
    fs::copy(&files.violated, folder.join("recordings/a.jsonl")).unwrap();
    let (code, out, err) = ended(home.rollproof(&["cases"]).arg(&folder));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.matches("| shorthand | nothing |").count(), 1, "{out}");
    let (code, _, err) = ended(home.rollproof(&["cases"]).arg(folder.join("recordings")));
    assert_eq!(code, 3);
    assert!(err.contains("is no report folder"), "{err}");
}

#[rstest]
#[case(&[])]
#[case(&["frobnicate"])]
#[case(&["judge"])]
#[case(&["list", "--colour"])]
#[case(&["up", "--apiservers", "0"])]
fn a_wrong_call_is_2(#[case] args: &[&str]) {
    let (code, out, err) = ended(&mut Home::new().rollproof(args));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("'--help'") || err.contains("Usage: rollproof"), "{err}");
}

#[rstest]
fn everything_has_help(#[values("", "doctor", "list", "up", "judge", "timeline", "cases", "clean")] subcommand: &str) {
    let home = Home::new();
    let mut command = home.rollproof(&[]);
    command.args(Some(subcommand).filter(|name| !name.is_empty())).arg("--help");
    let (code, out, err) = ended(&mut command);
    assert_eq!((code, err.as_str()), (0, ""));
    let usage = format!("Usage: rollproof {subcommand}");
    assert!(out.contains(usage.trim_end()) && !out.contains("keeper"), "{out}");
}

#[test]
fn list_names_every_requirement() {
    let (code, out, err) = ended(&mut Home::new().rollproof(&["list"]));
    assert_eq!((code, err.as_str()), (0, ""));
    for requirement in spec::requirements() {
        assert!(out.contains(requirement.id) && out.contains(requirement.sentence), "{out}");
    }
}

#[test]
fn doctor_says_what_is_wrong_and_changes_nothing() {
    let home = Home::new();
    let dead = home.root().join("lab-1");
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&dead).unwrap();
    let (code, out, err) = ended(&mut home.rollproof(&["doctor"]));
    assert_eq!(code, if out.contains("BAD") { 3 } else { 0 }, "{out}{err}");
    assert!(out.contains("note  leftovers: 1 labs of killed runs"), "{out}");
    assert!(dead.exists());
    let (code, out, _) = ended(home.rollproof(&["doctor"]).env("ROLLPROOF_FROBNICATE", "1"));
    assert_eq!(code, 3);
    assert!(out.starts_with("BAD   environment: ") && out.contains("ROLLPROOF_FROBNICATE"), "{out}");
}

#[test]
fn clean_removes_what_is_dead_and_says_so() {
    let home = Home::new();
    assert_eq!(home.clean(&[]), (0, String::new()));
    let dead = home.root().join("lab-7");
    fs::DirBuilder::new().mode(0o700).recursive(true).create(dead.join("apiserver-0")).unwrap();
    assert_eq!(home.clean(&["--kept"]), (0, format!("removed {} and 0 processes of it\n", dead.display())));
    assert!(home.is_empty());
}

/// As in `rollproof list | head -1`, but without the luck of the fast.
#[rstest]
#[case(&["list"], 0)]
#[case(&["list", "--markdown"], 0)]
#[case(&["--help"], 0)]
#[case(&["doctor"], 0)]
#[case(&["judge", "/no/such/file"], 3)]
#[case(&["frobnicate"], 2)]
fn a_reader_that_has_gone_is_no_failure(#[case] args: &[&str], #[case] expected: i32) {
    let home = Home::new();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let with_errors = home.rollproof(args).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
    let err = String::from_utf8(with_errors.stderr).unwrap();
    assert!(!err.contains("panicked"), "{err}");
    let code = with_errors.status.code();
    assert!(code == Some(expected) || (args == ["doctor"] && code == Some(3)), "{code:?} {err}");
    assert_eq!(home.rollproof(args).stdout(closed()).stderr(closed()).status().unwrap().code(), code);
}
