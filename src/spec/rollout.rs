//! ROLLOUT: what clients notice, and what an apiserver does, when apiservers are restarted one after the other.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[
    &NO_OUTAGE_NEW,
    &NO_OUTAGE_REUSED,
    &READYZ_RED,
    &LIVEZ_GREEN,
    &SIGNAL_ORDER,
    &BACK,
    &KILL_OUTAGE_NEW,
    &KILL_OUTAGE_REUSED,
    &IN_FLIGHT,
    &LEDGER,
    &NO_OUTAGE_IN_LIBRARY,
    &NO_OUTAGE_LOAD,
    &ATTEMPTS,
    &READ_YOUR_WRITES,
    &NO_LOST_UPDATE,
];

/// New connections are always served.
pub static NO_OUTAGE_NEW: Requirement = Requirement {
    id: "ROLLOUT-1",
    level: Level::Must,
    title: "no outage, new connections",
    sentence: "While apiservers are gracefully restarted one after the other, as while nothing happens, every request on a new connection through \
               the balancer succeeds.",
    source: "OpenShift field report (\"new connections are accepted within a certain grace period\"); \
             kube-apiserver --shutdown-delay-duration",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "The balancer must take an apiserver out of service before its listener closes: let it check /readyz over \
             HTTPS, and make --shutdown-delay-duration longer than interval x threshold + timeout of that check.",
};

/// Kept connections are served, or closed while idle.
pub static NO_OUTAGE_REUSED: Requirement = Requirement {
    id: "ROLLOUT-2",
    level: Level::Must,
    title: "no outage, reused connections",
    sentence: "While apiservers are gracefully restarted one after the other, as while nothing happens, every request on a reused connection through \
               the balancer succeeds, but for one per kept connection and restart that one retry on a fresh connection repairs, since no \
               apiserver had taken it up: the old connection had been closed while idle, or its stopping apiserver, whose shutdown delay was \
               over, refused (429 or 503 with Retry-After).",
    source: "OpenShift field report (\"in-flight connections are given enough time to complete\"); RFC 9110, 9.2.2 and \
             RFC 9112, 9.3.1 (retrying on a closed connection); k8s.io/apiserver pkg/server/filters/waitgroup.go (503) and \
             with_retry_after.go (429, --shutdown-send-retry-after)",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "A reset in the middle of a request: the balancer cuts established connections when a target turns unhealthy \
             (turn on connection draining), or the apiserver was killed before its requests had finished (make \
             terminationGracePeriodSeconds longer than delay + request timeout).",
};

/// /readyz turns red at SIGTERM and stays red.
pub static READYZ_RED: Requirement = Requirement {
    id: "ROLLOUT-3",
    level: Level::Must,
    title: "/readyz red at once",
    sentence: "From SIGTERM on, an apiserver's /readyz fails, at once and until the process has ended.",
    source: "k8s.io/apiserver pkg/server/genericapiserver.go (ShutdownInitiated), healthz.go (shutdown check)",
    needs: &[Need::RestartableServers, Need::DirectAccess],
    remedy: "Balancers can only drain what says that it wants to be drained. Check that SIGTERM reaches kube-apiserver \
             itself (no shell between), and that nobody asks /readyz?exclude=shutdown.",
};

/// /livez stays green while the apiserver serves on.
pub static LIVEZ_GREEN: Requirement = Requirement {
    id: "ROLLOUT-4",
    level: Level::Must,
    title: "/livez green in the delay",
    sentence: "From SIGTERM until the end of --shutdown-delay-duration, an apiserver's /livez succeeds.",
    source: "k8s.io/apiserver pkg/server/healthz.go; kubeadm's static pod (livenessProbe on /livez)",
    needs: &[Need::RestartableServers, Need::DirectAccess],
    remedy: "A red /livez makes the kubelet kill the apiserver in the middle of its graceful termination.",
};

