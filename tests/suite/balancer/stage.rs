//! Backends that the tests hold in their hands: /readyz over TLS for the balancer, raw TCP for the test.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rollproof::lab::balancer::{Backend, Builtin, Settings};
use rollproof::lab::wait;
use rollproof::timeline::{BackendHealth, Connection, Event, Moment, Recorder};
use rollproof::timing::{HEALTH_FALL, Profile, Timers, millis, secs};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// All that a test has to wait for happens within milliseconds.
const SOON: std::time::Duration = secs(20);

/// What is to happen soon.
#[track_caller]
pub(crate) fn soon<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move { timeout(SOON, what).await.unwrap_or_else(|_| panic!("nothing happened for {SOON:?} at {caller}")) }
}

/// A CA.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    pub(crate) fn server(&self, address: IpAddr) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![address.to_string()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Arc::new(config.unwrap())
    }
}

/// An apiserver as far as a balancer can tell. A connection that begins with a TLS handshake is answered here; every other
/// is handed to the test.
pub(crate) struct Fake {
    pub(crate) backend: Backend,
    pub(crate) health: Arc<Health>,
    raw: mpsc::UnboundedReceiver<TcpStream>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
pub(crate) struct Health {
    /// How many of the next checks are answered with 500.
    bad: AtomicUsize,
    /// How many checks were answered.
    answered: AtomicUsize,
}

impl Health {
    pub(crate) fn fail_next(&self, checks: usize) {
        self.bad.store(checks, Ordering::SeqCst);
    }

    pub(crate) fn fail(&self) {
        self.fail_next(usize::MAX);
    }

    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    fn answer(&self) -> Response<String> {
        let bad = self.bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |bad| bad.checked_sub(1)).is_ok();
        self.answered.fetch_add(1, Ordering::SeqCst);
        let mut answer = Response::new("ok".to_owned());
        if bad {
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            *answer.body_mut() = "[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n".to_owned();
        }
        answer
    }
}

impl Fake {
    pub(crate) async fn start(number: usize, authority: &Authority) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").await.unwrap(), number, authority)
    }

    pub(crate) fn listening(listener: TcpListener, number: usize, authority: &Authority) -> Self {
        let backend = Backend { name: format!("apiserver-{number}"), address: listener.local_addr().unwrap() };
        let health = Arc::new(Health::default());
        let (hand_over, raw) = mpsc::unbounded_channel();
        let serve =
            serve(listener, TlsAcceptor::from(authority.server(backend.address.ip())), health.clone(), hand_over);
        Self { backend, health, raw, _task: AbortOnDropHandle::new(tokio::spawn(serve)) }
    }

    /// The next connection that is not a health check. It begins with what [`dial`] says.
    #[track_caller]
    pub(crate) fn met(&mut self) -> impl Future<Output = TcpStream> {
        soon(async {
            let mut stream = self.raw.recv().await.unwrap();
            assert_eq!(read_exactly(&mut stream, GREETING.len()).await, GREETING);
            stream
        })
    }

    pub(crate) fn met_nobody(&self) -> bool {
        self.raw.is_empty()
    }
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    health: Arc<Health>,
    hand_over: mpsc::UnboundedSender<TcpStream>,
) {
    const TLS_HANDSHAKE: u8 = 22;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, health, hand_over) = (tls.clone(), health.clone(), hand_over.clone());
        connections.spawn(async move {
            let mut first = [0];
            let _ = stream.peek(&mut first).await;
            if first != [TLS_HANDSHAKE] {
                let _ = hand_over.send(stream);
                return;
            }
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(async |_| Ok::<_, Infallible>(health.answer()));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Settings under which a change of health is noticed within 40 ms.
pub(crate) fn settings(authority: &Authority, backends: &[&Backend]) -> Settings {
    let backends = backends.iter().copied().cloned().collect();
    let timers = Timers { health_interval: millis(20), health_timeout: secs(5), ..Timers::of(Profile::Pr) };
    let settings = Settings::new(backends, authority.pem(), &timers);
    assert_eq!((settings.fall, settings.rise), (HEALTH_FALL, HEALTH_FALL));
    settings
}

/// One backend and a balancer in front of it.
pub(crate) async fn one(change: impl FnOnce(&mut Settings)) -> (Fake, Builtin, Recorder) {
    let authority = Authority::new();
    let fake = Fake::start(0, &authority).await;
    let mut settings = settings(&authority, &[&fake.backend]);
    change(&mut settings);
    let recorder = Recorder::default();
    let balancer = Builtin::start(settings, recorder.clone()).await.unwrap();
    (fake, balancer, recorder)
}

/// Two backends and a balancer in front of them.
pub(crate) async fn two(change: impl FnOnce(&mut Settings)) -> ([Fake; 2], Builtin, Recorder) {
    let authority = Authority::new();
    let fakes = [Fake::start(0, &authority).await, Fake::start(1, &authority).await];
    let mut settings = settings(&authority, &[&fakes[0].backend, &fakes[1].backend]);
    change(&mut settings);
    let recorder = Recorder::default();
    let balancer = Builtin::start(settings, recorder.clone()).await.unwrap();
    (fakes, balancer, recorder)
}

/// How a connection through the balancer ends that no backend ever answers.
pub(crate) async fn dial_in_vain(balancer: SocketAddr) -> (SocketAddr, io::ErrorKind) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = socket.local_addr().unwrap();
    let dialled = async { socket.connect(balancer).await?.read_u8().await };
    (client, soon(dialled).await.unwrap_err().kind())
}

/// An address that refuses: bound, so that nobody else gets it, and not listened on.
pub(crate) fn refusing() -> (TcpSocket, Backend) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, Backend { name: "apiserver-9".to_owned(), address })
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const GREETING: &[u8] = b"hello";

