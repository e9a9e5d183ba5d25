//! What the verdicts and the page about gateways say of clients as they are: informers, many watches on one connection, and requests of which some
//! fail.

use rollproof::lab::gateway::{NONE, RECOMMENDED};
use rollproof::report::cures_markdown;
use rollproof::timeline::*;
use rollproof::timing::{gateway as times, millis, secs};
use rollproof::verdict::{Figure, Informer, Onward, Recovery, cures, judge_all};

use crate::gateway_verdicts::{Parts, request, stream, telling, told};
use crate::shorthand::*;

const ANEW: Option<u64> = Some(0);

/// An informer's watch that was asked for then, from that revision.
fn informer(client: &str, at: u64, server: &str, from: Option<u64>) -> GatewayStream {
    let (asked_to_last, pings) = (Some(times::INFORMER_WATCH), Some(9));
    GatewayStream { from, asked_to_last, pings, ..stream(Shape::Informer, client, at, server) }
}

/// It ends as it was asked to, or well before.
fn over(stream: GatewayStream, after: u64) -> GatewayStream {
    GatewayStream { told: Some(StreamEnd { after: millis(after), failure: None }), lasted: millis(after), ..stream }
}

/// The informer on the dead apiserver is told of its end after 4 s, and begins anew.
fn with_informer() -> Parts {
    let dead = telling(informer("informer-0", 5000, "apiserver-0", Some(4500)), 5000, 5000..10_000);
    let anew = telling(informer("informer-0", 14_100, "apiserver-1", ANEW), 14_100, 14_200..36_000);
    Parts::good().and(5000, told(dead, 9000, ErrorClass::StreamReset)).and(14_100, anew).and(5000, other_informer())
}

/// The one on the other apiserver, which is over when all is healed.
fn other_informer() -> GatewayStream {
    let other = telling(informer("informer-1", 5000, "apiserver-1", Some(4500)), 5000, 5000..36_000);
    GatewayStream { asked_to_last: Some(secs(40)), ..other }
}

/// It is told of nothing for as long as the apiserver is dead.
fn with_hanging_informer() -> Parts {
    let hangs = informer("informer-0", 5000, "apiserver-0", Some(4500));
    Parts::good().and(5000, telling(hangs, 5000, 5000..10_000)).and(5000, other_informer())
}

/// What a page says: without writes, whose last one would end what a watch owes.
fn page_of(parts: Parts, gateway: &str) -> Recording {
    let mut recording = parts.recording();
    recording.observations.retain(|seen| !matches!(seen.event, Event::Write(_)));
    for seen in &mut recording.observations {
        if let Event::GatewayStream(stream) = &mut seen.event {
            gateway.clone_into(&mut stream.gateway);
        }
    }
    recording
}

fn figures(recording: &Recording, id: &str) -> Vec<(String, f64)> {
    let judgements = judge_all(recording).unwrap();
    let judged = judgements.into_iter().find(|judgement| judgement.requirement.id == id).unwrap();
    judged.figures.into_iter().map(|Figure { name, value, .. }| (name, value)).collect()
}

fn figure(recording: &Recording, id: &str, name: &str) -> Option<f64> {
    figures(recording, id).into_iter().find_map(|(found, value)| (found == name).then_some(value))
}

#[test]
fn an_informer_that_hangs_is_told_with_its_detector_its_age_and_its_pings() {
    let hangs = with_hanging_informer().recording();
    violated("GATEWAY-1", "the informer through gateway had not ended 20.000 s after its apiserver was lost")
        .compare(&hangs);
    let expected = [("hang detector struck after", 12.0), ("age of the informer's watch", 25.0)];
    let expected = expected.into_iter().chain([("PINGs of its client answered", 9.0)]);
    for (name, value) in expected {
        assert_eq!(figure(&hangs, "GATEWAY-1", name), Some(value), "{name}");
    }
    let goes_on = with_informer().recording();
    upheld().compare(&goes_on);
    assert_eq!(figure(&goes_on, "GATEWAY-1", "hang detector struck after"), None);
    assert_eq!(figure(&goes_on, "GATEWAY-1", "age of the informer's watch"), Some(9.0));
}

