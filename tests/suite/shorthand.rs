//! A little language for recordings, so that a verdict's test reads like the sentence that it tests.
//!
//! ```text
//! wrote 1 2 maybe 3 | saw 1 (cut) 2 (cut, relist 3)
//! ```
//!
//! | written | means |
//! | --- | --- |
//! | `3`, `b3` | change 3 at revision 3, to the object `x` or `b`; an object's first is its create |
//! | `-b4` | its delete; as an event, DELETED with the state before |
//! | `maybe 3`, `never 3` | the answer was lost; it was refused |
//! | `3@9` | an event or a relist that says it is at revision 9; `@?`: it does not say |
//! | `late 3`, `silence` | five seconds pass before it |
//! | `(cut)` | the watch ends, and is opened again from its last revision |
//! | `(cut, relist 3)` | the client lists, and gets the state after change 3 |
//! | `(cut, any relist 3)` | it lists with resourceVersion=0 |
//! | `(cut, gone, ...)` | it asks from its last revision, and is told 410 by apiserver-0 |
//! | `started` | apiserver-0 was started anew just now, and is not ready yet |
//! | `(cut, newest)` | it asks for the newest revision |
//! | `(initial 3)` | it asks for initial events: the state after change 3, newest first, and a bookmark; `3@?`: without that |
//! | `(bookmark 3)` | a bookmark at revision 3 |
//!
//! A table with a cut is a graceful roll of two apiservers; without, it is a steady state. How much traffic makes a
//! recording conclusive is tested elsewhere: tables ask for none.

use std::collections::BTreeMap;
use std::time::Duration;

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{Bounds, Profile, Timers, millis, secs};
use rollproof::verdict::{Verdict, judge, judge_all};

/// What a check expects: these violated with these words, those inconclusive with those words, all others upheld.
#[derive(Default)]
pub(crate) struct Expect {
    violated: BTreeMap<&'static str, &'static str>,
    inconclusive: BTreeMap<&'static str, &'static str>,
}

pub(crate) fn upheld() -> Expect {
    Expect::default()
}

pub(crate) fn violated(id: &'static str, text: &'static str) -> Expect {
    upheld().and_violated(id, text)
}

pub(crate) fn inconclusive(id: &'static str, text: &'static str) -> Expect {
    upheld().and_inconclusive(id, text)
}

impl Expect {
    pub(crate) fn and_violated(mut self, id: &'static str, text: &'static str) -> Self {
        self.violated.insert(id, text);
        self
    }

    pub(crate) fn and_inconclusive(mut self, id: &'static str, text: &'static str) -> Self {
        self.inconclusive.insert(id, text);
        self
    }

    /// Compares with the verdicts on everything that the recording was made for, by what its claims speak of: a table has no header that
    /// agrees with it.
    #[track_caller]
    pub(crate) fn compare(&self, recording: &Recording) {
        let asked = recording.header.judged_by.iter();
        let asked = asked.map(|by| spec::requirement(&by.requirement).expect("a shorthand names only what exists"));
        let verdicts: Vec<_> = asked.map(|requirement| (requirement.id, judge(requirement, recording).0)).collect();
        self.compare_verdicts(&verdicts);
    }

    /// Likewise, as `rollproof judge` does it: by whether header and observations agree as well.
    #[track_caller]
    pub(crate) fn compare_whole(&self, recording: &Recording) {
        let judgements = judge_all(recording).expect("a shorthand names only what exists");
        let verdicts: Vec<_> = judgements.into_iter().map(|it| (it.requirement.id, it.verdict)).collect();
        self.compare_verdicts(&verdicts);
    }

