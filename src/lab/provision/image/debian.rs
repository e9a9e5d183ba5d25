//! Debian as a tar: `mmdebstrap`, which needs no image to begin from, and also works for who is not root where user namespaces
//! do (it chooses itself).

use std::fs;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::super::cache::Scratch;
use super::super::command::{Ended, Long, dies_with_us};
use super::super::facts::hex;
use super::super::program::arch;
use super::super::{Failure, Sources};
use super::disk;
use crate::timing::DEBIAN_LIMIT;

/// The release. Its systemd is the last of Debian's that cgroup version 1 is no trouble to.
const SUITE: &str = "bookworm";

/// What is never of use in a container.
const WITHOUT: &[&str] = &["doc", "info", "locale", "man"];

/// A root filesystem.
pub(in super::super) struct Debian {
    /// For messages and for the cache: `node`.
    pub(in super::super) name: &'static str,
    /// Packages, one a line.
    pub(in super::super) packages: &'static str,
    /// `essential`: a system, whose packages are configured. `extract`: only the files of the packages and of what they need.
    pub(in super::super) variant: &'static str,
    /// Options of dpkg, such as `path-exclude=/usr/lib/cni/*`.
    pub(in super::super) dpkg: &'static [&'static str],
    /// A shell command to end with; `$1` is the filesystem's root.
    pub(in super::super) hook: &'static str,
}

impl Debian {
    fn arguments(&self) -> Vec<String> {
        let packages: Vec<_> = self.packages.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut arguments = vec![
            format!("--variant={}", self.variant),
            format!("--include={}", packages.join(",")),
            // Without it, a package does that, which is in Perl and stays.
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr".to_owned(),
            "--aptopt=APT::Install-Recommends \"false\"".to_owned(),
        ];
        arguments.extend(WITHOUT.iter().map(|it| format!("--dpkgopt=path-exclude=/usr/share/{it}/*")));
        arguments.extend(self.dpkg.iter().map(|option| format!("--dpkgopt={option}")));
        if !self.hook.is_empty() {
            arguments.push(format!("--customize-hook={}", self.hook));
        }
        arguments.push(SUITE.to_owned());
        arguments
    }

    /// All that decides what comes out, but for what Debian has published since.
    pub(in super::super) fn inputs(&self) -> String {
        self.arguments().join("\n")
    }

    /// The tar, from the cache or made now.
    pub(in super::super) fn tar(&self, sources: &Sources, progress: &dyn Fn(&str)) -> Result<PathBuf, Failure> {
        let digest = hex(Sha256::new_with_prefix(self.inputs()));
        let folder = sources.cache.join("debian").join(format!("{}-{}-{}", self.name, &digest[..12], arch()));
        let kept = folder.join("rootfs.tar");
        if kept.exists() {
            return Ok(kept);
        }
        let what = format!("Debian {SUITE} for {}", self.name);
        let scratch = Scratch::lock(&folder, &what, progress)?;
        if kept.exists() {
            return Ok(kept);
        }
        let Some(mmdebstrap) = sources.on_path("mmdebstrap").next() else {
            return Err(Failure::Unavailable(
                "there is no mmdebstrap in PATH: `apt-get install mmdebstrap` on Debian and Ubuntu".to_owned(),
            ));
        };
        progress(&format!("making {what} with {}: 1 to 5 minutes, once", mmdebstrap.display()));
        let made = scratch.path("rootfs.tar");
        let mut command = dies_with_us(&mmdebstrap);
        command.args(self.arguments()).arg(&made).env("LC_ALL", "C.UTF-8");
        if rustix::process::geteuid().is_root() {
            // Others' user namespaces cannot look into a home folder.
            let temporary = scratch.path("tmp");
            fs::create_dir(&temporary).map_err(disk(&folder))?;
            command.env("TMPDIR", temporary);
        }
        let doing = format!("making {what}");
        let run = Long { doing: &doing, log: scratch.path("log"), limit: DEBIAN_LIMIT, progress };
        match run.run(&mut command)? {
            Ended::Well => {}
            Ended::Badly(_, said) if said.contains("No space left on device") => {
                return Err(disk(&folder)(std::io::Error::new(std::io::ErrorKind::StorageFull, said)));
            }
            Ended::Badly(status, said) => {
                return Err(Failure::Unavailable(format!(
                    "{}: {status}: {said}\n    It needs a Debian mirror, and root or user namespaces with /etc/subuid",
                    mmdebstrap.display()
                )));
            }
            Ended::TooLate(line) => {
                return Err(Failure::Unavailable(format!("not done after {} s: {line}", DEBIAN_LIMIT.as_secs())));
            }
        }
        fs::File::open(&made).and_then(|file| file.sync_all()).map_err(disk(&folder))?;
        fs::rename(&made, &kept).map_err(disk(&folder))?;
        Ok(kept)
    }
}
