//! `docs/gateway-cures.md`: what each remedy came to, from recordings, with the reasons and the configuration that follows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::one_line;
use crate::timeline::{Recording, Shape, TCP_KEEPALIVE_TIME, TCP_RETRIES2};
use crate::timing::GatewayTimers;
use crate::verdict::{
    COUNTED, Cure, Informer, OnTheWire, Onward, Recovery, connections_at_first, counted, cures, on_the_wire,
};

/// A remedy as the page tells of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its name in recordings.
    pub name: &'static str,
    /// What is set.
    pub settings: &'static str,
    /// Why it helps, or not.
    pub why: &'static str,
    /// What its user applies or starts it with, where that is a file.
    pub file: Option<String>,
}

/// So many gateways are named in a heading.
const FEW: usize = 4;

const HEAD: &str = "\
# What really ends a half-open upstream

<!-- Generated: cargo run -- cures fixtures/recordings/gateway-*.jsonl.zst > docs/gateway-cures.md
     Recorded:  ROLLPROOF_PROFILE=nightly cargo test --test rollout -- gateway::each_remedy gateway::a_small_tcp_retries2 gateway::more_watches gateway::istio_does gateway::other_products
                gateway::quiet_sessions (then zstd -19) -->

A gateway that ends HTTP stands between clients and kube-apiservers: an Istio ingress gateway, say. One apiserver ceases to answer, without FIN
or RST. The clients' connections lead to the gateway and stay; so a watch hangs for ever, and half of the requests with it. Which setting of the
gateway ends that, for watches *and* requests, and leaves a quiet `exec` session alone?

**In short:** ask the connection, not the stream. HTTP/2 PING upstream ends what hangs, health checks keep new streams away, reads that had no answer yet are repeated at another
apiserver, and TCP's timers do for upgraded sessions. So configured, Envoy, Istio and haproxy uphold every GATEWAY requirement under each fault below: the configurations are at the end
of this page. Open-source nginx does not where a process is frozen. The field report's cures do not: its first cuts quiet sessions, its second ends a watch only if nothing else is on its connection.

Each remedy has a gateway of its own, an Envoy unless it says otherwise, and all stand in front of the same two real apiservers, over HTTP/2 and TLS on both sides, with one
worker. One fault serves them all. haproxy and nginx have labs of their own; nginx speaks HTTP/2 to clients only. The columns:
";

/// The page. `remedies` in the order of the table. Timers that it names are those of the first recording; in a table those of its own. Without any
/// recording, no more than its head.
pub fn cures_markdown(recordings: &[Recording], remedies: &[Told]) -> String {
    let mut page = HEAD.to_owned();
    let Some(first) = recordings.first().map(|recording| &recording.header) else { return page };
    let (timers, bounds) = (first.gateways.unwrap_or_default(), first.bounds);
    let _ = write!(
        page,
        "
- **watch alone**: a watch on an upstream connection on which the gateway sends nothing; **watch beside requests**: GETs every quarter of a second on the same.
  The time is when it told of changes again, for good: after it, never more than {} went by without one.
- **requests**, **new watches**: on connections that were there before the fault. The time is when the last one was asked for that had no good answer within {} s.
  So headers are withheld from these, where in a watch that was open the body stalls. Failed ones, of how many, with Envoy's response flags, where it was Envoy that answered.
- **quiet stream**: on the *other* apiserver, which answers. It says nothing until the end, and then has to tell of one change.
- **quiet exec**: an `exec` session there by WebSocket (kube-rs), in a lane of its own which takes upgrades under every remedy: through an explicit HTTP/2 upstream none can be opened. It
  says nothing until the end, and then has to echo a line. Its kubelet is a stand-in (kwok).
- **execs on the dead one**: when the gateway ended a quiet `exec` on the apiserver that does not answer, and one in which its user types; `?`: it was over before.
- `never` means: not before the fault was over, after {} s. All clients of a gateway had one connection in each lane, informers and watches by HTTP/1.1 one of their own, and where nothing else is
  said it was never closed: its port never changed, as in the field report.
",
        seconds(bounds.gateway_silent),
        bounds.gateway_answered.as_secs_f64(),
        timers.fault.as_secs_f64(),
    );
    let _ = writeln!(
        page,
        "\nTimers are short, so that a run ends: stream_idle_timeout {}, keepalive {} + {} x {}, TCP_USER_TIMEOUT {}, PING every {} and {} for its answer, \
         max durations {} (drained for {}). How long they are decides how long it takes, not whether. connect_timeout is {}; haproxy's and nginx's timers are as short. Each table is one run; which host is \
         chosen first when a stream is opened again is chance, and costs a connect_timeout where nothing checks health.",
        seconds(timers.stream_idle_timeout),
        seconds(timers.keepalive_time),
        timers.keepalive_probes,
        seconds(timers.keepalive_interval),
        seconds(timers.user_timeout),
        seconds(timers.ping_interval),
        seconds(timers.ping_timeout),
        seconds(timers.max_duration),
        seconds(timers.drain_timeout),
        seconds(timers.connect),
    );
    let (of_sessions, others): (Vec<_>, Vec<_>) =
        recordings.iter().map(|recording| (recording, cures(recording))).partition(|(_, cures)| of_every_kind(cures));
    for (recording, cures) in others {
        let Some(first) = cures.first() else { continue };
        let _ = write!(
            page,
            "\n## Fault: {}{}\n\n{}, {}.\n\n\
             | remedy | watch alone | watch beside requests | requests | new watches | requests failed | new watches failed | quiet stream | quiet exec | execs on the dead one | client connections |\n\
             | --- | --: | --: | --: | --: | --- | --- | --- | --- | --- | --: |\n",
            one_line(&first.fault, 200),
            if cures.len() <= FEW { format!(" ({})", names(&cures).join(", ")) } else { String::new() },
            one_line(&recording.header.scenario, 200),
            subjects(recording),
        );
        for remedy in remedies {
            if let Some(cure) = cures.iter().find(|cure| cure.gateway == remedy.name) {
                page += &row(cure);
            }
        }
        page += &informers(recording, &cures, remedies);
        page += &many(recording, &cures, remedies);
        page += &counters(recording, remedies);
        if let Some(OnTheWire { probed, repeated, both }) = on_the_wire(recording) {
            let _ = writeln!(
                page,
                "\nOn the wire, of the gateways' connections to that apiserver: on {probed} the kernel sent keepalive probes and repeated no bytes, on {repeated} it \
                 repeated bytes and sent no probe, on {both} both."
            );
        }
    }
    page += &sessions(&of_sessions, remedies);
    page += "\n## Why\n\n| remedy | what is set | what the kernel and the gateway make of it |\n| --- | --- | --- |\n";
    for Told { name, settings, why, .. } in remedies {
        let _ = writeln!(page, "| {name} | {settings} | {} |", why.replace('|', "\\|"));
    }
    // What is recommended is what was run.
    remedies
        .iter()
        .filter_map(|it| Some((it.name, it.file.as_deref()?)))
        .fold(page + include_str!("cures.md"), |page, (name, file)| page.replace(&format!("${{{name}}}\n"), file))
}

