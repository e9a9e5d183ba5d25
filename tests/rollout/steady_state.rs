//! Nothing is disturbed: the baseline that every other scenario is measured against.

use rollproof::prelude::*;
use serial_test::serial;

use crate::rollout::{WATCHED, every_probe};

/// Without a disturbance, watches deliver every change and no request fails. Whatever fails here is no effect of a
/// rollout.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_while_nothing_happens() {
    undisturbed()
        .upholds(&WATCHED)
        .upholds(&[&rollout::NO_OUTAGE_NEW, &rollout::NO_OUTAGE_REUSED, &rollout::NO_OUTAGE_IN_LIBRARY])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            // As long as a restart takes, at a sample every 50 ms.
            probes.go_on(120).await?;
            probes.stop().await
        })
        .await;
}
