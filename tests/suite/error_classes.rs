//! Every class of error, produced on a real socket against a server that a test holds in its hands, and recognised: on the
//! wire, by HTTP/1.1 and HTTP/2, and through kube-rs.
//!
//! Which faults of a real control plane produce which class is told by the rollout scenarios. Three come from none of them as an error that
//! counts: GOAWAY (a kube-apiserver's are graceful, reason NO_ERROR, and the request goes out again), a broken pipe (a request is written in
//! one piece, before its connection can end), and a TLS failure (certificates do not change in a restart).

mod server;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rollproof::lab::http::{Ask, Asking, Endpoint};
use rollproof::lab::network::Site;
use rollproof::lab::wait;
use rollproof::probe::kube_client::Library;
use rollproof::timeline::{ErrorClass, Exchange, Phase, Protocol};
use rollproof::timing::{millis, secs};
use rstest::rstest;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use server::{Meeting, Server, Then};

use ErrorClass::*;
use Protocol::{Http1, Http2};

/// What a client gets whose request meets a server that does that.
async fn exchange(server: &Server, over: Protocol, then: Then) -> Exchange {
    let endpoint = server.endpoint().over(over);
    let (meeting, ask) = (server.meet(over, then), ask());
    let mut kept = None;
    let asking = endpoint.exchange_within(millis(if then == Then::Silence { 300 } else { 10_000 }), &mut kept, &ask);
    let ((exchange, _), _meeting) = tokio::join!(asking, meeting);
    exchange
}

/// What a user of kube-rs gets, for the same.
async fn through_kube(server: &Server, then: Then) -> (ErrorClass, String) {
    let client = library(server).await.client(|| "some-id".to_owned(), |_| ());
    let asking = async {
        let error = client.apiserver_version().await.expect_err("the server does no good");
        rollproof::lab::http::classify(&error)
    };
    let (failure, _meeting) = tokio::join!(asking, server.meet(Http1, then));
    (failure.class, failure.text)
}

async fn library(server: &Server) -> Library {
    Library::new(server.kubeconfig(), Site::default()).await.expect("a good kubeconfig")
}

fn ask() -> Ask {
    Ask::get("/version", "some-id".to_owned(), "suite")
}

#[rstest]
#[case::in_the_head(Then::Fin, UnexpectedEof, Phase::Headers)]
#[case::in_the_body(Then::FinInBody, UnexpectedEof, Phase::Body)]
#[case::without_tls_saying_so(Then::AbruptFin, UnexpectedEof, Phase::Headers)]
#[case::in_the_head(Then::Reset, ConnectionReset, Phase::Headers)]
#[case::in_the_body(Then::ResetInBody, ConnectionReset, Phase::Body)]
#[case::in_the_handshake(Then::ResetInHandshake, ConnectionReset, Phase::Tls)]
#[case::in_the_handshake(Then::FinInHandshake, UnexpectedEof, Phase::Tls)]
#[case::for_lack_of_an_answer(Then::Silence, Timeout, Phase::Headers)]
#[tokio::test]
async fn an_ended_connection_is_named_by_how_it_ended(
    #[case] then: Then,
    #[case] class: ErrorClass,
    #[case] phase: Phase,
    #[values(Http1, Http2)] over: Protocol,
) {
    let server = Server::start().await;
    let exchange = exchange(&server, over, then).await;
    let failure = exchange.failure.expect("a failure");
    assert_eq!((failure.class, exchange.phase, exchange.protocol), (class, phase, over), "{}", failure.text);
    let connection = exchange.connection.expect("it was dialled");
    assert!(connection.local.starts_with("127.") && connection.remote == server.address.to_string(), "{connection:?}");
    if then != Then::Silence {
        let (through_kube, text) = through_kube(&server, then).await;
        assert_eq!(through_kube, class, "{text}");
    }
}

