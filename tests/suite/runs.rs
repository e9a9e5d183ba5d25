//! Whole runs in which everything goes well, and ways to spoil them.

use std::collections::BTreeMap;
use std::ops::Range;

use rollproof::timeline::*;
use rollproof::timing::millis;

use crate::shorthand::*;

/// A recording under construction. Times are milliseconds since it began.
pub(crate) struct Run(pub(crate) Recording);

/// When each server is restarted, and when it is over.
pub(crate) const FAULTS: [Range<u64>; 2] = [3000..10_000, 10_500..17_500];
const END: u64 = 20_000;
const TICK: u64 = 50;

/// Twenty seconds of three requesters, a writer, a watch and health samples, in which all is well: two apiservers are
/// restarted like that, or nothing happens.
pub(crate) fn run(disturbance: Option<Restart>) -> Run {
    let watch = ["WATCH-1", "WATCH-2", "WATCH-3", "WATCH-4", "WATCH-5", "WATCH-6"];
    let more: &[&str] = match disturbance {
        None => &["ROLLOUT-1", "ROLLOUT-2", "ROLLOUT-11"],
        Some(Restart::Graceful) => &[
            "ROLLOUT-1",
            "ROLLOUT-2",
            "ROLLOUT-3",
            "ROLLOUT-4",
            "ROLLOUT-5",
            "ROLLOUT-6",
            "ROLLOUT-9",
            "ROLLOUT-10",
            "ROLLOUT-11",
            "ROLLOUT-12",
            "BALANCER-1",
            "BALANCER-2",
            "BALANCER-3",
            "BALANCER-4",
        ],
        Some(Restart::Killed) => &["ROLLOUT-6", "ROLLOUT-7", "ROLLOUT-8"],
    };
    let mut header = header(disturbance, &[&watch[..], more].concat());
    // Nobody writes its connections down.
    header.cell.balancer = "haproxy".into();
    let mut run = Run(Recording { header, observations: Vec::new() });
    run.see(400, list_call(Call::List, None));
    run.see(401, Event::Listed(Listed { probe: WATCH.into(), revision: Some(99), objects: Vec::new() }));
    run.see(402, list_call(Call::Watch, Some(99)));
    for at in (500..END).step_by(TICK as usize) {
        run.see(at, Event::Request(request(ConnectionKind::New, at)));
        run.see(at + 1, Event::Request(request(ConnectionKind::Reused, at)));
        run.see(at + 1, Event::Request(request(ConnectionKind::Library, at)));
        run.change(at + 2);
    }
    if disturbance.is_none() {
        // As every watch does some time.
        run.see(10_010, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: None }));
        run.see(10_011, list_call(Call::Watch, Some(10_000 / TICK + 100)));
    }
    if let Some(how) = disturbance {
        for (server, fault) in SERVERS.into_iter().zip(FAULTS) {
            run.restart(how, server, fault);
        }
    }
    for server in SERVERS.into_iter().filter(|_| disturbance.is_some()) {
        run.sample_health(server);
    }
    if disturbance == Some(Restart::Graceful) {
        crate::load::observe(|at, event| run.see(at, event), END);
    }
    run.carry(disturbance.is_some());
    run.sorted()
}

pub(crate) fn requester(on: ConnectionKind) -> &'static str {
    match on {
        ConnectionKind::New => "requester-new",
        ConnectionKind::Reused => "requester-reused",
        ConnectionKind::Library => "kube-rs",
    }
}

pub(crate) fn request(on: ConnectionKind, at: u64) -> Request {
    let connection = ConnectionUse {
        local: String::new(),
        remote: String::new(),
        reused: on != ConnectionKind::New,
        idle: millis(TICK),
    };
    let audit_id = format!("{}-{at}", requester(on));
    let exchange = Exchange { audit_id, connection: Some(connection), ..answered(200) };
    Request { probe: requester(on).into(), on, retries: None, exchange, attempts: Vec::new() }
}

impl Run {
    /// Adds an observation.
    pub(crate) fn with(mut self, at: u64, event: Event) -> Self {
        self.see(at, event);
        self.sorted()
    }

    /// Removes observations.
    pub(crate) fn without(mut self, which: impl Fn(&Observation) -> bool) -> Self {
        let before = self.0.observations.len();
        self.0.observations.retain(|seen| !which(seen));
        assert!(self.0.observations.len() < before, "nothing was there to remove");
        self
    }

    /// Changes observations. What `change` does not concern, it leaves alone.
    pub(crate) fn edit(mut self, change: impl FnMut(&mut Observation)) -> Self {
        let before = self.0.observations.clone();
        self.0.observations.iter_mut().for_each(change);
        assert_ne!(before, self.0.observations, "nothing was there to change");
        self.sorted()
    }

