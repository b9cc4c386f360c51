//! HTTP/1.1 to the proxy and to the TON node: one connection for each exchange, limits and time-outs on everything.
//!
//! Trusted: nobody at the other end. To a proxy plain HTTP is enough, because what is private is sealed before it comes
//! here and what is believed is signed; TLS hides besides who asks, and for which model. Promised: a failure says whether
//! anything was sent, since a job that was sent may have been executed.

mod tls;

use crate::config::ConfigError;
use crate::error::shown;
use crate::limits::{CALL_TIMEOUT, CONNECT_TIMEOUT, HEAD_BYTES_MAX, HEADERS_MAX};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// One base address and how to speak to it.
#[derive(Debug, Clone)]
pub struct Transport {
    authority: String,
    base: String,
    is_tls: bool,
    dial: Option<Dial>,
}

/// Opens a connection without a network: for a test that plays it.
#[derive(Clone)]
pub struct Dial(pub Arc<dyn Fn() -> io::Result<DuplexStream> + Send + Sync>);

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dial")
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body, within the limit of the call.
    pub body: Vec<u8>,
}

/// An answer that is still arriving.
#[derive(Debug)]
pub struct Stream {
    /// HTTP status.
    pub status: u16,
    body: Incoming,
    // Dropped with the stream: the connection ends with it.
    _connection: Connection,
}

/// Why an exchange failed. The other end is at fault, or the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum TransportError {
    #[error("no connection to {authority}: {detail}")]
    Connect { authority: String, detail: String },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("no answer in time")]
    Timeout,
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
}

/// What is asked.
#[derive(Debug)]
pub struct Ask<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path and query, beginning with `/`.
    pub path: &'a str,
    /// The body's type; ignored for an empty body.
    pub content_type: &'a str,
    /// The header `authorization`, unless it is empty.
    pub authorization: &'a str,
    /// The body.
    pub body: Vec<u8>,
}

impl Transport {
    /// Takes `http://host:port` or `https://host`, with or without a port there, and a path or none.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        const FORM: &str = "expected http://host:port or https://host";
        let refuse = || ConfigError(format!("`{}`: {FORM}", shown(url)));
        let (is_tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) => return Err(refuse()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A colon inside brackets is an address's own.
        let has_port = !authority.ends_with(']') && authority.contains(':');
        let authority = match is_tls && !has_port {
            true => format!("{authority}:443"),
            false => authority.to_owned(),
        };
        let named = authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let plain = rest.bytes().all(|b| b.is_ascii_graphic() && b != b'@');
        if !named || !plain {
            return Err(refuse());
        }
        let path = path.trim_end_matches('/');
        let base = match path {
            "" => String::new(),
            path => format!("/{path}"),
        };
        Ok(Transport {
            authority,
            base,
            is_tls,
            dial: None,
        })
    }

    /// Whether nobody on the way can read it or answer in the other end's stead: TLS, or this host.
    pub fn is_private(&self) -> bool {
        let host = self.host();
        let is_loopback = host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        self.is_tls || is_loopback || host == "localhost"
    }

