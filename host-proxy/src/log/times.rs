//! An authority's time on the trees of the log (RFC 3161): asked for after a tree is closed, verified, and kept beside its signature.
//!
//! Trusts the authority that the operator names, for the time alone. It learns of a tree its signature's hash. While it cannot be
//! reached trees are closed all the same, and are stamped later: a time-stamp says no more than *at the latest*.

use crate::clock::now_unix_s;
use crate::collateral::http_client::{Deadline, HttpClient, Request};
use crate::config::TimeAuthority;
use crate::error::{Context, Error, Fault, read_bounded};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, LOG_POLL, TIME_AUTHORITY_PAUSE, TIME_AUTHORITY_TIME_MS, TIME_ROOTS_MAX,
};
use crate::proxy::Proxy;
use std::sync::Arc;
use timestamp::Authorities;
use timestamp::limits::TIMESTAMP_BYTES_MAX;
use wire::log_imprint;

/// The authority, ready to be asked.
pub(crate) struct Times {
    url: String,
    authorities: Authorities,
    client: HttpClient,
}

impl Times {
    /// Reads the roots.
    pub(crate) fn open(config: &TimeAuthority) -> Result<Self, Error> {
        let path = config.roots.display();
        let words = "`time_authority.roots`: no certificates in PEM";
        let refused = || Error::new(Fault::Configuration, format!("{path}: {words}"));
        let text = read_bounded(&config.roots, CERTIFICATE_BYTES_MAX);
        let text = text.context(Fault::Configuration, || path.to_string())?;
        let roots = pki::pem::certificates(&text.ok_or_else(refused)?, TIME_ROOTS_MAX);
        let roots = roots.filter(|roots| !roots.is_empty());
        let authorities = Authorities::new(roots.ok_or_else(refused)?);
        Ok(Times {
            url: config.url.as_str().to_owned(),
            authorities: authorities.context(Fault::Configuration, || path.to_string())?,
            client: HttpClient::new(),
        })
    }

    /// Stamps what is closed, again and again. After a failure it waits, longer each time.
    pub(crate) async fn keep(self, proxy: &Arc<Proxy>) {
        let this = Arc::new(self);
        let (first, longest) = TIME_AUTHORITY_PAUSE;
        let mut pause = first;
        loop {
            let (times, stamping) = (this.clone(), proxy.clone());
            let stamped =
                tokio::task::spawn_blocking(move || times.stamp(&stamping, now_unix_s())).await;
            match stamped {
                Ok(Ok(true)) => pause = first,
                Ok(Ok(false)) => tokio::time::sleep(LOG_POLL).await,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a tree of the log has no time-stamp yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                Err(_panicked) => return,
            }
        }
    }

    /// Has the oldest tree without a time-stamp stamped. `false`: there is none.
    pub(super) fn stamp(&self, proxy: &Proxy, now_unix_s: u64) -> Result<bool, Error> {
        let Some((tree, signature)) = proxy.store.log_untimed(now_unix_s)? else {
            return Ok(false);
        };
        let digest = log_imprint(&signature);
        let asked = timestamp::request(&digest);
        let request = Request {
            url: &self.url,
            post: Some(("application/timestamp-query", &asked)),
            content_type: Some("timestamp-reply"),
            bytes_max: TIMESTAMP_BYTES_MAX as u64,
        };
        let whose = || format!("the time-stamping authority {}", self.url);
        let answer = self
            .client
            .send(&request, Deadline::after_ms(TIME_AUTHORITY_TIME_MS));
        let answer = answer.context(Fault::CollateralSource, whose)?;
        let token = timestamp::token(&answer.body).context(Fault::CollateralSource, whose)?;
        let verified = self.authorities.verify(token, &digest);
        let time_unix_s = verified
            .context(Fault::CollateralSource, whose)?
            .time_unix_s;
        proxy.store.log_timed(tree, token)?;
        tracing::info!(tree, time_unix_s, "a tree of the log has a time-stamp");
        Ok(true)
    }
}

#[cfg(test)]
#[path = "../../../measurements/timestamp/tests/all/authority.rs"]
mod authority;