#[rstest]
#[tokio::test]
async fn nobody_listening_is_connection_refused(#[values(Http1, Http2)] over: Protocol) {
    let endpoint = {
        let server = Server::start().await;
        server.endpoint().over(over)
    };
    let (exchange, _) = endpoint.exchange(&mut None, &ask()).await;
    assert_eq!((class(&exchange), exchange.phase), (ConnectionRefused, Phase::Dial));
    let connection = exchange.connection.expect("what was dialled");
    assert_eq!((connection.local.as_str(), connection.remote), ("", endpoint.address.to_string()));
}

#[tokio::test]
async fn a_hang_in_the_handshake_is_told_from_one_in_the_dial() {
    // It listens, so the kernel accepts; nobody says hello.
    let server = Server::start().await;
    let (exchange, _) = server.endpoint().exchange_within(millis(300), &mut None, &ask()).await;
    assert_eq!((class(&exchange), exchange.phase), (Timeout, Phase::Tls));
    assert!(exchange.connection.is_some_and(|connection| !connection.local.is_empty()));
}

#[tokio::test]
async fn nobody_listening_is_connection_refused_through_kube_too() {
    let client = {
        let server = Server::start().await;
        library(&server).await.client(String::new, |_| ())
    };
    let error = client.apiserver_version().await.unwrap_err();
    let failure = rollproof::lab::http::classify(&error);
    assert_eq!(failure.class, ConnectionRefused, "{}", failure.text);
    assert!(rollproof::lab::http::was_connecting(&error));
}

#[tokio::test]
async fn the_connection_under_kube_is_told_too() {
    let server = Server::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let client = library(&server).await.client(String::new, move |sent| note.lock().unwrap().push(sent.connection));
    let (_, meeting) = tokio::join!(client.apiserver_version(), server.meet(Http1, Then::Answer(200, None)));
    let cut_off = async {
        let Meeting::Tls(mut connection) = meeting else { panic!("HTTP/1.1 by TLS") };
        connection.read(&mut [0; 4096]).await.expect("a second request")
    };
    let (cut, _) = tokio::join!(client.apiserver_version(), cut_off);
    assert!(cut.is_err());
    let seen = seen.lock().unwrap();
    let [Some(first), Some(second)] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((first.reused, second.reused, &first.local), (false, true, &second.local));
    assert_eq!((first.idle, &first.remote), (Duration::ZERO, &server.address.to_string()));
    assert!(second.idle > Duration::ZERO);
}

#[rstest]
#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_a_tls_failure(#[values(Http1, Http2)] over: Protocol) {
    let (server, another) = (Server::start().await, Server::start().await);
    let server = server.at(another.address);
    let mistaken = server.endpoint().over(over);
    let (ask, mut kept) = (ask(), None);
    let ((exchange, _), ()) = tokio::join!(mistaken.exchange(&mut kept, &ask), another.handshake());
    assert_eq!((class(&exchange), exchange.phase), (Tls, Phase::Tls));

    let client = Library::new(server.kubeconfig(), Site::default()).await.unwrap().client(String::new, |_| ());
    let (answer, ()) = tokio::join!(client.apiserver_version(), another.handshake());
    let failure = rollproof::lab::http::classify(&answer.unwrap_err());
    assert_eq!(failure.class, Tls, "{}", failure.text);
}

/// The field report's "server sent GOAWAY and closed the connection" is the case in which the server had seen the request.
#[rstest]
#[case::unseen(Then::GoawayUnseen)]
#[case::seen(Then::Goaway)]
#[tokio::test]
async fn goaway_is_named_with_its_reason(
    #[case] then: fn(h2::Reason) -> Then,
    #[values(h2::Reason::NO_ERROR, h2::Reason::ENHANCE_YOUR_CALM)] reason: h2::Reason,
) {
    let server = Server::start().await;
    let exchange = exchange(&server, Http2, then(reason)).await;
    let failure = exchange.failure.expect("a failure");
    assert_eq!((failure.class, exchange.phase), (Goaway, Phase::Headers), "{}", failure.text);
    assert!(failure.text.contains(reason.description()), "{}", failure.text);
}

