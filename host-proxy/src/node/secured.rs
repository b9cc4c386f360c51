//! One exchange over TLS, checked against the system's certificate store.
//!
//! TLS keeps those in between from answering in the node's stead. The node itself is trusted no more for it.

use crate::config::NodeUrl;
use crate::limits::NODE_CALL;
use hyper::body::Bytes;
use settlement::limits::ANSWER_BYTES_MAX;
use settlement::toncenter;
use std::sync::LazyLock;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .http_status_as_error(false)
        // A redirect would be another node's word.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(NODE_CALL))
        .accept_encoding("identity")
        .user_agent("chrysalis-host-proxy")
        .build();
    config.into()
});

/// Status and body, or why there is none. The caller's time-out does not stop the thread; [`NODE_CALL`] does.
pub(super) async fn exchange(
    url: &NodeUrl,
    request: &toncenter::Request,
) -> Result<(u16, Bytes), String> {
    let to = format!("https://{}{}{}", url.authority, url.prefix, request.path);
    let body = request.body.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let sent = AGENT
            .post(&to)
            .header("content-type", "application/json")
            .send(&body[..]);
        let mut answer = sent.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let limited = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX as u64);
        let bytes = limited.read_to_vec().map_err(|e| e.to_string())?;
        Ok((status, Bytes::from(bytes)))
    });
    asked.await.map_err(|e| e.to_string())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[tokio::test]
    async fn nothing_is_said_in_the_clear_to_who_cannot_show_a_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let heard = std::thread::spawn(move || {
            let (mut from, _) = listener.accept().expect("a connection");
            let mut first = [0; 1024];
            let got = from.read(&mut first).expect("readable");
            // Not TLS: whoever is asked ends here.
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
            std::io::Write::write_all(&mut from, answer).expect("writable");
            first[..got].to_vec()
        });
        let url = NodeUrl::parse(&format!("https://127.0.0.1:{port}")).expect("a url");
        let asked = exchange(&url, toncenter::masterchain_info().request()).await;
        assert!(asked.is_err(), "{asked:?}");
        let heard = heard.join().expect("it listened");
        assert_eq!(heard.first(), Some(&0x16), "a TLS handshake record");
        assert!(!String::from_utf8_lossy(&heard).contains("getMasterchainInfo"));
    }
}
