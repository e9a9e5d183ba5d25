//! A recording as a graceful roll leaves it, as long as you like: every probe at work, all requests answered.
//!
//! The mix is that of real recordings of `nothing_is_lost_while_apiservers_restart` and
//! `ten_workers_notice_nothing_of_a_graceful_roll`, put together: each request is in the audit log, which is read at the
//! end; each write is delivered to two watches; a reader lists, and two writers count. Ids, addresses and times differ as they do there, so
//! that it compresses no better.

use std::time::Duration;

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::header::{SERVERS, header};

/// A step is 50 ms, in which there are ten requests.
pub(crate) const STEPS_PER_SECOND: u64 = 20;
const STEP: u64 = 50_000_000;
const WATCHES: [&str; 2] = ["raw-watch", "watcher"];
const WORKERS: u64 = 10;
const RESOURCES: [&str; 3] = ["serviceaccounts", "secrets", "configmaps"];
/// What two writers count with.
const COUNTER: &str = "counter";
/// How many revisions old the cluster is when we begin.
const REVISION: u64 = 300;

/// How many steps make about so many observations.
pub(crate) fn steps_of(observations: u64) -> u64 {
    const PER_STEP: u64 = 25;
    observations / PER_STEP
}

/// That many steps; the two apiservers are restarted in the middle.
pub(crate) fn recording(steps: u64) -> Recording {
    let mut run = Run { random: 1, ids: Vec::new(), seen: Vec::new() };
    for probe in WATCHES {
        run.watch(1, probe, Call::List, None);
        let probe = probe.to_owned();
        // A library keeps the revisions of lists to itself.
        let revision = Some(REVISION).filter(|_| probe == WATCHES[0]);
        run.see(2, Event::Listed(Listed { probe: probe.clone(), revision, objects: Vec::new() }));
        run.watch(3, &probe, Call::Watch, Some(REVISION));
    }
    // Whole cycles only, so that nothing is left.
    let load_steps = steps * 4 / WORKERS / 9 * 9 * WORKERS;
    for step in 1..=steps {
        let at = step * STEP;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            run.request(at, ConnectionKind::New, protocol);
            run.request(at + 1000, ConnectionKind::Reused, protocol);
        }
        run.request(at + 2000, ConnectionKind::Library, Protocol::Http1);
        run.change(at + 3000, step);
        run.read_and_count(at + 20_000_000, step);
        for load in (step - 1) * 4..(step * 4).min(load_steps) {
            run.load(at + 4000, load);
        }
        run.health(at + 5000, step, steps);
    }
    for (number, server) in SERVERS.into_iter().enumerate() {
        run.restart(server, restart(number as u64, steps));
    }
    let (object, count) = (COUNTER.to_owned(), steps / 5);
    run.see((steps + 1) * STEP, Event::GuardedLeft(GuardedLeft { object, count, revision: REVISION + count }));
    run.end((steps + 1) * STEP);
    run.seen.sort_by_key(|seen| seen.at);
    Recording { header: header(Some(Restart::Graceful)), observations: run.seen }
}

/// When a server gets SIGTERM, in nanoseconds.
fn restart(number: u64, steps: u64) -> u64 {
    (steps / 2 + number * 10 * STEPS_PER_SECOND) * STEP
}

/// A server's steps, in milliseconds from SIGTERM.
const LIFE: [(u64, Step); 11] = [
    (0, Step::TermSent),
    (10, Step::ShutdownInitiated),
    (30, Step::PreShutdownHooksStopped),
    (3010, Step::AfterShutdownDelayDuration),
    (3011, Step::NotAcceptingNewRequest),
    (3012, Step::HTTPServerStoppedListening),
    (3500, Step::InFlightRequestsDrained),
    (3600, Step::Exited),
    (3650, Step::Started),
    (6000, Step::Ready),
    (6500, Step::MetThroughBalancer),
];
const STOPPED_LISTENING: u64 = 3012;
const READY: u64 = 6000;

struct Run {
    random: u64,
    /// Audit-IDs and the numbers of the servers that had them.
    ids: Vec<(String, usize)>,
    seen: Vec<Observation>,
}

impl Run {
    fn see(&mut self, at: u64, event: Event) {
        self.seen.push(Observation { at: Moment(at), event });
    }

