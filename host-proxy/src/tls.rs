//! TLS in front of the clients' port, where the operator has a certificate for it.
//!
//! It hides from the network which paths are asked for and which payer asks. It is no part of anyone's trust: what is private is sealed
//! past this proxy. TLS 1.3 only, and no client certificates.

use crate::config::TlsFiles;
use crate::error::{Context, Error, Fault, read_file};
use crate::limits::{CERTIFICATE_BYTES_MAX, HEADER_READ};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::server::TlsStream;

/// A certificate with its key, which can be replaced while connections are served.
#[derive(Clone)]
pub(crate) struct Tls {
    files: Arc<TlsFiles>,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads both files.
    pub(crate) fn open(files: &TlsFiles) -> Result<Self, Error> {
        Ok(Tls {
            current: Arc::new(RwLock::new(Arc::new(read(files)?))),
            files: Arc::new(files.clone()),
        })
    }

    /// Reads both files again. Where they are no good, the old ones stay.
    pub(crate) fn reload(&self) -> Result<(), Error> {
        let fresh = Arc::new(read(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The handshake, which may take as long as a request's headers.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let current = {
            let current = self.current.read();
            current.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let accepting = TlsAcceptor::from(current).accept(stream);
        let accepted = tokio::time::timeout(HEADER_READ, accepting).await;
        accepted.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, Error> {
    let shown = |path: &std::path::Path| format!("tls: {}", path.display());
    let certificate = read_file(&files.certificate, CERTIFICATE_BYTES_MAX)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
    let chain = chain.context(Fault::Configuration, || shown(&files.certificate))?;
    let key = zeroize::Zeroizing::new(read_file(&files.key, CERTIFICATE_BYTES_MAX)?);
    let key = PrivateKeyDer::from_pem_slice(&key);
    let key = key.context(Fault::Configuration, || shown(&files.key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .context(Fault::Host, || "tls")?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.context(Fault::Configuration, || shown(&files.certificate))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