#[test]
fn a_hang_detector_strikes_after_silence_and_not_for_the_end_of_a_watch() {
    let heard_again = |at: u64| {
        let dead = told(informer("informer-0", 5000, "apiserver-0", Some(5)), 9000, ErrorClass::StreamReset);
        let next = informer("informer-0", 14_100, "apiserver-1", ANEW);
        let heard = (at..36_000).step_by(1000).map(|at| Heard { after: millis(at - 14_100), change: Some(at) });
        let next = GatewayStream { heard: heard.collect(), ..next };
        let recording = Parts::good().and(5000, dead).and(14_100, next).recording();
        figure(&recording, "GATEWAY-1", "hang detector struck after")
    };
    assert_eq!(heard_again(21_900), None);
    assert_eq!(heard_again(22_000), Some(12.0));
    // When it strikes is the recording's to say.
    let mut patient = with_hanging_informer().recording();
    patient.header.bounds.gateway_hang = secs(15);
    assert_eq!(figure(&patient, "GATEWAY-1", "hang detector struck after"), Some(15.0));
}

#[test]
fn a_watch_that_ended_when_it_was_asked_to_is_untouched() {
    let other = |after: u64, silent: bool| {
        let until = if silent { 11_000 } else { 5000 + after };
        let other = telling(informer("informer-2", 5000, "apiserver-1", Some(4500)), 5000, 5000..until);
        let next = informer("informer-2", 20_500, "apiserver-1", Some((until - 1) / 500 * 500));
        let next = telling(next, 20_500, until..36_000);
        with_informer().and(5000, over(other, after)).and(20_500, next).recording()
    };
    upheld().compare(&other(15_001, false));
    let errors = |recording: &Recording| figure(recording, "GATEWAY-5", "streams ended with an error").unwrap();
    assert_eq!(errors(&other(15_001, false)), errors(&with_informer().recording()), "such an end is no error");
    assert_eq!(errors(&other(12_000, false)), errors(&with_informer().recording()) + 1.0);
    violated("GATEWAY-3", "the informer through gateway was ended at +17.000s").compare(&other(12_000, false));
    // Until then it has to tell of changes.
    violated("GATEWAY-3", "the informer through gateway never told of change 11000").compare(&other(15_001, true));
}

#[test]
fn an_informer_that_goes_on_is_owed_every_change_and_one_that_begins_anew_is_not() {
    let dead = || {
        let dead = telling(informer("informer-0", 5000, "apiserver-0", Some(4500)), 5000, 5000..10_000);
        told(dead, 9000, ErrorClass::UnexpectedEof)
    };
    let both =
        |next: GatewayStream| Parts::good().and(5000, dead()).and(14_100, next).and(5000, other_informer()).recording();
    let next = |from: Option<u64>| informer("informer-0", 14_100, "apiserver-1", from);
    let late = |from| telling(next(from), 14_100, 14_200..36_000);
    upheld().compare(&both(late(ANEW)));
    violated("GATEWAY-6", "informer-0 through gateway never told of change 10000").compare(&both(late(Some(9500))));
    // States may be what it knew; but each once.
    let states = || telling(next(ANEW), 14_100, 9000..36_000);
    upheld().compare(&both(states()));
    let mut twice = states();
    twice.heard.insert(1, twice.heard[0]);
    violated("GATEWAY-6", "informer-0 through gateway told of change 9000 again").compare(&both(twice));
    // It is owed what came after it had begun anew; and one that was only refused has not begun.
    violated("GATEWAY-6", "informer-0 through gateway never told of change 14500").compare(&both(next(ANEW)));
    let refused = GatewayStream { answered: None, server: None, ..next(ANEW) };
    violated("GATEWAY-6", "informer-0 through gateway was ended at +14.000s and did not go on").compare(&both(told(
        refused,
        100,
        ErrorClass::ConnectionReset,
    )));
}

