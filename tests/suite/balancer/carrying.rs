//! One connection through the builtin balancer: what passes, who ends it and how, and what is recorded of it.

use std::io::ErrorKind;

use rollproof::lab::balancer::{IdleTimeout, OnIdle, OnUnhealthy};
use rollproof::timeline::{End, Party};
use rollproof::timing::{millis, secs};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::stage::{ended, one, pair, read_exactly, read_to_end, reset, soon};

#[rstest]
#[tokio::test]
async fn who_ended_a_connection_and_how_is_passed_on_and_recorded(
    #[values(Party::Client, Party::Server)] party: Party,
    #[values(End::Fin, End::Reset)] how: End,
) {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (client, server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();
    let (ending, mut other) = if party == Party::Client { (client, server) } else { (server, client) };
    if how == End::Reset {
        reset(ending);
        assert_eq!(read_to_end(&mut other).await, Err(ErrorKind::ConnectionReset));
    } else {
        drop(ending);
        assert_eq!(read_to_end(&mut other).await, Ok(vec![]));
        drop(other);
    }
    let (_, record) = ended(&recorder, from).await;
    assert_eq!((record.ended_by, record.end), (party, how));
    assert_eq!((record.sent, record.received), (5, 0));
}

#[tokio::test]
async fn a_half_closed_connection_lives_on_in_the_other_direction() {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server).await, Ok(vec![]));
    for word in [b"still", b"there"] {
        server.write_all(word).await.unwrap();
        assert_eq!(read_exactly(&mut client, 5).await, word);
    }
    drop(server);
    assert_eq!(read_to_end(&mut client).await, Ok(vec![]));
    let (_, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert_eq!((record.ended_by, record.end), (Party::Client, End::Fin), "the first FIN was the client's");
    assert_eq!((record.sent, record.received), (5, 10));
}

/// The other side hears of it even if it is silent itself; and who was first is who ended it.
#[tokio::test]
async fn a_reset_after_a_fin_is_passed_on() {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    reset(client);
    let (_, record) = ended(&recorder, from).await;
    assert_eq!((record.ended_by, record.end), (Party::Client, End::Fin));
    let broken = async { while server.write_all(b"anybody?").await.is_ok() {} };
    soon(broken).await;
}

#[tokio::test]
async fn a_server_that_resets_a_half_closed_connection_has_ended_it() {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server).await, Ok(vec![]));
    reset(server);
    assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
    let (_, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert_eq!((record.ended_by, record.end), (Party::Server, End::Reset));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_arrives_once_and_in_order_and_is_counted() {
    const SIZE: usize = 8 << 20;
    let text = |seed: u32| (0..SIZE as u32).map(|at| (at.wrapping_mul(seed) >> 13) as u8).collect::<Vec<u8>>();
    let (up, down) = (text(2_654_435_761), text(2_246_822_519));
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();

    let talk = async |stream: &mut TcpStream, says: &[u8]| {
        let (mut reader, mut writer) = stream.split();
        let mut heard = Vec::new();
        let say = async {
            writer.write_all(says).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(say, reader.read_to_end(&mut heard));
        read.unwrap();
        heard
    };
    let (at_client, at_server) = soon(async { tokio::join!(talk(&mut client, &up), talk(&mut server, &down)) }).await;
    assert!(at_client == down && at_server == up);
    let (_, record) = ended(&recorder, from).await;
    assert_eq!((record.sent, record.received), (SIZE as u64 + 5, SIZE as u64));
}

#[tokio::test]
async fn idle_is_the_time_since_the_last_byte() {
    let after = millis(100);
    let (mut fake, balancer, recorder) = one(|settings| settings.on_unhealthy = OnUnhealthy::Fin { after }).await;
    let (client, _server) = pair(&balancer, &mut fake).await;
    fake.health.fail();
    let (_, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert!(after <= record.idle && record.idle <= record.lasted, "{record:?}");
}

/// How long a connection may be idle in these tests.
const IDLE: std::time::Duration = secs(1);

#[rstest]
#[case::by_rst(OnIdle::Reset, End::Reset, Err(ErrorKind::ConnectionReset))]
#[case::by_fin(OnIdle::Fin, End::Fin, Ok(vec![]))]
#[tokio::test]
async fn an_idle_timeout_is_announced_to_both_sides(
    #[case] then: OnIdle,
    #[case] end: End,
    #[case] seen: Result<Vec<u8>, ErrorKind>,
) {
    let (mut fake, balancer, recorder) = one(|settings| settings.idle = Some(IdleTimeout { after: IDLE, then })).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();
    let (at_client, at_server) = tokio::join!(read_to_end(&mut client), read_to_end(&mut server));
    assert_eq!((at_client, at_server), (seen.clone(), seen));
    let (_, record) = ended(&recorder, from).await;
    assert_eq!((record.ended_by, record.end), (Party::Balancer, end));
    assert!(record.idle >= IDLE, "{:?}", record.idle);
}

/// Whichever side they come from, bytes begin the time anew; the other direction may be silent.
#[rstest]
#[case::from_the_client(Party::Client)]
#[case::from_the_server(Party::Server)]
#[tokio::test]
async fn bytes_hold_off_an_idle_timeout(#[case] talker: Party) {
    let then = OnIdle::Reset;
    let (mut fake, balancer, recorder) = one(|settings| settings.idle = Some(IdleTimeout { after: IDLE, then })).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();
    let mut ticks = tokio::time::interval(IDLE / 10);
    for _ in 0..30 {
        ticks.tick().await;
        match talker {
            Party::Client => {
                client.write_all(b"x").await.unwrap();
                read_exactly(&mut server, 1).await;
            }
            _ => {
                server.write_all(b"x").await.unwrap();
                read_exactly(&mut client, 1).await;
            }
        }
    }
    assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset), "and then it comes");
    let (_, record) = ended(&recorder, from).await;
    assert!(record.lasted > IDLE * 3, "{:?}", record.lasted);
}

#[tokio::test]
async fn a_silent_idle_timeout_tells_nobody_and_swallows_what_still_comes() {
    let then = OnIdle::Silent;
    let (mut fake, balancer, recorder) = one(|settings| settings.idle = Some(IdleTimeout { after: IDLE, then })).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let (_, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert_eq!((record.ended_by, record.end), (Party::Balancer, End::Silent));
    client.write_all(b"anybody?").await.unwrap();
    drop(client);
    let mut byte = [0];
    let heard = tokio::time::timeout(IDLE, server.read(&mut byte)).await;
    assert!(heard.is_err(), "neither bytes nor an end: {heard:?}");
}

/// Timers are looked after each for itself: of many that fire together, all are told. Four descriptors each: more would not fit into
/// the limit that some machines have.
#[tokio::test]
async fn many_idle_connections_are_reset_together() {
    const MANY: usize = 100;
    let then = OnIdle::Reset;
    let idle = IdleTimeout { after: IDLE * 2, then };
    let (mut fake, balancer, recorder) = one(|settings| settings.idle = Some(idle)).await;
    let mut pairs = Vec::new();
    for _ in 0..MANY {
        pairs.push(pair(&balancer, &mut fake).await);
    }
    for (mut client, mut server) in pairs {
        let from = client.local_addr().unwrap();
        assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
        assert_eq!(read_to_end(&mut server).await, Err(ErrorKind::ConnectionReset));
        assert!(ended(&recorder, from).await.1.idle >= idle.after);
    }
}