    #[track_caller]
    fn compare_verdicts(&self, verdicts: &[(&'static str, Verdict)]) {
        for (id, verdict) in verdicts {
            let right = match verdict {
                Verdict::Upheld => !self.violated.contains_key(id) && !self.inconclusive.contains_key(id),
                Verdict::Violated { actual, .. } => self.violated.get(id).is_some_and(|text| actual.contains(text)),
                Verdict::Inconclusive { why } => self.inconclusive.get(id).is_some_and(|text| why.contains(text)),
            };
            let (violated, inconclusive) = (self.violated.get(id), self.inconclusive.get(id));
            assert!(right, "{id}: {verdict:#?}\nexpected violated: {violated:?}, inconclusive: {inconclusive:?}");
        }
        for id in self.violated.keys().chain(self.inconclusive.keys()) {
            assert!(verdicts.iter().any(|(judged, _)| judged == id), "{id} was not judged");
        }
    }
}

/// Judges a watch table by the WATCH family.
#[track_caller]
pub(crate) fn check(table: &str, expect: Expect) {
    println!("{table}");
    expect.compare(&watch_table(table));
}

/// The recording that a watch table stands for.
pub(crate) fn watch_table(table: &str) -> Recording {
    let (wrote, saw) = table.split_once('|').expect("a table has the form `wrote ... | saw ...`");
    let says = |word| saw.contains(word);
    let disturbance = says("cut").then_some(Restart::Graceful);
    let mut judged = vec!["WATCH-1", "WATCH-2", "WATCH-3", "WATCH-5", "WATCH-6"];
    // What these are about has to happen.
    let more = [
        ("WATCH-4", says("cut")),
        ("WATCH-7", says("relist") && !says("any") || says("initial")),
        ("WATCH-8", says("bookmark") || says("initial")),
    ];
    judged.extend(more.iter().filter(|(_, happens)| *happens).map(|(id, _)| *id));
    let mut header = header(disturbance, &judged);
    header.bounds.samples = 0;
    header.bounds.request_gap = secs(60);
    let mut desk = Desk { at: 1000, seen: Vec::new(), writes: Vec::new(), last: 0 };
    desk.see(list_call(Call::List, None));
    desk.see(Event::Listed(Listed { probe: WATCH.into(), revision: Some(0), objects: Vec::new() }));
    desk.see(list_call(Call::Watch, Some(0)));
    let fault = |server: &str| Fault { restart: Restart::Graceful, server: server.into() };
    for server in SERVERS.iter().filter(|_| disturbance.is_some()) {
        desk.see(Event::FaultOn(fault(server)));
        for step in [Step::TermSent, Step::ShutdownInitiated, Step::Exited, Step::Started, Step::Ready] {
            desk.see(life(server, step));
        }
    }
    desk.write(wrote.trim().strip_prefix("wrote").expect("`wrote` comes first"));
    desk.read(saw.trim().strip_prefix("saw").expect("`saw` comes second"));
    for server in SERVERS.iter().filter(|_| disturbance.is_some()) {
        desk.see(Event::FaultOff(fault(server)));
    }
    Recording { header, observations: desk.seen }
}

pub(crate) const WATCH: &str = "watch";
pub(crate) const SERVERS: [&str; 2] = ["apiserver-0", "apiserver-1"];

/// Writes a table's observations down, ten milliseconds apart.
struct Desk {
    at: u64,
    seen: Vec<Observation>,
    writes: Vec<Write>,
    /// The last revision the watch knows.
    last: u64,
}

impl Desk {
    fn see(&mut self, event: Event) {
        self.at += 10;
        self.seen.push(observed(self.at, event));
    }

    fn write(&mut self, words: &str) {
        let mut outcome = Effect::Certain;
        for word in words.split_whitespace() {
            match word {
                "maybe" => outcome = Effect::Maybe,
                "never" => outcome = Effect::Never,
                word => {
                    let (change, object, delete, _) = token(word);
                    let known = self.writes.iter().any(|write| write.object == object);
                    let verb = match (delete, known) {
                        (true, _) => Verb::Delete,
                        (false, false) => Verb::Create,
                        (false, true) => Verb::Update,
                    };
                    let write = written(change, verb, &object, std::mem::replace(&mut outcome, Effect::Certain));
                    self.writes.push(write.clone());
                    self.see(Event::Write(write));
                }
            }
        }
    }

    fn read(&mut self, words: &str) {
        let spaced = words.replace(['(', ')', ','], " ");
        let mut words = spaced.split_whitespace().peekable();
        while let Some(word) = words.next() {
            match word {
                "late" => self.at += 5000,
                "silence" => {
                    self.at += 5000;
                    // The recording goes on, though not about the watch.
                    self.see(Event::Stall(Duration::ZERO));
                }
                "relist" => self.relist(words.next().expect("relist names a change"), false),
                "any" => {
                    words.next();
                    self.relist(words.next().expect("any relist names a change"), true);
                }
                "initial" => self.initial(words.next().expect("initial names a change")),
                "bookmark" => {
                    let revision = words.next().and_then(|word| word.parse().ok()).expect("bookmark names a revision");
                    self.last = self.last.max(revision);
                    self.see(bookmark(revision, false));
                }
                "cut" => {
                    self.see(Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: None }));
                    let on = ["gone", "newest", "relist", "any", "initial", "started"];
                    if words.peek().is_none_or(|next| !on.contains(next)) {
                        self.see(list_call(Call::Watch, Some(self.last)));
                    }
                }
                "newest" => self.see(list_call(Call::Watch, None)),
                "started" => self.see(life(SERVERS[0], Step::Started)),
                "gone" => {
                    let audit_id = format!("gone-{}", self.at);
                    self.see(edited_call(list_call(Call::Watch, Some(self.last)), |call| {
                        call.audit_id.clone_from(&audit_id);
                    }));
                    let (server, stages) = (SERVERS[0].to_owned(), vec!["RequestReceived".to_owned()]);
                    self.see(Event::Audited(Audited { server, audit_id, stages, status: Some(200) }));
                    let failure = Failure { class: ErrorClass::Gone, text: "too old resource version".into() };
                    self.see(Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: Some(failure) }));
                }
                word => self.event(word),
            }
        }
    }

    fn event(&mut self, word: &str) {
        let (change, object, delete, revision) = token(word);
        let revision = revision.flatten().unwrap_or(change);
        self.last = self.last.max(revision);
        let before = self
            .writes
            .iter()
            .filter(|write| write.object == object && write.change < change && write.effect() != Effect::Never);
        let (kind, change) = match delete {
            true => (ChangeKind::Deleted, before.map(|write| write.change).max().unwrap_or(0)),
            false => (ChangeKind::Applied, change),
        };
        self.see(Event::Delivered(Delivered { probe: WATCH.into(), kind, object, revision, change }));
    }

    fn relist(&mut self, word: &str, any: bool) {
        let (change, _, _, revision) = token(word);
        let objects = self.state_after(change).into_iter().collect();
        let revision = revision.unwrap_or(Some(change));
        self.last = revision.unwrap_or(change);
        self.see(edited_call(list_call(Call::List, None), |call| call.any = any));
        self.see(Event::Listed(Listed { probe: WATCH.into(), revision, objects }));
        self.see(list_call(Call::Watch, Some(self.last)));
    }

    fn initial(&mut self, word: &str) {
        let (change, _, _, revision) = token(word);
        self.see(edited_call(list_call(Call::Watch, None), |call| call.initial_events = true));
        let mut state: Vec<_> = self.state_after(change).into_iter().collect();
        state.sort_by_key(|(_, change)| std::cmp::Reverse(*change));
        for (object, change) in state {
            let (probe, kind, revision) = (WATCH.into(), ChangeKind::Added, change);
            self.see(Event::Delivered(Delivered { probe, kind, object, revision, change }));
        }
        if let Some(revision) = revision.unwrap_or(Some(change)) {
            self.last = revision;
            self.see(bookmark(revision, true));
        }
    }

    /// Each object with its change, after what was certainly written up to one.
    fn state_after(&self, change: u64) -> BTreeMap<String, u64> {
        let mut state = BTreeMap::new();
        for write in self.writes.iter().filter(|write| write.change <= change && write.effect() == Effect::Certain) {
            match write.verb {
                Verb::Delete => drop(state.remove(&write.object)),
                _ => drop(state.insert(write.object.clone(), write.change)),
            }
        }
        state
    }
}

