//! Nothing that is read from a file or a log can make the suite panic, or hang: it is a value, or one error that says where.
//!
//! Good input is changed at random, by bytes and by JSON values, and read again; what loads is judged as well. How many times is
//! `PROPTEST_CASES`; a failure is shrunk, and names its seed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rollproof::lab::control_plane::static_pod::containerd::{running, seen};
use rollproof::lab::control_plane::static_pod::journal::stopping;
use rollproof::lab::control_plane::static_pod::manifest::Manifest;
use rollproof::lab::control_plane::{audit, lifecycle};
use rollproof::timeline::*;
use rollproof::verdict::judge_all;
use serde_json::Value;

use crate::runs::run;

/// One change of bytes, at places that are shares of the length.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte is another.
    Byte(Index, u8),
    /// Bytes are missing.
    Cut(Index, Index),
    /// Bytes are there twice.
    Twice(Index, Index),
    /// Bytes of one place are at another.
    Spliced(Index, Index, Index),
    /// A number, or what looks like one, is another.
    Number(Index, &'static str),
}

/// Numbers at which something may overflow, and what is no number.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "65535",
    "65536",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "0.5",
    "null",
];

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (place(), place()).prop_map(|(from, until)| Damage::Cut(from, until)),
        (place(), place()).prop_map(|(from, until)| Damage::Twice(from, until)),
        (place(), place(), place()).prop_map(|(from, until, to)| Damage::Spliced(from, until, to)),
        (place(), proptest::sample::select(&NUMBERS[..])).prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

impl Damage {
    fn to(&self, bytes: &mut Vec<u8>) {
        /// No more than so many bytes are moved.
        const MOST: usize = 400;
        if bytes.is_empty() {
            return;
        }
        let range = |from: &Index, until: &Index| {
            let (one, other) = (from.index(bytes.len()), until.index(bytes.len()));
            let from = one.min(other);
            from..one.max(other).min(from + MOST)
        };
        match self {
            Self::Byte(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Cut(from, until) => drop(bytes.drain(range(from, until))),
            Self::Twice(from, until) => {
                let range = range(from, until);
                let again = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, again);
            }
            Self::Spliced(from, until, to) => {
                let range = range(from, until);
                let moved = bytes[range].to_vec();
                let to = to.index(bytes.len());
                bytes.splice(to..to, moved);
            }
            Self::Number(at, number) => {
                let at = at.index(bytes.len());
                let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
                let digits = bytes[at + from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(at + from..at + from + digits, number.bytes());
            }
        }
    }
}

fn damaged(bytes: &[u8], all: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    all.iter().for_each(|one| one.to(&mut bytes));
    bytes
}

/// Puts a claim to so many random inputs, the same in each run.
fn fuzz<S: Strategy>(cases: u32, input: &S, claim: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let (cases, seed) = (asked.unwrap_or(cases), [7; 32]);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    runner.run(input, claim).unwrap_or_else(|error| panic!("{error}"));
}

/// A recording small enough to be damaged often: all kinds of observations, few of each.
fn few_of_each(recording: &Recording, most: usize) -> Vec<String> {
    let mut kinds = std::collections::BTreeMap::new();
    let lines = recording.observations.iter().map(|seen| serde_json::to_value(seen).expect("JSON"));
    let rare = lines.filter(|line| {
        let kind = match &line["event"] {
            Value::Object(event) => event.keys().next().cloned().unwrap_or_default(),
            event => event.to_string(),
        };
        let seen = kinds.entry(kind).or_insert(0);
        *seen += 1;
        *seen <= most
    });
    let rare: Vec<String> = rare.map(|line| line.to_string()).collect();
    let header = serde_json::json!({ "header": recording.header }).to_string();
    let end = serde_json::json!({ "end": { "observations": rare.len() } }).to_string();
    [vec![header], rare, vec![end]].concat()
}

/// Lines of good recordings.
static GOOD: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let made_up = [Some(Restart::Graceful), Some(Restart::Killed), None].map(|how| few_of_each(&run(how).whole(), 8));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings");
    let kept = ["gateway-frozen.jsonl.zst", "gateway-sessions-1.jsonl.zst", "gateway-many.jsonl.zst"]
        .map(|name| few_of_each(&Recording::load(&folder.join(name)).expect("a fixture"), 8));
    let teeth = ["IDLE-1", "IDLE-4", "IDLE-5", "LOST-1", "LOST-2", "SESSION-1", "CLUSTER-1"]
        .map(|id| few_of_each(&crate::teeth::tooth(id).expect("it is seen failing"), 8));
    made_up.into_iter().chain(kept).chain(teeth).collect()
});

