//! The lab's own certificate authority: ECDSA P-256, made anew for every lab.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

/// A certificate authority with its folder, in which every file that holds a key has mode 0600.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key, PEM, and the files that hold them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM.
    pub certificate: String,
    /// PEM. Never printed, logged or recorded.
    pub key: String,
    /// The certificate's file.
    pub certificate_file: PathBuf,
    /// The key's file.
    pub key_file: PathBuf,
    /// SHA-256 of the certificate's DER, hex.
    pub digest: String,
}

impl Authority {
    /// Makes a CA in `folder`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let mut params = params("rollproof-ca")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        write_private(&folder.join("ca.crt"), &issuer.pem())?;
        Ok(Self { issuer, folder: folder.to_owned() })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// The file that holds its certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A serving certificate for these addresses and for the names that in-cluster clients use.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn server(&self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<Identity> {
        let mut params = params(name)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for dns in ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
            params.subject_alt_names.push(SanType::DnsName(dns.try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.sign(name, params)
    }

    /// A client certificate: `user` in `group`, as the apiserver's x509 authenticator reads CN and O.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn client(&self, user: &str, group: &str) -> anyhow::Result<Identity> {
        let mut params = params(user)?;
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(user, params)
    }

    /// A key pair that signs service-account tokens: the files of the private and the public key.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn service_account_key(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let key = KeyPair::generate()?;
        let (private, public) = (self.folder.join("sa.key"), self.folder.join("sa.pub"));
        write_private(&private, &key.serialize_pem())?;
        write_private(&public, &key.public_key_pem())?;
        Ok((private, public))
    }

    /// A bearer token for `user` in `group`, and the file that makes kube-apiserver know it (`--token-auth-file`): for
    /// clients whose certificate does not come through.
    ///
    /// # Errors
    /// The folder cannot be written, or there is no randomness.
    pub fn token(&self, user: &str, group: &str) -> anyhow::Result<(Arc<str>, PathBuf)> {
        let (token, file) = (random_token()?, self.folder.join("tokens.csv"));
        write_private(&file, &format!("{token},{user},{user},{group}\n"))?;
        Ok((token.into(), file))
    }

    fn sign(&self, name: &str, params: CertificateParams) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let identity = Identity {
            digest: hex(&Sha256::digest(certificate.der())),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            certificate_file: self.folder.join(format!("{name}.crt")),
            key_file: self.folder.join(format!("{name}.key")),
        };
        write_private(&identity.certificate_file, &identity.certificate)?;
        write_private(&identity.key_file, &identity.key)?;
        Ok(identity)
    }
}

impl Identity {
    /// Somebody else's certificate and key, base64 of PEM as kubeconfigs hold them, as files in `folder`.
    ///
    /// # Errors
    /// They are not what they should be, or the folder cannot be written.
    pub(super) fn adopted(name: &str, folder: &Path, certificate: &str, key: &str) -> anyhow::Result<Self> {
        let decode = |data: &str| anyhow::Ok(String::from_utf8(STANDARD.decode(data)?)?);
        let (certificate, key) = (decode(certificate)?, decode(key)?);
        let identity = Self {
            digest: digest(&certificate)?,
            certificate,
            key,
            certificate_file: folder.join(format!("{name}.crt")),
            key_file: folder.join(format!("{name}.key")),
        };
        write_private(&identity.certificate_file, &identity.certificate)?;
        write_private(&identity.key_file, &identity.key)?;
        Ok(identity)
    }
}

/// A bearer token that nobody can guess.
///
/// # Errors
/// There is no randomness.
pub(super) fn random_token() -> anyhow::Result<String> {
    let mut random = [0; 32];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut random).ok().context("no randomness for a token")?;
    Ok(hex(&random))
}

/// SHA-256 of a certificate's DER, hex.
///
/// # Errors
/// It is no PEM.
pub(super) fn digest(certificate: &str) -> anyhow::Result<String> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).context("a certificate is no PEM")?;
    Ok(hex(&Sha256::digest(der)))
}

/// Writes a file that only we can read.
///
/// # Errors
/// It exists, or cannot be written.
pub fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn params(name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Clocks of virtual machines jump: valid from yesterday. A lab does not live for a month.
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(30);
    Ok(params)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
