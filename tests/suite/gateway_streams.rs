//! What the verdicts say about each kind of stream through a gateway: quiet ones, reads, sessions, and watches that go on.

use rollproof::timeline::*;
use rollproof::timing::millis;

use crate::gateway_verdicts::*;
use crate::shorthand::*;

#[test]
fn each_quiet_client_is_judged_by_itself() {
    let opened = |number: u8, server: &str| stream(Shape::Quiet, &format!("quiet-{number}"), 1000, server);
    let late = |number: u8| spoken_to(stream(Shape::Quiet, &format!("quiet-{number}"), 30_000, "apiserver-1"), 5000);
    // It had been on the dead apiserver, and was opened again.
    let dead = told(opened(0, "apiserver-0"), 13_000, ErrorClass::StreamReset);
    upheld().compare(&Parts::good().and(1000, dead).and(30_000, late(0)).recording());
    inconclusive("GATEWAY-4", "it was quiet for 5.000 s only").compare(&Parts::good().and(30_000, late(2)).recording());
    inconclusive("GATEWAY-4", "the quiet stream of quiet-2 was never spoken to, in 35.000 s")
        .compare(&Parts::good().and(1000, opened(2, "apiserver-1")).recording());
    // One of several that were tried until there was one on each apiserver.
    let tried = GatewayStream { lasted: millis(300), ..opened(0, "apiserver-1") };
    upheld().compare(&Parts::good().and(1000, tried).recording());
    // An apiserver that is lost later still answers.
    violated("GATEWAY-4", "a quiet stream through gateway was ended after 8.000 s")
        .compare(&Parts::good().and(1000, told(opened(0, "apiserver-0"), 8000, ErrorClass::StreamReset)).recording());
    let nowhere = GatewayStream { server: None, ..told(opened(2, ""), 8000, ErrorClass::StreamReset) };
    inconclusive("GATEWAY-4", "nobody knows on which apiserver the quiet stream of +1.000s was")
        .compare(&Parts::good().and(1000, nowhere).recording());
}

#[test]
fn a_read_that_hangs_until_its_client_loses_patience_has_failed() {
    let hangs = GatewayStream { answered: None, ..stream(Shape::Request, "busy", 12_000, "apiserver-0") };
    let hangs = told(hangs, 10_000, ErrorClass::Timeout);
    violated("GATEWAY-5", "a request of +12.000s through gateway got")
        .compare(&Parts::good().and(12_000, hangs).recording());
}

#[test]
fn a_new_watch_may_be_refused_with_what_its_client_repeats() {
    let refused = |status| {
        let watch = |at, status| (at, GatewayStream { shape: Shape::NewWatch, ..request(at, status) });
        let all = (1000..35_000).step_by(1000).map(|at| watch(at, 200)).chain([watch(12_500, status)]);
        all.fold(Parts::good(), |parts, (at, watch)| parts.and(at, watch)).recording()
    };
    upheld().compare(&refused(503));
    violated("GATEWAY-5", "a new watch of +12.500s through gateway got 403").compare(&refused(403));
}

#[test]
fn a_watch_that_does_not_go_on_misses_what_is_owed() {
    let alone = || Parts { resumed: None, ..Parts::good() };
    let ended = "watch-0 through gateway was ended at +14.000s and did not go on; it never told of change 10000";
    violated("GATEWAY-6", ended).compare(&alone().recording());
    // Nothing is written any more when it ends.
    let mut quiet = crate::gateway_silence::unchecked(alone().recording());
    quiet.observations.retain(|seen| {
        let Event::Write(write) = &seen.event else { return true };
        write.change < LOST
    });
    inconclusive("GATEWAY-6", "no watch was ended and went on")
        .and_inconclusive("GATEWAY-3", "no change was made for")
        .compare(&quiet);
    // One that was refused before all began was no watch.
    let refused = GatewayStream {
        answered: Some(Answered { after: millis(3), status: 503 }),
        ..told(stream(Shape::WatchAlone, "watch-1", 500, "apiserver-0"), 5, ErrorClass::Status)
    };
    upheld().compare(&Parts::good().and(500, refused).recording());
}

