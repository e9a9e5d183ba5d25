//! A recording as a drawing (SVG): a lane for each apiserver with the stages of its life, and one for each probe with its
//! outages and errors. After the graphs of the OpenShift report.
//!
//! Its size depends on the number of servers and probes, not on how long the recording is: marks that would lie on each
//! other are one mark, whose title says what it stands for.

mod canvas;
mod style;

use std::collections::BTreeMap;
use std::io::{self, Write};

use self::canvas::{Area, Canvas};
use super::clean::one_line;
use super::errors::grouped;
use crate::timeline::{Event, Header, Moment, Protocol, Recording, Stage, Step, Symptom};
use crate::verdict::{Attributed, Befallen, Role, Stretch, Survey};

// Lengths in px.
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 252.0;
const RIGHT: f64 = 22.0;
const HEAD: f64 = 84.0;
const SERVER: f64 = 50.0;
const PROBE: f64 = 34.0;
const LEGEND: f64 = 118.0;
/// Where the entries of the legend begin.
const EXPLAINED: f64 = 120.0;
/// Marks nearer to each other than this are one.
const MARK: f64 = 5.0;
/// Outages nearer to each other than this are one bar.
const NEAR: f64 = 0.5;
/// How many kinds of errors the title of a mark tells apart.
const KINDS: usize = 4;
/// The shortest stage or outage that can be seen.
const SLIVER: f64 = 1.5;
/// Seconds between two ticks: the least of these that leaves [`TICK`] between them, or a multiple of the last.
const TICKS: [f64; 12] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const TICK: f64 = 60.0;
/// The longest title, in letters.
const LONGEST: usize = 120;
/// How wide a letter is at most, in the small font of bars.
const LETTER: f64 = 6.2;

/// Draws a recording.
///
/// # Errors
/// `out` does.
pub fn draw(recording: &Recording, survey: &Survey<'_>, out: impl Write) -> io::Result<()> {
    let servers = survey.lives.each().count();
    let lanes = servers as f64 * SERVER + survey.probes.len() as f64 * PROBE;
    let title = format!("rollproof: {}", recording.header.scenario);
    let canvas = Canvas::new(out, WIDTH, HEAD + lanes + 28.0 + LEGEND, &title, &style::sheet())?;
    let mut drawing = Drawing { canvas, recording, survey, bottom: HEAD + lanes + 8.0 };
    drawing.head()?;
    drawing.axis()?;
    let mut y = HEAD;
    for (server, stages) in survey.lives.each() {
        drawing.server(y, server, stages)?;
        y += SERVER;
    }
    drawing.signals()?;
    for probe in &survey.probes {
        drawing.probe(y, probe)?;
        y += PROBE;
    }
    drawing.stalls()?;
    drawing.legend()?;
    drawing.canvas.finish()
}

struct Drawing<'a, W: Write> {
    canvas: Canvas<W>,
    recording: &'a Recording,
    survey: &'a Survey<'a>,
    /// Where the lanes end.
    bottom: f64,
}