#[cfg(test)]
mod tests {
    use super::authority::Authority;
    use super::*;
    use crate::config::NodeUrl;
    use crate::fixtures::{charge, config, directory, payee, payer_key, receipt_key};
    use crate::log::{close, receipt};
    use axum::Router;
    use axum::body::Bytes;
    use axum::http::HeaderMap;
    use axum::http::header::CONTENT_TYPE;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use wire::{LogLeaf, LogReceipt};

    const PERIOD_S: u64 = 3600;
    const TIME: &str = "20260102030405Z";

    /// Answers what was asked with its own key, and remembers who asked.
    async fn serve(authority: Authority) -> String {
        let answer = async move |headers: HeaderMap, asked: Bytes| {
            assert_eq!(headers[CONTENT_TYPE], "application/timestamp-query");
            // The digest lies between the algorithm and the wish for certificates.
            let digest: [u8; 32] = asked[asked.len() - 35..asked.len() - 3]
                .try_into()
                .expect("32");
            assert_eq!(timestamp::request(&digest), &asked[..]);
            let kind = [(CONTENT_TYPE, "application/timestamp-reply")];
            (kind, authority.response(&digest, TIME))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let routes = Router::new().fallback(axum::routing::post(answer));
        tokio::spawn(axum::serve(listener, routes).into_future());
        format!("http://{address}")
    }

    fn times(url: &str, root: &[u8], directory: &std::path::Path) -> Times {
        let text = STANDARD.encode(root);
        let roots = directory.join("roots.pem");
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(&roots, pem).expect("written");
        let url = url.to_owned().try_into().expect("a url");
        Times::open(&TimeAuthority { url, roots }).expect("roots")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_closed_tree_is_stamped_by_the_authority_that_is_named_and_by_no_other() {
        let directory = directory();
        let url = NodeUrl::parse("http://127.0.0.1:1").expect("a url");
        let proxy = Arc::new(Proxy::open(&config(directory.path(), url)).expect("opens"));
        let charge = charge(0, 1, 1);
        let keys = (receipt_key().verifying_key(), payer_key().verifying_key());
        let verified = charge.verify(keys.0.as_bytes(), keys.1.as_bytes());
        let recorded = proxy
            .store
            .record_now(keys.0.as_bytes(), &verified.expect("good"), None);
        recorded.expect("recorded").expect("taken");

        let ours = Authority::new(1);
        let root = ours.root.clone();
        let believed = Authorities::new(vec![root.clone()]).expect("a root");
        let others = serve(Authority::new(2)).await;
        let ours = serve(ours).await;
        let now = now_unix_s();
        let stamp = async |times: Times, now: u64| {
            let proxy = proxy.clone();
            let stamped = tokio::task::spawn_blocking(move || times.stamp(&proxy, now));
            stamped.await.expect("no panic")
        };
        let ask = |url: &str| times(url, &root, directory.path());
        assert!(!stamp(ask(&ours), now).await.expect("nothing is closed"));
        let after = (now / PERIOD_S + 1) * PERIOD_S;
        assert!(close(&proxy, after, PERIOD_S).expect("closed"));
        // One that is away, and one whose time-stamps lead elsewhere.
        let away = stamp(ask("http://127.0.0.1:1"), after)
            .await
            .expect_err("away");
        assert!(away.to_string().contains("127.0.0.1:1"), "{away}");
        let other = stamp(ask(&others), after).await.expect_err("another's");
        assert!(
            other.to_string().contains("does not lead to a root"),
            "{other}"
        );
        let shown = async || {
            let shown = receipt(&proxy, LogLeaf::of(&charge), PERIOD_S).await;
            let shown = LogReceipt::decode(&shown.expect("closed").encode()).expect("a receipt");
            let endorsing = payee().endorsing_key();
            let logged = shown.verify(&charge, &payee().address(), &endorsing);
            logged.expect("logged")
        };
        assert_eq!(shown().await.time(&believed), Ok(None));
        assert!(stamp(ask(&ours), after).await.expect("stamped"));
        assert!(!stamp(ask(&ours), after).await.expect("no other tree"));
        let time = shown()
            .await
            .time(&believed)
            .expect("believed")
            .expect("there");
        assert_eq!(time.time_unix_s, 1_767_323_045);
        let strange = Authorities::new(vec![Authority::new(2).root]).expect("a root");
        assert!(shown().await.time(&strange).is_err());
    }
}