/// Where only the gateway's packets are lost, an apiserver still ends what was asked to last so long: that is not the gateway's doing.
#[test]
fn a_watch_that_its_dead_apiserver_has_ended_says_nothing_of_the_gateway() {
    let ended = |lost: Lost, after: u64| {
        let ended = telling(informer("informer-0", 5000, "apiserver-0", Some(4500)), 5000, 5000..10_000);
        let next = telling(informer("informer-0", 20_200, "apiserver-1", Some(9500)), 20_200, 10_000..36_000);
        let parts = Parts::good().and(5000, over(ended, after)).and(20_200, next).and(5000, other_informer());
        let mut recording = parts.recording();
        for seen in &mut recording.observations {
            if let Event::LossOn(loss) | Event::LossOff(loss) = &mut seen.event {
                loss.lost = lost;
            }
        }
        recording
    };
    inconclusive("GATEWAY-1", "no informer was open on the apiserver that was lost")
        .compare(&ended(Lost::ToServer, 15_001));
    // Where its own are lost as well, it cannot: nothing was lost.
    let bitten = "the end of a watch came from there at +20.001s (informer-0): it did not bite";
    ["GATEWAY-1", "GATEWAY-2", "GATEWAY-3", "GATEWAY-5", "GATEWAY-6"]
        .into_iter()
        .fold(upheld(), |expect, id| expect.and_inconclusive(id, bitten))
        .compare(&ended(Lost::Both, 15_001));
    // A gateway is not as exact.
    upheld().compare(&ended(Lost::Both, 16_500));
}

/// So many watches of one client on the dead apiserver, and one on the other. All but the last end after 4 s and go on; the last ends after that.
fn many(there: u64, last: u64) -> Parts {
    let one = |number: u64| {
        let client = format!("watchmany-{number}");
        let after = if number + 1 == there { last } else { 13_000 };
        let dead = telling(stream(Shape::WatchMany, &client, 1000, "apiserver-0"), 1000, 1000..10_000);
        let dead = told(dead, after, ErrorClass::StreamReset);
        let next = GatewayStream { from: Some(9500), ..stream(Shape::WatchMany, &client, 1000 + after, "apiserver-1") };
        [(1000, dead), (1000 + after, telling(next, 1000 + after, 10_000..36_000))]
    };
    let other = telling(stream(Shape::WatchMany, "watchmany-other", 1000, "apiserver-1"), 1000, 1000..36_000);
    let parts = Parts::good().and(1000, other);
    (0..there).flat_map(one).fold(parts, |parts, (at, stream)| parts.and(at, stream))
}

#[test]
fn of_many_watches_all_have_to_end_and_they_have_to_be_too_many_for_one_connection() {
    let all = many(101, 13_000).recording();
    upheld().compare(&all);
    assert_eq!(figure(&all, "GATEWAY-1", "dead watches among many"), Some(101.0));
    violated("GATEWAY-1", "the watch among many through gateway ended 16.000 s after its apiserver was lost")
        .compare(&many(101, 25_000).recording());
    inconclusive("GATEWAY-1", "100 watches among many were there, and 100 fit one connection")
        .compare(&many(100, 13_000).recording());
    // How many fit one is the recording's to say.
    let mut fewer = many(100, 13_000).recording();
    fewer.header.bounds.gateway_streams = 99;
    upheld().compare(&fewer);
}

#[test]
fn a_watch_by_http1_is_judged_as_others_are_and_may_change_its_port() {
    let on = |local: &str, stream: GatewayStream| GatewayStream { local: local.into(), ..stream };
    let watch = |number: u8, at, server| stream(Shape::WatchHttp1, &format!("watchhttp1-{number}"), at, server);
    let other = || telling(watch(1, 1000, "apiserver-1"), 1000, 1000..36_000);
    let parts = || Parts::good().and(1000, other());
    let dead = on("127.0.0.1:6", telling(watch(0, 1000, "apiserver-0"), 1000, 1000..10_000));
    violated("GATEWAY-1", "the watch by HTTP/1.1 through gateway had not ended 20.000 s after its apiserver was lost")
        .compare(&parts().and(1000, dead.clone()).recording());
    let ended = told(dead, 13_000, ErrorClass::UnexpectedEof);
    let next = GatewayStream { from: Some(9500), ..watch(0, 14_000, "apiserver-1") };
    let next = on("127.0.0.1:7", telling(next, 14_000, 10_000..36_000));
    let goes_on = parts().and(1000, ended.clone()).and(14_000, next).recording();
    upheld().compare(&goes_on);
    assert_eq!(figure(&goes_on, "GATEWAY-5", "client connections"), Some(1.0));
    violated("GATEWAY-6", "watchhttp1-0 through gateway was ended at +14.000s and did not go on")
        .compare(&parts().and(1000, ended).recording());
}

