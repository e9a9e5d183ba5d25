//! Images as files: layers, and the archive that `docker load` and `ctr images import` read. Nobody has to be root for it, and
//! no container runs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::super::facts::hex;
use super::super::program::arch;

/// A layer: a tar, and its SHA-256, hex, by which everyone knows it.
#[derive(Clone, Debug)]
pub(in super::super) struct Layer {
    file: PathBuf,
    digest: String,
}

impl Layer {
    /// A tar that is there.
    pub(in super::super) fn of(file: &Path) -> io::Result<Self> {
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        let mut from = File::open(file)?;
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(Self { file: file.to_owned(), digest: hex(hash) }),
                count => hash.update(&buffer[..count]),
            }
        }
    }

    /// Writes a new one. All that is in it belongs to root, and to the beginning of time: the same content is the same layer.
    pub(in super::super) fn write(
        file: PathBuf,
        content: impl FnOnce(&mut Content) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut tar = Content(Builder::new(BufWriter::new(File::create(&file)?)));
        content(&mut tar)?;
        tar.0.into_inner()?.flush()?;
        Self::of(&file)
    }
}

/// What is put into a layer, in this order: folders before what is in them.
pub(in super::super) struct Content(Builder<BufWriter<File>>);

impl Content {
    pub(in super::super) fn folders(&mut self, paths: &[&str]) -> io::Result<()> {
        paths
            .iter()
            .try_for_each(|path| self.0.append_data(&mut header(EntryType::Directory, 0o755, 0), path, io::empty()))
    }

    pub(in super::super) fn file(&mut self, path: &str, mode: u32, text: &[u8]) -> io::Result<()> {
        self.0.append_data(&mut header(EntryType::Regular, mode, text.len() as u64), path, text)
    }

    /// A program of this machine.
    pub(in super::super) fn program(&mut self, path: &str, from: &Path) -> io::Result<()> {
        let size = fs::metadata(from)?.len();
        self.0.append_data(&mut header(EntryType::Regular, 0o755, size), path, File::open(from)?)
    }

    pub(in super::super) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.0.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// One image of an archive.
pub(in super::super) struct Packed {
    /// `NAME:TAG`.
    pub(in super::super) names: Vec<String>,
    /// The lowest first.
    pub(in super::super) layers: Vec<Layer>,
    /// As in Docker's image configuration: `Cmd`, `Env`, ...
    pub(in super::super) config: Value,
}

/// Writes an archive. Layers that several images have are in it once.
///
/// Source: the `docker save` format, version 1.2 of the image specification of github.com/moby/docker-image-spec.
pub(in super::super) fn write(images: &[Packed], to: &mut dyn Write) -> io::Result<()> {
    let mut archive = Builder::new(to);
    let (mut manifest, mut written) = (Vec::new(), Vec::new());
    for Packed { names, layers, config } in images {
        for layer in layers {
            if written.contains(&layer.digest) {
                continue;
            }
            let mut file = File::open(&layer.file)?;
            let size = file.metadata()?.len();
            archive.append_data(
                &mut header(EntryType::Regular, 0o644, size),
                format!("{}.tar", layer.digest),
                &mut file,
            )?;
            written.push(layer.digest.clone());
        }
        let digests: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect();
        let config = json!({
            "architecture": arch(), "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let config = config.to_string();
        let name = format!("{}.json", hex(Sha256::new_with_prefix(&config)));
        archive.append_data(&mut header(EntryType::Regular, 0o644, config.len() as u64), &name, config.as_bytes())?;
        let layers: Vec<_> = layers.iter().map(|layer| format!("{}.tar", layer.digest)).collect();
        manifest.push(json!({"Config": name, "RepoTags": names, "Layers": layers}));
    }
    let manifest = Value::Array(manifest).to_string();
    archive.append_data(
        &mut header(EntryType::Regular, 0o644, manifest.len() as u64),
        "manifest.json",
        manifest.as_bytes(),
    )?;
    archive.into_inner()?.flush()
}
