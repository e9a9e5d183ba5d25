//! WATCH: what a watch through a balancer delivers. The guarantees are those of etcd's watch API (its robustness tests
//! name them so), as the Kubernetes API promises them for one resource type.

use super::{Level, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&GAPLESS, &ORDERED, &UNIQUE, &RESUMABLE, &RELIABLE, &FRESH, &MONOTONIC, &BOOKMARKED];

/// No acknowledged change is lost.
pub static GAPLESS: Requirement = Requirement {
    id: "WATCH-1",
    level: Level::Must,
    title: "gapless",
    sentence: "Every acknowledged change whose revision is greater than that of the list that a watch began with reaches \
               that watch, as an event or in a relist at or after its revision.",
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
    sentence: "A watch delivers events in increasing order of resourceVersion, across reconnects and servers, but for the \
               initial events with which a watch shows the state.",
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
    sentence: "A watch that ends because its apiserver is restarted is open again within a bound, from the last \
               resourceVersion its client knows and without a relist; unless the apiserver it asks became ready only \
               after that revision and answers 410, since its watch cache begins at its start: then one list may follow.",
    source: "KEP-1904, efficient watch resumption; client-go tools/cache/reflector.go; k8s.io/apiserver \
             pkg/storage/cacher/watch_cache.go",
    needs: &[],
    remedy: "A relist after a restart costs the control plane a full LIST per client. Check that the client keeps its \
             resourceVersion when a watch breaks, asks again at once, and lists after 410 only; and that the balancer takes an \
             apiserver back when it is ready, not before (a watch cache that has just begun answers 410).",
};

/// What a watch delivers is what was written.
pub static RELIABLE: Requirement = Requirement {
    id: "WATCH-5",
    level: Level::Must,
    title: "reliable",
    sentence: "A watch delivers nothing but what was written: each event's object, kind, content and resourceVersion are \
               those of one write that was begun before; and a relist shows the state at its revision, and nothing that was \
               certainly deleted.",
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

/// Time never goes back.
pub static MONOTONIC: Requirement = Requirement {
    id: "WATCH-7",
    level: Level::Must,
    title: "never back in time",
    sentence: "A list without a resourceVersion, or from a known one, is never older than what its client has seen before.",
    source: "Kubernetes API concepts, \"Semantics for get and list\" (without a resourceVersion: most recent; \
             NotOlderThan); kubernetes#59848 (a restarted kubelet went back in time by resourceVersion=0)",
    needs: &[],
    remedy: "A client that goes back in time acts on what is over: it starts what was deleted. Do not relist from \
             resourceVersion=0, but without one or from the last known; and look for an apiserver whose watch cache hangs behind \
             etcd, or whose etcd member was restored or is alone.",
};

/// What a bookmark says is true.
pub static BOOKMARKED: Requirement = Requirement {
    id: "WATCH-8",
    level: Level::Must,
    title: "bookmarks are true",
    sentence: "After a bookmark a watch delivers nothing up to its resourceVersion, and everything acknowledged up to it was \
               delivered before; initial events that were asked for are ended by one.",
    source: "KEP-956, watch bookmarks; KEP-3157, watch list; etcd watch guarantee \"bookmarkable\" (etcd#15220)",
    needs: &[],
    remedy: "A client that resumes from a bookmark which came too early loses changes for good. Look for a stale watch cache \
             (etcd before 3.4.25 and 3.5.8 sent progress notifications early: etcd#15220) and for a proxy that reorders or \
             caches streams.",
};
