//! A TLS server for one connection at a time, which does to it what a test asks for.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rollproof::lab::http::Endpoint;
use rollproof::lab::network::Site;
use rollproof::lab::tls::{HTTP_1_1, HTTP_2, client_config};
use rollproof::timeline::Protocol;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// An answer with this status and Retry-After, and the connection stays.
    Answer(u16, Option<u32>),
    /// An answer, then a graceful end: GOAWAY with NO_ERROR.
    AnswerAndGoAway,
    /// close_notify and FIN instead of an answer.
    Fin,
    /// FIN instead of an answer, without close_notify.
    AbruptFin,
    /// Half an answer, then FIN.
    FinInBody,
    /// RST instead of an answer.
    Reset,
    /// Half an answer, then RST.
    ResetInBody,
    /// FIN or RST before there is TLS.
    FinInHandshake,
    ResetInHandshake,
    /// GOAWAY with that reason instead of an answer, and the end of the connection.
    Goaway(h2::Reason),
    /// Likewise, but the GOAWAY says that the request was not looked at.
    GoawayUnseen(h2::Reason),
    /// RST_STREAM instead of an answer.
    StreamReset,
    /// Nothing.
    Silence,
}

/// The server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    listener: Arc<TcpListener>,
    tls: TlsAcceptor,
    pem: String,
}

/// A connection after what was asked for. It stays until this is dropped.
pub(crate) enum Meeting {
    Ended,
    Tls(Box<TlsStream<TcpStream>>),
    /// The connection and its socket.
    H2(Box<ByHttp2>, socket2::Socket),
}

type ByHttp2 = h2::server::Connection<TlsStream<TcpStream>, Bytes>;

impl Server {
    pub(crate) async fn start() -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, listener: listener.into(), tls: Arc::new(config).into(), pem: cert.pem() }
    }

    /// What clients know of it, but for where it is.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// As our own probes meet it.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let tls = client_config(&self.pem, None).unwrap();
        Endpoint {
            address: self.address,
            site: Site::default(),
            from: None,
            tls,
            protocol: Protocol::Http1,
            roster: Arc::default(),
            named: None,
            token: None,
            plain: false,
        }
    }

    /// As kube-rs meets it.
    pub(crate) fn kubeconfig(&self) -> kube::config::Kubeconfig {
        let (address, pem) = (self.address, base64(&self.pem));
        let json = serde_json::json!({
            "clusters": [{"name": "it", "cluster": {
                "server": format!("https://{address}"), "certificate-authority-data": pem,
            }}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
            "users": [{"name": "me", "user": {}}],
            "current-context": "it",
        });
        serde_json::from_value(json).unwrap()
    }

    /// Shakes hands with the next client; whether that goes well is the client's business.
    pub(crate) async fn handshake(&self) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let _ = self.tls.accept(stream).await;
    }

    /// Accepts the next connection, waits for its request, and does that.
    pub(crate) async fn meet(&self, over: Protocol, then: Then) -> Meeting {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        if matches!(then, Then::FinInHandshake | Then::ResetInHandshake) {
            // What is left unread would turn the FIN into a RST.
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            if then == Then::ResetInHandshake {
                reset_on_close(&stream);
            }
            return Meeting::Ended;
        }
        let stream = self.tls.accept(stream).await.unwrap();
        match over {
            Protocol::Http1 => by_http1(stream, then).await,
            Protocol::Http2 => by_http2(stream, then).await,
        }
    }
}

async fn by_http1(mut stream: TlsStream<TcpStream>, then: Then) -> Meeting {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    match then {
        Then::Answer(status, retry_after) => {
            let retry_after = retry_after.map_or(String::new(), |seconds| format!("Retry-After: {seconds}\r\n"));
            let answer = format!("HTTP/1.1 {status} Some\r\n{retry_after}Content-Length: 2\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        Then::FinInBody | Then::ResetInBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
        }
        _ => {}
    }
    stream.flush().await.unwrap();
    end(stream, then).await
}

async fn end(mut stream: TlsStream<TcpStream>, then: Then) -> Meeting {
    match then {
        Then::Fin | Then::FinInBody => {
            stream.shutdown().await.unwrap();
            Meeting::Tls(Box::new(stream))
        }
        Then::AbruptFin => {
            SockRef::from(stream.get_ref().0).shutdown(std::net::Shutdown::Write).unwrap();
            Meeting::Tls(Box::new(stream))
        }
        Then::Reset | Then::ResetInBody => {
            reset_on_close(stream.get_ref().0);
            Meeting::Ended
        }
        _ => Meeting::Tls(Box::new(stream)),
    }
}

async fn by_http2(stream: TlsStream<TcpStream>, then: Then) -> Meeting {
    let socket = SockRef::from(stream.get_ref().0).try_clone().unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    if let Then::GoawayUnseen(reason) = then {
        connection.abrupt_shutdown(reason);
        written(&mut connection).await;
        return Meeting::H2(Box::new(connection), socket);
    }
    let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
    let mut held = None;
    match then {
        Then::Answer(..) | Then::AnswerAndGoAway => {
            let (status, retry_after) =
                if let Then::Answer(status, after) = then { (status, after) } else { (200, None) };
            let mut head = http::Response::builder().status(status);
            if let Some(seconds) = retry_after {
                head = head.header("retry-after", seconds);
            }
            respond.send_response(head.body(()).unwrap(), false).unwrap().send_data("{}".into(), true).unwrap();
            if then == Then::AnswerAndGoAway {
                connection.graceful_shutdown();
            }
        }
        Then::FinInBody | Then::ResetInBody => {
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data("half".into(), false).unwrap();
            held = Some(body);
        }
        Then::Goaway(reason) => connection.abrupt_shutdown(reason),
        Then::StreamReset => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        _ => {}
    }
    written(&mut connection).await;
    let meeting = match then {
        Then::Fin | Then::FinInBody | Then::AbruptFin => {
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            Meeting::H2(Box::new(connection), socket)
        }
        Then::Reset | Then::ResetInBody => {
            socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            Meeting::Ended
        }
        _ => Meeting::H2(Box::new(connection), socket),
    };
    drop(held);
    meeting
}

/// Lets h2 write what it has.
async fn written(connection: &mut ByHttp2) {
    std::future::poll_fn(|context| {
        let _ = connection.poll_closed(context);
        std::task::Poll::Ready(())
    })
    .await;
}

impl Meeting {
    /// Lets the client read all that has been sent.
    pub(crate) async fn settled(mut self) -> Self {
        if let Self::H2(connection, _) = &mut self {
            let mut ping = connection.ping_pong().unwrap();
            let closed = std::future::poll_fn(|context| connection.poll_closed(context));
            tokio::select! {
                pong = ping.ping(h2::Ping::opaque()) => drop(pong.unwrap()),
                closed = closed => panic!("the client has closed the connection: {closed:?}"),
            }
        }
        self
    }

    /// FIN, then RST, both on their way before this returns.
    pub(crate) fn fin_then_reset(self) {
        let end = |socket: SockRef<'_>| {
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        };
        match &self {
            Self::Ended => panic!("it has ended before"),
            Self::Tls(stream) => end(SockRef::from(stream.get_ref().0)),
            Self::H2(_, socket) => end(SockRef::from(socket)),
        }
    }
}

/// Makes closing the socket send a RST.
fn reset_on_close(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
