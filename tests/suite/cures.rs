//! The page about gateways, from recordings.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rollproof::lab::gateway::{self, NONE, RECOMMENDED};
use rollproof::report::{CureTold, cures_markdown};
use rollproof::timeline::*;
use rollproof::timing::{GatewayTimers, millis, secs};
use rollproof::verdict::{OnTheWire, Recovery, cures, on_the_wire};

use crate::gateway_verdicts::{recording, stream, told, wrote};
use crate::shorthand::*;

/// Changes that were heard every quarter of a second from then to then, in milliseconds since the recording began.
fn hearing(stream: GatewayStream, asked: u64, from: u64, until: u64) -> GatewayStream {
    let heard = (from..until).step_by(250).map(|at| Heard { after: millis(at - asked), change: Some(at) }).collect();
    GatewayStream { heard, ..stream }
}

fn through(gateway: &str, at: u64, stream: GatewayStream) -> (u64, Event) {
    (at, Event::GatewayStream(GatewayStream { gateway: gateway.into(), ..stream }))
}

/// One gateway whose watch hangs, and one whose watch goes on after 4 s; a packet or two.
fn two_gateways() -> Recording {
    let watch = |at, server| stream(Shape::WatchAlone, "watch-0", at, server);
    let hangs = hearing(watch(1000, "apiserver-0"), 1000, 2000, 10_000);
    let ends = told(hangs.clone(), 13_000, ErrorClass::StreamReset);
    let goes_on = hearing(watch(14_000, "apiserver-1"), 14_000, 14_000, 36_000);
    let hung = |at| GatewayStream { answered: None, server: None, ..stream(Shape::Request, "busy", at, "") };
    let quiet = stream(Shape::Quiet, "quiet-1", 1000, "apiserver-1");
    let session = |shape: Shape| stream(shape, &format!("{shape:?}-1"), 1000, "apiserver-1");
    let typed = |after, class| told(stream(Shape::Exec, "exec-0", 1000, "apiserver-0"), after, class);
    let echoed = Heard { after: millis(34_005), change: None };
    let echoes = |shape| GatewayStream { spoken_to: Some(secs(34)), heard: vec![echoed], ..session(shape) };
    let logs_there = stream(Shape::QuietLogs, "logs-0", 1000, "apiserver-0");
    let says_nothing = GatewayStream { spoken_to: Some(secs(34)), ..session(Shape::QuietLogs) };
    let segment = |after, kind| Segment { after: millis(after), from: Party::Client, kind };
    let packets = |segments: Vec<Segment>| {
        let (client, server) = ("127.0.0.1:2".into(), "127.0.0.1:1".into());
        (1000, Event::Packets(Packets { interface: "to-apiserver-0".into(), client, server, segments }))
    };
    recording([
        through(NONE.name, 1000, hangs),
        through(NONE.name, 25_000, hung(25_000)),
        through(NONE.name, 1000, told(quiet.clone(), 8000, ErrorClass::StreamReset)),
        through(NONE.name, 1000, told(session(Shape::QuietExec), 8000, ErrorClass::UnexpectedEof)),
        through(RECOMMENDED.name, 1000, echoes(Shape::QuietExec)),
        through(RECOMMENDED.name, 1000, echoes(Shape::QuietAttach)),
        through(RECOMMENDED.name, 1000, told(session(Shape::QuietPortForward), 9000, ErrorClass::UnexpectedEof)),
        through(RECOMMENDED.name, 1000, says_nothing),
        through(RECOMMENDED.name, 1000, told(logs_there, 12_000, ErrorClass::StreamReset)),
        through(NONE.name, 1000, typed(20_000, ErrorClass::Timeout)),
        through(RECOMMENDED.name, 1000, typed(14_000, ErrorClass::UnexpectedEof)),
        through(RECOMMENDED.name, 1000, ends),
        through(RECOMMENDED.name, 14_000, goes_on),
        through(RECOMMENDED.name, 1000, quiet),
        packets(vec![segment(11_000, SegmentKind::Keepalive)]),
        packets(vec![segment(500, SegmentKind::Keepalive), segment(12_000, SegmentKind::Retransmission)]),
    ])
}

pub(crate) fn remedies() -> Vec<CureTold> {
    let told = |it: &gateway::Remedy| CureTold { name: it.name, settings: it.settings, why: it.why, file: it.as_set() };
    gateway::every().map(told).collect()
}