    /// Name or address, without port and brackets.
    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':');
        let host = host.map_or(self.authority.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Takes connections from `dial` instead of from a network. Messages and headers name it by `authority`.
    pub fn dialled(authority: &str, dial: Dial) -> Self {
        Transport {
            authority: authority.into(),
            base: String::new(),
            is_tls: false,
            dial: Some(dial),
        }
    }

    /// Asks and reads the whole answer, at most `max` bytes.
    pub async fn call(&self, ask: Ask<'_>, max: usize) -> Result<Reply, TransportError> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut stream = self.open(ask, deadline).await?;
        let mut body = Vec::new();
        while let Some(bytes) = stream.next(deadline).await? {
            if body.len() + bytes.len() > max {
                return Err(TransportError::TooLong(max));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Reply {
            status: stream.status,
            body,
        })
    }

    /// Asks and returns as soon as the answer's head is there.
    pub async fn open(&self, ask: Ask<'_>, deadline: Instant) -> Result<Stream, TransportError> {
        let no_connection = |detail: String| TransportError::Connect {
            authority: self.authority.clone(),
            detail,
        };
        let opened = match &self.dial {
            None => match timeout(CONNECT_TIMEOUT, self.connect()).await {
                Ok(shaken) => shaken,
                Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            },
            Some(Dial(dial)) => match dial() {
                Ok(stream) => handshake(stream).await,
                Err(error) => Err(error),
            },
        };
        let (mut sender, connection) = opened.map_err(|e| no_connection(e.to_string()))?;
        let request = self.request(ask)?;
        let response = timeout_at(deadline, sender.send_request(request))
            .await
            .map_err(|_| TransportError::Timeout)?
            .map_err(|e| TransportError::Broken(said(&e)))?;
        let (head, body) = Response::into_parts(response);
        Ok(Stream {
            status: head.status.as_u16(),
            body,
            _connection: connection,
        })
    }

    async fn connect(&self) -> io::Result<(Sender, Connection)> {
        let stream = TcpStream::connect(&self.authority).await?;
        // A request's head and body are two small writes. If it fails, the second is late.
        let _ = stream.set_nodelay(true);
        match self.is_tls {
            true => handshake(tls::connect(self.host(), stream).await?).await,
            false => handshake(stream).await,
        }
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, TransportError> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.base, ask.path))
            .header("host", &self.authority);
        if !ask.body.is_empty() {
            request = request.header("content-type", ask.content_type);
        }
        if !ask.authorization.is_empty() {
            request = request.header("authorization", ask.authorization);
        }
        request
            .body(Full::new(Bytes::from(ask.body)))
            .map_err(|e| TransportError::Broken(e.to_string()))
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// HTTP on a connection, and the task that drives it.
async fn handshake<S>(stream: S) -> io::Result<(Sender, Connection)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX.max(16 * 1024))
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(async move {
        // How the connection ends shows in the body; here is nobody to tell.
        let _ = connection.await;
    });
    Ok((sender, Connection(connection)))
}

impl Stream {
    /// The next bytes of the body, `None` at its end.
    pub async fn next(&mut self, deadline: Instant) -> Result<Option<Bytes>, TransportError> {
        loop {
            let frame = timeout_at(deadline, self.body.frame())
                .await
                .map_err(|_| TransportError::Timeout)?;
            match frame {
                None => return Ok(None),
                Some(Err(e)) => return Err(TransportError::Broken(said(&e))),
                // Trailers mean nothing to us.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The rest of a short body, for an error's message.
    pub(crate) async fn rest(mut self, max: usize, deadline: Instant) -> Vec<u8> {
        let mut body = Vec::new();
        while let Ok(Some(bytes)) = self.next(deadline).await {
            if body.len() + bytes.len() > max {
                break;
            }
            body.extend_from_slice(&bytes);
        }
        body
    }
}

/// The task that drives one connection; it ends with its owner.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn said(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_scheme_host_and_port() {
        for good in [
            "http://127.0.0.1:9000",
            "http://[::1]:80/",
            "http://node:8081/base",
            "https://node:8081/base",
        ] {
            let shown = Transport::new(good).map(|there| there.to_string());
            assert_eq!(shown.unwrap(), good.trim_end_matches('/'));
        }
        for (short, whole) in [
            ("https://proxy.example", "https://proxy.example:443"),
            ("https://[::1]/v1/", "https://[::1]:443/v1"),
        ] {
            assert_eq!(Transport::new(short).unwrap().to_string(), whole);
        }
        for bad in [
            "https://",
            "https://a:x",
            "https://u@a",
            "ftp://a:1",
            "a:1",
            "http://a",
            "http://:1",
            "http://u@a:1",
            "http://a:99999",
        ] {
            assert!(Transport::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_tls_and_this_host_are_private() {
        for (url, expected) in [
            ("https://node.example", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://127.0.0.1.example:1", false),
            ("http://10.0.0.1:1", false),
        ] {
            assert_eq!(Transport::new(url).unwrap().is_private(), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn a_dead_peer_is_known_before_anything_is_sent() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let ask = Ask {
            method: "GET",
            path: "/",
            content_type: "",
            authorization: "",
            body: Vec::new(),
        };
        let error = Transport::new(&url)
            .unwrap()
            .call(ask, 10)
            .await
            .unwrap_err();
        assert!(matches!(error, TransportError::Connect { .. }), "{error}");
    }
}