    /// The next of Marsaglia's xorshift, below `limit`.
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    /// One that took 1 to 5 ms.
    fn exchange(&mut self, probe: &str, protocol: Protocol, reused: bool, status: u16) -> Exchange {
        let audit_id = format!("rollproof-{probe}-18c2f3aed53-{}", self.ids.len());
        let server = self.random(2) as usize;
        self.ids.push((audit_id.clone(), server));
        Exchange {
            audit_id,
            connection: Some(ConnectionUse {
                local: format!("127.0.0.1:{}", 32768 + self.random(28_000)),
                remote: "127.77.1.1:16443".to_owned(),
                reused,
                idle: if reused { Duration::from_nanos(45_000_000 + self.random(4_000_000)) } else { Duration::ZERO },
            }),
            protocol,
            phase: Phase::Done,
            status: Some(status),
            retry_after: None,
            failure: None,
            unsent: false,
            server: Some(SERVERS[server].to_owned()),
            took: Duration::from_nanos(1_000_000 + self.random(4_000_000)),
        }
    }

    fn request(&mut self, at: u64, on: ConnectionKind, protocol: Protocol) {
        let probe = match (on, protocol) {
            (ConnectionKind::New, Protocol::Http1) => "requester-new",
            (ConnectionKind::New, Protocol::Http2) => "requester-new-http2",
            (ConnectionKind::Reused, Protocol::Http1) => "requester-reused",
            (ConnectionKind::Reused, Protocol::Http2) => "requester-reused-http2",
            (ConnectionKind::Library, _) => "kube-rs",
        };
        let at = at + self.random(1000);
        let exchange = self.exchange(probe, protocol, on != ConnectionKind::New, 200);
        let probe = probe.to_owned();
        self.see(at, Event::Request(Request { probe, on, retries: None, exchange, attempts: Vec::new() }));
    }

    /// A write and its two events: each object is created, updated eight times, and deleted.
    fn change(&mut self, at: u64, change: u64) {
        let revision = REVISION + change;
        let object = format!("object-{}", change / 10);
        let (verb, kind) = match change % 10 {
            0 => (Verb::Create, ChangeKind::Added),
            9 => (Verb::Delete, ChangeKind::Deleted),
            // The first object has no create.
            1 if change == 1 => (Verb::Create, ChangeKind::Added),
            _ => (Verb::Update, ChangeKind::Modified),
        };
        let exchange = self.exchange("writer", Protocol::Http1, true, 200);
        let at = at + self.random(1000);
        let answered = (verb != Verb::Delete).then_some(revision);
        let probe = "writer".to_owned();
        self.see(at, Event::Write(Write { probe, change, verb, object: object.clone(), revision: answered, exchange }));
        let carried = if verb == Verb::Delete { change - 1 } else { change };
        for probe in WATCHES.map(str::to_owned) {
            let at = at + 5_000_000 + self.random(1_000_000);
            let object = object.clone();
            self.see(at, Event::Delivered(Delivered { probe, kind, object, revision, change: carried }));
        }
    }

    /// A list of what was written, an update of a counter by one of its two writers, and a bookmark, each in its turn.
    fn read_and_count(&mut self, at: u64, step: u64) {
        if step.is_multiple_of(4) {
            let there = step % 10 != 9;
            let objects = there.then(|| (format!("object-{}", step / 10), step)).into_iter().collect();
            let exchange = self.exchange("reader", Protocol::Http1, true, 200);
            let probe = "reader".to_owned();
            self.see(at, Event::Read(Read { probe, revision: Some(REVISION + step), objects, exchange }));
        }
        if step.is_multiple_of(5) {
            let count = step / 5;
            let probe = format!("guarded-{}", count % 2);
            let exchange = self.exchange(&probe, Protocol::Http1, true, 200);
            let (object, revision) = (COUNTER.to_owned(), Some(REVISION + count));
            let replaces = REVISION + count - 1;
            self.see(at, Event::GuardedUpdate(GuardedUpdate { probe, object, replaces, count, revision, exchange }));
        }
        if step.is_multiple_of(STEPS_PER_SECOND) {
            let (probe, revision) = (WATCHES[0].to_owned(), REVISION + step);
            self.see(at, Event::Bookmark(Bookmark { probe, revision, initial_events_end: false }));
        }
    }

    /// The next worker's next step of its cycle.
    fn load(&mut self, at: u64, number: u64) {
        let (worker, step) = (number % WORKERS, number / WORKERS);
        let (cycle, step) = (step / 9, step % 9);
        let (verb, status) =
            [(LoadVerb::Create, 201), (LoadVerb::Get, 200), (LoadVerb::Delete, 200)][step as usize / 3];
        let worker = format!("load-{worker}");
        let exchange = self.exchange(&worker, Protocol::Http1, true, status);
        let load = Load {
            object: format!("{worker}-{cycle}"),
            worker,
            verb,
            resource: RESOURCES[step as usize % 3].to_owned(),
            retries: None,
            may_be_missing: false,
            exchange,
        };
        let at = at + number % 4 * 10_000_000 + self.random(1000);
        self.see(at, Event::Load(load));
    }