/// Lifecycle signals come in the order of their causes.
pub static SIGNAL_ORDER: Requirement = Requirement {
    id: "ROLLOUT-5",
    level: Level::Must,
    title: "lifecycle signals in order",
    sentence: "A gracefully stopped apiserver goes through ShutdownInitiated, AfterShutdownDelayDuration, \
               NotAcceptingNewRequest and HTTPServerStoppedListening, each after its causes (with --shutdown-send-retry-after, the last one \
               after InFlightRequestsDrained), and then ends by itself.",
    source: "k8s.io/apiserver pkg/server/lifecycle_signals.go and genericapiserver.go (the drawing above \
             RunWithContext)",
    needs: &[Need::RestartableServers, Need::ServerLogs],
    remedy: "A signal that never came tells where the termination got stuck, or that the process was killed first: \
             compare the grace period of the pod with delay + request timeout.",
};

/// A restarted apiserver takes traffic again soon.
pub static BACK: Requirement = Requirement {
    id: "ROLLOUT-6",
    level: Level::Must,
    title: "back within a bound",
    sentence: "A restarted apiserver is ready, and met by new connections through the balancer, within the bound of its \
               start.",
    source: "OpenShift field report (the balancer forwards \"until the new process starts reporting 200 on readyz again\")",
    needs: &[Need::RestartableServers],
    remedy: "Compare the steps Started, Ready and MetThroughBalancer in the recording: a late Ready is the apiserver's \
             (etcd, admission webhooks), a late MetThroughBalancer the balancer's (rise threshold, slow start).",
};

/// A killed apiserver costs new connections a bounded time.
pub static KILL_OUTAGE_NEW: Requirement = Requirement {
    id: "ROLLOUT-7",
    level: Level::Must,
    title: "bounded outage of a kill, new connections",
    sentence: "When an apiserver is killed, requests on new connections through the balancer fail for no longer than the \
               balancer needs to detect it.",
    source: "OpenShift field report (NonGracefulTermination); design of health-checked balancers",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "The balancer keeps a dead backend in service: check interval, threshold and timeout of its health check, and \
             whether it tries another backend when one refuses (redispatch).",
};

/// A killed apiserver costs kept connections a bounded time.
pub static KILL_OUTAGE_REUSED: Requirement = Requirement {
    id: "ROLLOUT-8",
    level: Level::Must,
    title: "bounded outage of a kill, reused connections",
    sentence: "When an apiserver is killed, requests on a reused connection through the balancer fail for no longer than \
               the balancer needs to detect it.",
    source: "gateway field report (the gateway keeps a dead upstream); OpenShift field report",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "The balancer keeps the client's connection open though the server's is gone, or reconnects to the dead \
             server: let it close both sides together, and check /readyz.",
};

/// What was in flight at SIGTERM completes.
pub static IN_FLIGHT: Requirement = Requirement {
    id: "ROLLOUT-9",
    level: Level::Must,
    title: "in-flight requests complete",
    sentence: "A request that was in flight when its apiserver got SIGTERM completes, whole, and takes effect exactly \
               once.",
    source: "OpenShift field report (\"the in-flight connections are given enough time to complete\"); \
             k8s.io/apiserver pkg/server/genericapiserver.go (InFlightRequestsDrained)",
    needs: &[Need::RestartableServers, Need::DirectAccess, Need::ServerLogs],
    remedy: "A request cut in the middle: the apiserver was killed before it had drained (make \
             terminationGracePeriodSeconds longer than delay + request timeout), or the balancer cut an established \
             connection (turn on connection draining). Two effects of one request: the balancer repeats requests that are \
             not idempotent.",
};

/// Nothing that was acknowledged is lost, nothing comes from nowhere.
pub static LEDGER: Requirement = Requirement {
    id: "ROLLOUT-10",
    level: Level::Must,
    title: "the ledger matches",
    sentence: "What the load was told was created, and not deleted, exists at the end; what it was told was deleted or \
               refused does not, nor what it was told was gone (404) after a delete whose answer was lost; and nothing exists that no create \
               explains. Lost answers may go either way.",
    source: "OpenShift field report (create, get and delete under a rollout); etcd tests/robustness (validation against a \
             model)",
    needs: &[Need::DirectAccess],
    remedy: "An object too many: something repeated a request or brought an old state back. One too few: an apiserver \
             acknowledged what etcd did not keep. Look at the object's requests in the recording and, by their Audit-IDs, \
             in the audit logs.",
};