#[tokio::test]
async fn a_stream_that_is_reset_is_named() {
    let server = Server::start().await;
    let exchange = exchange(&server, Http2, Then::StreamReset).await;
    assert_eq!((class(&exchange), exchange.phase), (StreamReset, Phase::Headers));
}

/// After a GOAWAY a kept connection takes no further request, and none is lost: the next one goes elsewhere.
#[tokio::test]
async fn after_a_graceful_goaway_the_next_request_is_sent_on_a_fresh_connection() {
    let server = Server::start().await;
    let (endpoint, ask) = (server.endpoint().over(Http2), ask());
    let mut kept = None;
    let ((first, _), meeting) =
        tokio::join!(endpoint.exchange(&mut kept, &ask), server.meet(Http2, Then::AnswerAndGoAway));
    assert!(first.succeeded(), "{:?}", first.failure);
    drop(meeting);
    let ((next, _), _meeting) =
        tokio::join!(endpoint.exchange(&mut kept, &ask), server.meet(Http2, Then::Answer(200, None)));
    assert!(next.succeeded(), "{:?}", next.failure);
    assert!(!next.connection.expect("a connection").reused);
}

#[rstest]
fn writing_to_a_connection_that_was_reset_after_its_end_is_a_broken_pipe(#[values(Http1, Http2)] over: Protocol) {
    // Who reads first meets the FIN, and that is another class. So the runtime looks at sockets only when it has nothing
    // else to do, and the request that is ready to be written is written before.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().event_interval(u32::MAX).build().unwrap();
    runtime.block_on(async {
        let server = Server::start().await;
        let (endpoint, ask) = (server.endpoint().over(over), ask());
        let mut kept = None;
        let ((first, _), meeting) =
            tokio::join!(endpoint.exchange(&mut kept, &ask), server.meet(over, Then::Answer(200, None)));
        assert!(first.succeeded(), "{:?}", first.failure);
        meeting.settled().await.fin_then_reset();
        let (exchange, _) = endpoint.exchange(&mut kept, &ask).await;
        assert_eq!((class(&exchange), exchange.phase), (BrokenPipe, Phase::Headers), "{:?}", exchange.failure);
        assert!(exchange.connection.is_some_and(|connection| connection.reused));
    });
}

#[rstest]
#[case(429, Some(5))]
#[case(503, Some(1))]
#[tokio::test]
async fn a_server_that_refuses_for_now_is_an_answer_with_a_status(
    #[case] status: u16,
    #[case] retry_after: Option<u32>,
    #[values(Http1, Http2)] over: Protocol,
) {
    let server = Server::start().await;
    let exchange = exchange(&server, over, Then::Answer(status, retry_after)).await;
    assert_eq!((exchange.status, exchange.retry_after, exchange.failure.clone()), (Some(status), retry_after, None));
    assert!(exchange.refused_for_now());
    assert!(!exchange.succeeded());
}

/// Its own retries come first: the layer below them sees each attempt, with an Audit-ID of its own.
#[tokio::test]
async fn kube_repeats_what_was_refused_for_now_and_each_attempt_is_seen() {
    let server = Server::start().await;
    let (sent, seen) = std::sync::mpsc::channel();
    let ids = std::sync::atomic::AtomicU32::new(0);
    let next = move || ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
    let library = Library::without_pool(server.kubeconfig(), Site::default()).await.unwrap();
    let client = library.client(next, move |attempt| {
        let _ = sent.send((attempt.audit_id, attempt.answer.map_err(|failure| failure.class)));
    });
    let serving = async {
        let refusing = server.meet(Http1, Then::Answer(503, Some(0))).await;
        (
            refusing,
            server.meet(Http1, Then::Answer(429, Some(0))).await,
            server.meet(Http1, Then::Answer(418, None)).await,
        )
    };
    let limited = tokio::time::timeout(secs(20), client.apiserver_version());
    let (answer, _meetings) = tokio::join!(limited, serving);
    let failure = rollproof::lab::http::classify(&answer.expect("an answer").unwrap_err());
    assert_eq!(failure.class, Status, "{}", failure.text);
    let attempts: Vec<_> = seen.try_iter().collect();
    let id = |id: u32| id.to_string();
    assert_eq!(attempts, [(id(0), Ok((503, Some(0)))), (id(1), Ok((429, Some(0)))), (id(2), Ok((418, None)))]);
}