fn names(cures: &[Cure]) -> Vec<&str> {
    cures.iter().map(|cure| cure.gateway.as_str()).collect()
}

/// What was under test, and the kernel.
fn subjects(recording: &Recording) -> String {
    let header = &recording.header;
    let versions: Vec<_> = header.subjects.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
    let kernel = header.machine.get("kernel").map_or("", String::as_str);
    let settings = [(TCP_RETRIES2, "tcp_retries2"), (TCP_KEEPALIVE_TIME, "tcp_keepalive_time")];
    let settings = settings.iter().filter_map(|(key, name)| Some((name, header.machine.get(*key)?)));
    let settings: String =
        settings.map(|(name, it)| format!(", {name} {} for the gateways", one_line(it, 10))).collect();
    format!("{}; Linux {}{settings}", one_line(&versions.join(", "), 200), one_line(kernel, 60))
}

/// Whether there were quiet sessions of every kind.
fn of_every_kind(cures: &[Cure]) -> bool {
    cures.iter().any(|cure| cure.quiet_sessions.len() == Shape::QUIET_SESSIONS.len())
}

/// What became of quiet sessions of every kind; nothing where there were none.
fn sessions(recordings: &[(&Recording, Vec<Cure>)], remedies: &[Told]) -> String {
    let Some((first, _)) = recordings.first() else { return String::new() };
    let name = |shape: Shape| shape.to_string().trim_start_matches("quiet ").to_owned();
    let mut table = format!(
        "\n## Quiet sessions\n\n{}, {}.\n\n\
         For how long a session on the apiserver that answers was quiet and lived, or after how long it was ended; and after the stroke, when the gateway ended one on \
         the apiserver whose\npackets are lost. Nothing is said in it until the end, when a line has to come: an echo, or what the container says at last where there \
         is no input. `exec`, `attach` and\n`port-forward` are kube-rs's, by WebSocket; `logs -f` is as well, by HTTP/2; SPDY is kubectl's. The kubelet is a stand-in \
         (kwok).\n\n| remedy | {} |\n| --- |{}\n",
        one_line(first.header.scenario.split("::case").next().unwrap_or_default(), 200),
        subjects(first),
        Shape::QUIET_SESSIONS.map(name).join(" | "),
        " --- |".repeat(Shape::QUIET_SESSIONS.len())
    );
    let all = || recordings.iter().flat_map(|(_, cures)| cures);
    for cure in remedies.iter().filter_map(|remedy| all().find(|cure| cure.gateway == remedy.name)) {
        let cells = Shape::QUIET_SESSIONS.map(|shape| {
            let dead = cure.dead_sessions.get(&shape).copied().unwrap_or(Recovery::Unknown);
            format!("{} / {}", quiet(cure.quiet_sessions.get(&shape).copied()), recovery(dead))
        });
        let _ = writeln!(table, "| {} | {} |", cure.gateway, cells.join(" | "));
    }
    table
}

