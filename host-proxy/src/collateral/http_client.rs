//! One question over HTTP, with everything about it bounded: time, bytes, redirects, repetitions.

use super::fault::Fault;
use crate::limits::{ATTEMPT_PAUSE, ATTEMPTS_MAX};
use std::io::Read;
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};

/// An HTTP client that trusts the system's certificate store. What makes an answer right is its signature, which clients check.
pub(super) struct Asker(ureq::Agent);

/// What to ask.
pub(super) struct Question<'a> {
    pub(super) url: &'a str,
    /// A body to post, as `application/ocsp-request`.
    pub(super) post: Option<&'a [u8]>,
    /// The kind that the answer must have: a part of its `Content-Type`. Absent where services disagree.
    pub(super) kind: Option<&'static str>,
    /// The longest that the answer may be.
    pub(super) bytes_max: u64,
}

/// How long one source may take, over all its answers.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    until: Instant,
    whole: Duration,
}

/// A whole answer with status 200.
pub(super) struct Answer {
    headers: ureq::http::HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Asker {
    pub(super) fn new() -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Sources are asked minutes apart; a connection kept for that long is a connection lost.
            .max_idle_connections(0)
            .accept_encoding("identity")
            .user_agent("chrysalis-host-proxy")
            .build();
        Self(config.into())
    }

    /// Asks, and asks again where a moment may have been bad. Blocks; call it where blocking is allowed.
    pub(super) fn ask(&self, question: &Question<'_>, deadline: Deadline) -> Result<Answer, Fault> {
        let mut attempt = 1;
        loop {
            match self.once(question, deadline) {
                Err(fault)
                    if fault.is_transient()
                        && attempt < ATTEMPTS_MAX
                        && deadline.left() > ATTEMPT_PAUSE =>
                {
                    attempt += 1;
                    std::thread::sleep(ATTEMPT_PAUSE);
                }
                ended => return ended,
            }
        }
    }

    fn once(&self, question: &Question<'_>, deadline: Deadline) -> Result<Answer, Fault> {
        let left = deadline.left();
        if left.is_zero() {
            return Err(deadline.missed());
        }
        let sent = match question.post {
            None => {
                let request = self.0.get(question.url).config();
                request.timeout_global(Some(left)).build().call()
            }
            Some(body) => {
                let request = self.0.post(question.url).config();
                let request = request.timeout_global(Some(left)).build();
                request.content_type("application/ocsp-request").send(body)
            }
        };
        let response = sent.map_err(|error| match error {
            ureq::Error::Timeout(_) => deadline.missed(),
            other => Fault::Network(other.to_string()),
        })?;
        judge_head(question, &response)?;
        let (head, body) = response.into_parts();
        let body = read(body, question.bytes_max, deadline)?;
        Ok(Answer {
            headers: head.headers,
            body,
        })
    }
}

fn judge_head(question: &Question<'_>, response: &Response<Body>) -> Result<(), Fault> {
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap_or("?").chars().take(120).collect())
    };
    match response.status().as_u16() {
        200 => {}
        300..=399 => {
            let to: Option<String> = header("location");
            return Err(Fault::Redirect(to.unwrap_or_else(|| "nowhere".into())));
        }
        status => return Err(Fault::Status(status)),
    }
    let kind: Option<String> = header("content-type");
    if let (Some(wanted), Some(kind)) = (question.kind, kind)
        && !kind.to_ascii_lowercase().contains(wanted)
    {
        return Err(Fault::ContentType(kind));
    }
    let bytes_max = question.bytes_max;
    match response.body().content_length() {
        Some(bytes) if bytes > bytes_max => Err(Fault::TooLong { bytes_max }),
        _ => Ok(()),
    }
}

fn read(body: Body, bytes_max: u64, deadline: Deadline) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = body
        .into_reader()
        .take(bytes_max + 1)
        .read_to_end(&mut bytes);
    match read.map_err(ureq::Error::from) {
        Ok(got) if got as u64 > bytes_max => Err(Fault::TooLong { bytes_max }),
        Ok(_) => Ok(bytes),
        Err(ureq::Error::Timeout(_)) => Err(deadline.missed()),
        Err(error) => Err(Fault::Cut(error.to_string())),
    }
}

impl Answer {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub(super) fn text(&self, what: &'static str) -> Result<&str, Fault> {
        std::str::from_utf8(&self.body).map_err(|error| Fault::malformed(what, error))
    }
}

impl Deadline {
    /// From now on.
    pub(super) fn after_ms(ms: u64) -> Self {
        let whole = Duration::from_millis(ms);
        Deadline {
            until: Instant::now() + whole,
            whole,
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn missed(&self) -> Fault {
        let after_ms = u64::try_from(self.whole.as_millis()).unwrap_or(u64::MAX);
        Fault::Slow { after_ms }
    }
}
