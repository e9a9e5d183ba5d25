//! A loss or a freeze has to be proven, streams have to be asked for throughout, and where they were has to be known: else GATEWAY and LOST prove
//! nothing, neither for a gateway nor against it.

use rollproof::timeline::*;
use rollproof::timing::millis;

use crate::gateway_verdicts::*;
use crate::shorthand::*;

/// The requirements that speak of a dead apiserver.
const OF_THE_DEAD: [&str; 4] = ["GATEWAY-1", "GATEWAY-2", "GATEWAY-3", "GATEWAY-5"];

/// None of them is upheld, nor violated.
fn unproven(text: &'static str) -> Expect {
    OF_THE_DEAD
        .into_iter()
        .fold(upheld(), |expect, id| expect.and_inconclusive(id, text))
        .and_inconclusive("GATEWAY-6", text)
}

/// Other packets are lost than all.
fn losing(mut recording: Recording, lost: Lost) -> Recording {
    for seen in &mut recording.observations {
        if let Event::LossOn(loss) | Event::LossOff(loss) = &mut seen.event {
            loss.lost = lost;
        }
    }
    recording
}

/// The process is frozen instead.
fn frozen(mut recording: Recording) -> Recording {
    for seen in &mut recording.observations {
        match seen.event {
            Event::LossOn(_) => seen.event = life("apiserver-0", Step::Frozen),
            Event::LossOff(_) => seen.event = life("apiserver-0", Step::Thawed),
            _ => {}
        }
    }
    recording
}

fn with(mut recording: Recording, at: u64, event: Event) -> Recording {
    recording.observations.push(observed(at, event));
    recording.observations.sort_by_key(|seen| seen.at);
    recording
}

/// The watch on the dead apiserver tells of what is changed until then, and is ended soon after.
fn heard_until(until: u64) -> Recording {
    let dead = telling(Parts::good().dead, 1000, 1000..until);
    let dead = told(dead, 13_000, ErrorClass::StreamReset);
    let resumed = Parts::good().resumed.map(|it| {
        let from = (until - 1) / 500 * 500;
        GatewayStream { from: Some(from), ..telling(it, 14_000, from + 1..36_000) }
    });
    Parts { dead, resumed, ..Parts::good() }.recording()
}

#[test]
fn an_apiserver_that_still_tells_of_changes_was_not_lost() {
    upheld().compare(&unchecked(heard_until(10_700)));
    unproven("apiserver-0 was to be lost at +10.000s (all packets are lost), and an event came from there at +11.005s")
        .compare(&heard_until(13_600));
    unproven("apiserver-0 was to be frozen at +10.000s, and an event came from there")
        .compare(&frozen(heard_until(13_600)));
    unproven("(all packets of it are lost), and an event came").compare(&losing(heard_until(13_600), Lost::FromServer));
    // What only it hears no more, it can go on to say.
    upheld().compare(&unchecked(losing(heard_until(11_600), Lost::ToServer)));
    // That a watch hangs is no breach either, where its apiserver was not lost.
    let hangs = GatewayStream { told: None, lasted: millis(35_000), ..Parts::good().dead };
    let hangs = Parts { dead: telling(hangs, 1000, 1000..36_000), resumed: None, ..Parts::good() };
    inconclusive("GATEWAY-1", "it did not bite")
        .and_inconclusive("GATEWAY-2", "it did not bite")
        .and_inconclusive("GATEWAY-3", "it did not bite")
        .and_inconclusive("GATEWAY-5", "nobody was told anything")
        .and_inconclusive("GATEWAY-6", "no watch was ended and went on")
        .compare(&hangs.recording());
}