/// Change, object, whether it is a delete, and the revision after `@`.
fn token(word: &str) -> (u64, String, bool, Option<Option<u64>>) {
    let (word, revision) = match word.split_once('@') {
        Some((word, revision)) => (word, Some(revision.parse().ok())),
        None => (word, None),
    };
    let (delete, word) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
    let digits = word.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
    let object = match &word[..word.len() - digits.len()] {
        "" => "x",
        object => object,
    };
    (digits.parse().unwrap_or_else(|_| panic!("{word:?} is no change")), object.to_owned(), delete, revision)
}

// Building blocks, for tables and for whole runs.

/// Something seen `at` milliseconds after the recording began.
pub(crate) fn observed(at: u64, event: Event) -> Observation {
    Observation { at: Moment(at * 1_000_000), event }
}

pub(crate) fn list_call(call: Call, from: Option<u64>) -> Event {
    let (audit_id, took) = (String::new(), millis(1));
    let (any, initial_events) = (false, false);
    Event::ListWatch(ListWatch {
        probe: WATCH.into(),
        call,
        from,
        any,
        initial_events,
        audit_id,
        answer: Ok(200),
        took,
    })
}

/// A list or watch request that is another than it was.
pub(crate) fn edited_call(event: Event, edit: impl FnOnce(&mut ListWatch)) -> Event {
    let Event::ListWatch(mut call) = event else { panic!("{event:?} is no request for a list or a watch") };
    edit(&mut call);
    Event::ListWatch(call)
}

pub(crate) fn bookmark(revision: u64, initial_events_end: bool) -> Event {
    Event::Bookmark(Bookmark { probe: WATCH.into(), revision, initial_events_end })
}

pub(crate) fn life(server: &str, step: Step) -> Event {
    let text = if step == Step::Exited { "exit status 0" } else { "" };
    Event::Lifecycle(Lifecycle { server: server.into(), step, text: text.into() })
}

