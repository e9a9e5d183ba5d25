//! One scenario: build the lab, run the body within a limit, collect evidence, judge, report, strike.
//!
//! The only file that knows all rooms. A scenario's body only acts, and returns `Ok(())`; what the subject does to it is
//! recorded, and judged afterwards from the recording alone, as `rollproof judge` does with a saved one.

use std::any::Any;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::FutureExt as _;

use crate::config::{BalancerKind, Config, ControlPlaneKind, Product};
use crate::lab::balancer::product::{EnvoyFile, installed};
use crate::lab::control_plane::{audit, kind};
use crate::lab::gateway::{self, Remedy};
use crate::lab::kubectl;
use crate::lab::material::{self, Material, Planned, Say};
use crate::lab::priority;
use crate::lab::provision::image::balancer::balancer_image;
use crate::lab::provision::{self, Sources};
use crate::lab::{self, Lab, Setup, narrated};
use crate::probe::{self, Ticker};
use crate::report::{self, Outcome, RunDir, ScenarioReport};
use crate::spec::{Need, Requirement};
use crate::timeline::{self, Cell, Event, Expected, FORMAT, Header, JudgedBy, Moment, Recorder, Recording, Restart};
use crate::timing::{self, Bounds, GatewayTimers, Profile, Timers};
use crate::verdict;

/// A scenario to be: what it does to the apiservers, in which lab, and what is judged.
#[must_use = "run() runs it"]
pub struct Scenario {
    disturbance: Option<Restart>,
    judged_by: Vec<(&'static Requirement, Expected)>,
    /// Of several gateways side by side.
    through: Vec<(&'static str, &'static Requirement, Expected)>,
    needs: Vec<Need>,
    only_in: Option<Profile>,
    compressed: bool,
    adjust: Box<dyn FnOnce(&mut Setup)>,
}

/// A scenario that disturbs nothing, in a careful team's lab.
pub fn undisturbed() -> Scenario {
    Scenario {
        disturbance: None,
        judged_by: Vec::new(),
        through: Vec::new(),
        needs: Vec::new(),
        only_in: None,
        compressed: false,
        adjust: Box::new(|_| ()),
    }
}

/// A scenario that restarts apiservers, in a careful team's lab.
pub fn disturbed_by(restart: Restart) -> Scenario {
    Scenario { disturbance: Some(restart), ..undisturbed() }
}

impl Scenario {
    /// Changes the lab.
    pub fn in_a_lab(self, adjust: impl FnOnce(&mut Setup) + 'static) -> Self {
        Self { adjust: Box::new(adjust), ..self }
    }

    /// Names what a lab must be able to do for this scenario, beyond what its requirements need.
    pub fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// Runs it in one profile only: elsewhere it would take too long, or prove nothing.
    pub fn only_in(self, profile: Profile) -> Self {
        Self { only_in: Some(profile), ..self }
    }

    /// Runs with the timers of the `pr` profile in every profile: what it is about are settings beside each other, and not
    /// how long they are.
    pub fn compressed(self) -> Self {
        Self { compressed: true, ..self }
    }

