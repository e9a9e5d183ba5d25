//! WATCH: what a watch through a balancer delivers. The guarantees are those of etcd's watch API (its robustness tests
//! name them so), as the Kubernetes API promises them for one resource type.

use super::{Level, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&GAPLESS, &ORDERED, &UNIQUE, &RESUMABLE, &RELIABLE, &FRESH];

/// No acknowledged change is lost.
pub static GAPLESS: Requirement = Requirement {
    id: "WATCH-1",
    level: Level::Must,
    title: "gapless",
    sentence: "Every change that was acknowledged to its writer reaches every watch that was open before it, as an event \
               or in a relist at or after its revision.",
    source: "Kubernetes API concepts, \"Efficient detection of changes\"; etcd watch guarantee \"reliable\"",
    needs: &[],
    remedy: "Look at the watch's reconnects in the recording: a client that resumes from a newer resourceVersion than the \
             last one it delivered skips changes. Resume from the last delivered one, or relist.",
};

/// Events come in the order of their revisions.
pub static ORDERED: Requirement = Requirement {
    id: "WATCH-2",
    level: Level::Must,
    title: "ordered",
    sentence: "A watch delivers events in increasing order of resourceVersion, across reconnects and servers.",
    source: "KEP-5504, comparable resourceVersion; etcd watch guarantee \"ordered\"",
    needs: &[],
    remedy: "An event older than its predecessor after a reconnect means that the client resumed from too old a \
             resourceVersion, or that the balancer sent it to an apiserver whose watch cache lags.",
};

/// No event comes twice.
pub static UNIQUE: Requirement = Requirement {
    id: "WATCH-3",
    level: Level::Must,
    title: "unique",
    sentence: "A watch delivers no event twice; a relist may repeat the state, a resumed watch must not.",
    source: "etcd watch guarantee \"unique\"",
    needs: &[],
    remedy: "A client that resumes from an older resourceVersion than the last one it delivered sees events again. Check \
             that it stores the resourceVersion of every event and bookmark.",
};

/// A watch that ends goes on where it was.
pub static RESUMABLE: Requirement = Requirement {
    id: "WATCH-4",
    level: Level::Must,
    title: "resumable",
    sentence: "A watch that ends because its apiserver is restarted resumes from its last resourceVersion on another \
               apiserver, without a relist.",
    source: "KEP-1904, efficient watch resumption; client-go tools/cache/reflector.go",
    needs: &[],
    remedy: "A relist after a restart costs the control plane a full LIST per client. Check that the client keeps its \
             resourceVersion when a watch breaks, and that the apiserver's watch cache reaches back far enough (no 410).",
};

/// What a watch delivers is what was written.
pub static RELIABLE: Requirement = Requirement {
    id: "WATCH-5",
    level: Level::Must,
    title: "reliable",
    sentence: "A watch delivers nothing but what was written: each event's object, kind, content and resourceVersion are \
               those of one write, and a relist shows the state at its revision.",
    source: "etcd watch guarantees \"atomic\" and \"filterable\"",
    needs: &[],
    remedy: "An event that no write explains: look for a second writer in the namespace, a stale cache behind one \
             apiserver, or a proxy that answers from its own cache.",
};

/// Changes arrive soon.
pub static FRESH: Requirement = Requirement {
    id: "WATCH-6",
    level: Level::Must,
    title: "fresh",
    sentence: "Every change arrives within the freshness bound of its acknowledgement, a reconnect included.",
    source: "gateway field report (a watch silent for 6000 minutes); AKS field report (10 s to be noticed)",
    needs: &[],
    remedy: "A watch that stays silent while changes are acknowledged hangs on a dead connection. Give the client a read \
             deadline or HTTP/2 PING, and the balancer an idle reset or a health check that closes connections. Or it hangs on an \
             apiserver whose own etcd member is stopped (kubeadm's asks no other), which only its /readyz tells of.",
};