#[test]
fn what_hangs_has_not_recovered_and_what_goes_on_has() {
    let found = cures(&two_gateways());
    let [none, recommended] = &found[..] else { panic!("{found:#?}") };
    let cut = [(Shape::QuietExec, Err(secs(8)))];
    assert_eq!((none.watch_alone, recommended.watch_alone), (Recovery::Never, Recovery::After(secs(4))));
    assert_eq!((none.requests, recommended.requests), (Recovery::Never, Recovery::Unknown));
    assert_eq!(none.failures.get("hung"), Some(&1));
    // It was cut before the fault: then there was nobody to survive it.
    assert_eq!(none.quiet, None);
    assert_eq!(recommended.quiet, Some(Ok(secs(35))));
    // A session that was cut stays cut, whenever that was.
    let quiet_sessions = [
        (Shape::QuietExec, Ok(secs(34))),
        (Shape::QuietAttach, Ok(secs(34))),
        (Shape::QuietPortForward, Err(secs(9))),
        // It lived, and had nothing to tell at last.
        (Shape::QuietLogs, Err(secs(35))),
    ];
    assert_eq!((&none.quiet_sessions, &recommended.quiet_sessions), (&cut.into(), &quiet_sessions.into()));
    // Whose user lost patience was not ended by the gateway.
    assert_eq!((none.dead_exec, recommended.dead_exec), (Recovery::Never, Recovery::After(secs(5))));
    assert_eq!(recommended.dead_sessions[&Shape::QuietExec], Recovery::Unknown);
    let logs = [none, recommended].map(|cure| cure.dead_sessions[&Shape::QuietLogs]);
    assert_eq!(logs, [Recovery::Unknown, Recovery::After(secs(3))]);
    assert_eq!(on_the_wire(&two_gateways()), Some(OnTheWire { probed: 1, repeated: 1, both: 0 }));
}

#[test]
fn the_page_has_a_row_for_each_remedy_that_was_there_and_a_reason_for_all() {
    let page = cures_markdown(&[two_gateways()], &remedies());
    assert!(page.contains("\n| none | **never** |"), "{page}");
    assert!(page.contains("\n| recommended | 4.0 s |"), "{page}");
    assert!(page.contains("| lived 34.0 s | ? / 5.0 s |"), "{page}");
    assert!(!page.contains("tcp_retries2 3 for the gateways"), "{page}");
    let mut impatient = two_gateways();
    impatient.header.machine.insert(TCP_RETRIES2.to_owned(), "3".to_owned());
    assert!(cures_markdown(&[impatient], &remedies()).contains(", tcp_retries2 3 for the gateways.\n"));
    // It was not there, and has its reason only.
    assert_eq!(page.matches("\n| http2-ping |").count(), 1, "{page}");
    for remedy in gateway::every() {
        assert!(page.contains(&format!("\n| {} | {}", remedy.name, remedy.settings)), "{} has no reason", remedy.name);
    }
}

#[test]
fn the_page_tells_of_the_timers_and_bounds_of_its_recordings() {
    let page = |recording: Recording| cures_markdown(&[recording], &remedies());
    let usual = page(two_gateways());
    assert!(
        usual.contains("stream_idle_timeout 8.0 s, keepalive 2.0 s + 3 x 1.0 s, TCP_USER_TIMEOUT 5.0 s"),
        "{usual}"
    );
    assert!(usual.contains("no good answer within 3 s."), "{usual}");
    let mut other = two_gateways();
    other.header.gateways = Some(GatewayTimers { stream_idle_timeout: secs(600), ..GatewayTimers::default() });
    other.header.bounds.gateway_answered = millis(4500);
    let other = page(other);
    assert!(other.contains("stream_idle_timeout 600.0 s, keepalive 2.0 s"), "{other}");
    assert!(other.contains("no good answer within 4.5 s."), "{other}");
    // A recording that goes on to be told of nothing for so long was not interrupted, where its own bound says so.
    let mut patient = two_gateways();
    patient.header.bounds.gateway_silent = secs(5);
    assert_eq!(cures(&patient)[1].watch_alone, Recovery::Untouched);
}

#[test]
fn quiet_sessions_of_every_kind_have_a_table_of_their_own() {
    assert!(!cures_markdown(&[two_gateways()], &remedies()).contains("## Quiet sessions"), "there is none by SPDY");
    let mut recording = two_gateways();
    recording.header.scenario = "gateway::quiet_sessions::case_2_second".to_owned();
    let spdy = stream(Shape::QuietSpdy, "spdy-1", 1000, "apiserver-1");
    let (at, spdy) = through(RECOMMENDED.name, 1000, told(spdy, 7000, ErrorClass::Other));
    let there = GatewayStream {
        told: Some(StreamEnd { after: secs(14), failure: None }),
        ..stream(Shape::QuietSpdy, "spdy-0", 1000, "apiserver-0")
    };
    let (_, there) = through(RECOMMENDED.name, 1000, there);
    recording.observations.splice(0..0, [observed(at, spdy), observed(at, there)]);
    let page = cures_markdown(&[recording, two_gateways()], &remedies());
    assert_eq!(page.matches("\n## Fault: ").count(), 1, "{page}");
    assert!(page.contains("\n## Quiet sessions\n\ngateway::quiet_sessions, "), "{page}");
    let cells = [
        "lived 34.0 s / ?",
        "lived 34.0 s / ?",
        "**cut after 9.0 s** / ?",
        "**cut after 35.0 s** / 3.0 s",
        // Its client was not told that anything was wrong.
        "**cut after 7.0 s** / 5.0 s",
    ];
    assert!(page.contains(&format!("\n| recommended | {} |\n", cells.join(" | "))), "{page}");
    assert!(page.contains("\n| none | **cut after 8.0 s** / ? | ? / ? |"), "{page}");
}

