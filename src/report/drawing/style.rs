//! Colours and shapes: which class an apiserver's stage and an error's symptom are drawn in.

use crate::timeline::{Step, Symptom};

/// The stages of a life that the legend explains, in their order, with their class, colour, and what they mean.
pub(super) const STAGES: [(Step, &str, &str, &str); 10] = [
    (Step::Started, "started", "#bcd3ee", "started, not ready"),
    (Step::Ready, "ready", "#3f9b64", "ready"),
    (Step::TermSent, "term", "#f7e08a", "SIGTERM sent"),
    (Step::ShutdownInitiated, "initiated", "#f2bd4a", "ShutdownInitiated: /readyz is red, it serves on"),
    (Step::AfterShutdownDelayDuration, "delayed", "#ea8f3c", "AfterShutdownDelayDuration"),
    (Step::NotAcceptingNewRequest, "refusing", "#d9663f", "NotAcceptingNewRequest"),
    (Step::InFlightRequestsDrained, "drained", "#b04a6a", "InFlightRequestsDrained"),
    (Step::HTTPServerStoppedListening, "deaf", "#7b4b94", "HTTPServerStoppedListening"),
    (Step::KillSent, "killed", "#2b2b2b", "SIGKILL sent"),
    (Step::Exited, "exited", "#8f8f8f", "process exited"),
];

/// The class of a stage.
pub(super) fn stage(step: Step) -> &'static str {
    STAGES.iter().find(|(known, ..)| *known == step).map_or("frozen", |(_, class, ..)| class)
}

/// What the mark of a symptom looks like: its class, colour, and outline around (0, 0) in px. No two share an outline and a
/// hue, so that they can be told apart without colours too.
pub(super) const fn symptom(symptom: Symptom) -> (&'static str, &'static str, &'static str) {
    const CIRCLE: &str = "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z";
    const SQUARE: &str = "M-3.5,-3.5h7v7h-7z";
    const UP: &str = "M0,-4.5L4.5,3.5H-4.5z";
    const DOWN: &str = "M0,4.5L4.5,-3.5H-4.5z";
    const DIAMOND: &str = "M0,-5L5,0L0,5L-5,0z";
    const CROSS: &str = "M-4,-2.5L-2.5,-4L0,-1.5L2.5,-4L4,-2.5L1.5,0L4,2.5L2.5,4L0,1.5L-2.5,4L-4,2.5L-1.5,0z";
    match symptom {
        Symptom::UnexpectedEof => ("eof", "#c2185b", CIRCLE),
        Symptom::Goaway => ("goaway", "#1e73be", SQUARE),
        Symptom::ConnectionReset => ("reset", "#d32f2f", UP),
        Symptom::BrokenPipe => ("pipe", "#8d5524", DOWN),
        Symptom::ConnectionRefused => ("refused", "#5e35b1", DIAMOND),
        Symptom::TooManyRequests => ("s429", "#00897b", CIRCLE),
        Symptom::Unavailable => ("s503", "#ef6c00", SQUARE),
        Symptom::Timeout => ("timeout", "#212121", CROSS),
        Symptom::Tls => ("tls", "#00838f", UP),
        Symptom::Other => ("other", "#616161", DOWN),
    }
}

/// The style sheet.
pub(super) fn sheet() -> String {
    let mut css = "
.page{fill:#fff}
text{font:12px system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:#222}
.head{font-size:16px;font-weight:600}
.note,.tick{fill:#666;font-size:10.5px}
.tick{text-anchor:middle}
.end{text-anchor:end}
.bold{font-weight:600}
.in{font-size:10.5px;fill:#fff}
.dark{font-size:10.5px;fill:#222}
.grid{stroke:#e7e7e7}
.rule{stroke:#bbb}
.signal{stroke:#444;stroke-dasharray:2 3;stroke-opacity:.55}
.frozen{fill:#6a9bd8}
.unknown{fill:#f3f3f3}
.probed{fill:#e6efe9}
.out{fill:#e53935;fill-opacity:.55}
.served{fill:#7cc79a}
.barred{fill:#e9a29d}
.stall{fill:#000;fill-opacity:.12}
.excused{fill-opacity:.25;stroke-width:1}
"
    .to_owned();
    for (_, class, colour, _) in STAGES {
        css += &format!(".{class}{{fill:{colour}}}\n");
    }
    for kind in Symptom::ALL {
        let (class, colour, _) = symptom(kind);
        css += &format!(".{class}{{fill:{colour};stroke:{colour};stroke-width:.5}}\n");
    }
    css
}
