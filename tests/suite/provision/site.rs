//! A release site on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the site answers for one path.
#[derive(Clone)]
pub(crate) enum Answer {
    Whole(Vec<u8>),
    /// Announces this length, sends less, and hangs up.
    Announced(u64, Vec<u8>),
}

/// Serves `answers`, which may be changed while it does, until the process ends.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let site = Self { url, answers: Arc::default(), asked: Arc::default() };
        let (answers, asked) = (site.answers.clone(), site.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up is what some tests are about.
                let _ = serve(stream, &answers, &asked);
            }
        });
        site
    }

    pub(crate) fn answer(&self, path: &str, answer: impl Into<Answer>) {
        self.answers.lock().expect("no test panics here").insert(path.to_owned(), answer.into());
    }

    /// How often a path was asked for.
    pub(crate) fn asked_for(&self, path: &str) -> usize {
        self.asked.lock().expect("no test panics here").iter().filter(|asked| *asked == path).count()
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::Whole(text.as_bytes().to_owned())
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::Whole(text.into_bytes())
    }
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes)
    }
}

/// One request on one connection.
fn serve(
    mut stream: TcpStream,
    answers: &Mutex<BTreeMap<String, Answer>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let answer = answers.lock().expect("no test panics here").get(&path).cloned();
    asked.lock().expect("no test panics here").push(path);
    let (status, length, body) = match answer {
        Some(Answer::Whole(body)) => ("200 OK", body.len() as u64, body),
        Some(Answer::Announced(length, body)) => ("200 OK", length, body),
        None => ("404 Not Found", 0, Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body)
}