    /// The subject is to keep these requirements.
    pub fn upholds(mut self, requirements: &[&'static Requirement]) -> Self {
        self.judged_by.extend(requirements.iter().map(|requirement| (*requirement, Expected::Upheld)));
        self
    }

    /// A control: the lab is broken on purpose, and these requirements have to be found violated.
    pub fn violates(mut self, requirements: &[&'static Requirement]) -> Self {
        self.judged_by.extend(requirements.iter().map(|requirement| (*requirement, Expected::Violated)));
        self
    }

    /// Of the gateways side by side in its lab, the one with this remedy is to keep these requirements.
    pub fn upholds_through(self, remedy: &Remedy, requirements: &[&'static Requirement]) -> Self {
        self.judges_through(remedy, requirements, Expected::Upheld)
    }

    /// A control beside them: through the gateway with this remedy, these requirements have to be found violated.
    pub fn violates_through(self, remedy: &Remedy, requirements: &[&'static Requirement]) -> Self {
        self.judges_through(remedy, requirements, Expected::Violated)
    }

    fn judges_through(mut self, remedy: &Remedy, requirements: &[&'static Requirement], expected: Expected) -> Self {
        self.through.extend(requirements.iter().map(|requirement| (remedy.name, *requirement, expected)));
        self
    }

    /// Runs it, writes its results, and panics with the text of the failure unless every verdict is as expected.
    pub async fn run(self, body: impl AsyncFnOnce(&Lab) -> anyhow::Result<()>) {
        let name = std::thread::current().name().unwrap_or("scenario").to_owned();
        let config = Config::from_env().unwrap_or_else(|error| panic!("{error}"));
        let run = RunDir::of_this_process(config.report_dir.as_deref()).unwrap_or_else(|error| panic!("{error:#}"));
        let report = self.perform(&name, &config, run, body).await;
        let written = report::write(run, &report).map_err(|error| format!("{error:#}"));
        match (report.verdict_text(), written) {
            (Ok(()), Ok(())) => {}
            (Err(text), Ok(())) | (Ok(()), Err(text)) => panic!("{text}"),
            (Err(text), Err(trouble)) => panic!("{text}\n{trouble}"),
        }
    }

    async fn perform(
        mut self,
        name: &str,
        config: &Config,
        run: &RunDir,
        body: impl AsyncFnOnce(&Lab) -> anyhow::Result<()>,
    ) -> ScenarioReport {
        let planned = Planned::of(config);
        let (mut setup, given) = (Setup::careful(config), config);
        // With a plan it says how many apiservers there are.
        let config = &Config {
            apiservers: planned.as_ref().ok().and_then(Planned::apiservers).or(given.apiservers),
            ..given.clone()
        };
        if self.compressed {
            setup.timers = Timers::of(Profile::Pr);
        }
        if let Ok(Planned::Cluster(_, timers)) = &planned {
            let Timers { shutdown_delay, watch_termination_grace, health_timeout, .. } = *timers;
            setup.timers = Timers { shutdown_delay, watch_termination_grace, health_timeout, ..setup.timers };
            setup.given = Some(*timers);
        }
        std::mem::replace(&mut self.adjust, Box::new(|_| ()))(&mut setup);
        let judged_by = self
            .judged_by
            .iter()
            .map(|(requirement, expected)| (None, *requirement, *expected))
            .chain(
                self.through.iter().map(|(gateway, requirement, expected)| (Some(*gateway), *requirement, *expected)),
            )
            .map(|(gateway, requirement, expected)| JudgedBy {
                requirement: requirement.id.to_owned(),
                expected,
                gateway: gateway.map(str::to_owned),
            });
        let mut report = ScenarioReport {
            scenario: name.to_owned(),
            cell: planned_cell(config),
            judged_by: judged_by.collect(),
            outcome: Outcome::Lab("the scenario did not come to its end".to_owned()),
            recording: None,
            timeline: None,
            errors: Vec::new(),
            evidence: None,
            took: Duration::ZERO,
            began: SystemTime::now(),
        };
        // Scenarios that mostly wait run beside each other, in labs of their own; of clusters there is one.
        let _turn = match &planned {
            Ok(Planned::Cluster(..)) => Some(kind::turn().await),
            _ => None,
        };
        let began = Moment::now();
        report.outcome = match (self.missing(config, &setup), planned) {
            (Some(skipped), _) => skipped,
            (None, Err(error)) => Outcome::Lab(format!("{error:#}")),
            (None, Ok(planned)) => self
                .perform_in_lab(name, config, (planned, setup), run, &mut report, body)
                .await
                .unwrap_or_else(|error| Outcome::Lab(format!("{error:#}"))),
        };
        report.took = Moment::now().since(began);
        report
    }

    /// What the lab cannot do, if anything.
    fn missing(&self, config: &Config, setup: &Setup) -> Option<Outcome> {
        let skipped = |need: &str, reason| Some(Outcome::Skipped { need: need.to_owned(), reason });
        if let Some(profile) = self.only_in.filter(|profile| *profile != config.profile) {
            return skipped("profile", format!("it runs in the {profile} profile only"));
        }
        if let (Some(wanted), Some(given)) = (setup.apiservers, config.apiservers)
            && wanted != given
        {
            return skipped(
                "apiservers",
                format!("it is about {wanted} apiservers, and ROLLPROOF_APISERVERS says {given}"),
            );
        }
        let on_kind = config.control_plane == ControlPlaneKind::Kind;
        if on_kind && setup.upgrade_from.is_some() {
            return skipped("upgrade", "the kube-apiservers of nodes come with the node image".to_owned());
        }
        if on_kind && (setup.namespaces || config.balancer == BalancerKind::Kernel) {
            return skipped("namespaces", "the nodes of a cluster have a network of their own".to_owned());
        }
        if setup.pods && config.balancer == BalancerKind::Product(Product::Envoy) {
            // Its HTTP/2 to the apiservers takes none; a gateway that is told to does (tests/rollout/gateway.rs).
            return skipped("upgrades", "envoy, as the suite configures it, carries no upgraded connection".to_owned());
        }
        let policies = setup.sets_policies().then_some(&Need::BalancerPolicies);
        let needs = self
            .judged_by
            .iter()
            .map(|(requirement, _)| *requirement)
            .chain(self.through.iter().map(|(_, requirement, _)| *requirement))
            .flat_map(|requirement| requirement.needs)
            .chain(&self.needs)
            .chain(policies)
            .chain(setup.namespaces.then_some(&Need::Namespaces))
            .chain(setup.pods.then_some(&Need::Pods))
            .chain(setup.gateways.iter().map(program_of))
            .chain(config.balancer.needs())
            .chain(config.control_plane.needs())
            // Last, since they may have to be built.
            .chain(setup.kubectl.then_some(&Need::Kubectl))
            .chain(setup.wants_istio().then_some(&Need::Istio));
        for need in needs {
            let reason = match need {
                Need::SeveralServers if config.apiservers == Some(1) => {
                    "with one apiserver no balancer can bridge its restart".to_owned()
                }
                Need::BalancerIgnoresHealth if !config.balancer.is_told() => {
                    format!("{} cannot be told to ignore health", config.balancer)
                }
                Need::BalancerWithoutRetry if !config.balancer.passes_refusals_on() => {
                    format!(
                        "{} may try again when an apiserver refuses, or pass it over from then on, and so repair what this control breaks",
                        config.balancer
                    )
                }
                Need::BalancerForwards if config.balancer != BalancerKind::Kernel => {
                    format!(
                        "{} is a proxy: its kernel answers keepalive probes, wherever the apiserver is",
                        config.balancer
                    )
                }
                // What is lost between nodes is lost in theirs.
                Need::Namespaces if on_kind => continue,
                Need::Namespaces => match lab::balancer::kernel::unmet() {
                    Some(reason) => reason,
                    None => continue,
                },
                Need::Delay => match lab::network::delay::unmet() {
                    Some(reason) => reason,
                    None => continue,
                },
                Need::Nodes if !on_kind => {
                    format!("on the control plane {} no node and no controller is a client", config.control_plane)
                }
                Need::Docker => match kind::unmet() {
                    Some(reason) => reason,
                    None => continue,
                },
                Need::Envoy => match tokio::task::block_in_place(|| gateway::binary(&|text| progress("envoy", text))) {
                    Err(error) => format!("{error:#}"),
                    Ok(_) => continue,
                },
                Need::Istio => {
                    match tokio::task::block_in_place(|| gateway::istio_binary(&|text| progress("istio", text))) {
                        Err(error) => format!("{error:#}"),
                        Ok(_) => continue,
                    }
                }
                Need::Kubectl => {
                    match tokio::task::block_in_place(|| kubectl::binary(config, &|text| progress("kubectl", text))) {
                        Err(error) => format!("{error:#}"),
                        Ok(_) => continue,
                    }
                }
                Need::Haproxy if let Err(error) = installed(Product::Haproxy) => format!("{error:#}"),
                Need::Nginx if let Err(error) = installed(Product::Nginx) => format!("{error:#}"),
                Need::Pods if on_kind => continue,
                Need::Pods => match Sources::from_env().and_then(|sources| provision::kwok_unmet(&sources)) {
                    Ok(Some(reason)) => reason,
                    Ok(None) => continue,
                    Err(error) => return Some(Outcome::Lab(format!("{error:#}"))),
                },
                Need::BalancerPolicies if !setup.suits(&config.balancer) => {
                    format!("{} cannot be told to carry connections like that", config.balancer)
                }
                _ => continue,
            };
            let name = need.name().to_owned();
            if config.require.includes(*need) {
                return Some(Outcome::Lab(format!("{reason}, and ROLLPROOF_REQUIRE names {name}")));
            }
            return skipped(&name, reason);
        }
        None
    }

    async fn perform_in_lab(
        self,
        name: &str,
        config: &Config,
        (planned, setup): (Planned, Setup),
        run: &RunDir,
        report: &mut ScenarioReport,
        body: impl AsyncFnOnce(&Lab) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let say = |text: String| progress(name, &text);
        let Materials { control_plane: material, older } = provide(name, config, planned, &setup).await?;
        note_panics_of_probes();
        let bounds = Bounds { lost: setup.loss_noticed(), ..Bounds::with(&setup.timers) };
        let recorder = Recorder::default();
        let limit = timing::scenario_limit(&setup.timers, setup.apiservers(config) as u32);
        let evidence = run.evidence(name);
        let first = older.as_ref().unwrap_or(&material);
        // Before it starts threads, which inherit it.
        priority::raise();
        let starting = Lab::start(setup, config, first, recorder.clone(), Some(&evidence));
        let mut lab = narrated("starting etcd, apiservers and balancer", say, starting).await.inspect_err(|_| {
            report.evidence = Some(evidence.clone()).filter(|folder| folder.exists());
        })?;
        if let (Some(_), Material::Binaries(newer)) = (&older, &material) {
            lab = lab.upgradable_to(&newer.kube_apiserver);
        }

        let mut header = header(name, &lab, self.disturbance, bounds, &report.judged_by);
        header.machine.insert("probes' nice".to_owned(), priority::raise().to_string());
        report.cell = header.cell.clone();
        let recorded = recorder.begin(header, &run.recording(name));
        let acted = match recorded {
            Ok(()) => {
                report.recording = Some(run.recording(name));
                let ticker = Ticker::start(recorder.clone(), bounds.stall);
                let acting = AssertUnwindSafe(body(&lab)).catch_unwind();
                let limited = async { Ok(tokio::time::timeout(limit, acting).await) };
                let acted = narrated("observing", say, limited).await?;
                drop(ticker);
                acted
            }
            Err(error) => Ok(Ok(Err(error).context("cannot begin the recording in the report folder"))),
        };

        // Evidence first: cleaning up must not cost any.
        let sound = lab.check();
        let fetched = lab.fetch_logs().await;
        let captured = lab.end_capture().await;
        lab.end_balancer().await;
        let collected =
            fetched.and_then(|()| collect(&lab, &evidence)).map(|()| report.evidence = Some(evidence)).and(captured);
        let finished = recorder.finish();
        if let Some(path) = report.recording.as_mut().filter(|path| is_large(path)) {
            // One that cannot be compressed stays as it is.
            *path = timeline::compress(path).unwrap_or_else(|_| path.clone());
        }
        // Whatever became of the scenario. What a person looks at may be missing; the verdicts do not depend on it.
        let drawn = finished.as_ref().ok().and_then(Option::as_ref).map(|recording| picture(run, report, recording));
        let outcome = match (acted, finished) {
            (Ok(Ok(_)), _) if let Some(panic) = taken_panic() => Outcome::Panicked(panic),
            (Ok(Ok(_)), _) if let Err(broken) = sound => Outcome::Lab(format!("{broken:#}")),
            (Err(_), _) => Outcome::Lab(format!("the scenario was not over after {limit:?}")),
            (Ok(Err(panic)), _) => Outcome::Panicked(panic_text(panic.as_ref())),
            (Ok(Ok(Err(error))), _) => Outcome::Lab(format!("{error:#}")),
            (Ok(Ok(Ok(()))), Err(trouble)) => Outcome::Lab(format!("{trouble:#}")),
            (Ok(Ok(Ok(()))), Ok(None)) => Outcome::Lab("nothing was recorded".to_owned()),
            (Ok(Ok(Ok(()))), Ok(Some(recording))) => judged(&recording)?,
        };
        let failed = !outcome.passed();
        if failed && config.keep {
            say(format!("kept: {}; `rollproof clean --kept` ends it", lab.keep().await?));
        } else {
            lab.strike().await.context("cannot strike the lab")?;
        }
        // A broken scenario has more to say than missing evidence about it.
        if !failed {
            collected?;
            drawn.transpose()?;
        }
        Ok(outcome)
    }
}

/// Whether a recording is worth compressing. Smaller ones are easier to look at as they are.
fn is_large(recording: &Path) -> bool {
    const LARGE_BYTES: u64 = 16 << 20;
    std::fs::metadata(recording).is_ok_and(|file| file.len() > LARGE_BYTES)
}

/// What people look at beside the verdicts.
fn picture(run: &RunDir, report: &mut ScenarioReport, recording: &Recording) -> anyhow::Result<()> {
    let survey = verdict::survey(recording);
    report.errors = report::errors(&survey);
    report.timeline = Some(report::write_timeline(run, recording, &survey)?);
    Ok(())
}

fn judged(recording: &Recording) -> anyhow::Result<Outcome> {
    Ok(Outcome::Judged(verdict::judge_all(recording)?))
}

/// What a scenario's lab is made of.
struct Materials {
    control_plane: Material,
    /// What its apiservers are upgraded from, if the scenario is about that.
    older: Option<Material>,
}

/// Found or made, before there is a lab to wait for it; with progress.
async fn provide(name: &str, config: &Config, planned: Planned, setup: &Setup) -> anyhow::Result<Materials> {
    let say: Say = {
        let name = name.to_owned();
        Arc::new(move |text| progress(&name, text))
    };
    let sources = Sources::from_env()?;
    let mut control_plane = planned.provide(config, sources.clone(), say.clone()).await?;
    if let (true, Material::Binaries(binaries)) = (setup.pods, &mut control_plane) {
        let (sources, say) = (sources.clone(), say.clone());
        let kwok = move || provision::kwok(&sources, &|text| say(text));
        binaries.kwok = Some(Box::new(tokio::task::spawn_blocking(kwok).await??));
    }
    let older = match setup.upgrade_from {
        // What KUBEBUILDER_ASSETS brings is the version to upgrade to.
        Some(version) => {
            let sources = Sources { assets: None, ..sources.clone() };
            Some(material::binaries(Some(version), sources, say.clone()).await?)
        }
        None => None,
    };
    if let BalancerKind::Envoy(file) = &config.balancer {
        // No control plane is started in vain.
        EnvoyFile::read(file)?;
    }
    if let Some(product) = config.balancer.product() {
        let on_kind = config.control_plane == ControlPlaneKind::Kind;
        tokio::task::spawn_blocking(move || match product {
            product if on_kind => balancer_image(product, &sources, &|text| say(text)).map(drop),
            Product::Envoy => provision::envoy(&sources, &|text| say(text)).map(drop),
            Product::Haproxy | Product::Nginx => Ok(()),
        })
        .await??;
    }
    Ok(Materials { control_plane, older })
}

fn header(name: &str, lab: &Lab, disturbance: Option<Restart>, bounds: Bounds, judged_by: &[JudgedBy]) -> Header {
    let began_at = Moment::now();
    Header {
        format: FORMAT,
        suite: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: name.to_owned(),
        cell: lab.cell().clone(),
        seed: began_at.0,
        began: jiff::Timestamp::now().to_string(),
        began_at,
        disturbance,
        servers: lab.described_servers(),
        subjects: lab.subjects().to_vec(),
        timers: lab.setup().timers,
        gateways: (!lab.setup().gateways.is_empty()).then(GatewayTimers::default),
        machine: lab.machine().clone(),
        bounds,
        judged_by: judged_by.to_vec(),
    }
}

/// Reads the audit logs into the recording, and copies every log to the evidence folder.
fn collect(lab: &Lab, evidence: &Path) -> anyhow::Result<()> {
    let ours = probe::audit_ids(lab.recorder());
    for server in lab.servers() {
        let (mut read, audited) = audit::read(server.name(), &server.audit_log, &ours)?;
        read.partial |= server.audit_log_may_lack_the_end();
        for audited in audited {
            lab.recorder().record(Event::Audited(audited));
        }
        lab.recorder().record(Event::AuditLog(read));
    }
    std::fs::create_dir_all(evidence)
        .with_context(|| format!("cannot make the evidence folder {}", evidence.display()))?;
    for (name, log) in lab.logs() {
        let copy = evidence.join(name);
        copy_readable(&log, &copy).with_context(|| format!("cannot copy {} to {}", log.display(), copy.display()))?;
    }
    Ok(())
}

/// Copies a log, but not its mode: apiservers write audit logs for themselves alone, and evidence is there to be read.
fn copy_readable(from: &Path, to: &Path) -> std::io::Result<u64> {
    std::io::copy(&mut std::fs::File::open(from)?, &mut std::fs::File::create_new(to)?)
}

/// What a gateway takes.
fn program_of(remedy: &Remedy) -> &Need {
    match remedy.product() {
        Product::Envoy => &Need::Envoy,
        Product::Haproxy => &Need::Haproxy,
        Product::Nginx => &Need::Nginx,
    }
}

/// The cell as far as it is known before there is a lab.
fn planned_cell(config: &Config) -> Cell {
    let version = provision::wanted(config.kubernetes_version.as_deref());
    Cell {
        control_plane: config.control_plane.to_string(),
        kubernetes: version
            .map_or_else(|_| config.kubernetes_version.clone().unwrap_or_default(), |version| version.to_string()),
        apiservers: config.apiservers.unwrap_or(lab::APISERVERS),
        balancer: config.balancer.to_string(),
        protocol: "http1+http2".to_owned(),
        client: "kube-rs".to_owned(),
        profile: config.profile,
    }
}

/// What panicked in a task of a probe. tokio catches it, and without this it would look like a probe that saw nothing.
static PANIC_OF_A_PROBE: Mutex<Option<String>> = Mutex::new(None);

fn note_panics_of_probes() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("tokio")) {
                PANIC_OF_A_PROBE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| info.to_string());
            }
            before(info);
        }));
    });
}

fn taken_panic() -> Option<String> {
    PANIC_OF_A_PROBE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A line about something long, past libtest's capture of `eprintln!`.
fn progress(scenario: &str, text: &str) {
    let _ = writeln!(std::io::stderr(), "{scenario}: {text}");
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}
