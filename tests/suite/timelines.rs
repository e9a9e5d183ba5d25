//! Failed samples beside the lives of the apiservers, and the drawing that shows both.

use std::time::Duration;

use quick_xml::events::Event as Xml;
use rollproof::report::{self, Errors};
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{Accepted, Role, survey};
use rstest::rstest;

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{New, Reused};
use ErrorClass::{ConnectionRefused, ConnectionReset, UnexpectedEof};
use Restart::{Graceful, Killed};

/// A failed request of a requester through the balancer, from this port of the client.
fn failed_from(on: ConnectionKind, port: u16, phase: Phase, class: ErrorClass) -> Event {
    let reused = on == Reused;
    let connection =
        ConnectionUse { local: client(port), remote: "127.0.0.1:443".into(), reused, idle: Duration::ZERO };
    let exchange =
        Exchange { audit_id: format!("failed-{port}"), connection: Some(connection), ..failed(phase, class) };
    Event::Request(Request { exchange, ..request(on, 0) })
}

fn carried(port: u16, backend: Option<&str>, end: End) -> Event {
    Event::Connection(Connection {
        client: client(port),
        backend: backend.map(str::to_owned),
        sent: 0,
        received: 0,
        idle: Duration::ZERO,
        lasted: millis(1),
        ended_by: Party::Balancer,
        end,
    })
}