/// The life of an apiserver that is restarted: how many milliseconds after the fault it comes to each step.
pub(crate) fn steps_of(how: Restart) -> impl Iterator<Item = (u64, Step)> {
    let stopping: &[(u64, Step)] = match how {
        Restart::Killed => &[(1, Step::KillSent), (20, Step::Exited)],
        Restart::Graceful => &[
            (1, Step::TermSent),
            (11, Step::ShutdownInitiated),
            (31, Step::PreShutdownHooksStopped),
            (3011, Step::AfterShutdownDelayDuration),
            (3012, Step::NotAcceptingNewRequest),
            (3013, Step::HTTPServerStoppedListening),
            (3500, Step::InFlightRequestsDrained),
            (3600, Step::Exited),
        ],
    };
    let starting = [(3650, Step::Started), (6000, Step::Ready), (6500, Step::MetThroughBalancer)];
    stopping.iter().copied().chain(starting)
}

pub(crate) fn written(change: u64, verb: Verb, object: &str, effect: Effect) -> Write {
    let exchange = match effect {
        Effect::Certain => answered(201),
        Effect::Maybe => failed(Phase::Headers, ErrorClass::UnexpectedEof),
        Effect::Never => answered(403),
    };
    let revision = (effect == Effect::Certain && verb != Verb::Delete).then_some(change);
    Write { probe: "writer".into(), change, verb, object: object.into(), revision, exchange }
}

pub(crate) fn answered(status: u16) -> Exchange {
    Exchange {
        audit_id: String::new(),
        protocol: Protocol::Http1,
        connection: None,
        phase: Phase::Done,
        status: Some(status),
        retry_after: None,
        failure: None,
        unsent: false,
        server: None,
        took: millis(1),
    }
}

pub(crate) fn failed(phase: Phase, class: ErrorClass) -> Exchange {
    Exchange { phase, status: None, failure: Some(Failure { class, text: String::new() }), ..answered(0) }
}

/// A header with the bounds of the `pr` profile, judged by these requirements.
pub(crate) fn header(disturbance: Option<Restart>, judged_by: &[&str]) -> Header {
    let timers = Timers::of(Profile::Pr);
    for id in judged_by {
        assert!(spec::requirement(id).is_some(), "{id} is no requirement");
    }
    Header {
        format: FORMAT,
        suite: "0.1.0".into(),
        scenario: "shorthand".into(),
        cell: Cell {
            control_plane: "local".into(),
            kubernetes: "v1.37.2".into(),
            apiservers: SERVERS.len(),
            balancer: "builtin".into(),
            protocol: "http/1.1".into(),
            client: "kube".into(),
            profile: Profile::Pr,
        },
        seed: 1,
        began: "2026-01-01T00:00:00Z".into(),
        began_at: Moment(0),
        disturbance,
        servers: SERVERS.map(server).to_vec(),
        subjects: Vec::new(),
        timers,
        gateways: None,
        machine: BTreeMap::new(),
        // Short enough for a hang to show in a made-up run of 20 s.
        bounds: Bounds { fresh: millis(3500), ..Bounds::with(&timers) },
        judged_by: judged_by
            .iter()
            .map(|id| JudgedBy { requirement: (*id).to_owned(), expected: Expected::Upheld, gateway: None })
            .collect(),
    }
}

fn server(name: &str) -> Server {
    Server { name: name.into(), address: "127.0.0.1:1".into(), certificate: String::new(), flags: Vec::new() }
}

#[test]
fn a_table_becomes_the_recording_it_describes() {
    let recording = watch_table("wrote 1 maybe 2 -3 | saw 1 (cut, relist 1) 2 -3");
    let writes: Vec<_> =
        recording.each(|event| if let Event::Write(write) = event { Some(write) } else { None }).collect();
    let verbs: Vec<_> = writes.iter().map(|(_, write)| (write.verb, write.effect())).collect();
    assert_eq!(
        verbs,
        [(Verb::Create, Effect::Certain), (Verb::Update, Effect::Maybe), (Verb::Delete, Effect::Certain)]
    );
    let lists = recording.each(|event| if let Event::Listed(list) = event { Some(&list.objects) } else { None });
    assert_eq!(lists.last().map(|(_, objects)| objects.clone()), Some(vec![("x".to_owned(), 1)]));
    assert!(recording.observations.is_sorted_by_key(|seen| seen.at));
    let span = recording.observations.last().map(|last| last.at.since(recording.header.began_at));
    assert!(span.is_some_and(|span| span < secs(3) && span > Duration::ZERO));
}
