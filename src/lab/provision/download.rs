//! The official download, held to a digest.
//!
//! The digest comes from fixtures/; where none is pinned there, from the publisher's own checksum file, and it is then
//! pinned in the cache: the publisher is trusted once.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::cache::{Workshop, unwritable, write_atomically};
use super::facts::hex;
use super::{Failure, Search};
use crate::timing::{DOWNLOAD_LIMIT, PROGRESS_EVERY, RELEASE_SITE_CONNECT, RELEASE_SITE_STALL};

/// Downloads the program into the workshop.
pub(super) fn download(search: &Search<'_>, workshop: &Workshop<'_>) -> Result<PathBuf, Failure> {
    let (site, published) = (search.release_url(), search.wanted.published());
    let url = format!("{site}/{published}");
    let agent = agent(site);

    let disk = |error: io::Error| unwritable(workshop.entry.folder(), &error);
    let pin = workshop.entry.pin();
    let pinned = digest_of(&published, &search.sources.sha256sums);
    let first_use = pinned.is_none() && !pin.exists();
    let expected = match pinned {
        Some(pinned) => pinned,
        None => publishers_digest(search, &agent, &pin)?,
    };
    let file = workshop.path("download");
    let digest = fetch(search, &agent, &url, &file)?;
    if digest != expected {
        return Err(anyhow!(
            "{url} has the digest {digest}, but {expected} is expected: it was refused. Try again; if it stays so, \
             somebody between here and there is changing it, or the release was replaced"
        )
        .into());
    }
    if first_use {
        let line = format!("{digest}  {published}\n");
        write_atomically(&pin, line.as_bytes()).map_err(disk)?;
        search.say(&format!("{} is held to sha256 {digest} from now on ({})", search.wanted, pin.display()));
    }
    let Some(inside) = search.wanted.in_archive() else {
        return Ok(file);
    };
    let program = workshop.path("unpacked");
    match unpack(&file, &inside, &mut File::create(&program).map_err(disk)?) {
        Ok(true) => Ok(program),
        Ok(false) => Err(anyhow!("{url} holds no {inside}").into()),
        Err(error) => Err(disk(error).into()),
    }
}

/// What the publisher says, unless it once said something else.
fn publishers_digest(search: &Search<'_>, agent: &Agent, pin: &Path) -> Result<String, Failure> {
    let url = format!("{}/{}", search.release_url(), search.wanted.checksums());
    let published = search.wanted.published();
    let unavailable = |why: String| Failure::Unavailable(format!("{url}: {why}"));
    let mut response = agent.get(&url).call().map_err(|error| unavailable(error.to_string()))?;
    let text = response.body_mut().with_config().limit(1 << 20).read_to_string();
    let text = text.map_err(|error| unavailable(error.to_string()))?;
    let digest = digest_of(&published, &text).ok_or_else(|| unavailable("names no digest".to_owned()))?;
    let pinned = fs::read_to_string(pin).ok().and_then(|text| digest_of(&published, &text));
    match pinned {
        Some(pinned) if pinned != digest => Err(anyhow!(
            "{url} now names the digest {digest}, but it was {pinned} when {} was first downloaded: it was refused. If the \
             release was replaced on purpose, remove {}",
            search.wanted,
            pin.display()
        )
        .into()),
        _ => Ok(digest),
    }
}

/// The digest of a file in what sha256sum has written, or of the only file, if no name goes with it (as dl.k8s.io does).
pub(super) fn digest_of(path: &str, sha256sums: &str) -> Option<String> {
    let name = path.rsplit('/').next();
    let is_digest = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    sha256sums.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let digest = words.next().filter(|word| is_digest(word))?;
        let of = words.next().map(|of| of.trim_start_matches('*'));
        (of.is_none() || of == Some(path) || of == name).then(|| digest.to_ascii_lowercase())
    })
}

/// Streams a URL into a file. Returns its SHA-256, hex.
fn fetch(search: &Search<'_>, agent: &Agent, url: &str, file: &Path) -> Result<String, Failure> {
    let unavailable = |why: &dyn std::fmt::Display| Failure::Unavailable(format!("{url}: {why}"));
    let disk = |error: io::Error| unwritable(search.entry.folder(), &error);
    let response = agent.get(url).call().map_err(|error| unavailable(&error))?;
    let announced = response.body().content_length();
    let total = announced.map_or_else(String::new, |bytes| format!(" of {}", megabytes(bytes)));
    search.say(&format!("downloading {url}: {}, usually under a minute", total.trim_start_matches(" of ")));

    let mut file = File::create(file).map_err(disk)?;
    let free = rustix::fs::fstatvfs(&file).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if announced.is_some_and(|bytes| bytes > free) {
        return Err(disk(io::Error::new(io::ErrorKind::StorageFull, format!("{} are free", megabytes(free)))).into());
    }
    let mut body = response.into_body().into_reader();
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 17]);
    let (mut got, mut said) = (0, Instant::now());
    loop {
        let count = body.read(&mut buffer).map_err(|error| unavailable(&error))?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(disk)?;
        hash.update(&buffer[..count]);
        got += count as u64;
        if said.elapsed() >= PROGRESS_EVERY {
            search.say(&format!("downloading {}: {}{total}", search.wanted, megabytes(got)));
            said = Instant::now();
        }
    }
    Ok(hex(hash))
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// Takes one file out of a gzipped tar, if it is there.
fn unpack(archive: &Path, inside: &str, to: &mut File) -> io::Result<bool> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(archive)?));
    for file in archive.entries()? {
        let mut file = file?;
        if file.path()? == Path::new(inside) {
            io::copy(&mut file, to)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// A client that gives up soon on a site that cannot be reached, trusts whom this machine trusts, and honours the usual
/// proxy variables, except towards this machine itself (as Go does).
fn agent(site: &str) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .https_only(site.starts_with("https://"))
        .timeout_resolve(Some(RELEASE_SITE_CONNECT))
        .timeout_connect(Some(RELEASE_SITE_CONNECT))
        .timeout_recv_response(Some(RELEASE_SITE_STALL))
        .timeout_per_read(Some(RELEASE_SITE_STALL))
        .timeout_global(Some(DOWNLOAD_LIMIT));
    let here = site.contains("://127.");
    if here { config.proxy(None) } else { config }.build().new_agent()
}