/// What each gateway counted itself; nothing where none told.
fn counters(recording: &Recording, remedies: &[Told]) -> String {
    let counted = counted(recording);
    if counted.is_empty() {
        return String::new();
    }
    let columns: Vec<_> = COUNTED.iter().map(|(_, what)| *what).collect();
    let mut table = format!(
        "\nWhat Envoy counted meanwhile, over all lanes and until its end:\n\n| remedy | {} |\n| --- |{}\n",
        columns.join(" | "),
        " --: |".repeat(columns.len())
    );
    for (name, values) in remedies.iter().filter_map(|it| Some((it.name, counted.get(it.name)?))) {
        let values: Vec<_> = values.iter().map(u64::to_string).collect();
        let _ = writeln!(table, "| {name} | {} |", values.join(" | "));
    }
    table
}

/// What became of the informer behind each gateway; nothing where there was none.
fn informers(recording: &Recording, cures: &[Cure], remedies: &[Told]) -> String {
    let timers: GatewayTimers = recording.header.gateways.unwrap_or_default();
    let rows = remedies.iter().filter_map(|it| {
        let cure = cures.iter().find(|cure| cure.gateway == it.name)?;
        let Informer { recovery: recovered, struck, age, asked, pings, went_on } = cure.informer.as_ref()?;
        let struck = struck.map_or("silent".to_owned(), |after| format!("**struck after {}**", seconds(after)));
        let went_on = match went_on {
            Some(Onward::Resumed) => "from its last revision",
            Some(Onward::Anew) => "anew",
            None => "not",
        };
        let (recovered, age, asked) = (recovery(*recovered), seconds(*age), seconds(*asked));
        Some(format!("| {} | {recovered} | {struck} | {age} of {asked} | {pings} | {went_on} |\n", it.name))
    });
    let rows: String = rows.collect();
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\nThe field report's informer, as client-go has it, beside the requests. It asks its watch to last {} (300 to 600 s there), and its connection by PING when nothing has \
         come for {} (30 s), with {} for the answer (15 s). Its hang detector strikes when it is told of nothing for {} (60 s in the report). A PING is answered by the gateway \
         itself, whatever has become of the apiserver; and how old a watch gets is for the apiserver to see to, which is dead.\n\n\
         | remedy | told of changes again | hang detector | age of its watch | PINGs answered | went on |\n| --- | --: | --: | --: | --: | --- |\n{rows}",
        seconds(timers.informer_watch),
        seconds(timers.client_read_idle),
        seconds(timers.client_ping_timeout),
        seconds(recording.header.bounds.gateway_hang),
    )
}

/// What became of many watches of one client; nothing where there were none.
fn many(recording: &Recording, cures: &[Cure], remedies: &[Told]) -> String {
    let connections = connections_at_first(recording);
    let rows = remedies.iter().filter_map(|it| {
        let (there, last) = cures.iter().find(|cure| cure.gateway == it.name)?.many?;
        let connections = connections.get(it.name).map_or("?".to_owned(), u64::to_string);
        Some(format!("| {} | {connections} | {there} | {} |\n", it.name, recovery(last)))
    });
    let rows: String = rows.collect();
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\nMany watches on one connection of a client. An apiserver takes {} streams on one connection, so the gateway has several to each.\n\n\
         | remedy | connections to both | watches on that apiserver | the last told of changes again |\n| --- | --: | --: | --: |\n{rows}",
        recording.header.bounds.gateway_streams
    )
}

fn row(cure: &Cure) -> String {
    let failed = |failures: &BTreeMap<String, usize>, of: usize| {
        let failures: Vec<_> = failures.iter().map(|(what, count)| format!("{count} x {what}")).collect();
        if failures.is_empty() { "none".to_owned() } else { format!("{} of {of}", failures.join(", ")) }
    };
    let [requests, new_watches] = cure.asked;
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} / {} | {} |\n",
        cure.gateway,
        recovery(cure.watch_alone),
        recovery(cure.watch_busy),
        recovery(cure.requests),
        recovery(cure.new_watches),
        failed(&cure.failures, requests),
        failed(&cure.new_watch_failures, new_watches),
        quiet(cure.quiet),
        quiet(cure.quiet_sessions.get(&Shape::QuietExec).copied()),
        cure.dead_sessions.get(&Shape::QuietExec).map_or_else(String::new, |it| recovery(*it)),
        recovery(cure.dead_exec),
        cure.connections,
    )
}

fn quiet(lived: Option<Result<Duration, Duration>>) -> String {
    match lived {
        Some(Ok(lived)) => format!("lived {}", seconds(lived)),
        Some(Err(after)) => format!("**cut after {}**", seconds(after)),
        None => "?".to_owned(),
    }
}

fn recovery(recovery: Recovery) -> String {
    match recovery {
        Recovery::After(span) => seconds(span),
        Recovery::Untouched => "untouched".to_owned(),
        Recovery::Never => "**never**".to_owned(),
        Recovery::Unknown => "?".to_owned(),
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}