    /// One server's /readyz and /livez, turn by turn.
    fn health(&mut self, at: u64, step: u64, steps: u64) {
        let server = step % 2;
        let term = restart(server, steps);
        let after = at.saturating_sub(term) / 1_000_000;
        for path in ["/readyz", "/livez"] {
            let answer = if at < term || after >= READY {
                Ok(200)
            } else if after >= STOPPED_LISTENING {
                Err(Failure { class: ErrorClass::ConnectionRefused, text: "Connection refused (os error 111)".into() })
            } else {
                Ok(if path == "/livez" { 200 } else { 500 })
            };
            let took = Duration::from_nanos(2_000_000 + self.random(3_000_000));
            let (server, path) = (SERVERS[server as usize].to_owned(), path.to_owned());
            self.see(at, Event::ServerHealth(ServerHealth { server, path, answer, took }));
        }
    }

    fn watch(&mut self, at: u64, probe: &str, call: Call, from: Option<u64>) {
        let audit_id = format!("rollproof-{probe}-18c2f3aed53-{}", self.ids.len());
        self.ids.push((audit_id.clone(), 0));
        let probe = probe.to_owned();
        let (any, initial_events, answer, took) = (false, false, Ok(200), millis(1));
        let call = ListWatch { probe, call, from, any, initial_events, audit_id, answer, took };
        self.see(at, Event::ListWatch(call));
    }

    /// SIGTERM at `at`; both watches and what is held in flight were there.
    fn restart(&mut self, server: &str, at: u64) {
        const MS: u64 = 1_000_000;
        let fault = || Fault { restart: Restart::Graceful, server: server.to_owned() };
        self.see(at - 1, Event::FaultOn(fault()));
        for (after, step) in LIFE {
            let (server, text) =
                (server.to_owned(), format!("\"[graceful-termination] shutdown event\" name={step:?}"));
            self.see(at + after * MS, Event::Lifecycle(Lifecycle { server, step, text }));
        }
        for probe in WATCHES {
            // Between two deliveries: those of the change at the last whole step are there 6 ms after it.
            let ended = at + STOPPED_LISTENING * MS + 15 * MS;
            self.see(ended, Event::WatchEnded(WatchEnded { probe: probe.to_owned(), failure: None }));
            self.watch(ended + MS, probe, Call::Watch, Some(REVISION + ended / STEP));
        }
        for held in [Held::Create, Held::List] {
            let in_flight = InFlight {
                probe: format!("in-flight-{held:?}").to_lowercase(),
                held,
                server: server.to_owned(),
                audit_id: format!("rollproof-in-flight-{held:?}-{server}"),
                received: Some(Moment(at - 500 * MS)),
                resumed: Moment(at + (STOPPED_LISTENING + 1) * MS),
                under_way: true,
                finished: Moment(at + (STOPPED_LISTENING + 50) * MS),
                status: Some(200),
                failure: None,
                wanted: 1,
                got: Some(1),
            };
            self.see(at - 1000 * MS, Event::InFlight(in_flight));
        }
        self.see(at + 7000 * MS, Event::FaultOff(fault()));
    }

    /// What is written down when the probes have stopped.
    fn end(&mut self, at: u64) {
        self.see(at, Event::LoadLeft(LoadLeft { objects: Vec::new() }));
        for (number, (audit_id, server)) in std::mem::take(&mut self.ids).into_iter().enumerate() {
            let stages = vec!["RequestReceived".to_owned(), "ResponseComplete".to_owned()];
            let server = SERVERS[server].to_owned();
            let audited = Audited { server, audit_id, stages, status: Some(200) };
            self.see(at + number as u64 * 1000, Event::Audited(audited));
        }
        for server in SERVERS {
            let (events, omitted_stages) = (1_000_000, Vec::new());
            let read =
                AuditLogRead { server: server.to_owned(), events, unreadable: 0, partial: false, omitted_stages };
            self.see(at, Event::AuditLog(read));
        }
        let mut probes: Vec<_> = self.seen.iter().filter_map(|seen| seen.event.probe().map(str::to_owned)).collect();
        probes.sort_unstable();
        probes.dedup();
        self.see(STEP, Event::Observers(Observers { probes }));
        for second in (0..=at).step_by(1_000_000_000) {
            self.see(second, Event::Ticked(Ticked { lasted: secs(1), latest: millis(1) }));
        }
    }
}