/// Loads a recording's bytes, and judges what there is.
fn load_and_judge(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("damaged.jsonl");
    std::fs::write(&path, bytes).expect("the disk has room");
    match Recording::load(&path) {
        Ok(recording) => {
            // A requirement that nobody knows is an error, too.
            let _ = judge_all(&recording);
            Ok(true)
        }
        Err(error) => {
            let text = error.to_string();
            prop_assert!(text.contains("damaged.jsonl") && !text.contains('\n'), "{text:?}");
            Ok(false)
        }
    }
}

#[test]
fn a_recording_whose_bytes_are_damaged_loads_or_is_one_error() {
    let input = (any::<Index>(), proptest::collection::vec(damage(), 1..4), any::<bool>());
    fuzz(300, &input, |(which, damage, compressed)| {
        let lines = which.get(&GOOD);
        let mut bytes = lines.join("\n").into_bytes();
        bytes.push(b'\n');
        if compressed {
            bytes = zstd::encode_all(&bytes[..], 1).expect("in memory");
        }
        load_and_judge(&damaged(&bytes, &damage)).map(drop)
    });
}

/// A value of a line's JSON, by the way to it, is another.
fn edit(value: &mut Value, way: &[Index], with: &Value) {
    let next = way.split_first().filter(|_| match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    });
    let Some((step, rest)) = next else {
        *value = with.clone();
        return;
    };
    match value {
        Value::Array(items) => {
            let at = step.index(items.len());
            edit(&mut items[at], rest, with);
        }
        Value::Object(fields) => {
            let name = fields.keys().nth(step.index(fields.len())).cloned().expect("one of them");
            edit(&mut fields[&name], rest, with);
        }
        _ => {}
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let number = any::<u64>().prop_map(Value::from);
    let edges =
        proptest::sample::select(vec![0, 1, u64::from(u32::MAX), i64::MAX as u64, u64::MAX]).prop_map(Value::from);
    let text =
        proptest::sample::select(vec!["", "apiserver-0", "apiserver-1", "watch", "é\u{0}"]).prop_map(Value::from);
    let other = proptest::sample::select(vec![Value::Null, Value::Bool(true), Value::from(-1), Value::from(0.5)]);
    // The edges of what a duration may be: some ten years.
    let long =
        proptest::sample::select(vec![315_360_000_000_000_000_u64, 315_360_000_000_000_001]).prop_map(Value::from);
    prop_oneof![number, edges, text, other, long, Just(serde_json::json!([])), Just(serde_json::json!({}))]
}

#[test]
fn a_recording_whose_values_are_others_loads_or_is_one_error_and_is_judged_without_a_panic() {
    let edits = (any::<Index>(), proptest::collection::vec(any::<Index>(), 1..6), any_value());
    let lines = (any::<Index>(), any::<Index>(), 0..4_u8);
    let input = (any::<Index>(), proptest::collection::vec(edits, 1..4), proptest::collection::vec(lines, 0..3));
    let loaded = std::cell::Cell::new(0);
    fuzz(400, &input, |(which, edits, moves)| {
        let mut lines = which.get(&GOOD).clone();
        for (line, way, with) in &edits {
            let at = line.index(lines.len());
            let mut value: Value = serde_json::from_str(&lines[at]).expect("a good line");
            edit(&mut value, way, with);
            lines[at] = value.to_string();
        }
        // What was seen may be missing, come twice, or stand elsewhere: the end line counts it.
        let end = lines.pop().expect("the end");
        for (from, to, what) in &moves {
            let (from, to) = (1 + from.index(lines.len() - 1), 1 + to.index(lines.len() - 1));
            match what {
                0 => drop(lines.remove(from)),
                1 => lines.insert(to, lines[from].clone()),
                _ => lines.swap(from, to),
            }
        }
        let count = lines.len() - 1;
        lines.push(if moves.is_empty() {
            end
        } else {
            serde_json::json!({"end": {"observations": count}}).to_string()
        });
        let was_loaded = load_and_judge(lines.join("\n").as_bytes())?;
        loaded.set(loaded.get() + u32::from(was_loaded));
        Ok(())
    });
    assert!(loaded.get() > 40, "only {} were judged: the edits are too coarse to find anything", loaded.get());
}