fn client(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Server, stage and acceptance of the failed samples, in order, as a report shows them.
fn laid(recording: &Recording) -> Vec<String> {
    let survey = survey(recording);
    let line = |server: Option<&str>, stage: Option<Stage>, accepted: Accepted| {
        let stage = stage.map_or("?".to_owned(), |stage| stage.to_string());
        format!("{} at {stage}, {accepted}", server.unwrap_or("?"))
    };
    survey.failed.iter().map(|sample| line(sample.server, sample.stage, sample.accepted)).collect()
}

#[test]
fn a_connection_that_the_balancer_could_not_carry_is_laid_to_the_server_it_was_meant_for() {
    let run = run(Some(Graceful))
        .with(6100, carried(1, Some("apiserver-0"), End::Unreachable))
        .with(6099, failed_from(New, 1, Phase::Tls, ConnectionReset))
        .with(6700, carried(2, Some("apiserver-0"), End::Unreachable))
        .with(6699, failed_from(New, 2, Phase::Tls, ConnectionReset))
        .with(6800, carried(3, None, End::NoBackend))
        .with(6799, failed_from(New, 3, Phase::Tls, ConnectionReset));
    assert_eq!(
        laid(&run.0),
        [
            "apiserver-0 at HTTPServerStoppedListening, never",
            "apiserver-0 at started, not ready, never",
            "? at ?, never"
        ]
    );
}

#[test]
fn a_connection_is_told_by_when_it_was_accepted_beside_the_signal() {
    let run = run(Some(Graceful))
        .with(2001, carried(1, Some("apiserver-0"), End::Fin))
        .with(6099, failed_from(Reused, 1, Phase::Headers, UnexpectedEof))
        .with(3501, carried(2, Some("apiserver-0"), End::Fin))
        .with(6199, failed_from(New, 2, Phase::Headers, UnexpectedEof))
        // Accepted by the new process.
        .with(9300, carried(3, Some("apiserver-0"), End::Fin))
        .with(9400, failed_from(Reused, 3, Phase::Headers, UnexpectedEof))
        // The same port again, later, on the other server.
        .with(10_400, carried(1, Some("apiserver-1"), End::Fin))
        .with(10_502, failed_from(Reused, 1, Phase::Headers, UnexpectedEof));
    assert_eq!(
        laid(&run.0),
        [
            "apiserver-0 at HTTPServerStoppedListening, 1.000 s before the signal",
            "apiserver-0 at HTTPServerStoppedListening, 0.500 s after the signal",
            "apiserver-0 at ready, no signal",
            "apiserver-1 at SIGTERM sent, 0.101 s before the signal",
        ]
    );
}

#[test]
fn behind_a_foreign_balancer_the_certificate_and_the_first_request_tell() {
    let on = |seen: Event, server: &str| match seen {
        Event::Request(mut request) => {
            request.exchange.server = Some(server.into());
            Event::Request(request)
        }
        other => other,
    };
    let first = match failed_from(New, 1, Phase::Done, UnexpectedEof) {
        Event::Request(failed) => {
            let connection = failed.exchange.connection.clone();
            let exchange = Exchange { audit_id: "first".into(), connection, ..answered(200) };
            Event::Request(Request { probe: requester(Reused).into(), on: Reused, exchange, ..failed })
        }
        other => other,
    };
    let killed = run(Some(Killed))
        .with(2001, on(first, "apiserver-0"))
        .with(3001, on(failed_from(Reused, 1, Phase::Headers, ConnectionReset), "apiserver-0"))
        // When its connection was opened, nobody has seen: only that it was not later than the request.
        .with(3000, on(failed_from(Reused, 2, Phase::Headers, ConnectionReset), "apiserver-0"))
        .with(3100, on(failed_from(Reused, 3, Phase::Headers, ConnectionReset), "apiserver-0"))
        .with(3200, failed_from(New, 4, Phase::Tls, ConnectionReset));
    assert_eq!(
        laid(&killed.0),
        [
            "apiserver-0 at SIGKILL sent, 0.001 s before the signal",
            "apiserver-0 at SIGKILL sent, 1.000 s before the signal",
            "apiserver-0 at process exited, unknown",
            "? at ?, unknown",
        ]
    );
}

#[test]
fn past_the_balancer_the_address_tells() {
    let write = |class, remote: &str| {
        let connection =
            ConnectionUse { local: String::new(), remote: remote.into(), reused: false, idle: Duration::ZERO };
        let exchange = Exchange { connection: Some(connection), ..failed(Phase::Dial, class) };
        Event::Write(Write { exchange, ..written(9999, Verb::Create, "none", Effect::Never) })
    };
    let run = run(Some(Graceful))
        .with(6100, write(ConnectionRefused, "127.0.0.9:6443"))
        .header(|header| header.servers[0].address = "127.0.0.9:6443".into());
    assert_eq!(laid(&run.0), ["apiserver-0 at HTTPServerStoppedListening, never"]);
}

#[test]
fn a_client_that_does_not_know_its_own_end_is_laid_to_the_only_server_that_could_not_be_reached() {
    let failed = |phase| {
        let exchange = Exchange { took: millis(20), ..failed(phase, ConnectionReset) };
        Event::Request(Request { exchange, ..request(ConnectionKind::Library, 0) })
    };
    let run = run(Some(Graceful))
        .with(6110, carried(1, Some("apiserver-0"), End::Unreachable))
        .with(6100, failed(Phase::Dial))
        // One of the two it was, but which?
        .with(6210, carried(2, Some("apiserver-0"), End::Unreachable))
        .with(6211, carried(3, Some("apiserver-1"), End::Unreachable))
        .with(6200, failed(Phase::Dial))
        // It had come further than to a refusal.
        .with(6310, carried(4, Some("apiserver-0"), End::Unreachable))
        .with(6300, failed(Phase::Headers));
    assert_eq!(
        laid(&run.0),
        ["apiserver-0 at HTTPServerStoppedListening, never", "? at ?, unknown", "? at ?, unknown"]
    );
}

#[test]
fn a_watch_is_laid_to_the_server_that_audited_its_request() {
    let sent = |audit_id: &str| match list_call(Call::Watch, Some(1)) {
        Event::ListWatch(call) => Event::ListWatch(ListWatch { audit_id: audit_id.into(), ..call }),
        other => other,
    };
    let audited = |audit_id: &str| {
        let (server, audit_id) = ("apiserver-1".to_owned(), audit_id.to_owned());
        Event::Audited(Audited { server, audit_id, stages: Vec::new(), status: Some(200) })
    };
    let cut = Failure { class: ConnectionReset, text: String::new() };
    let run = run(Some(Killed))
        .with(9000, sent("watch-1"))
        .with(10_502, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: Some(cut) }))
        .with(10_600, sent("watch-2"))
        .with(20_000, audited("watch-1"));
    assert_eq!(laid(&run.0), ["apiserver-1 at SIGKILL sent, 1.501 s before the signal"]);
    let survey = survey(&run.0);
    let watch = survey.probes.iter().find(|probe| probe.role == Role::Watch).expect("a watch");
    assert_eq!(watch.worst(), millis(99), "from its end until the next request was answered");
}

#[test]
fn what_no_requirement_counts_is_told_apart() {
    // The kept connection's apiserver is stopping.
    let retry = || {
        let exchange = Exchange { audit_id: "again".into(), ..answered(200) };
        let retries = Some("requester-reused-6000".to_owned());
        Event::Request(Request { retries, exchange, ..request(Reused, 6000) })
    };
    let run = run(Some(Graceful)).requests_fail(Reused, 6000..6050, UnexpectedEof).with(6005, retry()).requests_fail(
        New,
        6050..6250,
        ConnectionRefused,
    );
    let run = Run(run.whole());
    let survey = survey(&run.0);
    let errors = report::errors(&survey);
    assert_eq!(
        report::summary(&errors),
        "4 failed samples: connection refused x4; excused: unexpected EOF x1",
        "{errors:#?}"
    );
    assert_eq!(
        errors.iter().map(Errors::to_string).collect::<Vec<_>>(),
        [
            "connection refused x4 +6.051s to +6.201s, server unknown, accepted: never (requester-new x4)",
            "unexpected EOF x1 +6.002s, server unknown, accepted: unknown, excused (requester-reused x1)"
        ]
    );
    let new = survey.probes.iter().find(|probe| probe.role == Role::New(Protocol::Http1)).expect("a requester");
    assert_eq!((new.worst(), new.outages.len()), (millis(200), 1), "as ROLLOUT-1 counts");
    assert_eq!(report::summary(&[]), "no sample failed");
}