#[test]
fn what_failed_now_and_then_is_counted_and_so_are_the_clients_ports() {
    let refused = |at| (at, GatewayStream { shape: Shape::NewWatch, ..request(at, 503) });
    let slow = Some(Answered { after: secs(4), status: 200 });
    let slow = GatewayStream { answered: slow, told: None, lasted: secs(4), ..request(13_000, 200) };
    let failed = [refused(12_000), refused(12_500), (13_000, slow)];
    let parts = || failed.iter().cloned().fold(Parts::good(), |parts, (at, stream)| parts.and(at, stream));
    let expected = [("asked for meanwhile", 71.0), ("answered with 503", 2.0), ("failed otherwise", 1.0)];
    for (name, value) in expected.into_iter().chain([("client connections", 1.0)]) {
        assert_eq!(figure(&parts().recording(), "GATEWAY-5", name), Some(value), "{name}");
    }
    let found = &cures(&page_of(parts(), NONE.name))[0];
    assert_eq!((found.asked, found.connections), ([69, 2], 1));
    assert_eq!(found.new_watch_failures, [("503".to_owned(), 2)].into());
    // An informer has a connection of its own; a second one is a client's that had to dial again.
    let on = |local: &str, at| GatewayStream { local: local.into(), ..informer("informer-0", at, "apiserver-0", ANEW) };
    let connections = |second: &str| {
        let recording = Parts::good().and(5000, on("127.0.0.1:6", 5000)).and(9000, on(second, 9000)).recording();
        figure(&recording, "GATEWAY-5", "client connections")
    };
    assert_eq!((connections("127.0.0.1:6"), connections("127.0.0.1:7")), (Some(1.0), Some(2.0)));
    // Of two gateways each has its own.
    let elsewhere = GatewayStream { gateway: "another".into(), ..on("127.0.0.1:8", 5000) };
    let recording = Parts::good().and(5000, on("127.0.0.1:6", 5000)).and(5000, elsewhere).recording();
    assert_eq!(figure(&recording, "GATEWAY-5", "client connections"), Some(1.0));
}

#[test]
fn the_page_tells_of_informers_where_there_were_some() {
    let remedies = crate::cures::remedies();
    let page = |gateway: &str, parts: Parts| cures_markdown(&[page_of(parts, gateway)], &remedies);
    assert!(!page(NONE.name, Parts::good()).contains("| hang detector |"));
    let hangs = page(NONE.name, with_hanging_informer());
    assert!(
        hangs.contains("\n| none | **never** | **struck after 12.0 s** | 25.0 s of 15.0 s | 9 | not |\n"),
        "{hangs}"
    );
    let goes_on = page(RECOMMENDED.name, with_informer());
    assert!(goes_on.contains("\n| recommended | 4.5 s | silent | 9.0 s of 15.0 s | 9 | anew |\n"), "{goes_on}");
    let counted = |active: u64| {
        let counters = [("cluster.alone.upstream_cx_active".to_owned(), active)].into();
        observed(9000, Event::GatewayCounted(GatewayCounted { gateway: RECOMMENDED.name.into(), counters }))
    };
    let mut many = page_of(many(101, 13_000), RECOMMENDED.name);
    many.observations.extend([counted(4), counted(3)]);
    let many = cures_markdown(&[many], &remedies);
    assert!(many.contains("\n| recommended | 4 | 101 | 4.0 s |\n"), "{many}");

    let found = cures(&page_of(with_informer(), NONE.name)).remove(0).informer.unwrap();
    let Informer { recovery, struck, went_on, .. } = found;
    assert_eq!((recovery, struck, went_on), (Recovery::After(millis(4505)), None, Some(Onward::Anew)));
}