#[test]
fn an_apiserver_that_still_answers_was_not_lost() {
    let answered = |at| {
        let answered = GatewayStream { server: Some("apiserver-0".into()), ..request(at, 200) };
        Parts::good().and(at, answered).recording()
    };
    upheld().compare(&answered(10_500));
    unproven("an answer came from there at +12.005s").compare(&answered(12_000));
    unproven("an answer came from there at +12.005s").compare(&losing(answered(12_000), Lost::ToServer));
    // Asked for while the way was whole, and told of when it is healed.
    upheld().compare(&answered(29_500));

    let probed = |remote: &str| {
        let connection =
            ConnectionUse { local: "127.0.0.1:7".into(), remote: remote.into(), reused: true, idle: millis(1) };
        let server = Some("apiserver-0".to_owned());
        let exchange = Exchange { server, connection: Some(connection), ..crate::shorthand::answered(200) };
        let (probe, on) = ("requester".into(), ConnectionKind::Reused);
        Event::Request(Request { probe, on, retries: None, exchange, attempts: Vec::new() })
    };
    unproven("an answer came from there at +15.001s (requester)").compare(&with(
        Parts::good().recording(),
        15_000,
        probed("127.0.0.1:16443"),
    ));
    // Past the balancer nothing is lost.
    upheld().compare(&with(Parts::good().recording(), 15_000, probed("127.0.0.1:1")));
    let health = |status| {
        let (server, path) = ("apiserver-0".into(), "/livez".into());
        Event::ServerHealth(ServerHealth { server, path, answer: Ok(status), took: millis(2) })
    };
    upheld().compare(&with(Parts::good().recording(), 15_000, health(200)));
    unproven("frozen at +10.000s, and an answer came from there at +15.002s (/livez)").compare(&with(
        frozen(Parts::good().recording()),
        15_000,
        health(200),
    ));
}

#[test]
fn a_restart_has_to_be_proven_as_well() {
    let killed = |exited: bool| {
        let mut recording = tooth("GATEWAY-1");
        recording.header.disturbance = Some(Restart::Killed);
        recording.header.judged_by.retain(|by| by.requirement == "GATEWAY-1");
        let fault = || Fault { restart: Restart::Killed, server: "apiserver-0".into() };
        for seen in &mut recording.observations {
            match seen.event {
                Event::LossOn(_) => seen.event = Event::FaultOn(fault()),
                Event::LossOff(_) => seen.event = Event::FaultOff(fault()),
                _ => {}
            }
        }
        let recording = with(recording, LOST + 1, life("apiserver-0", Step::KillSent));
        if exited { with(recording, LOST + 20, life("apiserver-0", Step::Exited)) } else { recording }
    };
    violated("GATEWAY-1", "ended 16.000 s after its apiserver was lost").compare(&killed(true));
    inconclusive("GATEWAY-1", "apiserver-0 was sent SIGKILL and is not seen to end").compare(&killed(false));
}

/// Nobody has a watch on the apiserver that is lost, and it is asked for nothing.
fn unwanted() -> Recording {
    let mut recording = Parts { dead: Parts::good().other, resumed: None, ..Parts::good() }.recording();
    recording.header.judged_by.retain(|by| by.requirement == "GATEWAY-2");
    recording
}