#[test]
fn the_page_is_what_the_recordings_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let is_cure = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().starts_with("gateway-");
    // As a shell sorts them.
    let files: BTreeSet<PathBuf> = files.filter(is_cure).collect();
    let recordings: Vec<_> = files.iter().map(|file| Recording::load(file).unwrap()).collect();
    let page = cures_markdown(&recordings, &remedies());
    assert!(
        page.trim_end() == include_str!("../../docs/gateway-cures.md").trim_end(),
        "docs/gateway-cures.md is stale: cargo run -- cures fixtures/recordings/gateway-*.jsonl.zst > docs/gateway-cures.md"
    );
    for recording in &recordings {
        assert!(rollproof::verdict::judge_all(recording).unwrap().iter().all(|judgement| judgement.passed()));
    }
}

#[test]
fn where_an_apiserver_is_never_back_a_watch_owes_nothing_after_the_last_write() {
    let mut recording = two_gateways();
    recording.observations.retain(|seen| !matches!(seen.event, Event::LossOff(_)));
    recording.observations.push(observed(40_000, life("apiserver-1", Step::Ready)));
    let watch_alone = |recording: &Recording| cures(recording)[1].watch_alone;
    assert_eq!(watch_alone(&recording), Recovery::Never, "changes were made until 40 s, as far as anybody knows");
    let (at, write) = wrote(36_000, 1);
    recording.observations.push(observed(at, write));
    recording.observations.sort_by_key(|seen| seen.at);
    assert_eq!(watch_alone(&recording), Recovery::After(secs(4)));
}

#[test]
fn what_envoy_says_of_itself_is_beside_what_its_clients_saw() {
    let mut recording = two_gateways();
    let page = |recording: &Recording| cures_markdown(std::slice::from_ref(recording), &remedies());
    assert!(!page(&recording).contains("What Envoy counted"), "nobody told");
    let refused = |at: u64| {
        let answered = Some(Answered { after: millis(5), status: 503 });
        GatewayStream { answered, ..stream(Shape::Request, "busy", at, "") }
    };
    let begun = told(stream(Shape::Request, "busy", 9990, "apiserver-0"), 4000, ErrorClass::StreamReset);
    let streams = [(9990, begun), (24_000, refused(24_000)), (24_500, refused(24_500))];
    let streams = streams.map(|(at, stream)| through(NONE.name, at, stream));
    let line = GatewayLogged {
        gateway: NONE.name.into(),
        audit_id: "busy-24000".into(),
        server: None,
        status: 503,
        flags: "UF".into(),
        details: String::new(),
    };
    let counted = |gateway: &str, counters: &[(&str, u64)]| {
        let counters = counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Event::GatewayCounted(GatewayCounted { gateway: gateway.into(), counters })
    };
    let opened = |alone, busy| [("cluster.alone.upstream_cx_total", alone), ("cluster.busy.upstream_cx_total", busy)];
    let told = [
        (36_001, Event::GatewayLogged(line)),
        (9000, counted(NONE.name, &opened(1, 2))),
        (36_000, counted(NONE.name, &opened(1, 5))),
        (36_000, counted(RECOMMENDED.name, &opened(1, 5))),
    ];
    recording.observations.extend(streams.into_iter().chain(told).map(|(at, event)| observed(at, event)));
    recording.observations.sort_by_key(|seen| seen.at);
    let failures = &cures(&recording)[0].failures;
    let failed = [("503", 1), ("503 UF", 1), ("cut in its body", 1), ("hung", 1)];
    assert_eq!(*failures, failed.map(|(what, count)| (what.to_owned(), count)).into());
    let page = page(&recording);
    assert!(page.contains("\n| none | 3 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |\n"), "{page}");
    assert!(!page.contains("\n| recommended | 0 |") && !page.contains("\n| recommended | 6 |"), "it told only once");
}

#[test]
fn an_apiserver_that_is_killed_while_it_is_lost_or_replaced_is_told_apart() {
    let mut killed = two_gateways();
    let fault = |recording: &Recording| cures(recording)[0].fault.clone();
    assert_eq!(fault(&killed), "all packets are lost");
    killed.observations.push(observed(35_000, life("apiserver-0", Step::KillSent)));
    assert_eq!(fault(&killed), "all packets are lost", "it was over");
    killed.observations.push(observed(10_100, life("apiserver-1", Step::KillSent)));
    assert_eq!(fault(&killed), "all packets are lost", "that was another");
    killed.observations.push(observed(10_100, life("apiserver-0", Step::KillSent)));
    assert_eq!(fault(&killed), "all packets are lost, and the process is killed meanwhile");
    let told = Endpoints { servers: vec!["apiserver-1".into(), "apiserver-2".into()] };
    killed.observations.push(observed(11_000, Event::Endpoints(told)));
    let replaced =
        "all packets are lost, and the process is killed meanwhile; gateways are told of apiserver-1, apiserver-2";
    assert_eq!(fault(&killed), replaced);
}

#[test]
fn a_recording_without_such_a_fault_has_nothing_to_tell() {
    assert_eq!(cures(&Recording { header: header(None, &[]), observations: Vec::new() }), []);
}
