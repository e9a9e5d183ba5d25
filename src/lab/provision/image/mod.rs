//! Container images: the official one where a registry can be reached, held to its digest; else one of the same use that is built
//! here, without a container and without an image to begin from.
//!
//! Ours have the label `rollproof`, and a tag that holds a digest of all that they are made from: what is changed is another
//! image. They are taken in whole ([`archive`]), so a build that dies leaves a folder in the cache, which the next one sweeps,
//! and nothing in the engine.

pub(super) mod archive;
pub mod balancer;
pub(super) mod debian;
mod engine;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use sha2::{Digest as _, Sha256};

use super::cache::{self, Scratch, unwritable};
use super::facts::hex;
use super::program::arch;
use super::{Failure, Origin, Sources};
use archive::Packed;
use engine::{Engine, Found};

/// The digests that official images are held to.
pub(super) const DIGESTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/node-image/images"));

/// The label of what is built here; its value says what it is.
const LABEL: &str = "rollproof";

/// An image in the Docker engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What the engine is to run: `rollproof/node:v1.37.2-0123456789ab`, `kindest/node@sha256:...`.
    pub reference: String,
    /// `sha256:...`: the registry's digest of an official one, the image's id of one that was built.
    pub digest: String,
    /// How it was had: cache means that the engine had it.
    pub origin: Origin,
    /// Whether it is the one that everyone has, and not ours.
    pub official: bool,
}

/// How an image is to be had.
pub(super) struct Recipe<'a> {
    /// For messages: `the node image of v1.37.2`.
    pub(super) what: String,
    /// `NAME:TAG`.
    pub(super) official: String,
    /// Name and tag of ours; the tag is without the digest of `inputs`, and leads to the latest one.
    pub(super) ours: String,
    /// All that ours is made from.
    pub(super) inputs: Vec<&'a [u8]>,
    /// Makes ours, in a folder of its own.
    pub(super) build: &'a dyn Fn(&Scratch) -> Result<Packed, Failure>,
}

