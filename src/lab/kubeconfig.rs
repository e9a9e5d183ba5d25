//! The kubeconfig of a lab.

use std::net::SocketAddr;

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};

use super::control_plane::pki::Identity;

/// A kubeconfig that leads to `server`, trusts `ca` (PEM) and authenticates as `user`; by a bearer token as well, where
/// certificates do not come through. The server's certificate has to name `named`, or else the address. It contains the user's key: whoever writes it down gives the file mode 0600.
pub fn kubeconfig(
    server: SocketAddr,
    ca: &str,
    user: &Identity,
    token: Option<&str>,
    named: Option<&str>,
) -> Kubeconfig {
    let name = "rollproof".to_owned();
    Kubeconfig {
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(format!("https://{server}")),
                certificate_authority_data: Some(base64(ca)),
                tls_server_name: named.map(str::to_owned),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(AuthInfo {
                client_certificate_data: Some(base64(&user.certificate)),
                client_key_data: Some(base64(&user.key).into()),
                token: token.map(Into::into),
                ..AuthInfo::default()
            }),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context {
                cluster: name.clone(),
                user: Some(name.clone()),
                namespace: Some(super::NAMESPACE.to_owned()),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