#[test]
fn a_loss_for_which_nobody_waited_in_vain_is_not_proven() {
    let nobody = "nothing shows that it bit: nobody waited in vain";
    inconclusive("GATEWAY-2", nobody).compare(&unwanted());
    let segment = |kind| Segment { after: millis(12_000), from: Party::Client, kind };
    let packets = |kind| {
        let (interface, client, server) = ("to-apiserver-0".into(), "127.0.0.1:3".into(), "127.0.0.1:1".into());
        Event::Packets(Packets { interface, client, server, segments: vec![segment(kind)] })
    };
    let unchecked = |server: &str, unanswered| {
        let (server, why) = (server.to_owned(), "no answer".to_owned());
        Event::BackendHealth(BackendHealth { server, healthy: false, why, unanswered })
    };
    let waits = |class| {
        let waits = GatewayStream { shape: Shape::Quiet, ..stream(Shape::Quiet, "quiet-0", 1000, "apiserver-0") };
        Event::GatewayStream(told(waits, 12_000, class))
    };
    let timed = |told: Option<Told>, carries, server: &str| {
        Event::Timer(TimerConnection {
            probe: "reader".into(),
            client: "127.0.0.1:2".into(),
            peer: String::new(),
            server: server.into(),
            manner: Manner::default(),
            interval: millis(300),
            idle_timeout: millis(20_000),
            lasted: millis(15_000),
            client_told: told,
            server_told: None,
            carries,
        })
    };
    let given_up = |class, idle| {
        let failure = Some(Failure { class, text: String::new() });
        Some(Told { after: millis(14_000), idle: millis(idle), failure })
    };
    let signs = [
        (1000, packets(SegmentKind::Retransmission), true),
        (1000, packets(SegmentKind::Keepalive), false),
        (11_000, unchecked("apiserver-0", true), true),
        (11_000, unchecked("apiserver-0", false), false),
        (11_000, unchecked("apiserver-1", true), false),
        (9000, unchecked("apiserver-0", true), false),
        (1000, waits(ErrorClass::Timeout), true),
        (1000, waits(ErrorClass::StreamReset), false),
        (1000, timed(None, Some(false), "apiserver-0"), true),
        (1000, timed(None, Some(false), "apiserver-1"), false),
        (1000, timed(given_up(ErrorClass::Timeout, 100), None, "apiserver-0"), true),
        (1000, timed(given_up(ErrorClass::ConnectionReset, 4000), None, "apiserver-0"), true),
        (1000, timed(given_up(ErrorClass::ConnectionReset, 100), None, "apiserver-0"), false),
    ];
    for (number, (at, sign, proves)) in signs.into_iter().enumerate() {
        println!("sign {number}");
        let expect = if proves { upheld() } else { inconclusive("GATEWAY-2", nobody) };
        expect.compare(&with(unwanted(), at, sign));
    }
    inconclusive("GATEWAY-2", "it did not bite").compare(&with(
        unwanted(),
        1000,
        timed(None, Some(true), "apiserver-0"),
    ));
    // The kernel of a frozen process acknowledges, whatever it is sent.
    inconclusive("GATEWAY-2", "frozen at +10.000s, and nothing shows").compare(&frozen(with(
        unwanted(),
        1000,
        packets(SegmentKind::Retransmission),
    )));
    upheld().compare(&frozen(with(unwanted(), 11_000, unchecked("apiserver-0", true))));
}

#[test]
fn where_nobody_knows_on_which_apiserver_a_watch_was_nothing_is_upheld() {
    let nowhere = |stream: GatewayStream| GatewayStream { server: None, ..stream };
    let unnamed = |parts: Parts| Parts { dead: nowhere(parts.dead), ..parts };
    let text = "nobody knows on which apiserver the watch alone of +1.000s through gateway was";
    let silent = || unchecked(unnamed(Parts::good()).recording());
    inconclusive("GATEWAY-1", text).and_inconclusive("GATEWAY-3", text).compare(&silent());
    // An audit log may tell.
    let audited = |server: &str| {
        let (server, audit_id) = (server.to_owned(), "watch-0-1000".to_owned());
        Event::Audited(Audited { server, audit_id, stages: vec!["RequestReceived".into()], status: Some(200) })
    };
    upheld().compare(&with(silent(), 37_000, audited("apiserver-0")));
}

#[test]
fn a_watch_that_its_client_gave_up_says_nothing() {
    let dropped = |after| {
        let dead = GatewayStream { told: None, lasted: millis(after), ..Parts::good().dead };
        Parts { dead, ..Parts::good() }.recording()
    };
    inconclusive("GATEWAY-1", "the watch alone was over for its client 4.000 s after apiserver-0 was lost")
        .and_inconclusive("GATEWAY-5", "nobody was told anything")
        .compare(&dropped(13_000));
    violated("GATEWAY-1", "had not ended 13.000 s after its apiserver was lost")
        .and_inconclusive("GATEWAY-5", "nobody was told anything")
        .compare(&dropped(22_000));
}

/// Its check is not answered.
pub(crate) fn unchecked(recording: Recording) -> Recording {
    let health = BackendHealth { server: "apiserver-0".into(), healthy: false, why: String::new(), unanswered: true };
    with(recording, LOST + 500, Event::BackendHealth(health))
}

