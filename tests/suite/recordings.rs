//! Recordings that cannot be read or written: one clear error each.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rollproof::timeline::{Event, FORMAT, Lifecycle, Observation, Recorder, Recording, Step};
use tempfile::TempDir;

use crate::shorthand::{SERVERS, header, life, observed};

const OBSERVATIONS: u64 = 3;

/// A good recording of three observations: five lines.
fn good() -> Recording {
    let observations = (1..=OBSERVATIONS).map(|at| observed(at, life(SERVERS[0], Step::Ready))).collect();
    Recording { header: header(None, &[]), observations }
}

fn save(folder: &TempDir, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join("recording.jsonl");
    fs::write(&path, bytes).unwrap();
    path
}

fn load_error(path: &Path) -> String {
    let error = Recording::load(path).unwrap_err().to_string();
    let problem = error.strip_prefix(&format!("cannot read the recording {}: ", path.display()));
    problem.unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.jsonl");
    good().save(&path).unwrap();
    assert_eq!(Recording::load(&path).unwrap(), good());
}

fn lines(text: &str, keep: &[usize]) -> String {
    text.split_inclusive('\n').enumerate().filter(|(at, _)| keep.contains(&(at + 1))).map(|(_, line)| line).collect()
}

type Spoil = fn(&str) -> String;

/// Ways to spoil a recording, and how the error about each begins.
const SPOILED: &[(Spoil, &str)] = &[
    (|_| String::new(), "it is empty"),
    (|_| "hello\n".into(), "it does not begin with a recording's header; line 1, column 1: expected value"),
    (
        |_| "{\"kind\":\"Pod\"}".into(),
        "it does not begin with a recording's header; line 1, column 7: unknown field `kind`",
    ),
    (
        |text| lines(text, &[2, 3, 4, 5]),
        "it does not begin with a recording's header; line 1, column 5: unknown field `at`",
    ),
    (
        |text| text.replacen("\"format\":2", "\"format\":7", 1),
        "it is of format 7, a newer one than this rollproof reads (1 to 2): read it with the version that recorded it",
    ),
    (
        |_| "{\"header\":{\"format\":3,\"all\":\"new\"}}".into(),
        "it is of format 3, a newer one than this rollproof reads",
    ),
    (|text| text.replacen("\"format\":2", "\"format\":0", 1), "it is of format 0; this rollproof reads formats 1 to 2"),
    (
        |text| text.replacen("\"stall_ns\":500000000", "\"stall_ns\":18446744073709551615", 1),
        "it does not begin with a recording's header; line 1, column ",
    ),
    (
        |text| lines(text, &[1]) + "{\"at\":1,\"event\":{\"stall\":18446744073709551615}}\n",
        "line 2, column 46: 18446744073709551615 ns are more than ten years: no duration of a run",
    ),
    (
        |text| text[..60].into(),
        "it does not begin with a recording's header; line 1 is cut off: the run that wrote it was",
    ),
    (
        |text| lines(text, &[1, 2])[..].trim_end_matches("}\n").into(),
        "line 2 is cut off: the run that wrote it was interrupted",
    ),
    (
        |text| text[..text.len() - 4].into(),
        "line 5 is cut off: the run that wrote it was interrupted, or its disk was full",
    ),
    (
        |text| lines(text, &[1, 2, 3, 4]),
        "it has no end line after 3 observations: the run that wrote it was interrupted",
    ),
    (|text| lines(text, &[1]), "it has no end line after 0 observations: the run that wrote it was interrupted"),
    (|text| lines(text, &[1, 2, 4, 5]), "it promises 3 observations and holds 2: lines are missing"),
    (
        |text| lines(text, &[1, 2, 5]) + &lines(text, &[3, 4]),
        "it promises 3 observations and holds 1: lines are missing",
    ),
    (|text| text.to_owned() + "hello\n", "line 6: something follows the end line"),
    (|text| text.repeat(2), "line 6: something follows the end line"),
    (
        |text| text.replacen("{\"lifecycle\"", "{\"eclipse\"", 1),
        "line 2, column 32: unknown variant `eclipse`, expected one of",
    ),
];

#[test]
fn a_spoiled_recording_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.jsonl");
    good().save(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for (spoil, expected) in SPOILED {
        let error = load_error(&save(&folder, spoil(&text)));
        assert!(error.starts_with(expected) && !error.contains('\n'), "{error}\nexpected: {expected}");
    }
}

#[test]
fn a_duration_that_no_run_can_have_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.jsonl");
    good().save(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for field in ["shutdown_delay_ns", "stall_ns", "attempt_ns"] {
        let from = text.find(&format!("\"{field}\":")).expect("it is in the header") + field.len() + 3;
        let until = from + text[from..].find([',', '}']).expect("a number ends");
        let error = load_error(&save(&folder, format!("{}{}{}", &text[..from], u64::MAX, &text[until..])));
        assert!(error.contains("18446744073709551615 ns are more than ten years") && !error.contains('\n'), "{error}");
    }
}

