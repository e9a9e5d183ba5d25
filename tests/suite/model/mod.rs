//! Machines that try to fool the verdicts: a small control plane with its clients, on a simulated clock, correct or with one bug, against an oracle
//! that asks the sentences of the requirements and nothing else.
//!
//! ```text
//! seed 7, graceful roll, no bug                        ->  the oracle finds nothing, no verdict is violated
//! seed 7, graceful roll, a watch resumes too old       ->  the oracle says WATCH-3 is broken, its verdict is not upheld
//! ```
//!
//! - `apiserver.rs`: etcd's history, apiservers whose watch caches lag, their restarts, and the balancer before them;
//! - `clients.rs` and `watches.rs`: the probes, and the bugs;
//! - `oracle.rs`, `written.rs` and `requests.rs`: loops over the recording, as naive as the sentences allow;
//! - `properties.rs`: verdicts and oracle agree.

mod apiserver;
mod clients;
mod oracle;
mod properties;
mod requests;
mod watches;
mod written;

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::millis;

use crate::runs::*;
use crate::shorthand::*;

/// What a run is made from. The same plan gives the same recording.
#[derive(Clone, Debug)]
struct Plan {
    disturbance: Option<Restart>,
    seed: u64,
    /// What goes wrong, and at which of its opportunities (a share of them, in percent).
    bug: Option<(Bug, u64)>,
}

/// Something that a subject, or a client, may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    // Watches.
    DropsAnEvent,
    RepeatsAnEvent,
    SwapsEvents,
    WrongRevision,
    WrongContent,
    WrongObject,
    WrongKind,
    DeletedAtAnothersRevision,
    LateEvent,
    EventBeforeItsWrite,
    ResumesTooOld,
    ResumesTooNew,
    ResumesFromTheNewest,
    RelistsInstead,
    NeverReopens,
    StaleRelist,
    OldStateAtANewRevision,
    ResurrectedInARelist,
    EmptyRelist,
    BookmarkTooNew,
    // Requests.
    NewConnectionRefused,
    NewConnectionAsksForPatience,
    KeptRequestCutWhenReceived,
    KeptRefusedByAHealthyOne,
    KeptRefusedTwice,
    KeptIsNotRepaired,
    KeptHangs,
    // What is written.
    ResurrectedAtTheEnd,
    VanishedAtTheEnd,
    StrangerAtTheEnd,
    RefusedAndThere,
    DeleteSaysGoneAndItIsThere,
    StaleRead,
    DeletedInARead,
    LostUpdate,
    CounterGoesBack,
}

