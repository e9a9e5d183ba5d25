//! The real programs, where they are at hand: they take what they are told, and do it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, process};

use anyhow::bail;
use http::{Response, StatusCode};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rollproof::config::Product;
use rollproof::lab::balancer::command::{Command, environment};
use rollproof::lab::balancer::product::haproxy::Mode;
use rollproof::lab::balancer::product::{EnvoyFile, envoy, haproxy, installed, nginx};
use rollproof::lab::balancer::{Backend, OnUnhealthy, Settings};
use rollproof::lab::control_plane::pki::{Authority, Identity};
use rollproof::lab::gateway::{HAPROXY, HAPROXY_RECOMMENDED, NGINX, NGINX_RECOMMENDED, Remedy};
use rollproof::lab::http::{Ask, Endpoint};
use rollproof::lab::network::Site;
use rollproof::lab::provision::{self, Sources};
use rollproof::lab::{tls, wait};
use rollproof::timeline::Protocol;
use rollproof::timing::{Profile, Timers, millis, secs};
use rstest::rstest;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::stage::{nobody, soon};
use crate::keeper::stage::Home;

/// The program, or `None` where it is not at hand and nobody requires it. An Envoy that is required is fetched.
pub(super) fn at_hand(product: Product) -> Option<PathBuf> {
    let required = env::var("ROLLPROOF_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|need| ["all", &product.to_string()].contains(&need.trim()));
    let envoy = |sources: &Sources| match required {
        true => provision::envoy(sources, &|text| drop(writeln!(std::io::stderr(), "{text}"))),
        false => provision::envoy_at_hand(sources),
    };
    let found = match product {
        Product::Haproxy => installed(product),
        Product::Nginx => installed(product).and_then(|nginx| match stream_module(&nginx) {
            Some(module) if !Path::new(&module).exists() => bail!("there is no {module}"),
            _ => Ok(nginx),
        }),
        Product::Envoy => Sources::from_env().and_then(|sources| Ok(envoy(&sources)?.path)),
    };
    let error = match found {
        Ok(binary) => return Some(binary),
        Err(error) => error,
    };
    assert!(!required, "ROLLPROOF_REQUIRE asks for {product}: {error:#}");
    // Past libtest, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {error:#}");
    None
}

fn stream_module(nginx: &Path) -> Option<String> {
    let said = process::Command::new(nginx).arg("-V").output().unwrap();
    nginx::stream_module(&String::from_utf8(said.stderr).unwrap())
}

/// A CA, and the certificate of a gateway on this machine.
pub(super) fn certificates(folder: &Path) -> (Authority, Identity) {
    let authority = Authority::new(folder).unwrap();
    let gateway = authority.server("gateway", &[[127, 0, 0, 1].into()]).unwrap();
    (authority, gateway)
}

pub(super) fn settings(listen: SocketAddr, backends: [SocketAddr; 2]) -> Settings {
    let backend = |(number, address)| Backend { name: format!("apiserver-{number}"), address };
    let timers = Timers { health_interval: millis(100), ..Timers::of(Profile::Pr) };
    let backends = (0..).zip(backends).map(backend).collect();
    Settings { listen, ..Settings::new(backends, String::new(), &timers) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Haproxy,
    HaproxyHttp,
    Nginx,
    Envoy,
    EnvoyInPlainText,
    EnvoyFile,
    /// A gateway by a file of fixtures/.
    Gateway(Remedy),
    /// The balancer command in fixtures/.
    Script,
}

impl Told {
    fn product(self) -> Product {
        match self {
            Self::Haproxy | Self::HaproxyHttp | Self::Script => Product::Haproxy,
            Self::Nginx => Product::Nginx,
            Self::Envoy | Self::EnvoyInPlainText | Self::EnvoyFile => Product::Envoy,
            Self::Gateway(remedy) => remedy.product(),
        }
    }

    fn configuration(self, binary: &Path, settings: &Settings, folder: &Path, gateway: &Identity) -> String {
        let (ca, idle) = (&folder.join("ca.crt"), secs(260));
        let files = [gateway.certificate_file.as_path(), gateway.key_file.as_path()];
        let [certificate, _] = files;
        match self {
            Self::Haproxy => haproxy::configuration(settings, Mode::Tcp, ca, idle, folder),
            Self::HaproxyHttp => haproxy::configuration(settings, Mode::Http { certificate }, ca, idle, folder),
            Self::Nginx => nginx::configuration(settings, idle, folder, stream_module(binary).as_deref()),
            Self::Envoy => envoy::configuration(settings, ca, idle, folder, files).to_string(),
            Self::EnvoyInPlainText => {
                let mut configuration = envoy::configuration(settings, ca, idle, folder, files);
                envoy::in_plain_text(&mut configuration["static_resources"]["listeners"][0]);
                configuration.to_string()
            }
            Self::EnvoyFile => {
                EnvoyFile::read(Path::new("fixtures/envoy/gateway.yaml")).unwrap().filled(settings, ca, idle, files)
            }
            Self::Gateway(remedy) => remedy.file().unwrap().filled(settings, ca, files, folder),
            Self::Script => String::new(),
        }
    }

    /// The command that checks a configuration, or that runs it.
    fn words(self, check: bool, binary: &Path, file: &Path) -> Vec<String> {
        let arguments: &[&str] = match (self, check) {
            (Self::Script, _) => return vec!["fixtures/haproxy/balancer".to_owned()],
            (Self::Gateway(remedy), check) => {
                let arguments = remedy.file().unwrap().arguments(file, &file.with_extension("pid"));
                let check = check.then(|| if remedy.product() == Product::Nginx { "-t" } else { "-c" });
                let words = [binary.to_str().unwrap()].into_iter().chain(check).map(str::to_owned);
                return words.chain(arguments).collect();
            }
            (Self::Haproxy | Self::HaproxyHttp, true) => &["-c", "-f"],
            (Self::Haproxy | Self::HaproxyHttp, false) => &["-db", "-f"],
            (Self::Nginx, _) => &["-t", "-e", "stderr", "-c"],
            (Self::Envoy | Self::EnvoyInPlainText | Self::EnvoyFile, true) => &["--mode", "validate", "-c"],
            (_, false) => &["--concurrency", "1", "--disable-hot-restart", "-c"],
        };
        [binary.to_str().unwrap()]
            .iter()
            .chain(arguments)
            .chain(&[file.to_str().unwrap()])
            .map(|word| (*word).to_owned())
            .collect()
    }
}

#[rstest]
fn programs_take_what_they_are_told(
    #[values(
        Told::Haproxy,
        Told::HaproxyHttp,
        Told::Nginx,
        Told::Envoy,
        Told::EnvoyFile,
        Told::Gateway(HAPROXY),
        Told::Gateway(HAPROXY_RECOMMENDED),
        Told::Gateway(NGINX),
        Told::Gateway(NGINX_RECOMMENDED)
    )]
    told: Told,
    #[values(false, true)] every_knob: bool,
) {
    let Some(binary) = at_hand(told.product()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_, gateway) = certificates(folder.path());
    let mut settings = settings(nobody(), ["127.0.0.1:7000", "127.0.0.1:7001"].map(|it| it.parse().unwrap()));
    if every_knob {
        (settings.redispatch, settings.on_unhealthy) = (true, OnUnhealthy::Reset);
        settings.hairpin.insert([127, 0, 0, 100].into(), "apiserver-1".to_owned());
    }
    let file = folder.path().join("configuration.yaml");
    fs::write(&file, told.configuration(&binary, &settings, folder.path(), &gateway)).unwrap();
    let words = told.words(true, &binary, &file);
    let said = process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

/// An apiserver as far as a gateway can tell. It answers by whatever protocol it is asked: with the name of that.
struct Apiserver {
    address: SocketAddr,
    unwell: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Apiserver {
    async fn start(identity: &Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut tls = tls.with_single_cert(vec![certificate], key).unwrap();
        tls.alpn_protocols = [tls::HTTP_2, tls::HTTP_1_1].map(<[u8]>::to_vec).to_vec();
        let unwell = Arc::new(AtomicBool::default());
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), unwell.clone()));
        Self { address, unwell, _task: AbortOnDropHandle::new(task) }
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, unwell: Arc<AtomicBool>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, unwell) = (tls.clone(), unwell.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2);
            let service = service_fn(|request: http::Request<_>| {
                let mut answer = Response::new(format!("{:?}", request.version()));
                if unwell.load(Ordering::Relaxed) && request.uri().path() == "/readyz" {
                    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let io = TokioIo::new(stream);
            let _ = match http2 {
                true => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
                false => http1::Builder::new().serve_connection(io, service).await,
            };
        });
    }
}