#[test]
fn what_is_asked_for_has_to_be_asked_for_throughout() {
    let asking = |when: fn(u64) -> bool| Parts::good().asking(when).recording();
    inconclusive("GATEWAY-2", "no request was asked for in 2.")
        .and_inconclusive("GATEWAY-5", "no read was asked for in 2.")
        .compare(&asking(|at| !(23_000..25_500).contains(&at)));
    inconclusive("GATEWAY-5", "no read was asked for in 2.").compare(&asking(|at| !(12_000..14_500).contains(&at)));
    inconclusive("GATEWAY-2", "9 were asked for late enough after the loss; at least 10 are needed")
        .and_inconclusive("GATEWAY-5", "9 reads were asked for meanwhile; at least 10 are needed")
        .compare(&asking(|at| at < LOST || (22_001..24_250).contains(&at) || at > HEALED));
    // New watches as well, where there are some.
    let watch = |at| GatewayStream { shape: Shape::NewWatch, ..request(at, 200) };
    let watches = |when: &dyn Fn(u64) -> bool| {
        let all = (1000..35_000).step_by(1000).filter(|at| when(*at));
        all.fold(Parts::good(), |parts, at| parts.and(at, watch(at))).recording()
    };
    upheld().compare(&watches(&|_| true));
    inconclusive("GATEWAY-2", "no new watch was asked for in 2.994 s")
        .compare(&watches(&|at| !(24_000..26_000).contains(&at)));
    // And changes.
    let mut unchanged = Parts::good().recording();
    unchanged.observations.retain(|seen| match &seen.event {
        Event::Write(write) => !(20_000..22_500).contains(&write.change),
        _ => true,
    });
    inconclusive("GATEWAY-3", "no change was made for 2.999 s from +19.501s on, and at most 2.000 s may pass")
        .compare(&unchanged);
}

#[test]
fn a_stall_of_ours_excuses_only_what_it_can_explain() {
    let stalled = |recording, at: u64| with(recording, at, Event::Stall(millis(600)));
    let hangs = || {
        let dead = GatewayStream { told: None, lasted: millis(35_000), ..Parts::good().dead };
        let mut recording = Parts { dead, resumed: None, ..Parts::good() }.recording();
        recording.header.judged_by.retain(|by| by.requirement == "GATEWAY-1");
        recording
    };
    let only = |id: &str| {
        let mut recording = tooth(id);
        recording.header.judged_by.retain(|by| by.requirement == id);
        recording
    };
    let stall = "rollproof itself did not run for 0.600 s";
    // Its end after 16 s was due after 12.
    violated("GATEWAY-1", "ended 16.000 s after").compare(&stalled(only("GATEWAY-1"), 15_000));
    inconclusive("GATEWAY-1", stall).compare(&stalled(only("GATEWAY-1"), 25_500));
    violated("GATEWAY-1", "had not ended 20.000 s after").compare(&stalled(hangs(), 25_500));
    inconclusive("GATEWAY-1", stall).compare(&stalled(hangs(), 29_600));
    // What somebody else said, and what is left out, is no matter of time.
    for (id, at, text) in [
        ("GATEWAY-3", 17_500, "was ended at +18.010s"),
        ("GATEWAY-4", 8800, "was ended after 8.000 s"),
        ("GATEWAY-5", 11_800, "got 503"),
        ("GATEWAY-6", 11_800, "never told of change 12000"),
    ] {
        violated(id, text).compare(&stalled(only(id), at));
    }
    inconclusive("GATEWAY-2", stall).compare(&stalled(only("GATEWAY-2"), 26_000));
    // Nothing is upheld where it could hide something.
    OF_THE_DEAD
        .into_iter()
        .chain(["GATEWAY-4", "GATEWAY-6"])
        .fold(upheld(), |expect, id| expect.and_inconclusive(id, stall))
        .compare(&stalled(Parts::good().recording(), 15_000));
}

#[test]
fn an_apiserver_that_has_no_time_is_no_fault_of_a_gateway() {
    let starving = |id: &str, at: u64| {
        let health =
            BackendHealth { server: "apiserver-1".into(), healthy: false, why: "no answer".into(), unanswered: true };
        let mut recording = with(tooth(id), at, Event::BackendHealth(health));
        recording.header.judged_by.retain(|by| by.requirement == id);
        recording
    };
    for (id, at) in [("GATEWAY-3", 18_200), ("GATEWAY-4", 9200), ("GATEWAY-5", 12_100)] {
        inconclusive(id, "apiserver-1, which nobody disturbed, went out of service").compare(&starving(id, at));
        violated(id, "").compare(&starving(id, 25_000));
    }
}
