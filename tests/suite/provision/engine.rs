//! A stand-in for the Docker engine, with a registry behind it: what provisioning says is held to the engine's API, whatever this
//! machine has. (A registry's stand-in would need a real engine that trusts it.)

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// What it has, and what it was asked. Tests change it while it answers.
#[derive(Default)]
pub(crate) struct State {
    /// Name -> id, and the digest of what came from the registry.
    pub(crate) images: BTreeMap<String, (String, Option<String>)>,
    /// `NAME:TAG` -> digest; none: it cannot be reached.
    pub(crate) registry: Option<BTreeMap<String, String>>,
    /// Every archive that it was to load.
    pub(crate) loaded: Vec<Vec<u8>>,
    /// Every name that it was to pull.
    pub(crate) pulls: Vec<String>,
    pub(crate) disk_full: bool,
}

pub(crate) struct Engine {
    pub(crate) host: String,
    state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

impl Engine {
    pub(crate) fn start(socket: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let state = Arc::<Mutex<State>>::default();
        let listener = runtime.block_on(async { UnixListener::bind(socket) }).expect("a socket");
        let of_all = state.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = of_all.clone();
                let service = service_fn(move |request| answer(request, state.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { host: format!("unix://{}", socket.display()), state, _runtime: runtime }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics here")
    }

    /// A registry that has this.
    pub(crate) fn publish(&self, name: &str, digest: &str) {
        self.state().registry.get_or_insert_default().insert(name.to_owned(), digest.to_owned());
    }
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let (_, asked) = path.split_once("/images/").unwrap_or_default();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut state = state.lock().expect("no test panics here");
    let (status, text) = match asked {
        "create" => {
            let query = head.uri.query().unwrap_or_default();
            let name = query.split('&').find_map(|pair| pair.strip_prefix("fromImage=")).unwrap_or_default();
            state.pull(&name.replace("%2F", "/").replace("%3A", ":").replace("%40", "@"))
        }
        "load" if state.disk_full => (200, json!({"errorDetail": {"message": "write /x: no space left on device"}})),
        "load" => {
            state.load(&body);
            (200, json!({"stream": "Loaded"}))
        }
        _ => match asked.strip_suffix("/json").map(|name| state.images.get(name)) {
            None => (200, json!("OK")),
            Some(None) => (404, json!({"message": "no such image"})),
            Some(Some((id, digest))) => (200, json!({"Id": id, "RepoDigests": Vec::from_iter(digest)})),
        },
    };
    Ok(Response::builder().status(status).body(Full::from(text.to_string())).expect("a response"))
}

impl State {
    fn pull(&mut self, name: &str) -> (u16, Value) {
        self.pulls.push(name.to_owned());
        let Some(registry) = &self.registry else {
            return (500, json!({"message": "Get \"https://registry.invalid/v2/\": dial tcp: no route to host"}));
        };
        let repository = name.split(['@', ':']).next().unwrap_or(name);
        let published = registry.iter().find(|(tag, digest)| *tag == name || format!("{repository}@{digest}") == name);
        let Some((_, digest)) = published else {
            return (404, json!({"message": format!("manifest for {name} not found")}));
        };
        let by_digest = format!("{repository}@{digest}");
        for name in [name.to_owned(), by_digest.clone()] {
            self.images.insert(name, ("sha256:official".to_owned(), Some(by_digest.clone())));
        }
        (200, json!({"status": "Download complete"}))
    }

    fn load(&mut self, archive: &[u8]) {
        let manifest: Value =
            serde_json::from_slice(&file_in(archive, "manifest.json").expect("a manifest")).expect("JSON");
        let image = &manifest[0];
        for name in image["RepoTags"].as_array().expect("names") {
            let id = format!("sha256:{}", image["Config"].as_str().expect("a name").trim_end_matches(".json"));
            self.images.insert(name.as_str().expect("a name").to_owned(), (id, None));
        }
        self.loaded.push(archive.to_owned());
    }
}

/// One file of a tar.
pub(crate) fn file_in(tar: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let mut file = archive.entries().ok()?.flatten().find(|file| file.path().is_ok_and(|it| it == Path::new(path)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Every path of an image's layers, in an archive; of links with their targets: `bin/sh -> busybox`.
pub(crate) fn paths_of(archive: &[u8], image: &Value) -> BTreeSet<String> {
    let layers = image["Layers"].as_array().expect("layers").iter();
    let layers = layers.map(|layer| file_in(archive, layer.as_str().expect("a name")).expect("the layer is there"));
    layers
        .flat_map(|layer| {
            let mut paths = Vec::new();
            for entry in tar::Archive::new(&*layer).entries().expect("a tar").flatten() {
                let path = entry.path().expect("a path").display().to_string();
                let target = entry.link_name().expect("a path").map(|target| format!(" -> {}", target.display()));
                paths.push(format!("{}{}", path.trim_end_matches('/'), target.unwrap_or_default()));
            }
            paths
        })
        .collect()
}