/// By HTTP/1.1 one after the other, and not on one that has ended.
#[rstest]
#[tokio::test]
async fn a_connection_carries_streams_until_it_has_ended(#[values(Http1, Http2)] over: Protocol) {
    let server = Server::start().await;
    let (to, ask) = (server.endpoint().over(over), ask());
    let asking = async {
        let open = to.dial().await.expect("it listens").multiplexed();
        let answer = open.ask(&to, &ask).await.expect("an answer");
        assert_eq!((answer.status().as_u16(), open.is_open()), (200, true));
        drop(answer);
        open
    };
    let (open, meeting) = tokio::join!(asking, server.meet(over, Then::Answer(200, None)));
    drop(meeting);
    let ended = wait::until(secs(10), "its end to be noticed", async || match open.is_open() {
        false => ControlFlow::Break(()),
        true => ControlFlow::Continue("it is open".to_owned()),
    });
    ended.await.unwrap();
    assert!(matches!(open.ask(&to, &ask).await.expect_err("it has ended").class, UnexpectedEof | ConnectionReset));
}

/// Its health check, client-go calls it. It finds out whether the next hop is there, and nothing of what is behind it.
#[rstest]
#[case::of_which_somebody_answers(true)]
#[case::of_which_nobody_answers(false)]
#[tokio::test]
async fn a_connection_that_its_client_asks_by_ping(#[case] answers: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _gateway = AbortOnDropHandle::new(tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let _hangs = connection.accept().await;
        if answers {
            let _ = connection.accept().await;
        }
        std::future::pending::<()>().await;
    }));
    let to = Endpoint { address, plain: true, ..Server::start().await.endpoint().over(Http2) };
    let asking = Asking { idle: millis(20), patience: if answers { secs(10) } else { millis(50) } };
    let open = to.dial_asking(asking).await.expect("it listens");
    let ask = ask();
    let asked = open.ask(&to, &ask);
    let pongs = open.pongs().expect("it asks");
    let answered = wait::until(secs(10), "PINGs to be answered", async || match pongs.count() {
        3.. => ControlFlow::Break(()),
        few => ControlFlow::Continue(format!("{few} of 3")),
    });
    tokio::select! {
        answer = asked => {
            let failure = answer.expect_err("it hangs");
            assert_eq!((answers, failure.class, pongs.count()), (false, Timeout, 0), "{}", failure.text);
        }
        answered = answered => assert!(answers, "{answered:?}"),
    }
}

fn class(exchange: &Exchange) -> ErrorClass {
    exchange.failure.as_ref().expect("a failure").class
}

/// A FIN where a WebSocket was in use, as kube-rs's sessions tell it. A broken socket is an I/O error there, and needs no class of
/// its own.
#[test]
fn the_end_of_a_websocket_without_a_farewell_is_an_eof() {
    use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};
    let classify = |error: Error| rollproof::lab::http::classify(&error).class;
    assert_eq!(classify(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)), UnexpectedEof);
    assert_eq!(classify(Error::Io(std::io::ErrorKind::ConnectionReset.into())), ConnectionReset);
    assert_eq!(classify(Error::ConnectionClosed), Other);
}