/// A client that has connected and said something.
pub(crate) async fn dial(balancer: &Builtin) -> TcpStream {
    dial_from("127.0.0.1", balancer).await
}

/// A client at that address that has connected and said something.
pub(crate) async fn dial_from(address: &str, balancer: &Builtin) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    greet(socket.connect(balancer.address()).await.unwrap()).await
}

pub(crate) async fn greet(mut client: TcpStream) -> TcpStream {
    client.write_all(GREETING).await.unwrap();
    client
}

/// Both ends of a connection that is established through the balancer.
pub(crate) async fn pair(balancer: &Builtin, fake: &mut Fake) -> (TcpStream, TcpStream) {
    let client = dial(balancer).await;
    (client, fake.met().await)
}

pub(crate) async fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut text = vec![0; count];
    soon(stream.read_exact(&mut text)).await.unwrap();
    text
}

/// What comes until the end of the stream, or the kind of error that it ends with.
#[track_caller]
pub(crate) fn read_to_end(stream: &mut TcpStream) -> impl Future<Output = Result<Vec<u8>, io::ErrorKind>> {
    soon(async {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.map(|_| text).map_err(|error| error.kind())
    })
}

/// Whether both ends of a connection still carry bytes.
pub(crate) async fn carries((client, server): &mut (TcpStream, TcpStream)) -> bool {
    client.write_all(b"ping").await.unwrap();
    server.write_all(b"pong").await.unwrap();
    read_exactly(server, 4).await == b"ping" && read_exactly(client, 4).await == b"pong"
}

/// RST instead of FIN.
pub(crate) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

/// The record of the client's connection and when it ended, once there is one.
pub(crate) async fn ended(recorder: &Recorder, client: SocketAddr) -> (Moment, Connection) {
    let client = client.to_string();
    let ours = async || {
        let found = recorder.last(|seen| match &seen.event {
            Event::Connection(connection) if connection.client == client => {
                Some((seen.at + connection.lasted, connection.clone()))
            }
            _ => None,
        });
        found.map_or(ControlFlow::Continue("no record".to_owned()), ControlFlow::Break)
    };
    wait::until(SOON, "the connection's record", ours).await.unwrap()
}

/// All that the balancer has said about this backend, oldest first.
pub(crate) fn opinions(recorder: &Recorder, fake: &Fake) -> Vec<(Moment, BackendHealth)> {
    let said = std::sync::Mutex::new(Vec::new());
    recorder.count(|seen| match &seen.event {
        Event::BackendHealth(opinion) if opinion.server == fake.backend.name => {
            said.lock().unwrap().push((seen.at, opinion.clone()));
            true
        }
        _ => false,
    });
    said.into_inner().unwrap()
}

/// The balancer's opinion number `count` of this backend, once it has it.
pub(crate) async fn opinion(recorder: &Recorder, fake: &Fake, count: usize) -> (Moment, BackendHealth) {
    let look = async || {
        let said = opinions(recorder, fake);
        said.get(count - 1).cloned().map_or(ControlFlow::Continue(format!("{said:?}")), ControlFlow::Break)
    };
    wait::until(SOON, "another opinion of a backend", look).await.unwrap()
}

/// Returns when the backend has answered `count` more checks.
pub(crate) async fn checked(fake: &Fake, count: usize) {
    let goal = fake.health.answered() + count;
    let look = async || match fake.health.answered() {
        answered if answered >= goal => ControlFlow::Break(()),
        answered => ControlFlow::Continue(format!("{answered} of {goal}")),
    };
    wait::until(SOON, "health checks", look).await.unwrap();
}
