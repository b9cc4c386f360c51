//! A proxy behind TLS: the program asks it, and refuses one whose certificate nobody vouches for.

use super::{chrysalis_with, configured};
use crate::world::World;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

struct Key(ed25519_dalek::SigningKey, [u8; 32]);

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = ed25519_dalek::Signer::sign(&self.0, message);
        Ok(signature.to_bytes().to_vec())
    }
}

/// A certificate for `localhost`, signed by itself, and what serves it.
fn certificate() -> (CertificateDer<'static>, ServerConfig) {
    const SEED: [u8; 32] = [9; 32];
    let key = ed25519_dalek::SigningKey::from_bytes(&SEED);
    let key = Key(key.clone(), key.verifying_key().to_bytes());
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.serial_number = Some(1.into());
    let made = params.self_signed(&key).unwrap().der().clone();
    // RFC 8410 section 7.
    let pkcs8 = [
        &hex::decode("302e020100300506032b657004220420").unwrap(),
        &SEED[..],
    ]
    .concat();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.clone()], PrivatePkcs8KeyDer::from(pkcs8).into());
    (made, config.unwrap())
}

/// Serves TLS in front of an address; returns its port.
async fn in_front_of(address: &str, config: ServerConfig) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = address.strip_prefix("http://").unwrap().to_owned();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let mut inside = acceptor.accept(stream).await.ok()?;
                let mut plain = TcpStream::connect(to).await.ok()?;
                copy_bidirectional(&mut inside, &mut plain).await.ok()
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_behind_tls_is_verified_and_asked_under_a_known_certificate_alone() {
    let world = World::start(3600).await;
    configured(&world);
    let (certificate, config) = certificate();
    let port = in_front_of(&world.address, config).await;
    let directory = world.directory.path();
    let pem = pem_of(&certificate);
    std::fs::write(directory.join("proxy.pem"), pem).unwrap();

    let target = format!("https://localhost:{port}");
    let root = ["--insecure-test-root", "root.der"];
    let arguments = [
        &["verify", &target, "--manifest", "manifest.json"][..],
        &root,
    ]
    .concat();
    let known = [("SSL_CERT_FILE", "proxy.pem")];
    let ran = chrysalis_with(directory, &arguments, "", &known).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("verified: "), "{}", ran.out);

    let config = world.config_text().replacen(&world.address, &target, 1);
    std::fs::write(directory.join("client.yaml"), config).unwrap();
    let chat = [&["chat", "--config", "client.yaml"][..], &root].concat();
    let ran = chrysalis_with(directory, &chat, "hello\n", &known).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(!ran.out.trim().is_empty(), "{}", ran.err);

    let ran = chrysalis_with(directory, &arguments, "", &[]).await;
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("certificate"), "{}{}", ran.out, ran.err);
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
