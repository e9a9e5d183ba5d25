//! The namespace of a subcommand that works on any cluster: created, marked, and removed again; never anybody else's.

use std::ops::ControlFlow;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Method;
use rollproof::lab::http::Ask;
use rollproof::lab::remote::Target;
use rollproof::lab::wait;
use rollproof::timeline::Moment;
use rollproof::timing;
use serde_json::{Value, json};

use crate::note;

/// The label that says whose a namespace is (Kubernetes, "Recommended Labels").
const LABEL: &str = "app.kubernetes.io/managed-by";

/// Where it works.
pub(crate) struct Place {
    namespace: String,
    /// The label's value: the subcommand.
    owner: &'static str,
    /// Whether we have created it.
    ours: bool,
}

impl Place {
    /// Creates the namespace; where nothing is to be changed, sees that it is there.
    ///
    /// # Errors
    /// The cluster does not answer or does not let us; there is one of that name that is not of a load's.
    pub(crate) async fn take(
        target: &Target,
        owner: &'static str,
        wanted: Option<&str>,
        read_only: bool,
    ) -> anyhow::Result<Self> {
        if read_only {
            let namespace = wanted.unwrap_or("default").to_owned();
            match get(target, owner, &namespace).await? {
                Some(_) => return Ok(Self { namespace, owner, ours: false }),
                None => bail!("there is no namespace {namespace}; --namespace names another"),
            }
        }
        let namespace = wanted.map_or_else(|| format!("{owner}-{:x}", Moment::now().0 / 1_000_000), str::to_owned);
        let object = json!({"metadata": {"name": namespace, "labels": {LABEL: owner}}});
        let (status, answer) = send(target, owner, Method::POST, "/api/v1/namespaces", &object).await?;
        match status {
            200..=299 => return Ok(Self { namespace, owner, ours: true }),
            409 => {}
            _ => bail!("cannot create the namespace {namespace}: {}", message(status, &answer)),
        }
        let there = get(target, owner, &namespace)
            .await?
            .with_context(|| format!("the namespace {namespace} came and went"))?;
        if there["metadata"]["labels"][LABEL] != owner {
            bail!("the namespace {namespace} exists and is not of a {owner}: --namespace names another");
        }
        if there["metadata"]["deletionTimestamp"].is_string() {
            bail!("the namespace {namespace} is still being deleted: wait for it, or name another with --namespace");
        }
        // Of an earlier run, or of one that goes on.
        note(&format!(
            "the namespace {namespace} is there from another run: it is used, and left; `kubectl delete namespace {namespace}` removes it"
        ));
        Ok(Self { namespace, owner, ours: false })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Deletes the namespace, if we have created it.
    ///
    /// # Errors
    /// The cluster does not let us, or does not answer in time.
    pub(crate) async fn leave(&self, target: &Target) -> anyhow::Result<()> {
        if !self.ours {
            return Ok(());
        }
        let Self { namespace, owner, .. } = self;
        note(&format!("removing the namespace {namespace}"));
        let path = format!("/api/v1/namespaces/{namespace}");
        let how = || format!("`kubectl delete namespace {namespace}` removes it");
        wait::until(timing::NAMESPACE_GONE, &format!("the namespace {namespace} to be deleted"), async || match send(
            target,
            owner,
            Method::DELETE,
            &path,
            &Value::Null,
        )
        .await
        {
            Ok((200..=299 | 404 | 409, _)) => ControlFlow::Break(()),
            Ok((status, answer)) => ControlFlow::Continue(message(status, &answer)),
            Err(error) => ControlFlow::Continue(format!("{error:#}")),
        })
        .await
        .with_context(how)?;
        let what = format!("the namespace {namespace} to be gone");
        let gone = wait::until(timing::NAMESPACE_GONE, &what, async || match get(target, owner, namespace).await {
            Ok(None) => ControlFlow::Break(()),
            Ok(Some(_)) => ControlFlow::Continue("it is still there".to_owned()),
            Err(error) => ControlFlow::Continue(format!("{error:#}")),
        });
        if gone.await.is_err() {
            note(&format!(
                "the namespace {namespace} is empty and marked for deletion; no controller has removed it yet"
            ));
        }
        Ok(())
    }
}

/// A namespace; `None` if there is none.
async fn get(target: &Target, owner: &str, name: &str) -> anyhow::Result<Option<Value>> {
    let (status, answer) =
        send(target, owner, Method::GET, &format!("/api/v1/namespaces/{name}"), &Value::Null).await?;
    match status {
        200..=299 => Ok(Some(answer)),
        404 => Ok(None),
        _ => bail!("cannot get the namespace {name}: {}", message(status, &answer)),
    }
}

async fn send(target: &Target, owner: &str, method: Method, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let audit_id = format!("{owner}-{}", Moment::now().0);
    let ask = Ask::new(method, path.to_owned(), body, audit_id, owner);
    let (exchange, answer) = target.exchange(&mut None, ask).await;
    if let Some(failure) = exchange.failure {
        let phase = format!("{:?}", exchange.phase).to_lowercase();
        bail!("the cluster does not answer: {} in {phase}: {}", failure.class, failure.text);
    }
    Ok((exchange.status.unwrap_or_default(), serde_json::from_slice(&answer).unwrap_or(Value::Null)))
}

/// What an answer that is no success says.
fn message(status: u16, answer: &Value) -> String {
    format!("{status} {}", answer["message"].as_str().unwrap_or("without a message"))
}
