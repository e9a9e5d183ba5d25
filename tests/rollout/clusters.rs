//! Clusters of nodes in containers, as such: what scenarios on the control plane `kind` stand on.

use std::time::Instant;

use futures::StreamExt as _;
use rollproof::lab::control_plane::kind::{self, Cluster, Health, Node, Order, Role};
use rollproof::lab::provision::Version;

#[tokio::test(flavor = "multi_thread")]
async fn play() {
    let var = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_owned());
    let config = {
        let nodes = |role: &str, count: usize| format!("- role: {role}\n").repeat(count);
        let text = format!(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n{}{}",
            nodes("control-plane", var("CPS", "1").parse().unwrap()),
            nodes("worker", var("WORKERS", "0").parse().unwrap())
        );
        kind::config::KindConfig::parse(&text).unwrap()
    };
    let image = var("IMAGE", "rollproof/node:v1.37.2");
    let kubernetes: Version = var("VERSION", "1.37.2").parse().unwrap();
    let order = Order {
        config: &config,
        name: None,
        image: &image,
        kubernetes: &kubernetes,
        patches: &[],
        balancer_image: &var("LB", "rollproof/haproxy:latest"),
        health: Health::Readyz,
    };
    let began = Instant::now();
    let cluster =
        Cluster::create(order, &|line| eprintln!("{:6.2} {line}", began.elapsed().as_secs_f64())).await.unwrap();
    eprintln!("{:6.2} ready {:?}", began.elapsed().as_secs_f64(), cluster.nodes);
    eprintln!("{}", cluster.nodes[0].run(&["kubectl", "get", "nodes,pods", "-A", "-o", "wide"], &[]).await.unwrap());
    if std::env::var_os("HOLD").is_some() {
        std::future::pending::<()>().await;
    }
    let began = Instant::now();
    cluster.strike().await.unwrap();
    eprintln!("struck in {:6.2}", began.elapsed().as_secs_f64());
}