    /// Changes the header.
    pub(crate) fn header(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.0.header);
        self
    }

    /// Requests of one kind that begin in that window fail.
    pub(crate) fn requests_fail(self, on: ConnectionKind, when: Range<u64>, class: ErrorClass) -> Self {
        self.edit(|seen| match &mut seen.event {
            Event::Request(request) if request.on == on && within(seen.at, &when) => {
                let audit_id = std::mem::take(&mut request.exchange.audit_id);
                // A kept connection is there already: what fails on it fails later than in dialling.
                let phase = if on == ConnectionKind::New { Phase::Dial } else { Phase::Headers };
                let connection = request.exchange.connection.take();
                request.exchange = Exchange { audit_id, connection, ..failed(phase, class) };
            }
            _ => {}
        })
    }

    /// Answers of a server about itself in that window are replaced.
    pub(crate) fn health(self, server: &str, path: &str, when: Range<u64>, status: u16) -> Self {
        self.edit(|seen| match &mut seen.event {
            Event::ServerHealth(health) if health.server == server && health.path == path && within(seen.at, &when) => {
                health.answer = Ok(status);
            }
            _ => {}
        })
    }

    /// A server's steps happen later (or earlier, if negative) than they did.
    pub(crate) fn shift(self, server: &str, step: Step, by: i64) -> Self {
        self.edit(|seen| {
            if is_step(seen, server, step) {
                seen.at = Moment(seen.at.0.saturating_add_signed(by * 1_000_000));
            }
        })
    }

    /// Judges it, with the evidence that a run has.
    #[track_caller]
    pub(crate) fn expect(&self, expect: Expect) {
        expect.compare_whole(&self.whole());
    }

    /// With the evidence that a run has: what was answered is in the audit log of its apiserver, these logs were read whole, and the ticker ran
    /// all the time.
    pub(crate) fn whole(&self) -> Recording {
        let mut recording = self.0.clone();
        let mut logged: BTreeMap<String, String> = BTreeMap::new();
        for seen in &recording.observations {
            let exchange = match &seen.event {
                Event::Request(request) => &request.exchange,
                Event::Write(write) => &write.exchange,
                Event::Load(load) => &load.exchange,
                Event::Read(read) => &read.exchange,
                Event::GuardedUpdate(update) => &update.exchange,
                _ => continue,
            };
            if exchange.status.is_some() && !exchange.refused_for_now() && !exchange.audit_id.is_empty() {
                let server = exchange.server.as_deref().unwrap_or(SERVERS[1]);
                logged.insert(exchange.audit_id.clone(), server.to_owned());
            }
        }
        let read_at = END + 1000;
        let lines = logged.into_iter().map(|(audit_id, server)| {
            let stages = ["RequestReceived", "ResponseComplete"].map(str::to_owned).to_vec();
            observed(read_at, Event::Audited(Audited { server, audit_id, stages, status: Some(200) }))
        });
        let servers = recording.header.servers.iter();
        let logs = servers.map(|server| observed(read_at + 1, audit_log(&server.name)));
        let last = recording.observations.last().map_or(0, |last| last.at.0 / 1_000_000);
        let ticks = (0..=last)
            .step_by(1000)
            .map(|at| observed(at, Event::Ticked(Ticked { lasted: millis(1000), latest: millis(1) })));
        let mut probes: Vec<_> =
            recording.observations.iter().filter_map(|seen| seen.event.probe().map(str::to_owned)).collect();
        probes.sort_unstable();
        probes.dedup();
        let observers = observed(500, Event::Observers(Observers { probes }));
        let evidence: Vec<_> = lines.chain(logs).chain(ticks).chain([observers]).collect();
        recording.observations.extend(evidence);
        recording.observations.sort_by_key(|seen| seen.at);
        recording
    }

    /// Positions of the watch's events.
    pub(crate) fn delivered(&self) -> Vec<usize> {
        let delivered = |seen: &Observation| matches!(seen.event, Event::Delivered(_));
        (0..self.0.observations.len()).filter(|position| delivered(&self.0.observations[*position])).collect()
    }

    fn see(&mut self, at: u64, event: Event) {
        self.0.observations.push(observed(at, event));
    }

    fn sorted(mut self) -> Self {
        self.0.observations.sort_by_key(|seen| seen.at);
        self
    }

    /// The next change and its event: each object is created, updated eight times, and deleted.
    fn change(&mut self, at: u64) {
        let change = at / TICK;
        let revision = change + 100;
        let object = format!("cm-{}", change / 10);
        let (verb, kind) = match change % 10 {
            0 => (Verb::Create, ChangeKind::Added),
            9 => (Verb::Delete, ChangeKind::Deleted),
            _ => (Verb::Update, ChangeKind::Modified),
        };
        let mut write = written(change, verb, &object, Effect::Certain);
        (write.exchange.audit_id, write.exchange.server) = (format!("writer-{at}"), Some(SERVERS[1].into()));
        write.revision = write.revision.map(|_| revision);
        self.see(at, Event::Write(write));
        let change = if verb == Verb::Delete { change - 1 } else { change };
        self.see(at + 5, Event::Delivered(Delivered { probe: WATCH.into(), kind, object, revision, change }));
    }

    fn restart(&mut self, how: Restart, server: &str, when: Range<u64>) {
        let fault = Fault { restart: how, server: server.into() };
        let from = when.start;
        self.see(from, Event::FaultOn(fault.clone()));
        for (after, step) in steps_of(how) {
            self.see(from + after, life(server, step));
        }
        self.see(from + 3015, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: None }));
        let last = (from + 3015 - 7) / TICK + 100;
        self.see(from + 3016, list_call(Call::Watch, Some(last)));
        self.see(when.end, Event::FaultOff(fault));
    }

    /// Says which request met which server: new connections go in turn to those in service, the kept one lies on a server
    /// until that closes it.
    fn carry(&mut self, disturbed: bool) {
        let out = |server: usize, at: u64, from: u64, until: u64| {
            disturbed && (FAULTS[server].start + from..FAULTS[server].start + until).contains(&at)
        };
        let (mut turn, mut kept, mut since) = (0, 0, None);
        for seen in &mut self.0.observations {
            let at = seen.at.0 / 1_000_000;
            let Event::Request(request) = &mut seen.event else { continue };
            let server = match request.on {
                ConnectionKind::New => {
                    turn += 1;
                    if out(turn % 2, at, 1000, 6500) { (turn + 1) % 2 } else { turn % 2 }
                }
                ConnectionKind::Reused => {
                    if out(kept, at, 3013, 6500) {
                        (kept, since) = ((kept + 1) % 2, None);
                    }
                    kept
                }
                // Which connections it uses, it does not tell.
                ConnectionKind::Library => continue,
            };
            let reused = request.on == ConnectionKind::Reused && since.is_some();
            let local = match request.on {
                ConnectionKind::New => format!("127.0.0.1:{at}"),
                ConnectionKind::Reused | ConnectionKind::Library => format!("kept-{}", *since.get_or_insert(at)),
            };
            let connection = ConnectionUse { local, remote: "127.0.0.1:16443".into(), reused, idle: millis(TICK) };
            request.exchange.connection = Some(connection);
            request.exchange.server = Some(SERVERS[server].into());
        }
    }

    fn sample_health(&mut self, server: &str) {
        let steps = |step| {
            let at = self.0.observations.iter().find(|seen| is_step(seen, server, step)).map(|seen| seen.at);
            at.map_or(u64::MAX, |at| at.0 / 1_000_000)
        };
        let red = steps(Step::ShutdownInitiated);
        let closed = steps(Step::HTTPServerStoppedListening).min(steps(Step::Exited));
        let ready = steps(Step::Ready);
        for at in (500..END).step_by(100) {
            for path in ["/readyz", "/livez"] {
                let answer = if at < closed.min(red) || at >= ready || (at < closed && path == "/livez") {
                    Ok(200)
                } else if at < closed {
                    Ok(500)
                } else {
                    Err(Failure { class: ErrorClass::ConnectionRefused, text: String::new() })
                };
                let (server, path) = (server.to_owned(), path.to_owned());
                self.see(at, Event::ServerHealth(ServerHealth { server, path, answer, took: millis(2) }));
            }
        }
    }
}

/// An audit log that was read whole.
pub(crate) fn audit_log(server: &str) -> Event {
    let (server, omitted_stages) = (server.to_owned(), Vec::new());
    Event::AuditLog(AuditLogRead { server, events: 1000, unreadable: 0, partial: false, omitted_stages })
}

/// A connection that the builtin balancer carried, for so many milliseconds.
pub(crate) fn carried(server: &str, end: End, ended_by: Party, lasted: u64) -> Event {
    Event::Connection(Connection {
        client: "127.0.0.1:9".into(),
        backend: Some(server.into()),
        sent: 0,
        received: 0,
        idle: millis(0),
        lasted: millis(lasted),
        ended_by,
        end,
    })
}

pub(crate) fn within(at: Moment, when: &Range<u64>) -> bool {
    when.contains(&(at.0 / 1_000_000))
}

pub(crate) fn is_step(seen: &Observation, server: &str, step: Step) -> bool {
    matches!(&seen.event, Event::Lifecycle(life) if life.server == server && life.step == step)
}
