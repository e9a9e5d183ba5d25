//! Those who ask and write: a writer, requesters on new and on a kept connection, workers of a load, a reader, and two writers of one counter.

use rollproof::timeline::*;
use rollproof::timing::millis;

use super::apiserver::ControlPlane;
use super::{Bug, Simulation, WRITTEN};
use crate::runs::*;
use crate::shorthand::*;

/// Between two rounds, in which each of them does something. In each has its own milliseconds.
const ROUND: u64 = 100;
/// How many rounds there are, more or less.
const ROUNDS: u64 = 180;

/// A client's kept connection.
struct Kept {
    name: &'static str,
    server: usize,
    /// How many there were before it, and how many requests its client has sent.
    number: u64,
    requests: u64,
    fresh: bool,
}

/// What becomes of a request on a kept connection.
enum Met {
    Answer,
    /// 429 with Retry-After.
    Refusal,
    /// The connection is closed.
    End(ErrorClass),
    /// Nobody is there who would accept one.
    Nobody,
}

impl Kept {
    fn new(name: &'static str, server: usize) -> Self {
        Self { name, server, number: 0, requests: 0, fresh: true }
    }

    fn id(&mut self) -> String {
        self.requests += 1;
        format!("{}-{}", self.name, self.requests)
    }

    fn used(&mut self) -> ConnectionUse {
        let reused = !std::mem::take(&mut self.fresh);
        let (local, remote) = (format!("{}-connection-{}", self.name, self.number), "127.0.0.1:16443".into());
        ConnectionUse { local, remote, reused, idle: millis(if reused { ROUND - 5 } else { 0 }) }
    }

    /// Goes through the balancer once more.
    fn replace(&mut self, at: u64, plane: &ControlPlane, run: &mut Simulation) {
        self.server = plane.new_connection(at, &mut run.random);
        (self.number, self.fresh) = (self.number + 1, true);
    }

    fn meets(&self, at: u64, plane: &ControlPlane, run: &mut Simulation) -> Met {
        let server = &plane.servers[self.server];
        let graceful = plane.how == Some(Restart::Graceful);
        match (server.is_there(at), server.is_refusing(at)) {
            (true, false) => Met::Answer,
            (false, _) if self.fresh => Met::Nobody,
            (true, true) if graceful && run.random.percent(50) => Met::Refusal,
            _ if run.random.percent(50) => Met::End(ErrorClass::UnexpectedEof),
            _ => Met::End(ErrorClass::ConnectionReset),
        }
    }

    /// A request as it went, and whether its apiserver received it.
    fn exchange(&mut self, at: u64, plane: &ControlPlane, run: &mut Simulation, status: u16) -> (Exchange, bool) {
        let met = self.meets(at, plane, run);
        let (id, took) = (self.id(), run.random.from(1, 5));
        let killed = plane.how == Some(Restart::Killed);
        let (exchange, received) = match met {
            Met::Answer => (run.answer(id, self.server, status, took), true),
            Met::Refusal => (refusal(id, self.server), false),
            // What was under way when it was killed may have been done.
            Met::End(class) => {
                let received = killed && run.random.percent(50);
                (run.lost(id, self.server, class, received, took), received)
            }
            Met::Nobody => (refused(id), false),
        };
        (Exchange { connection: Some(self.used()), ..exchange }, received)
    }
}

fn refusal(audit_id: String, server: usize) -> Exchange {
    Exchange { audit_id, retry_after: Some(5), server: Some(SERVERS[server].into()), ..answered(429) }
}

fn refused(audit_id: String) -> Exchange {
    Exchange { audit_id, ..failed(Phase::Dial, ErrorClass::ConnectionRefused) }
}