impl Recipe<'_> {
    /// Our image's name, with the digest of what it is made from.
    fn reference(&self) -> String {
        let mut hash = Sha256::new();
        for input in &self.inputs {
            hash.update((input.len() as u64).to_le_bytes());
            hash.update(input);
        }
        format!("{}-{}", self.ours, &hex(hash)[..12])
    }

    /// Where locks, scratch and the digest of a first pull are kept.
    fn folder(&self, sources: &Sources) -> PathBuf {
        sources.cache.join("images").join(format!("{}-{}", self.ours.replace(['/', ':'], "-"), arch()))
    }

    fn pin(&self, sources: &Sources) -> PathBuf {
        self.folder(sources).join("official.digest")
    }

    /// The digest that the official image is held to, once there is one.
    fn digest(&self, sources: &Sources) -> Option<String> {
        let kept = fs::read_to_string(self.pin(sources)).unwrap_or_default();
        let lines = sources.image_digests.lines().chain(kept.lines());
        lines
            .filter_map(|line| line.split_once(' '))
            .find(|(name, _)| *name == self.official)
            .map(|(_, it)| it.to_owned())
    }

    /// The official image by digest; without its tag, which engines leave out.
    fn by_digest(&self, digest: &str) -> String {
        let name = self.official.rsplit_once(':').map_or(self.official.as_str(), |(name, _)| name);
        format!("{name}@{digest}")
    }

    /// An image that the engine has.
    fn find(&self, engine: &Engine, sources: &Sources) -> anyhow::Result<Option<Image>> {
        let official = self.digest(sources).map(|digest| (self.by_digest(&digest), digest));
        if let Some((reference, digest)) = official
            && engine.find(&reference)?.is_some()
        {
            return Ok(Some(Image { reference, digest, origin: Origin::Cache, official: true }));
        }
        let reference = self.reference();
        let found = engine.find(&reference)?;
        Ok(found.map(|Found { id, .. }| Image { reference, digest: id, origin: Origin::Cache, official: false }))
    }

    /// [`Recipe::find`] where nothing is to be changed.
    ///
    /// # Errors
    /// No engine answers.
    pub(super) fn at_hand(&self, sources: &Sources) -> anyhow::Result<Option<Image>> {
        self.find(&Engine::connect(sources.docker_host.as_deref())?, sources)
    }

    /// Finds, pulls or builds it.
    ///
    /// # Errors
    /// No engine answers, a disk is full, an image is not what its digest says, or nothing worked: then what was tried.
    pub(super) fn provide(&self, sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Image> {
        let engine = Engine::connect(sources.docker_host.as_deref())?;
        if let Some(image) = self.find(&engine, sources)? {
            return Ok(image);
        }
        progress(&format!("{} is not in the Docker engine: it has to be pulled or built first", self.what));
        cache::sweep(&sources.cache);
        let scratch = Scratch::lock(&self.folder(sources), &self.what, progress)?;
        // Whoever held the lock before may have been after the same.
        if let Some(image) = self.find(&engine, sources)? {
            return Ok(image);
        }
        let pulled = match self.pull(&engine, sources, progress) {
            Ok(image) => return Ok(image),
            Err(Failure::Unavailable(why)) => why,
            Err(Failure::Fatal(error)) => return Err(error),
        };
        progress(&format!("{}: cannot pull {}: {pulled}", self.what, self.official));
        match self.make(&engine, &scratch, progress) {
            Ok(image) => Ok(image),
            Err(Failure::Fatal(error)) => Err(error),
            Err(Failure::Unavailable(why)) => Err(anyhow!(
                "no {} to be had. Tried, in this order:\n  pulling {}: {pulled}\n  building: {why}",
                self.what.trim_start_matches("the "),
                self.official
            )),
        }
    }

    fn pull(&self, engine: &Engine, sources: &Sources, progress: &dyn Fn(&str)) -> Result<Image, Failure> {
        let official = &self.official;
        if let Some(digest) = self.digest(sources) {
            // The engine refuses what has another one.
            let reference = self.by_digest(&digest);
            engine.pull(&reference, progress)?;
            return Ok(Image { reference, digest, origin: Origin::Downloaded, official: true });
        }
        progress(&format!("no digest is pinned for {official} yet: it is held to the one that comes now from then on"));
        engine.pull(official, progress)?;
        let found = engine.find(official)?.with_context(|| format!("{official} was pulled and is not there"))?;
        let digest = found.repository_digests.iter().find_map(|it| Some(it.split_once('@')?.1.to_owned()));
        let digest = digest.with_context(|| format!("{official} was pulled and has no digest"))?;
        let pin = self.pin(sources);
        cache::write_atomically(&pin, format!("{official} {digest}\n").as_bytes())
            .map_err(|error| unwritable(&self.folder(sources), &error))?;
        progress(&format!("{official} is held to {digest} from now on ({})", pin.display()));
        Ok(Image { reference: self.by_digest(&digest), digest, origin: Origin::Downloaded, official: true })
    }

    fn make(&self, engine: &Engine, scratch: &Scratch, progress: &dyn Fn(&str)) -> Result<Image, Failure> {
        let reference = self.reference();
        let mut packed = (self.build)(scratch)?;
        packed.names = vec![reference.clone(), self.ours.clone()];
        packed.config["Labels"][LABEL] = self.ours.as_str().into();
        progress(&format!("loading {reference} into the Docker engine"));
        engine.load(&reference, move |to| archive::write(&[packed], to), progress)?;
        let found = engine.find(&reference)?.with_context(|| format!("the Docker engine has not kept {reference}"))?;
        progress(&format!("{} is ready: {reference}", self.what));
        Ok(Image { reference, digest: found.id, origin: Origin::Built, official: false })
    }
}

/// A disk of ours that is full, or a folder that cannot be written.
pub(super) fn disk(folder: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| Failure::Fatal(unwritable(folder, &error))
}
