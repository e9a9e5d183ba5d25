//! What a failure may be excused by, as data: each excuse has a condition that the recording has to show, and a budget.
//!
//! What is not here excuses nothing. A verdict says how often an excuse was granted, and of how many: `closed-while-idle 1 of 2`.

/// Something that excuses a failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Excuse {
    /// Stable id, for example `closed-while-idle`.
    pub id: &'static str,
    /// What the recording has to show.
    pub condition: &'static str,
    /// How often it is granted.
    pub budget: &'static str,
    /// Who grants it: RFC, documentation, or a file of the apiserver.
    pub source: &'static str,
    /// The requirements that know it, by id.
    pub requirements: &'static [&'static str],
}

/// All of them.
pub static EXCUSES: [&Excuse; 7] = [
    &CLOSED_WHILE_IDLE,
    &REFUSED_WHILE_STOPPING,
    &CREATE_NOT_REPEATED,
    &READ_NOT_REPEATED,
    &GONE_AFTER_RESTART,
    &OWN_STALL,
    &STARVED,
];

/// A kept connection had been closed.
pub static CLOSED_WHILE_IDLE: Excuse = Excuse {
    id: "closed-while-idle",
    condition: "A request on a kept connection meets RST, FIN, EPIPE or GOAWAY before any byte of an answer, at once; its apiserver is being \
                stopped, or its process has just ended (or it asks for new connections by --goaway-chance); no apiserver had received it, \
                according to audit logs that are known to be complete; and one retry, at once and on a fresh connection, succeeds.",
    budget: "one per kept connection and restart, together with refused-while-stopping; with --goaway-chance, one per connection, and in all \
             three times as many as that chance makes likely, and three",
    source: "RFC 9110, 9.2.2 and RFC 9112, 9.3.1 (retrying on a closed connection); RFC 9113, 6.8 (GOAWAY)",
    requirements: &["ROLLOUT-2", "ROLLOUT-8", "ROLLOUT-12"],
};

/// A stopping apiserver refused.
pub static REFUSED_WHILE_STOPPING: Excuse = Excuse {
    id: "refused-while-stopping",
    condition: "A request on a kept connection is answered with 429 or 503 and Retry-After by an apiserver that is stopping and whose shutdown \
                delay is over, before its process ends; no audit log has it; and one retry, at once and on a fresh connection, succeeds.",
    budget: "one per kept connection and restart, together with closed-while-idle",
    source: "k8s.io/apiserver pkg/server/filters/waitgroup.go (503) and with_retry_after.go (429, --shutdown-send-retry-after)",
    requirements: &["ROLLOUT-2", "ROLLOUT-8", "ROLLOUT-12"],
};

/// A create must not be repeated.
pub static CREATE_NOT_REPEATED: Excuse = Excuse {
    id: "create-not-repeated",
    condition: "As closed-while-idle, but the request is a create whose bytes may have left, and so nobody repeats it: the next request of its \
                worker succeeds.",
    budget: "one per kept connection and restart, together with closed-while-idle and refused-while-stopping",
    source: "RFC 9110, 9.2.2 (a client must not retry a request that is not idempotent unless it knows that it was not applied)",
    requirements: &["ROLLOUT-12"],
};

/// A library does not repeat what was sent.
pub static READ_NOT_REPEATED: Excuse = Excuse {
    id: "read-not-repeated",
    condition: "As closed-while-idle, but the request is a read of a client library that does not repeat what it has sent: its reads before and \
                after it succeed.",
    budget: "one per pooled connection and restart",
    source: "RFC 9112, 9.3.1 and 9.6 (a client can lose the race against a server that closes an idle connection)",
    requirements: &["ROLLOUT-11"],
};

/// A restarted apiserver's watch cache begins later than a watch wants to go on.
pub static GONE_AFTER_RESTART: Excuse = Excuse {
    id: "gone-after-restart",
    condition: "A watch that asks from the last revision it knows is answered 410, and its client lists once. The audit log tells which apiserver \
                answered; that one was started anew, and became ready only after that revision: its watch cache begins later.",
    budget: "one list per watch and start of an apiserver",
    source: "Kubernetes API concepts, \"Efficient detection of changes\" (410, list again); k8s.io/apiserver \
             pkg/storage/cacher/watch_cache.go (\"too old resource version\")",
    requirements: &["WATCH-4"],
};

/// We ourselves did not run.
pub static OWN_STALL: Excuse = Excuse {
    id: "own-stall",
    condition: "rollproof itself did not run for longer than the bound while the time passed that the claim is about. A gap, a repetition, a wrong \
                order, or what somebody else wrote down is not about time.",
    budget: "the verdict is inconclusive, not upheld",
    source: "the ticker of the recording",
    requirements: &[],
};

/// The machine had no processor for an apiserver that nobody disturbed.
pub static STARVED: Excuse = Excuse {
    id: "starved",
    condition: "While something failed, an apiserver that nobody disturbed did not answer /livez within half a health check's time when asked past \
                the balancer; or, where nobody asked, it did not answer the balancer's check.",
    budget: "the verdict is inconclusive, not upheld",
    source: "k8s.io/apiserver pkg/server/healthz.go (/livez asks for nothing that a client can use up)",
    requirements: &[],
};
