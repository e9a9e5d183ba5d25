//! A lab's start beside that of controller-runtime's envtest: `cargo bench --bench lab_start`.
//!
//! Both start the same etcd and kube-apiserver from nothing, and are ready when they have created a namespace and a
//! ConfigMap in it. Ours starts two apiservers and a balancer, and writes through that; envtest starts one apiserver. Each
//! times itself, so that compiling and starting its own program do not count.

mod go;
mod rounds;

use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use rollproof::config::Config;
use rollproof::lab::provision::{self, Sources};
use rollproof::lab::{Lab, Setup};
use rollproof::timeline::Recorder;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(envtest) = go::build("benches/envtest", ".", &folder.path().join("envtest"))? else { return Ok(()) };
    let config = Config::from_env()?;
    let wanted = provision::wanted(config.kubernetes_version.as_deref())?;
    let binaries = provision::provision(&wanted, &Sources::from_env()?, &|line| eprintln!("{line}"))?;
    for program in [&binaries.etcd, &binaries.kube_apiserver] {
        let name = program.path.file_name().context("a program has a name")?;
        symlink(&program.path, folder.path().join(name))?;
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let material = binaries.into();
    let ours = || {
        runtime.block_on(async {
            let began = Instant::now();
            let lab = Lab::start(Setup::careful(&config), &config, &material, Recorder::default(), None).await?;
            let took = began.elapsed().as_secs_f64();
            lab.strike().await?;
            Ok([took])
        })
    };
    let theirs = || {
        let output = Command::new(&envtest).arg(folder.path()).output()?;
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "envtest failed: {errors}");
        Ok([text.trim().parse().with_context(|| format!("{text:?} is no number"))?])
    };
    let figures = rounds::alternate(rounds::count(7), ["from nothing to the second write, s"], ours, theirs)?;
    rounds::print("lab start", "envtest, with one apiserver", &figures);
    Ok(())
}
