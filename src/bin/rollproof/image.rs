//! `rollproof image`: has the images of clusters ready before a run needs them.

use clap::Args;
use rollproof::config::{Config, Product};
use rollproof::lab::provision::image::balancer::balancer_image;
use rollproof::lab::provision::node_image::node_image;
use rollproof::lab::provision::{Origin, Sources, wanted};

use crate::{Ended, note, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Which Kubernetes the nodes have [default: ROLLPROOF_KUBERNETES_VERSION, or the newest]
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<String>,
    /// Also the images of the balancers haproxy, nginx and Envoy
    #[arg(long)]
    balancers: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let config = Config::from_env()?;
    let version = wanted(options.kubernetes_version.as_deref().or(config.kubernetes_version.as_deref()))?;
    let sources = Sources::from_env()?;
    let node = node_image(&version, &sources, &note)?;
    say(&format!("{} has Kubernetes {}, {}: {}", node.reference, node.kubernetes, how(node.origin), node.digest));
    for product in Product::ALL.into_iter().filter(|_| options.balancers) {
        let image = balancer_image(product, &sources, &note)?;
        say(&format!("{} has {product}, {}: {}", image.reference, how(image.origin), image.digest));
    }
    Ok(Ended::Fine)
}

fn how(origin: Origin) -> &'static str {
    match origin {
        Origin::Cache => "the engine had it",
        Origin::Downloaded => "pulled",
        _ => "built here",
    }
}