impl<W: Write> Drawing<'_, W> {
    fn seconds(&self) -> f64 {
        let (began, end) = self.survey.span;
        // An empty recording has no length, and is drawn all the same.
        end.since(began).as_secs_f64().max(f64::from(f32::EPSILON))
    }

    fn x(&self, at: Moment) -> f64 {
        let part = at.since(self.survey.span.0).as_secs_f64() / self.seconds();
        LEFT + (WIDTH - LEFT - RIGHT) * part.min(1.0)
    }

    fn clock(&self, at: Moment) -> String {
        format!("+{:.3} s", at.since(self.survey.span.0).as_secs_f64())
    }

    fn head(&mut self) -> io::Result<()> {
        let Header { scenario, cell, began, disturbance, .. } = &self.recording.header;
        let what = disturbance.map_or("nothing is disturbed".to_owned(), |how| format!("disturbance: {how}"));
        self.canvas.text("head", (12.0, 24.0), &one_line(scenario, LONGEST))?;
        self.canvas.text("note", (12.0, 42.0), &format!("{cell} · {what} · began {began}"))
    }

    /// Seconds since the recording began, above and below the lanes.
    fn axis(&mut self) -> io::Result<()> {
        let all = self.seconds();
        let room = (WIDTH - LEFT - RIGHT) / TICK;
        let last = TICKS[TICKS.len() - 1];
        let multiple = (all / room / last).ceil().max(1.0) * last;
        let step = TICKS.into_iter().find(|step| all / step <= room).unwrap_or(multiple);
        let digits = usize::from(step < 1.0);
        let (top, bottom) = (HEAD - 14.0, self.bottom);
        self.canvas.text("note", (12.0, top - 5.0), "seconds from the beginning")?;
        for count in 0..=(all / step) as usize {
            let seconds = count as f64 * step;
            let x = LEFT + (WIDTH - LEFT - RIGHT) * seconds / all;
            self.canvas.line("grid", (x, top), (x, bottom))?;
            self.canvas.text("tick", (x, top - 5.0), &format!("{seconds:.digits$}"))?;
            self.canvas.text("tick", (x, bottom + 13.0), &format!("{seconds:.digits$}"))?;
        }
        Ok(())
    }

    fn server(&mut self, y: f64, server: &str, stages: &[Stage]) -> io::Result<()> {
        let (began, end) = self.survey.span;
        let survey = self.survey;
        let failed: Vec<_> = survey.failed.iter().filter(|sample| sample.server == Some(server)).collect();
        let failures = match failed.len() {
            0 => "no failed sample".to_owned(),
            failures => count(failures, "failed sample"),
        };
        self.canvas.line("rule", (0.0, y), (WIDTH, y))?;
        self.label(y + 1.0, server, &failures)?;
        if stages.first().is_none_or(|first| first.since > began) {
            let until = stages.first().map_or(end, |first| first.since);
            self.bar("unknown", (began, until), (y + 5.0, 18.0), "nothing was seen of it yet")?;
        }
        for (position, stage) in stages.iter().enumerate() {
            let until = stages.get(position + 1).map_or(end, |next| next.since);
            if until <= began {
                continue;
            }
            let from = stage.since.max(began);
            let (lasted, name) = (until.since(stage.since), stage.to_string());
            let hover = format!("{server}: {name}\n{}, for {:.3} s", self.clock(from), lasted.as_secs_f64());
            let wide = self.bar(style::stage(stage.step), (from, until), (y + 5.0, 18.0), &hover)?;
            if name.chars().count() as f64 * LETTER < wide - 4.0 {
                let dark = matches!(stage.step, Step::Started | Step::TermSent | Step::ShutdownInitiated);
                self.canvas.text(if dark { "dark" } else { "in" }, (self.x(from) + 4.0, y + 17.5), &name)?;
            }
        }
        self.in_service(y + 24.0, server)?;
        self.marks(y + 38.0, &failed)
    }

    /// Whether the balancer had it in service, where it says so.
    fn in_service(&mut self, y: f64, server: &str) -> io::Result<()> {
        let (began, end) = self.survey.span;
        let opinions: Vec<_> = self
            .recording
            .each(|event| match event {
                Event::BackendHealth(health) if health.server == server => Some(health),
                _ => None,
            })
            .collect();
        for (position, (at, health)) in opinions.iter().enumerate() {
            let until = opinions.get(position + 1).map_or(end, |(next, _)| *next);
            if until <= began {
                continue;
            }
            let (class, word) = if health.healthy { ("served", "in service") } else { ("barred", "out of service") };
            let hover = format!("balancer: {server} {word}\n{}: {}", self.clock(*at), health.why);
            self.bar(class, ((*at).max(began), until), (y, 4.0), &hover)?;
        }
        Ok(())
    }

    fn probe(&mut self, y: f64, probe: &Befallen<'_>) -> io::Result<()> {
        let (began, end) = self.survey.span;
        let survey = self.survey;
        // The workers of the load go by their own names.
        let ours = |sample: &&Attributed<'_>| {
            sample.role == probe.role && (probe.role == Role::Load || sample.probe == probe.probe)
        };
        let failed: Vec<_> = survey.failed.iter().filter(ours).collect();
        let (samples, outage) = match probe.role {
            Role::Watch => ("change", "gap"),
            Role::InFlight => ("held request", "outage"),
            _ => ("request", "outage"),
        };
        let worst = match probe.outages.len() {
            0 => String::new(),
            outages => format!(", {}, worst {:.2} s", count(outages, outage), probe.worst().as_secs_f64()),
        };
        self.canvas.line("rule", (0.0, y), (WIDTH, y))?;
        self.label(y, probe.probe, &format!("{}{worst}", count(probe.samples, samples)))?;
        self.bar("probed", (began, end), (y + 11.0, 12.0), role(probe.role))?;
        let near = |one: &Stretch, next: &Stretch| self.x(next.from) - self.x(one.until) < NEAR;
        let bars: Vec<&[Stretch]> = probe.outages.chunk_by(near).collect();
        for outages in bars {
            let (first, last) = (outages[0].from, outages.iter().map(|outage| outage.until).max().unwrap_or(end));
            let longest = outages.iter().map(Stretch::length).max().unwrap_or_default().as_secs_f64();
            let what = if probe.role == Role::Watch { "no watch was open" } else { "outage" };
            let times = if outages.len() > 1 { format!("{} times, for at most", outages.len()) } else { "for".into() };
            let open = if outages.iter().all(|outage| outage.recovered) { "" } else { ", not over at the end" };
            let hover = format!("{}: {what}\n{}, {times} {longest:.3} s{open}", probe.probe, self.clock(first));
            self.bar("out", (first, last), (y + 8.0, 18.0), &hover)?;
        }
        self.marks(y + 17.0, &failed)
    }

    fn label(&mut self, y: f64, name: &str, note: &str) -> io::Result<()> {
        self.canvas.text("bold", (12.0, y + 15.0), name)?;
        self.canvas.text("note", (12.0, y + 28.0), note)
    }

    /// Returns its width.
    fn bar(
        &mut self,
        class: &str,
        (from, until): (Moment, Moment),
        (y, height): (f64, f64),
        hover: &str,
    ) -> io::Result<f64> {
        let x = self.x(from);
        let width = (self.x(until) - x).max(SLIVER);
        self.canvas.area(class, Area { x, y, width, height }, Some(hover))?;
        Ok(width)
    }

    /// Marks of failed samples; those that do not count lie below the others, and are pale.
    fn marks(&mut self, y: f64, failed: &[&Attributed<'_>]) -> io::Result<()> {
        type Place = (bool, i64, Symptom);
        let mut places: BTreeMap<Place, Vec<&Attributed<'_>>> = BTreeMap::new();
        for sample in failed {
            let place = (!sample.excused, (self.x(sample.at) / MARK) as i64, sample.symptom);
            places.entry(place).or_default().push(sample);
        }
        for ((counts, _, kind), samples) in places {
            let (class, _, outline) = style::symptom(kind);
            let class = if counts { class.to_owned() } else { format!("{class} excused") };
            let groups = grouped(self.survey.span.0, samples.iter().copied());
            let mut hover: Vec<String> = groups.iter().take(KINDS).map(ToString::to_string).collect();
            if groups.len() > KINDS {
                hover.push(format!("and {} kinds more", groups.len() - KINDS));
            }
            self.canvas.shape(&class, outline, (self.x(samples[0].at), y), Some(&hover.join("\n")))?;
        }
        Ok(())
    }

    /// A line down through all lanes where a server was sent a signal.
    fn signals(&mut self) -> io::Result<()> {
        let lives = self.survey.lives.each();
        let is_signal = |stage: &&Stage| matches!(stage.step, Step::TermSent | Step::KillSent);
        let signals = lives.flat_map(|(_, stages)| stages.iter().filter(is_signal).map(|stage| self.x(stage.since)));
        let mut signals: Vec<f64> = signals.collect();
        signals.sort_by(f64::total_cmp);
        signals.dedup_by(|next, last| *next - *last < MARK);
        for x in signals {
            self.canvas.line("signal", (x, HEAD), (x, self.bottom))?;
        }
        Ok(())
    }

    fn stalls(&mut self) -> io::Result<()> {
        let recording = self.recording;
        for (at, span) in recording.each(|event| if let Event::Stall(span) = event { Some(*span) } else { None }) {
            let hover = format!("rollproof itself did not run for {} ms", span.as_millis());
            self.bar("stall", (at, at + span), (HEAD, self.bottom - HEAD), &hover)?;
        }
        Ok(())
    }

    fn legend(&mut self) -> io::Result<()> {
        let top = self.bottom + 38.0;
        let mut pen = Pen { x: EXPLAINED, y: top };
        self.canvas.text("bold", (12.0, top + 4.0), "apiserver")?;
        for (_, class, _, meaning) in style::STAGES {
            let (x, y) = pen.next(meaning);
            self.canvas.area(class, Area { x, y: y - 6.0, width: 12.0, height: 12.0 }, None)?;
            self.canvas.text("dark", (x + 17.0, y + 4.0), meaning)?;
        }
        pen = Pen { x: EXPLAINED, y: pen.y + 20.0 };
        self.canvas.text("bold", (12.0, pen.y + 4.0), "failed sample")?;
        for kind in Symptom::ALL {
            let name = kind.to_string();
            let (x, y) = pen.next(&name);
            let (class, _, outline) = style::symptom(kind);
            self.canvas.shape(class, outline, (x + 6.0, y), None)?;
            self.canvas.text("dark", (x + 17.0, y + 4.0), &name)?;
        }
        pen = Pen { x: EXPLAINED, y: pen.y + 20.0 };
        self.canvas.text("bold", (12.0, pen.y + 4.0), "also")?;
        for (class, meaning) in [
            ("out", "outage, or no watch open"),
            ("eof excused", "pale: no requirement counts it"),
            ("served", "in service at the balancer"),
            ("barred", "out of service there"),
            ("stall", "rollproof itself did not run"),
        ] {
            let (x, y) = pen.next(meaning);
            match class.contains("excused") {
                true => self.canvas.shape(class, style::symptom(Symptom::UnexpectedEof).2, (x + 6.0, y), None)?,
                false => self.canvas.area(class, Area { x, y: y - 6.0, width: 12.0, height: 12.0 }, None)?,
            }
            self.canvas.text("dark", (x + 17.0, y + 4.0), meaning)?;
        }
        Ok(())
    }
}

/// Where the legend goes on.
struct Pen {
    x: f64,
    y: f64,
}

impl Pen {
    /// The place of the next entry with this text, on the next line if there is no room.
    fn next(&mut self, text: &str) -> (f64, f64) {
        let wide = 17.0 + text.chars().count() as f64 * LETTER + 14.0;
        if self.x + wide > WIDTH {
            (self.x, self.y) = (EXPLAINED, self.y + 18.0);
        }
        let place = (self.x, self.y);
        self.x += wide;
        place
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Watch => "a watch through the balancer",
        Role::Writer => "writes, past the balancer",
        Role::New(Protocol::Http1) => "requests through the balancer, each on a new connection, HTTP/1.1",
        Role::New(Protocol::Http2) => "requests through the balancer, each on a new connection, HTTP/2",
        Role::Reused(Protocol::Http1) => "requests through the balancer on a kept connection, HTTP/1.1",
        Role::Reused(Protocol::Http2) => "requests through the balancer on a kept connection, HTTP/2",
        Role::Library => "requests by way of a client library, after its retries",
        Role::Load => "the load: all its workers",
        Role::InFlight => "requests that were held in flight",
    }
}

/// `1 request`, `812 requests`.
fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