impl Bug {
    /// All of them, and which requirement each breaks if it finds its occasion.
    const ALL: [(Self, &'static str); 36] = [
        (Self::DropsAnEvent, "WATCH-1"),
        (Self::RepeatsAnEvent, "WATCH-3"),
        (Self::SwapsEvents, "WATCH-2"),
        (Self::WrongRevision, "WATCH-5"),
        (Self::WrongContent, "WATCH-5"),
        (Self::WrongObject, "WATCH-5"),
        (Self::WrongKind, "WATCH-5"),
        (Self::DeletedAtAnothersRevision, "WATCH-5"),
        (Self::LateEvent, "WATCH-6"),
        (Self::EventBeforeItsWrite, "WATCH-5"),
        (Self::ResumesTooOld, "WATCH-3"),
        (Self::ResumesTooNew, "WATCH-1"),
        (Self::ResumesFromTheNewest, "WATCH-4"),
        (Self::RelistsInstead, "WATCH-4"),
        (Self::NeverReopens, "WATCH-4"),
        (Self::StaleRelist, "WATCH-7"),
        (Self::OldStateAtANewRevision, "WATCH-5"),
        (Self::ResurrectedInARelist, "WATCH-5"),
        (Self::EmptyRelist, "WATCH-5"),
        (Self::BookmarkTooNew, "WATCH-8"),
        (Self::NewConnectionRefused, "ROLLOUT-1"),
        (Self::NewConnectionAsksForPatience, "ROLLOUT-1"),
        (Self::KeptRequestCutWhenReceived, "ROLLOUT-2"),
        (Self::KeptRefusedByAHealthyOne, "ROLLOUT-2"),
        (Self::KeptRefusedTwice, "ROLLOUT-2"),
        (Self::KeptIsNotRepaired, "ROLLOUT-2"),
        (Self::KeptHangs, "ROLLOUT-2"),
        (Self::ResurrectedAtTheEnd, "ROLLOUT-10"),
        (Self::VanishedAtTheEnd, "ROLLOUT-10"),
        (Self::StrangerAtTheEnd, "ROLLOUT-10"),
        (Self::RefusedAndThere, "ROLLOUT-10"),
        (Self::DeleteSaysGoneAndItIsThere, "ROLLOUT-10"),
        (Self::StaleRead, "ROLLOUT-14"),
        (Self::DeletedInARead, "ROLLOUT-14"),
        (Self::LostUpdate, "ROLLOUT-15"),
        (Self::CounterGoesBack, "ROLLOUT-15"),
    ];
}

/// The requirements that are put to the model, as far as they exist.
const ASKED: [&str; 13] = [
    "WATCH-1",
    "WATCH-2",
    "WATCH-3",
    "WATCH-4",
    "WATCH-5",
    "WATCH-6",
    "WATCH-7",
    "WATCH-8",
    "ROLLOUT-1",
    "ROLLOUT-2",
    "ROLLOUT-10",
    "ROLLOUT-14",
    "ROLLOUT-15",
];

/// When the writers end, and when the recording does.
const WRITTEN: u64 = 20_000;
const END: u64 = 21_500;

/// The whole run: control plane, clients, and the evidence that a run has.
fn simulate(plan: &Plan) -> Recording {
    let asked: Vec<_> = ASKED.into_iter().filter(|id| spec::requirement(id).is_some()).collect();
    let mut run = Simulation {
        plan: plan.clone(),
        random: Random(plan.seed),
        opportunities: 0,
        seen: Vec::new(),
        audited: Vec::new(),
    };
    let mut plane = apiserver::ControlPlane::new(plan.disturbance, &mut run.random);
    plane.observe(&mut run);
    clients::work(&mut plane, &mut run);
    watches::watch(&plane, &mut run);
    run.evidence();
    run.seen.sort_by_key(|seen| seen.at);
    let mut header = header(plan.disturbance, &asked);
    // Nobody writes its connections down.
    header.cell.balancer = "haproxy".into();
    Recording { header, observations: run.seen }
}

/// A run that is being made.
struct Simulation {
    plan: Plan,
    random: Random,
    /// How many opportunities there were for the bug.
    opportunities: u64,
    seen: Vec<Observation>,
    /// Audit-ID, apiserver, and whether it was answered.
    audited: Vec<(String, usize, bool)>,
}

impl Simulation {
    fn see(&mut self, at: u64, event: Event) {
        self.seen.push(observed(at, event));
    }

    /// Whether this is the opportunity for that bug, of about so many.
    fn strikes(&mut self, bug: Bug, of_about: u64) -> bool {
        let Some((planned, share)) = self.plan.bug else { return false };
        if planned != bug {
            return false;
        }
        self.opportunities += 1;
        self.opportunities == 1 + share * of_about / 100
    }

    /// Whether it is the bug of this run.
    fn has(&self, bug: Bug) -> bool {
        self.plan.bug.is_some_and(|(planned, _)| planned == bug)
    }

    /// An answer of that apiserver; the audit log has it, unless it is a refusal.
    fn answer(&mut self, audit_id: String, server: usize, status: u16, took: u64) -> Exchange {
        let mut exchange = Exchange { audit_id, took: millis(took), ..answered(status) };
        exchange.server = Some(SERVERS[server].into());
        self.audited.push((exchange.audit_id.clone(), server, true));
        exchange
    }

    /// No answer: its apiserver may have received it.
    fn lost(&mut self, audit_id: String, server: usize, class: ErrorClass, received: bool, took: u64) -> Exchange {
        let mut exchange = Exchange { audit_id, took: millis(took), ..failed(Phase::Headers, class) };
        exchange.server = Some(SERVERS[server].into());
        if received {
            self.audited.push((exchange.audit_id.clone(), server, false));
        }
        exchange
    }

    /// Audit logs that were read whole, signs of life of our own, and who observed.
    fn evidence(&mut self) {
        let mut probes: Vec<_> = self.seen.iter().filter_map(|seen| seen.event.probe().map(str::to_owned)).collect();
        probes.sort_unstable();
        probes.dedup();
        self.see(500, Event::Observers(Observers { probes }));
        for (audit_id, server, complete) in std::mem::take(&mut self.audited) {
            let stages = ["RequestReceived", "ResponseComplete"][..1 + usize::from(complete)].iter();
            let stages = stages.map(|stage| (*stage).to_owned()).collect();
            let (server, status) = (SERVERS[server].to_owned(), complete.then_some(200));
            self.see(END + 1000, Event::Audited(Audited { server, audit_id, stages, status }));
        }
        for server in SERVERS {
            self.see(END + 1001, audit_log(server));
        }
        for at in (0..END).step_by(1000) {
            self.see(at, Event::Ticked(Ticked { lasted: millis(1000), latest: millis(1) }));
        }
    }
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}