/// All of them, until they have written enough.
pub(super) fn work(plane: &mut ControlPlane, run: &mut Simulation) {
    let mut writer = Writer { kept: Kept::new("writer", 0), change: 0, standing: Vec::new(), late: Vec::new() };
    let mut requester = Kept::new(requester(ConnectionKind::Reused), 1);
    let mut reader = Kept::new("reader", 0);
    let mut worker = Worker {
        kept: Kept::new("load-0", 1),
        number: 0,
        step: 0,
        existing: Vec::new(),
        doubtful: false,
        again: false,
    };
    let mut counter =
        Counter { writers: [Kept::new("guarded-0", 0), Kept::new("guarded-1", 1)], count: 0, revision: 90, before: 90 };
    for at in (500..WRITTEN).step_by(ROUND as usize) {
        let others = run.random.below(4);
        plane.others_write(at, others);
        ask_on_a_new_one(at + 1, plane, run);
        writer.write(at + 2, plane, run);
        ask_on_a_kept_one(&mut requester, at + 10, plane, run);
        counter.update(at + 20, plane, run);
        worker.work(at + 60, plane, run);
        read(&mut reader, at + 80, plane, run);
    }
    worker.leave(WRITTEN + 100, run);
    counter.leave(WRITTEN + 100, run);
}

fn ask_on_a_new_one(at: u64, plane: &ControlPlane, run: &mut Simulation) {
    let mut kept = Kept::new(requester(ConnectionKind::New), plane.new_connection(at, &mut run.random));
    (kept.number, kept.requests) = (at, at);
    let (mut exchange, _) = kept.exchange(at, plane, run, 200);
    if run.strikes(Bug::NewConnectionRefused, ROUNDS) {
        exchange = refused(exchange.audit_id);
    }
    if run.strikes(Bug::NewConnectionAsksForPatience, ROUNDS) {
        exchange = Exchange { connection: exchange.connection, ..refusal(exchange.audit_id, kept.server) };
    }
    let (probe, on) = (kept.name.to_owned(), ConnectionKind::New);
    run.see(at, Event::Request(Request { probe, on, retries: None, exchange, attempts: Vec::new() }));
}

fn ask_on_a_kept_one(kept: &mut Kept, at: u64, plane: &ControlPlane, run: &mut Simulation) {
    let (mut first, _) = kept.exchange(at, plane, run, 200);
    if first.succeeded() && first.was_kept() {
        let (connection, id) = (first.connection.clone(), first.audit_id.clone());
        let bugs = [Bug::KeptRequestCutWhenReceived, Bug::KeptRefusedByAHealthyOne, Bug::KeptHangs];
        if let Some(bug) = bugs.into_iter().find(|bug| run.strikes(*bug, ROUNDS)) {
            // No log has it as answered.
            run.audited.pop();
            let told = match bug {
                Bug::KeptRequestCutWhenReceived => run.lost(id, kept.server, ErrorClass::ConnectionReset, true, 2),
                Bug::KeptRefusedByAHealthyOne => refusal(id, kept.server),
                _ => run.lost(id, kept.server, ErrorClass::Timeout, false, 10_000),
            };
            first = Exchange { connection, ..told };
        }
    }
    let ours = |on, retries, exchange| {
        Event::Request(Request {
            probe: requester(ConnectionKind::Reused).into(),
            on,
            retries,
            exchange,
            attempts: Vec::new(),
        })
    };
    let failed = (!first.succeeded()).then(|| first.audit_id.clone());
    let fair = first.was_kept() && first.failure.as_ref().is_none_or(|failure| failure.class != ErrorClass::Timeout);
    run.see(at, ours(ConnectionKind::Reused, None, first));
    let Some(first) = failed else { return };
    let before = (kept.server, kept.number);
    kept.replace(at + 5, plane, run);
    if !fair {
        return;
    }
    let (mut second, _) = kept.exchange(at + 5, plane, run, 200);
    if run.strikes(Bug::KeptIsNotRepaired, 1) {
        second = refused(second.audit_id);
    }
    run.see(at + 5, ours(ConnectionKind::New, Some(first), second));
    if run.strikes(Bug::KeptRefusedTwice, 1) {
        // Its client does not believe it, and keeps the connection.
        (kept.server, kept.number) = before;
        kept.fresh = false;
    }
}

/// Creates, updates and deletes objects.
struct Writer {
    kept: Kept,
    change: u64,
    standing: Vec<String>,
    /// Updates without an answer that take effect later: when, and to what.
    late: Vec<(u64, String, u64)>,
}