#[test]
fn a_watch_goes_on_from_the_last_revision_that_it_knew() {
    let from = |from, changes: std::ops::Range<u64>| {
        let resumed = Parts::good().resumed.map(|it| GatewayStream { from, ..telling(it, 14_000, changes) });
        Parts { resumed, ..Parts::good() }
    };
    upheld().compare(&from(Some(9500), LOST..36_000).recording());
    let earlier = "watch-0 through gateway went on from revision 7, and had come to revision 9500";
    violated("GATEWAY-6", earlier).compare(&from(Some(7), LOST..36_000).recording());
    violated("GATEWAY-6", "went on from revision 9600, and had come to revision 9500")
        .compare(&from(Some(9600), LOST..36_000).recording());
    violated("GATEWAY-6", "told of change 9000 again").compare(&from(Some(9500), 9000..36_000).recording());
    inconclusive("GATEWAY-6", "nobody knows from where watch-0 through gateway went on at +14.000s")
        .compare(&from(None, LOST..36_000).recording());
    // After 410 it may begin with whatever there is.
    let anew = |class| {
        let parts = Parts { dead: told(Parts::good().dead, 13_000, class), ..from(Some(0), 9500..36_000) };
        let mut recording = parts.recording();
        recording.header.judged_by.retain(|by| by.requirement == "GATEWAY-6");
        recording
    };
    upheld().compare(&anew(ErrorClass::Gone));
    violated("GATEWAY-6", "went on from revision 0").compare(&anew(ErrorClass::StreamReset));
    // What others write has a revision, too.
    let mut more = from(Some(9700), LOST..36_000);
    more.dead.heard.push(Heard { after: millis(8600), change: None });
    upheld().compare(&more.recording());
}

#[test]
fn without_a_fault_or_the_streams_it_is_about_nothing_is_proven() {
    let mut recording = Parts::good().recording();
    recording.observations.retain(|seen| !matches!(seen.event, Event::LossOn(_) | Event::LossOff(_)));
    inconclusive("GATEWAY-1", "no apiserver was lost, frozen or restarted")
        .and_inconclusive("GATEWAY-2", "no apiserver was lost, frozen or restarted")
        .and_inconclusive("GATEWAY-3", "no apiserver was lost, frozen or restarted")
        .and_inconclusive("GATEWAY-5", "no apiserver was lost, frozen or restarted")
        .compare(&recording);

    let parts = Parts {
        dead: Parts::good().other,
        quiet: spoken_to(stream(Shape::Quiet, "quiet-1", 1000, "apiserver-1"), 9000),
        resumed: None,
        requests: Vec::new(),
        ..Parts::good()
    };
    let mut recording = parts.recording();
    let health = BackendHealth { server: "apiserver-0".into(), healthy: false, why: String::new(), unanswered: true };
    recording.observations.insert(0, observed(LOST + 500, Event::BackendHealth(health)));
    inconclusive("GATEWAY-1", "no watch was open on the apiserver that was lost")
        .and_inconclusive("GATEWAY-2", "nothing was asked for late enough")
        .and_inconclusive("GATEWAY-4", "it was quiet for 9.000 s only")
        .and_inconclusive("GATEWAY-5", "nobody was told anything")
        .and_inconclusive("GATEWAY-6", "no watch was ended and went on")
        .compare(&recording);
}

#[test]
fn an_answer_that_was_lost_in_its_middle_is_no_gateways_fault() {
    let broken = |at: u64, server: &str| {
        let begun = GatewayStream { server: Some(server.into()), ..request(at, 200) };
        Parts::good().and(at, told(begun, 4000, ErrorClass::StreamReset)).recording()
    };
    upheld().compare(&broken(9990, "apiserver-0"));
    // The gateway should have known.
    violated("GATEWAY-5", "a request of +10.500s through gateway got stream reset")
        .compare(&broken(10_500, "apiserver-0"));
    violated("GATEWAY-5", "got stream reset").compare(&broken(9990, "apiserver-1"));
}

#[test]
fn a_session_in_which_nothing_is_said_is_not_to_be_cut_either() {
    let with = |session: GatewayStream| Parts::good().and(1000, session).recording();
    let opened = |shape, client: &str| {
        let answered = Some(Answered { after: millis(70), status: 101 });
        GatewayStream { answered, ..stream(shape, client, 1000, "apiserver-1") }
    };
    for shape in Shape::QUIET_SESSIONS {
        let quiet = || opened(shape, "session-1");
        upheld().compare(&with(spoken_to(quiet(), 34_000)));
        let cut = told(quiet(), 8000, ErrorClass::UnexpectedEof);
        violated("GATEWAY-4", "through gateway was ended after 8.000 s").compare(&with(cut));
        let hangs = GatewayStream { spoken_to: Some(millis(34_000)), ..quiet() };
        violated("GATEWAY-4", "through gateway did not tell of what happened at last").compare(&with(hangs));
        // On the dead apiserver it may end.
        let dead = GatewayStream { server: Some("apiserver-0".into()), ..quiet() };
        upheld().compare(&with(told(dead, 14_000, ErrorClass::UnexpectedEof)));
    }

    let both = |exec: GatewayStream| {
        let dead = told(typed(0, "apiserver-0", LOST), 13_000, ErrorClass::UnexpectedEof);
        Parts::good().and(1000, dead).and(1000, exec).recording()
    };
    upheld().compare(&both(typed(1, "apiserver-1", 36_000)));
    let cut = told(typed(1, "apiserver-1", 18_000), 17_000, ErrorClass::UnexpectedEof);
    violated("GATEWAY-3", "the exec through gateway was ended at +18.000s").compare(&both(cut));
}