/// The names of a recording of format 2: what it can tell of, and what its header says.
const EVENTS: &str = "request write load load_left in_flight list_watch delivered listed watch_ended bookmark read guarded_update guarded_left \
     connection backend_health session timer trigger packets gateway_stream gateway_logged gateway_counted endpoints lifecycle server_health \
     cluster audited audit_log fault_on fault_off loss_on loss_off stall ticked observers";
const HEADER: &str =
    "format suite scenario cell seed began began_at disturbance servers subjects timers machine bounds judged_by";
const CELL: &str = "control_plane kubernetes apiservers balancer protocol client profile";
const TIMERS: &str =
    "shutdown_delay_ns watch_termination_grace_ns health_interval_ns health_timeout_ns health_fall health_rise";
const BOUNDS: &str = "fresh_ns readyz_red_ns back_ns outage_after_kill_ns resumed_ns lost_ns gateway_ended_ns gateway_answered_ns \
     gateway_quiet_ns stall_ns late_percent samples close_noticed_ns attempt_ns request_gap_ns health_gap_ns cluster_gap_ns session_gap_ns \
     gateway_silent_ns gateway_streams gateway_good_in_a_row gateway_hang_ns";

#[test]
fn what_a_recording_can_tell_is_its_format() {
    let what_to_do = "an event more, or a field more that a verdict rests on, is another format: raise FORMAT, with a row in its table, and pin it here";
    assert_eq!(FORMAT, 2, "{what_to_do}");
    let unknown = serde_json::from_str::<Event>("{\"eclipse\":{}}").unwrap_err().to_string();
    let (_, known) = unknown.split_once("expected one of ").expect("it names all events");
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    assert_eq!(known, EVENTS.split_whitespace().collect::<Vec<_>>(), "{what_to_do}");

    let mut header = serde_json::to_value(header(None, &[])).unwrap();
    let mut fields = |name: &str, pinned: &str| {
        let object = if name.is_empty() { &mut header } else { &mut header[name] };
        let found: BTreeSet<_> = object.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(found, pinned.split_whitespace().collect(), "{name}: {what_to_do}");
    };
    for (name, pinned) in [("", HEADER), ("cell", CELL), ("timers", TIMERS), ("bounds", BOUNDS)] {
        fields(name, pinned);
    }
}

#[test]
fn what_is_no_text_file_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load_error(&folder.path().join("none")).starts_with("No such file or directory"));
    assert!(load_error(folder.path()).starts_with("Is a directory"));
    // As a program begins, or nearly: where its first line ends is chance.
    assert_eq!(load_error(&save(&folder, b"\x7fELF\xff\n")), "line 1: stream did not contain valid UTF-8");
    assert!(load_error(&save(&folder, [0; 4096])).starts_with("it does not begin with a recording's header; line 1, "));
}

#[test]
fn an_existing_file_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&folder, "precious");
    let error = Recorder::default().begin(header(None, &[]), &path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
}

/// Not a claim: what the next test runs where no file can grow.
#[test]
#[ignore = "run by when_the_disk_is_full_one_error_says_how_much_was_kept"]
fn a_process_whose_disk_is_full() {
    const RECORDED: usize = 5000;
    let Some(path) = std::env::var_os("SUITE_RECORDING").map(PathBuf::from) else { return };
    let recorder = Recorder::default();
    let record = |number: usize| {
        let text = number.to_string();
        recorder.record(Event::Lifecycle(Lifecycle { server: "apiserver-0".into(), step: Step::Ready, text }));
    };
    (0..10).for_each(record);
    recorder.begin(header(None, &[]), &path).unwrap();
    (10..RECORDED).for_each(record);
    assert_eq!(recorder.count(|_| true), RECORDED, "recording goes on in memory");
    let error = recorder.finish().unwrap_err().to_string();

    let text = fs::read_to_string(&path).unwrap();
    let whole = text.split_inclusive('\n').skip(1).filter(|line| line.ends_with('\n'));
    let kept: Vec<Observation> = whole.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        error,
        format!(
            "cannot write the recording {}: File too large (os error 27); it holds the first {} of {RECORDED} observations",
            path.display(),
            kept.len()
        )
    );
    assert!(text.len() >= 32 << 10, "all that fitted is there: {} bytes", text.len());
    for (number, seen) in kept.iter().enumerate() {
        assert!(matches!(&seen.event, Event::Lifecycle(life) if life.text == number.to_string()), "{number}: {seen:?}");
    }
    assert!(load_error(&path).contains("interrupted"));
}

#[test]
fn when_the_disk_is_full_one_error_says_how_much_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of files (blocks of 512 bytes, or of 1024 in some shells) is as good as a full disk, and needs no
    // privilege.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["recordings::a_process_whose_disk_is_full", "--exact", "--ignored"])
        .env("SUITE_RECORDING", folder.path().join("recording.jsonl"))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && out.contains("1 passed"), "{out}{}", String::from_utf8_lossy(&child.stderr));
}
