//! TLS as the lab's own clients speak it: trust in one CA, and a certificate shown on every connection.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio_rustls::client::TlsStream;

use crate::timeline::Protocol;

/// ALPN name of HTTP/1.1 (RFC 7301, section 6).
pub const HTTP_1_1: &[u8] = b"http/1.1";
/// ALPN name of HTTP/2 over TLS (RFC 9113, section 3.2).
pub const HTTP_2: &[u8] = b"h2";

/// The ALPN name of a protocol.
pub const fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Http1 => HTTP_1_1,
        Protocol::Http2 => HTTP_2,
    }
}

/// A client that speaks HTTP/1.1: [`client_config_speaking`] with [`HTTP_1_1`] alone.
///
/// # Errors
/// As [`client_config_speaking`].
pub fn client_config(ca_pem: &str, identity: Option<(&str, &str)>) -> anyhow::Result<Arc<ClientConfig>> {
    client_config_speaking(&[HTTP_1_1], ca_pem, identity)
}

/// A client that offers `protocols` by ALPN, most wanted first, and trusts the CAs in `ca_pem` and nobody else.
/// `identity` is its own certificate chain and key, both PEM; without one it is anonymous.
///
/// No session is ever resumed: each new connection makes the server show its certificate, which is how a probe knows
/// whom it met. The crypto provider is named, so that a process-wide default is neither needed nor set.
///
/// # Errors
/// The CA, the certificates or the key are not PEM, or the key does not belong to the certificate.
pub fn client_config_speaking(
    protocols: &[&[u8]],
    ca_pem: &str,
    identity: Option<(&str, &str)>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca_pem).context("cannot read the CA")? {
        roots.add(authority).context("a certificate of the CA cannot be trusted")?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("the ring provider has no usable TLS version")?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain_pem, key_pem)) => {
            let chain = certificates(chain_pem).context("cannot read the client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).context("cannot read the client's key")?;
            builder.with_client_auth_cert(chain, key).context("the client's key and certificate do not fit")?
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// SHA-256, in hex, of the certificate (DER) that the server showed. `None` before the end of the handshake.
pub fn peer_certificate_digest<IO>(stream: &TlsStream<IO>) -> Option<String> {
    stream.get_ref().1.peer_certificates()?.first().map(certificate_digest)
}

/// SHA-256, in hex, of a certificate: what the recording's header knows a server by.
pub fn certificate_digest(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().context("not PEM")?;
    ensure!(!found.is_empty(), "there is no certificate in the PEM text");
    Ok(found)
}