impl Writer {
    fn write(&mut self, at: u64, plane: &mut ControlPlane, run: &mut Simulation) {
        let due = self.late.iter().filter(|(due, ..)| *due <= at).cloned().collect::<Vec<_>>();
        self.late.retain(|(due, ..)| *due > at);
        for (_, object, change) in due {
            plane.commit(at - 1, Verb::Update, &object, change);
        }
        self.change += 1;
        let change = self.change;
        let (verb, object) = match change % 4 {
            1 => (Verb::Create, format!("object-{change}")),
            0 if self.standing.len() > 3 => (Verb::Delete, self.standing.remove(0)),
            2 => (Verb::Update, self.standing.last().cloned().unwrap_or_default()),
            _ => (Verb::Update, self.standing.first().cloned().unwrap_or_default()),
        };
        if verb == Verb::Create {
            self.standing.push(object.clone());
        }
        let there = plane.state.contains_key(&object);
        let status = if verb == Verb::Create || there { 200 } else { 404 };
        let (exchange, received) = self.kept.exchange(at, plane, run, status);
        let answered = exchange.succeeded();
        let mut revision = None;
        if received && !answered && verb == Verb::Update && run.random.percent(30) {
            self.late.push((at + run.random.from(50, 500), object.clone(), change));
        } else if received && (answered || exchange.status.is_none()) {
            revision = plane.commit(at + 1, verb, &object, change).filter(|_| answered && verb != Verb::Delete);
        }
        if exchange.status.is_none() || exchange.retry_after.is_some() {
            self.kept.replace(at, plane, run);
        }
        run.see(at, Event::Write(Write { probe: "writer".into(), change, verb, object, revision, exchange }));
    }
}

/// Creates objects, gets and deletes them; every fifth stays.
struct Worker {
    kept: Kept,
    number: u64,
    step: usize,
    existing: Vec<String>,
    /// An answer about the object was lost.
    doubtful: bool,
    /// The delete is sent once more.
    again: bool,
}

impl Worker {
    fn work(&mut self, at: u64, plane: &ControlPlane, run: &mut Simulation) {
        let verb = [LoadVerb::Create, LoadVerb::Get, LoadVerb::Delete][self.step];
        let object = format!("load-0-{}", self.number);
        let there = self.existing.contains(&object);
        let status = if verb == LoadVerb::Create || there { 200 } else { 404 };
        let (mut exchange, received) = self.kept.exchange(at, plane, run, status);
        let mut received = received;
        if verb == LoadVerb::Create && exchange.succeeded() && run.strikes(Bug::RefusedAndThere, ROUNDS / 3) {
            exchange.status = Some(403);
        }
        let lied = run.has(Bug::DeleteSaysGoneAndItIsThere) && run.opportunities > 0 && self.again;
        if verb == LoadVerb::Delete && there && exchange.succeeded() {
            if run.strikes(Bug::DeleteSaysGoneAndItIsThere, ROUNDS / 5) {
                let connection = exchange.connection.take();
                let id = std::mem::take(&mut exchange.audit_id);
                exchange =
                    Exchange { connection, ..run.lost(id, self.kept.server, ErrorClass::UnexpectedEof, true, 2) };
                received = false;
            } else if lied {
                (exchange.status, received) = (Some(404), false);
            }
        }
        match verb {
            LoadVerb::Create if received => self.existing.push(object.clone()),
            LoadVerb::Delete if received => self.existing.retain(|other| *other != object),
            _ => {}
        }
        let lost = exchange.status.is_none();
        if lost || exchange.retry_after.is_some() {
            self.kept.replace(at, plane, run);
        }
        let refused = exchange.status.is_some_and(|status| status == 429 || status == 403);
        let may_be_missing = self.doubtful;
        self.doubtful |= lost;
        let (worker, resource) = (self.kept.name.to_owned(), "configmaps".to_owned());
        run.see(at, Event::Load(Load { worker, verb, resource, object, retries: None, may_be_missing, exchange }));
        let once_more = verb == LoadVerb::Delete && lost && !self.again;
        self.again = once_more;
        let stays = self.number % 5 == 4 && verb == LoadVerb::Get;
        if (verb == LoadVerb::Create && refused) || stays || (verb == LoadVerb::Delete && !once_more) {
            (self.number, self.step, self.doubtful) = (self.number + 1, 0, false);
        } else if !once_more {
            self.step += 1;
        }
    }

