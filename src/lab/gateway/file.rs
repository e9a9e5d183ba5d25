//! What gateways are told that are no Envoy: a file of fixtures/ with placeholders. docs/gateway-cures.md shows the same text, with values
//! that one would set.
//!
//! Each lane is a process of its own, so whatever a product shares between its clients, it shares within a lane.

use std::path::Path;
use std::time::Duration;

use crate::config::Product;
use crate::lab::balancer::product::haproxy;
use crate::lab::balancer::{Backend, Settings};
use crate::timing::gateway as times;

/// A line with this placeholder is there for each apiserver.
const ADDRESS: &str = "ADDRESS";

/// A line with this one is a lab's only: what would be made where the product was installed is made there.
const TEMP: &str = "TEMP";

/// A product's configuration, with placeholders: [`times::IN_FILES`], where to listen, the apiservers, and PEM files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Whose it is.
    pub product: Product,
    pub(super) text: &'static str,
}

impl File {
    /// For a lab. `ca` and `shown` are PEM files, `shown` those of the gateway's certificate and key; `temp` is a folder that is there.
    pub fn filled(self, settings: &Settings, ca: &Path, shown: [&Path; 2], temp: &Path) -> String {
        let [certificate, key] = shown.map(|path| path.display().to_string());
        let places = [settings.listen.to_string(), ca.display().to_string(), certificate, key];
        let addresses = settings.backends.iter().map(|Backend { name, address }| [name.clone(), address.to_string()]);
        let text = self.with(places, &addresses.collect::<Vec<_>>(), |here, _| here);
        text.replace(&placeholder(TEMP), &temp.display().to_string())
    }

    /// As one would set it, for two apiservers at made-up addresses.
    pub fn as_set(self) -> String {
        let folder = format!("/etc/{}", self.product);
        let [ca, certificate, key] = ["ca.crt", "gateway.crt", "gateway.key"].map(|name| format!("{folder}/{name}"));
        let addresses = ["0", "1"].map(|number| [format!("apiserver-{number}"), format!("192.0.2.1{number}:6443")]);
        let text = self.with(["*:6443".to_owned(), ca, certificate, key], &addresses, |_, set| set);
        // What it begins with is about the file.
        let lines = text.lines().skip_while(|line| line.starts_with('#'));
        lines.filter(|line| !line.contains(&placeholder(TEMP))).fold(String::new(), |text, line| text + line + "\n")
    }

    fn with(
        self,
        places: [String; 4],
        addresses: &[[String; 2]],
        pick: impl Fn(Duration, Duration) -> Duration,
    ) -> String {
        let names = ["LISTEN", "CA", "CERTIFICATE", "KEY"];
        let spans = times::IN_FILES.iter().map(|(name, here, set)| (*name, span(pick(*here, *set))));
        let values: Vec<_> = names.into_iter().zip(places).chain(spans).collect();
        let mut text = String::new();
        for line in self.text.lines() {
            if line.contains(&placeholder(ADDRESS)) {
                let of = |[name, address]: &[String; 2]| {
                    line.replace(&placeholder("SERVER"), name).replace(&placeholder(ADDRESS), address) + "\n"
                };
                text.extend(addresses.iter().map(of));
            } else {
                text.extend([line, "\n"]);
            }
        }
        values.iter().fold(text, |text, (name, value)| text.replace(&placeholder(name), value))
    }

    /// What its program is told on the command line: to stay in the foreground, and where its configuration is. `pid` is a file that it
    /// may write.
    pub fn arguments(self, file: &Path, pid: &Path) -> Vec<String> {
        let file = file.display().to_string();
        match self.product {
            Product::Haproxy => haproxy::ARGUMENTS.iter().map(|it| (*it).to_owned()).chain([file]).collect(),
            // One process alone: a worker would outlive a master that is killed. No file is Envoy's.
            Product::Nginx | Product::Envoy => {
                let directives =
                    format!("daemon off; master_process off; pid \"{}\"; error_log stderr info;", pid.display());
                ["-e", "stderr", "-g", &directives, "-c", &file].map(str::to_owned).into()
            }
        }
    }
}

fn placeholder(name: &str) -> String {
    format!("${{ROLLPROOF_{name}}}")
}

/// As both products read it.
fn span(span: Duration) -> String {
    match span.subsec_millis() {
        0 => format!("{}s", span.as_secs()),
        _ => format!("{}ms", span.as_millis()),
    }
}
