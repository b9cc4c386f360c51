//! TLS towards a proxy or a node, checked against the system's certificates.
//!
//! It keeps those in between from seeing who asks for what, and from answering in the other end's stead. The other end is trusted no
//! more for it. `SSL_CERT_FILE` names other certificates than the system's, as it does for OpenSSL.

use rustls_platform_verifier::BuilderVerifierExt;
use std::io;
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, Error};

static CONFIG: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
});

/// The handshake with a host, which is a name or an address without brackets.
pub(super) async fn connect(host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = CONFIG.clone().map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}
