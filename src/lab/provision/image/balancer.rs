//! Images of the products that stand in a cluster's network as balancers.
//!
//! Official or ours, each reads its configuration where its official image does, and its standard output is its log.

use serde_json::json;

use super::super::cache::Scratch;
use super::super::{Failure, Sources, envoy, version};
use super::archive::{Layer, Packed};
use super::debian::Debian;
use super::{Image, Recipe, disk};
use crate::config::Product;

/// All three: Envoy needs no more of it than the C library.
const DEBIAN: Debian = Debian {
    name: "balancers",
    packages: "haproxy\nlibnginx-mod-stream\nnginx\nusr-is-merged\n",
    variant: "extract",
    dpkg: &[],
    hook: "",
};

/// Where the image of a product looks for its configuration.
pub const fn configuration(product: Product) -> &'static str {
    match product {
        Product::Haproxy => "/usr/local/etc/haproxy/haproxy.cfg",
        Product::Nginx => "/etc/nginx/nginx.conf",
        Product::Envoy => "/etc/envoy/envoy.yaml",
    }
}

/// `NAME:TAG` of the official image.
fn official(product: Product) -> String {
    match product {
        Product::Haproxy => "haproxy:3.2".to_owned(),
        Product::Nginx => "nginx:1.28".to_owned(),
        Product::Envoy => format!("envoyproxy/envoy:{}", version::ENVOY),
    }
}

/// The command, and the signal that asks it to end well, as the official images have them.
fn command(product: Product) -> (Vec<&'static str>, &'static str) {
    let file = configuration(product);
    match product {
        Product::Haproxy => (vec!["haproxy", "-W", "-db", "-f", file], "SIGUSR1"),
        Product::Nginx => (vec!["nginx", "-c", file, "-g", "daemon off;"], "SIGQUIT"),
        Product::Envoy => (vec!["envoy", "-c", file], "SIGTERM"),
    }
}

/// Finds, pulls or builds the image of a product. Blocks: milliseconds when warm, minutes when it has to build.
///
/// # Errors
/// No Docker engine answers, a disk is full, or nothing worked: then what was tried.
pub fn balancer_image(product: Product, sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Image> {
    let build = |scratch: &Scratch| build(product, sources, scratch, progress);
    recipe(product, &DEBIAN.inputs(), &build).provide(sources, progress)
}

/// The image of a product, if the engine has it. Blocks for milliseconds.
///
/// # Errors
/// No Docker engine answers.
pub fn at_hand(product: Product, sources: &Sources) -> anyhow::Result<Option<Image>> {
    let build = |_: &Scratch| Err(Failure::Unavailable("only looked for".to_owned()));
    recipe(product, &DEBIAN.inputs(), &build).at_hand(sources)
}

fn recipe<'a>(product: Product, debian: &'a str, build: &'a dyn Fn(&Scratch) -> Result<Packed, Failure>) -> Recipe<'a> {
    let version = match product {
        Product::Envoy => version::ENVOY.to_string(),
        Product::Haproxy | Product::Nginx => "debian".to_owned(),
    };
    Recipe {
        what: format!("the image of {product}"),
        official: official(product),
        ours: format!("rollproof/{product}:{version}"),
        inputs: vec![debian.as_bytes(), include_str!("balancer.rs").as_bytes()],
        build,
    }
}

fn build(product: Product, sources: &Sources, scratch: &Scratch, progress: &dyn Fn(&str)) -> Result<Packed, Failure> {
    let disk = disk(&sources.cache);
    let mut layers = vec![Layer::of(&DEBIAN.tar(sources, progress)?).map_err(&disk)?];
    if product == Product::Envoy {
        let program = envoy(sources, progress)?;
        let layer = Layer::write(scratch.path("envoy.tar"), |tar| {
            tar.folders(&["usr", "usr/local", "usr/local/bin", "etc", "etc/envoy"])?;
            tar.program("usr/local/bin/envoy", &program.path)
        });
        layers.push(layer.map_err(&disk)?);
    }
    // What the packages' scripts would have made, and where the logs go.
    let layer = Layer::write(scratch.path("rest.tar"), |tar| {
        tar.folders(&["etc", "etc/nginx", "usr", "usr/local", "usr/local/etc", "usr/local/etc/haproxy"])?;
        tar.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
        tar.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        tar.folders(&["run", "var", "var/log", "var/log/nginx"])?;
        tar.link("var/log/nginx/access.log", "/dev/stdout")?;
        tar.link("var/log/nginx/error.log", "/dev/stderr")
    });
    layers.push(layer.map_err(&disk)?);
    let (command, stop) = command(product);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    Ok(Packed { names: Vec::new(), layers, config: json!({"Env": [path], "Cmd": command, "StopSignal": stop}) })
}
