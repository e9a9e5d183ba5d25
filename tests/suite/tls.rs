//! TLS of the lab's own clients.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use rollproof::lab::tls::{HTTP_2, certificate_digest, client_config, client_config_speaking, peer_certificate_digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A server that speaks HTTP/2 and HTTP/1.1, would resume sessions, and can be trusted by its own certificate.
struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Server {
    async fn start() -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, tls: Arc::new(config).into(), certificate: cert.der().clone(), pem: cert.pem() }
    }

    async fn met_by(&self, client: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let address = self.listener.local_addr().unwrap();
        let dial = async {
            let stream = TcpStream::connect(address).await.unwrap();
            TlsConnector::from(client.clone()).connect(ServerName::from(address.ip()), stream).await.unwrap()
        };
        let answer = async { self.tls.accept(self.listener.accept().await.unwrap().0).await.unwrap() };
        tokio::join!(dial, answer).0
    }
}

#[tokio::test]
async fn every_connection_shows_the_certificate() {
    let server = Server::start().await;
    let client = client_config(&server.pem, None).unwrap();
    for _ in 0..3 {
        let stream = server.met_by(&client).await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(peer_certificate_digest(&stream), Some(certificate_digest(&server.certificate)));
    }
}

#[test]
fn a_certificate_s_digest_is_sha_256_in_hex() {
    let digest = certificate_digest(&CertificateDer::from(b"abc".to_vec()));
    assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); // FIPS 180-2, B.1
}

#[tokio::test]
async fn a_client_speaks_http_1_1_unless_told_otherwise() {
    let server = Server::start().await;
    let plain = client_config(&server.pem, None).unwrap();
    assert_eq!(server.met_by(&plain).await.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let newer = client_config_speaking(&[HTTP_2], &server.pem, None).unwrap();
    assert_eq!(server.met_by(&newer).await.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn a_bad_identity_is_named() {
    let key = KeyPair::generate().unwrap();
    let ours = CertificateParams::default().self_signed(&key).unwrap().pem();
    let (key, another) = (key.serialize_pem(), KeyPair::generate().unwrap().serialize_pem());
    let says = |ca: &str, identity: (&str, &str)| match client_config(ca, Some(identity)) {
        Ok(_) => "fine".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    assert_eq!(says(&ours, (&ours, &key)), "fine");
    assert!(says("no PEM", (&ours, &key)).starts_with("cannot read the CA"));
    assert!(says(&ours, ("no PEM", &key)).starts_with("cannot read the client certificate"));
    assert!(says(&ours, (&ours, "no PEM")).starts_with("cannot read the client's key"));
    assert!(says(&ours, (&ours, &another)).starts_with("the client's key and certificate do not fit"));
}
