//! One HTTP request with everything about it bounded: time, bytes, redirects, attempts.

use super::source_error::SourceError;
use crate::limits::{ATTEMPT_PAUSE, ATTEMPTS_MAX};
use std::io::Read;
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::HeaderMap;
use ureq::tls::{RootCerts, TlsConfig};

/// Trusts the system's certificate store. What makes an answer right is its signature, which clients check.
pub(crate) struct HttpClient(ureq::Agent);

pub(crate) struct Request<'a> {
    pub(crate) url: &'a str,
    /// A body to post, and its content type.
    pub(crate) post: Option<(&'static str, &'a [u8])>,
    /// A part of the `Content-Type` that the answer must have. Absent where services disagree.
    pub(crate) content_type: Option<&'static str>,
    /// Of the answer.
    pub(crate) bytes_max: u64,
}

/// One source's, over all its answers.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    until: Instant,
    whole: Duration,
}

/// A whole answer with status 200.
pub(crate) struct Response {
    headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl HttpClient {
    pub(crate) fn new() -> Self {
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

    /// Sends, and retries a transient failure. Blocks the thread.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        deadline: Deadline,
    ) -> Result<Response, SourceError> {
        let mut attempt = 1;
        loop {
            match self.send_once(request, deadline) {
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

    fn send_once(
        &self,
        request: &Request<'_>,
        deadline: Deadline,
    ) -> Result<Response, SourceError> {
        let left = deadline.left();
        if left.is_zero() {
            return Err(deadline.missed());
        }
        let sent = match request.post {
            None => {
                let get = self.0.get(request.url).config();
                get.timeout_global(Some(left)).build().call()
            }
            Some((content_type, body)) => {
                let post = self.0.post(request.url).config();
                let post = post.timeout_global(Some(left)).build();
                post.content_type(content_type).send(body)
            }
        };
        let response = sent.map_err(|error| match error {
            ureq::Error::Timeout(_) => deadline.missed(),
            other => SourceError::Network(other.to_string()),
        })?;
        check_head(request, &response)?;
        let (head, body) = response.into_parts();
        Ok(Response {
            headers: head.headers,
            body: read(body, request.bytes_max, deadline)?,
        })
    }
}

fn check_head(
    request: &Request<'_>,
    response: &ureq::http::Response<Body>,
) -> Result<(), SourceError> {
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap_or("?").chars().take(120).collect())
    };
    match response.status().as_u16() {
        200 => {}
        300..=399 => {
            let to: Option<String> = header("location");
            return Err(SourceError::Redirect(
                to.unwrap_or_else(|| "nowhere".into()),
            ));
        }
        status => return Err(SourceError::Status(status)),
    }
    let kind: Option<String> = header("content-type");
    if let (Some(wanted), Some(kind)) = (request.content_type, kind)
        && !kind.to_ascii_lowercase().contains(wanted)
    {
        return Err(SourceError::ContentType(kind));
    }
    let bytes_max = request.bytes_max;
    match response.body().content_length() {
        Some(bytes) if bytes > bytes_max => Err(SourceError::TooLong { bytes_max }),
        _ => Ok(()),
    }
}

fn read(body: Body, bytes_max: u64, deadline: Deadline) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = body
        .into_reader()
        .take(bytes_max + 1)
        .read_to_end(&mut bytes);
    match read.map_err(ureq::Error::from) {
        Ok(got) if got as u64 > bytes_max => Err(SourceError::TooLong { bytes_max }),
        Ok(_) => Ok(bytes),
        Err(ureq::Error::Timeout(_)) => Err(deadline.missed()),
        Err(error) => Err(SourceError::Truncated(error.to_string())),
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn text(&self, what: &'static str) -> Result<&str, SourceError> {
        std::str::from_utf8(&self.body).map_err(|error| SourceError::malformed(what, error))
    }
}

impl Deadline {
    pub(crate) fn after_ms(ms: u64) -> Self {
        let whole = Duration::from_millis(ms);
        Deadline {
            until: Instant::now() + whole,
            whole,
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn missed(&self) -> SourceError {
        let after_ms = u64::try_from(self.whole.as_millis()).unwrap_or(u64::MAX);
        SourceError::Timeout { after_ms }
    }
}