#[rstest]
#[case::haproxy(Told::Haproxy, ["HTTP/1.1", "HTTP/2.0"])]
#[case::haproxy_by_a_script(Told::Script, ["HTTP/1.1", "HTTP/2.0"])]
#[case::haproxy_as_a_gateway(Told::HaproxyHttp, ["HTTP/2.0"; 2])]
#[case::haproxy_as_it_is_recommended(Told::Gateway(HAPROXY_RECOMMENDED), ["HTTP/2.0"; 2])]
#[case::envoy(Told::Envoy, ["HTTP/2.0"; 2])]
#[case::envoy_in_plain_text(Told::EnvoyInPlainText, ["HTTP/2.0"; 2])]
#[case::envoy_as_its_user_says(Told::EnvoyFile, ["HTTP/2.0"; 2])]
#[tokio::test]
async fn apiservers_that_are_well_are_asked_in_turn_and_it_is_known_who_has_answered(
    #[case] told: Told,
    #[case] asked_by: [&str; 2],
) {
    let Some(binary) = at_hand(told.product()) else { return };
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let (authority, gateway) = certificates(&claim.folder);
    let identities = ["one", "other"].map(|name| authority.server(name, &[[127, 0, 0, 1].into()]).unwrap());
    let [one, other] = [Apiserver::start(&identities[0]).await, Apiserver::start(&identities[1]).await];
    let listen = nobody();
    let file = claim.folder.join("configuration.yaml");
    let settings = settings(listen, [one.address, other.address]);
    fs::write(&file, told.configuration(&binary, &settings, &claim.folder, &gateway)).unwrap();
    let (ca, backends) = (claim.folder.join("ca.crt"), &settings.backends);
    let mut environment = environment(listen, backends, "/readyz", &ca, settings.interval, settings.fall, secs(260));
    let path = env::join_paths([binary.parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    environment.insert("PATH".to_owned(), path.into_string().unwrap());
    let words = told.words(false, &binary, &file);
    let command = Command::start(&keeper, &claim, &words, environment, &Site::default(), listen).await.unwrap();
    let roster = [("one", &one, &identities[0]), ("other", &other, &identities[1])];
    let roster = roster.into_iter().flat_map(|(name, server, identity)| {
        [server.address.to_string(), identity.digest.clone()].map(|known_by| (known_by, name.to_owned()))
    });
    let through = Endpoint {
        from: None,
        address: listen,
        protocol: Protocol::Http1,
        site: Site::default(),
        tls: tls::client_config(&authority.certificate(), None).unwrap(),
        roster: Arc::new(roster.collect()),
        named: None,
        token: None,
        plain: told == Told::EnvoyInPlainText,
    };
    soon(command.ready(&through, secs(20))).await.unwrap();

    let ask = async |through: &Endpoint| {
        let (exchange, body) = through.exchange(&mut None, &Ask::get("/", String::new(), "suite")).await;
        (exchange.status, exchange.server.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
    };
    for (protocol, asked_by) in [Protocol::Http1, Protocol::Http2].into_iter().zip(asked_by) {
        let through = through.clone().over(protocol);
        let wanted = ["one", "other"].map(|name| (Some(200), name.to_owned(), asked_by.to_owned()));
        let both = async || match BTreeSet::from([ask(&through).await, ask(&through).await]) {
            answers if answers == wanted.clone().into() => ControlFlow::Break(()),
            answers => ControlFlow::Continue(format!("{answers:?}")),
        };
        wait::until(secs(20), "both to be asked in turn", both).await.unwrap();
    }

    one.unwell.store(true, Ordering::Relaxed);
    let other_alone = async || match [ask(&through).await.1, ask(&through).await.1] {
        answers if answers == ["other", "other"] => ControlFlow::Break(()),
        answers => ControlFlow::Continue(format!("{answers:?}")),
    };
    wait::until(secs(20), "the one that is unwell to be left alone", other_alone).await.unwrap();
    soon(command.end()).await;
}
