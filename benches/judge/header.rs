//! The header of a recording that is made up, or that nobody will judge.

use std::collections::BTreeMap;

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{Bounds, Profile, Timers};

pub(crate) const SERVERS: [&str; 2] = ["apiserver-0", "apiserver-1"];

/// Judged by all that can be asked of a graceful roll.
pub(crate) fn header(disturbance: Option<Restart>) -> Header {
    let timers = Timers::of(Profile::Pr);
    let judged = spec::watch::ALL.iter().chain(spec::rollout::ALL);
    // What a kill may cost is not asked of a graceful roll.
    let judged = judged.filter(|requirement| !["ROLLOUT-7", "ROLLOUT-8"].contains(&requirement.id));
    let server = |name: &str| Server {
        name: name.to_owned(),
        address: "127.77.1.10:16443".to_owned(),
        certificate: String::new(),
        flags: Vec::new(),
    };
    Header {
        format: FORMAT,
        suite: String::new(),
        scenario: "bench".to_owned(),
        cell: Cell {
            control_plane: "local".to_owned(),
            kubernetes: "v1.37.2".to_owned(),
            apiservers: SERVERS.len(),
            // One that keeps no record of connections.
            balancer: "haproxy".to_owned(),
            protocol: "http1+http2".to_owned(),
            client: "kube-rs".to_owned(),
            profile: Profile::Pr,
        },
        seed: 0,
        began: String::new(),
        began_at: Moment(0),
        disturbance,
        servers: SERVERS.map(server).to_vec(),
        subjects: Vec::new(),
        timers,
        gateways: None,
        machine: BTreeMap::new(),
        bounds: Bounds::with(&timers),
        judged_by: judged
            .map(|requirement| JudgedBy {
                requirement: requirement.id.to_owned(),
                expected: Expected::Upheld,
                gateway: None,
            })
            .collect(),
    }
}