/// What the user of a client library is told.
pub static NO_OUTAGE_IN_LIBRARY: Requirement = Requirement {
    id: "ROLLOUT-11",
    level: Level::Should,
    title: "no outage, as the client library reports it",
    sentence: "While apiservers are gracefully restarted one after the other, a client library that retries as it does by \
               default reports no failed read through the balancer, but for one per pooled connection and restart that no apiserver had \
               received, because that connection was being closed at that moment.",
    source: "OpenShift field report (errors as client-go's users saw them); kube-client src/client/retry.rs; RFC 9112, \
             9.3.1 and 9.6 (a client can lose the race against a server that closes an idle connection)",
    needs: &[Need::RestartableServers],
    remedy: "kube-rs repeats what was answered with 429, 503 or 504, and what it could not send; a refused connection, a \
             reset or an unexpected EOF reaches its user. Compare with ROLLOUT-1: where raw requests fail too, the balancer \
             is to blame. Where only the library fails, let the user of a read try once more.",
};

/// The load goes on.
pub static NO_OUTAGE_LOAD: Requirement = Requirement {
    id: "ROLLOUT-12",
    level: Level::Must,
    title: "no outage under load",
    sentence: "While apiservers are gracefully restarted one after the other, no request of the load fails, but for one per kept connection \
               and restart that no apiserver had taken up, because the connection had been closed while idle or its stopping apiserver, whose \
               shutdown delay was over, refused (429 or 503 with Retry-After): one retry repairs it, unless it is a create whose bytes may have \
               left unanswered, which must not be repeated.",
    source: "OpenShift field report (ten workers that create, get and delete); RFC 9110, 9.2.2 (a client must not retry a \
             request that is not idempotent unless it knows that it was not applied)",
    needs: &[Need::RestartableServers, Need::ServerLogs],
    remedy: "Look at the phase of the first failure. On a new connection: as ROLLOUT-1. In the middle of a request that an \
             apiserver had received: as ROLLOUT-2.",
};

/// Nothing hangs.
pub static ATTEMPTS: Requirement = Requirement {
    id: "ROLLOUT-13",
    level: Level::Must,
    title: "no attempt hangs",
    sentence: "While apiservers are gracefully restarted one after the other, as while nothing happens, no attempt at a request through the \
               balancer takes longer than its bound, whether it succeeds or fails. Waits between attempts, as Retry-After asks for them, and \
               requests that are held in flight on purpose do not count.",
    source: "OpenShift field report (disruption is what a client waits for, too); k8s.io/apiserver pkg/server/genericapiserver.go (a stopping \
             apiserver serves on until its listener is closed)",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "A slow connect or handshake: the balancer still sends new connections to an apiserver that does not accept them. A slow answer: an \
             apiserver was ready before it could serve (its caches, etcd, an admission webhook), or the one that remained has too little to \
             serve everybody. A timeout on a kept connection: it leads nowhere, and nobody said so.",
};

/// A read shows what was written before it.
pub static READ_YOUR_WRITES: Requirement = Requirement {
    id: "ROLLOUT-14",
    level: Level::Must,
    title: "reads show acknowledged writes",
    sentence: "While apiservers are restarted one after the other, as while nothing happens, a read without a resourceVersion through the balancer \
               shows every write that was acknowledged before it was begun, whichever apiserver answers, and nothing that nobody wrote.",
    source: "Kubernetes API concepts, \"Resource versions\" (get and list without resourceVersion: most recent); KEP-2340 (consistent reads from \
             cache)",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "An apiserver answered from a watch cache that was behind etcd: look at the one that answered, and at how long it had been ready. Turn \
             ConsistentListFromCache off to see whether it is that. A proxy that caches answers does the same.",
};

/// Optimistic locking holds.
pub static NO_LOST_UPDATE: Requirement = Requirement {
    id: "ROLLOUT-15",
    level: Level::Must,
    title: "no lost update",
    sentence: "While apiservers are restarted one after the other, as while nothing happens, of two writers that update one object through the \
               balancer, each with the resourceVersion that it had read, no acknowledged update is lost, and none takes effect that was refused.",
    source: "Kubernetes API concepts, \"Resource versions\" (optimistic concurrency: 409 Conflict); k8s.io/apiserver \
             pkg/storage/etcd3/store.go (GuaranteedUpdate)",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "Look at both updates in the audit logs by their Audit-IDs: two apiservers that compare with different states have different etcds, or \
             one of these has lost its quorum. An update that was refused and took effect was repeated by somebody on its way.",
};