/// What apiservers, kubelets and containerd write, as it is written.
const LINES: &[&str] = &[
    r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"ours-1","stage":"RequestReceived","requestURI":"/api/v1/namespaces","verb":"list","user":{"username":"probe"},"sourceIPs":["127.77.1.1"]}"#,
    r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"ours-1","stage":"ResponseComplete","responseStatus":{"metadata":{},"code":200},"annotations":{"authorization.k8s.io/decision":"allow"}}"#,
    r#"I1129 10:00:00.000000       1 genericapiserver.go:700] "[graceful-termination] shutdown event" name="ShutdownInitiated""#,
    r#"{"MESSAGE":"I1129 00:51:07.123456     812 kuberuntime_container.go:808] \"Killing container with a grace period\" pod=\"kube-system/kube-apiserver-a\" containerName=\"kube-apiserver\" containerID=\"containerd://4f6e\" gracePeriod=30","__MONOTONIC_TIMESTAMP":"8123456","__REALTIME_TIMESTAMP":"1795913467123999"}"#,
    r#"2026-11-23 00:50:02.1 +0000 UTC k8s.io /containers/create {"id":"4f6e","image":"registry.k8s.io/kube-apiserver:v1.37.2","runtime":{"name":"runc"}}"#,
    r#"2026-11-23 00:50:02.2 +0000 UTC k8s.io /tasks/start {"container_id":"4f6e","pid":812}"#,
    r#"2026-11-23 00:51:07.9 +0000 UTC k8s.io /tasks/exit {"container_id":"4f6e","id":"4f6e","pid":812,"exit_status":137,"exited_at":"2026-11-23T00:51:07.9Z"}"#,
    "4f6e   812   RUNNING",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver}\nspec:\n  containers:\n  - command: [kube-apiserver, --v=1]\n    image: a:b\n    name: kube-apiserver\n",
];

#[test]
fn a_damaged_line_of_a_log_is_read_or_left_out() {
    let input = (any::<Index>(), proptest::collection::vec(damage(), 0..5));
    let folder = tempfile::tempdir().expect("a scratch folder");
    let log = folder.path().join("audit.log");
    let ours = BTreeSet::from(["ours-1".to_owned()]);
    fuzz(1500, &input, |(which, damage)| {
        let bytes = damaged(which.get(LINES).as_bytes(), &damage);
        let text = String::from_utf8_lossy(&bytes);
        let _ = (lifecycle::signal(&text), stopping(&text), seen(&text), running(&text));
        if let Ok(mut manifest) = Manifest::parse(&text) {
            manifest.roll("again");
            manifest.mount("audit", "/var/log/audit", true);
            let _ = (manifest.text(), manifest.flags(), manifest.image().map(str::to_owned));
        }
        std::fs::write(&log, [LINES[0].as_bytes(), b"\n", &bytes[..], b"\n"].concat()).expect("the disk has room");
        // A log that is no text is an error; whatever else stands in it, the good line is read.
        if let Ok((read, found)) = audit::read("apiserver-0", &log, &ours) {
            prop_assert_eq!(found.len(), 1);
            prop_assert!(read.events >= 1);
            prop_assert_eq!(&found[0].stages[0], "RequestReceived");
        }
        Ok(())
    });
}