/// The drawing's text: its titles and labels. It is well-formed, and nothing lies outside the page.
fn drawn(recording: &Recording) -> String {
    let mut svg = Vec::new();
    report::draw(recording, &survey(recording), &mut svg).unwrap();
    let svg = String::from_utf8(svg).unwrap();
    let mut reader = quick_xml::Reader::from_str(&svg);
    let (mut open, mut text) = (0_i32, String::new());
    loop {
        match reader.read_event().unwrap() {
            Xml::Eof => break,
            Xml::Start(_) => open += 1,
            Xml::End(_) => open -= 1,
            Xml::Text(part) => text += &part,
            Xml::GeneralRef(entity) => text += &format!("&{};", &*entity),
            Xml::Empty(element) => {
                let number = |name| {
                    let value = element.try_get_attribute(name).unwrap();
                    value.map_or(0.0, |value| value.value.parse::<f64>().unwrap())
                };
                let (x, width) = (number("x"), number("width"));
                assert!(x >= 0.0 && width >= 0.0 && x + width <= 1202.0, "{element:?}");
            }
            _ => {}
        }
    }
    assert_eq!(open, 0);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    text
}

#[rstest]
#[case(None)]
#[case(Some(Graceful))]
#[case(Some(Killed))]
fn a_drawing_tells_what_happened(#[case] disturbance: Option<Restart>) {
    let text = drawn(&run(disturbance).requests_fail(New, 6050..6100, ConnectionRefused).0);
    assert!(text.contains("apiserver-0") && text.contains("requester-new"), "{text}");
    assert!(text.contains("connection refused x1 +6.051s, server unknown, accepted: never"), "{text}");
    assert_eq!(text.contains("apiserver-1: HTTPServerStoppedListening"), disturbance == Some(Graceful), "{text}");
}

#[test]
fn hostile_text_stays_text() {
    let hostile = "</text><script>alert('x')</script>\u{1b}[31m\u{0}&\"";
    let run =
        run(Some(Graceful)).header(|header| hostile.clone_into(&mut header.scenario)).edit(|seen| {
            match &mut seen.event {
                Event::Lifecycle(step) if step.server == "apiserver-0" => hostile.clone_into(&mut step.server),
                Event::Request(request) if request.on == New => hostile.clone_into(&mut request.probe),
                _ => {}
            }
        });
    let text = drawn(&run.requests_fail(New, 6050..6250, ConnectionRefused).0);
    assert!(text.contains("&lt;/text&gt;&lt;script&gt;alert("), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{0}'));
}

#[test]
fn a_recording_in_which_nothing_was_seen_has_a_drawing_too() {
    let empty = Recording { header: header(None, &[]), observations: Vec::new() };
    assert!(drawn(&empty).contains("nothing was seen of it yet"));
    let nobody = run(None).header(|header| header.servers.clear());
    drawn(&nobody.0);
}

#[test]
fn nine_servers_and_forty_minutes_are_drawn_as_fast_as_two_and_one() {
    let mut long = run(Some(Graceful)).header(|header| {
        let server = header.servers[0].clone();
        header.servers = (0..9).map(|index| Server { name: format!("apiserver-{index}"), ..server.clone() }).collect();
    });
    let every = secs(2400).as_millis() as u64 / 100_000;
    long.0.observations.extend((0..100_000).map(|number| {
        let at = 20_000 + number * every;
        let port = u16::try_from(number % 20_000).expect("a port");
        let event = if number % 3 == 0 {
            failed_from(New, port, Phase::Tls, ConnectionReset)
        } else {
            carried(port, None, End::Fin)
        };
        observed(at, event)
    }));
    let text = drawn(&long.0);
    assert!(text.contains("apiserver-8") && text.contains("2400"), "{text}");
    let mut svg = Vec::new();
    report::draw(&long.0, &survey(&long.0), &mut svg).unwrap();
    assert!(svg.len() < 400_000, "{} bytes", svg.len());
}