    fn leave(&self, at: u64, run: &mut Simulation) {
        let mut left = self.existing.clone();
        if run.has(Bug::ResurrectedAtTheEnd) {
            let deleted = run.seen.iter().find_map(|seen| match &seen.event {
                Event::Load(load) if load.verb == LoadVerb::Delete && load.exchange.succeeded() => {
                    Some(load.object.clone())
                }
                _ => None,
            });
            left.extend(deleted);
        }
        if run.has(Bug::VanishedAtTheEnd) {
            left.truncate(left.len().saturating_sub(2));
        }
        if run.has(Bug::StrangerAtTheEnd) {
            left.push("load-0-1-again".to_owned());
        }
        let objects = left.into_iter().map(|object| ("configmaps".to_owned(), object)).collect();
        run.see(at, Event::LoadLeft(LoadLeft { objects }));
    }
}

fn read(kept: &mut Kept, at: u64, plane: &ControlPlane, run: &mut Simulation) {
    let (exchange, _) = kept.exchange(at, plane, run, 200);
    let mut revision = plane.revision_at(at);
    if at > 5000 && run.strikes(Bug::StaleRead, ROUNDS / 2) {
        revision = plane.revision_at(at - 2000);
    }
    let mut state = plane.state_at(revision);
    if at > 5000 && run.strikes(Bug::DeletedInARead, ROUNDS / 2) {
        let deleted = plane.history.iter().rfind(|it| it.kind == ChangeKind::Deleted && it.at + 500 < at);
        state.extend(deleted.map(|it| (it.object.clone(), it.change)));
    }
    let answered = exchange.succeeded();
    if !answered {
        kept.replace(at, plane, run);
    }
    let (revision, objects) =
        (answered.then_some(revision), if answered { state.into_iter().collect() } else { Vec::new() });
    run.see(at, Event::Read(Read { probe: kept.name.into(), revision, objects, exchange }));
}

/// A counter with two writers, who replace what they have read and nothing else.
struct Counter {
    writers: [Kept; 2],
    count: u64,
    revision: u64,
    /// What it was at before its last update.
    before: u64,
}

impl Counter {
    fn update(&mut self, at: u64, plane: &mut ControlPlane, run: &mut Simulation) {
        for (number, at) in [at, at + 20].into_iter().enumerate() {
            // The other one may have been faster.
            let late = number == 1 && run.random.percent(20) && self.count > 0;
            let accepted = !late || run.strikes(Bug::LostUpdate, ROUNDS / 6);
            let (replaces, count) = if late { (self.before, self.count) } else { (self.revision, self.count + 1) };
            let kept = &mut self.writers[number];
            let (exchange, received) = kept.exchange(at, plane, run, if accepted { 200 } else { 409 });
            if exchange.status.is_none() || exchange.retry_after.is_some() {
                kept.replace(at, plane, run);
            }
            let mut revision = None;
            if received && accepted {
                plane.others_write(at + 1, 1);
                (self.before, self.revision, self.count) = (self.revision, plane.revision(), count);
                revision = Some(self.revision).filter(|_| exchange.succeeded());
            }
            let (probe, object) = (self.writers[number].name.to_owned(), "counter".to_owned());
            run.see(at, Event::GuardedUpdate(GuardedUpdate { probe, object, replaces, count, revision, exchange }));
        }
    }

    fn leave(&self, at: u64, run: &mut Simulation) {
        let back = u64::from(run.has(Bug::CounterGoesBack));
        let (object, count) = ("counter".to_owned(), self.count.saturating_sub(back));
        run.see(at, Event::GuardedLeft(GuardedLeft { object, count, revision: self.revision }));
    }
}
