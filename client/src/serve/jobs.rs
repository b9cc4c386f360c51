//! The endpoints that cost money, as one answer or as server-sent events.

use super::api::{Api, Ready, resolved};
use super::idempotency::{Claim, Kept, Making};
use super::{Sidecar, Unknown, failed, later, named, status};
use crate::ask::Ask;
use crate::budget::Spender;
use crate::client::Client;
use crate::error::{ClientError, Executed};
use crate::job::Job;
use crate::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, IGNORED_FIELDS_MAX, READER_LAG_BYTES_MAX, REQUEST_BYTES_MAX,
};
use crate::openai::error_object;
use crate::shape::{Messages, Shape};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Extension, Json};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use wire::Digest;

pub(super) type Given = Result<Bytes, BytesRejection>;

/// Answers the requests of an API.
pub(super) fn answers(api: Api) -> MethodRouter<Sidecar> {
    let handler =
        async move |State(sidecar): State<Sidecar>,
                    Extension(spender): Extension<Spender>,
                    headers: HeaderMap,
                    body: Given| { answer(&sidecar, api, spender, &headers, body).await };
    post(handler)
}

async fn answer(
    sidecar: &Sidecar,
    api: Api,
    spender: Spender,
    headers: &HeaderMap,
    body: Given,
) -> Response {
    let given = match given(api.path(), headers, body) {
        Ok(given) => given,
        Err(refused) => return *refused,
    };
    let body = resolved(api, given.body, &sidecar.stored, &spender);
    let read = body.and_then(|body| lenient(body, sidecar.unknown, |body| api.read(body)));
    let ready = read.and_then(|(read, ignored)| {
        let ready = api.ready(read, sidecar, &spender)?;
        Ok((ready, ignored))
    });
    let (ready, ignored) = match ready {
        Ok(ready) => ready,
        Err(error) => return failed(&error),
    };
    let Ready { ask, stream, shape } = ready;
    let asked = Asked {
        api,
        ask,
        stream,
        shape,
        // Keys of one application are not another's.
        key: given.key.map(|key| format!("{} {key}", spender.name())),
        spender,
        digest: given.digest,
    };
    let mut response = started(sidecar, asked).await;
    let ignored = ignored.join(", ");
    if let (false, Ok(ignored)) = (ignored.is_empty(), HeaderValue::from_str(&ignored)) {
        response.headers_mut().insert(IGNORED_FIELDS, ignored);
    }
    response
}

async fn started(sidecar: &Sidecar, asked: Asked) -> Response {
    let making = match asked.key.as_deref() {
        None => None,
        Some(key) => match sidecar.keys.claim(key, asked.digest) {
            Claim::New(making) => Some(making),
            Claim::Known(kept) => return known(kept).await,
            Claim::Conflict => {
                let message = "the Idempotency-Key was used with another request";
                return named(409, "idempotency_conflict", message);
            }
            Claim::Full => return later(429, "rate_limited", "too many requests with keys run"),
        },
    };
    let client = Arc::clone(&sidecar.client);
    match asked.stream {
        true => stream(client, asked, making).await,
        false => whole(client, asked, making).await,
    }
}

/// The answer under a key, once it is there.
async fn known(mut kept: watch::Receiver<Option<Kept>>) -> Response {
    let kept = match kept.wait_for(Option::is_some).await {
        Ok(kept) => kept.clone(),
        Err(_) => None,
    };
    match kept {
        Some(kept) => {
            let body = Response::new(Body::from(kept.body));
            (
                kept.status,
                [(header::CONTENT_TYPE, kept.content_type)],
                body,
            )
                .into_response()
        }
        None => later(
            503,
            "not_started",
            "the first request with this key did not start its job; ask again",
        ),
    }
}

async fn whole(client: Arc<Client>, mut asked: Asked, making: Option<Making>) -> Response {
    let under_a_key = making.is_some();
    let job = tokio::spawn(async move {
        let (ask, spender) = (&asked.ask, &asked.spender);
        let answers = match ask {
            // The cache had all of them.
            Ask::Embeddings(texts) if texts.inputs.is_empty() => Ok(Vec::new()),
            ask => client.answers(ask, spender, &mut |_| ()).await,
        };
        let answer = answers.map(|answers| asked.shape.whole(&answers));
        if let Some(making) = making {
            let body = answer.as_ref().map(Value::to_string);
            keep(making, JSON, body);
        }
        answer
    });
    let _waiting = Waiting::for_job(job.abort_handle(), under_a_key);
    match joined(job.await) {
        Ok(object) => Json(object).into_response(),
        Err(error) => failed(&error),
    }
}

/// Keeps an answer under its key, or the error of a job that may have run. One that did not leaves the key free.
fn keep(making: Making, content_type: &'static str, answer: Result<String, &ClientError>) {
    making.keep(match answer {
        Ok(body) => Kept {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
        },
        Err(error) if error.executed() == Executed::No => return,
        Err(error) => Kept {
            status: status(error),
            content_type: JSON,
            body: error_object(error).to_string().into(),
        },
    });
}

/// Server-sent events. The status waits for the first event: an error before it is an ordinary HTTP error.
async fn stream(client: Arc<Client>, mut asked: Asked, making: Option<Making>) -> Response {
    if asked.api == Api::Messages {
        // Its stream begins with the length of the prompt.
        match prompt_tokens(&client, &asked.ask).await {
            Ok(tokens) => asked.shape = Box::new(Messages::new(tokens)),
            Err(error) => return failed(&error),
        }
    }
    let api = asked.api;
    let (writer, mut reader) = lines();
    let under_a_key = making.is_some();
    let job = tokio::spawn(async move {
        let mut all = String::new();
        // A reader that stopped reading loses the stream, never the verification and the payment.
        let mut sink = |event: &Value| {
            let line = asked.shape.event(event);
            if making.is_some() {
                all.push_str(&line);
            }
            if !line.is_empty() {
                writer.push(line);
            }
        };
        let answers = { client.answers(&asked.ask, &asked.spender, &mut sink) }.await;
        let last = answers.map(|answers| asked.shape.end(&answers));
        if let Some(making) = making {
            keep(making, EVENTS, last.as_ref().map(|last| all + last));
        }
        writer.end(last);
    });
    let waiting = Waiting::for_job(job.abort_handle(), under_a_key);
    let first = match reader.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return failed(&error),
        None => {
            let error = ClientError::Internal("the job ended without a word".into());
            return failed(&error);
        }
    };
    let rest =
        futures_util::stream::unfold((reader, waiting), move |(mut reader, waiting)| async move {
            let line = match reader.next().await? {
                Ok(line) => line,
                Err(error) => api.error_event(&error),
            };
            Some((line, (reader, waiting)))
        });
    let first = futures_util::stream::once(async { first });
    let lines = futures_util::StreamExt::chain(first, rest);
    let lines = futures_util::StreamExt::map(lines, Ok::<_, std::convert::Infallible>);
    let body = Body::from_stream(lines);
    let head = [
        (header::CONTENT_TYPE, EVENTS),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (head, body).into_response()
}

/// An application that waits for its answer. Dropped early, it has hung up: its job is dropped, which cancels it at the
/// guest and pays for what was made. A job under a key goes on, since the application will ask for its answer again.
struct Waiting(Option<AbortHandle>);

impl Waiting {
    fn for_job(job: AbortHandle, under_a_key: bool) -> Self {
        Waiting((!under_a_key).then_some(job))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(job) = &self.0 {
            job.abort();
        }
    }
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// The lines of one stream on their way to the application. The writer never waits, so that a reader that does not
/// read holds up neither the worker nor the payment; one that lags too far gets an error for an end.
fn lines() -> (Writer, Reader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let lag = Arc::new(AtomicUsize::new(0));
    let slow = Arc::clone(&lag);
    (
        Writer { sender, lag },
        Reader {
            receiver,
            lag: slow,
        },
    )
}

struct Writer {
    sender: mpsc::UnboundedSender<Result<String, ClientError>>,
    lag: Arc<AtomicUsize>,
}

struct Reader {
    receiver: mpsc::UnboundedReceiver<Result<String, ClientError>>,
    lag: Arc<AtomicUsize>,
}

/// Set once a line was lost: no lag comes near it, and nothing that is read brings it down.
const LOST: usize = usize::MAX / 2;

impl Writer {
    fn push(&self, line: String) {
        let before = self.lag.fetch_add(line.len(), Ordering::SeqCst);
        if before > READER_LAG_BYTES_MAX {
            self.lag.fetch_or(LOST, Ordering::SeqCst);
        } else {
            // A reader that hung up is nobody to tell.
            let _ = self.sender.send(Ok(line));
        }
    }

    /// The end, or an error in its place where a line was lost.
    fn end(self, last: Result<String, ClientError>) {
        let lost = self.lag.load(Ordering::SeqCst) >= LOST;
        let last = match last {
            Ok(_) if lost => Err(ClientError::ReaderTooSlow),
            last => last,
        };
        let _ = self.sender.send(last);
    }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<String, ClientError>> {
        let next = self.receiver.recv().await;
        if let Some(Ok(line)) = &next {
            let read = |lag: usize| match lag {
                LOST.. => None,
                lag => Some(lag.saturating_sub(line.len())),
            };
            let _ = self
                .lag
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, read);
        }
        next
    }
}

/// A request that was read.
struct Asked {
    api: Api,
    ask: Ask,
    stream: bool,
    shape: Box<dyn Shape>,
    key: Option<String>,
    spender: Spender,
    /// Of the body, as it came, and of where it came to.
    digest: Digest,
}

/// How many tokens a prompt has, counted here.
pub(super) async fn prompt_tokens(client: &Client, ask: &Ask) -> Result<u32, ClientError> {
    let session = client.session().await?;
    Job::prompt_tokens(&session, ask)
}

/// A body that is JSON, with what its headers say.
pub(super) struct Posted {
    pub(super) body: Value,
    key: Option<String>,
    digest: Digest,
}

/// Takes a request's body before anything is done for it, so that a bad one gets its status and not a stream.
pub(super) fn given(path: &str, headers: &HeaderMap, body: Given) -> Result<Posted, Box<Response>> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    if kind.map(str::trim) != Some(JSON) {
        let message = "the request needs the header content-type: application/json";
        return Err(Box::new(named(415, "unsupported_media_type", message)));
    }
    let body = body.map_err(|rejected| {
        Box::new(match rejected.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("the body is larger than {REQUEST_BYTES_MAX} bytes");
                named(413, "request_too_large", &message)
            }
            _ => named(400, "invalid_request", "the body did not arrive whole"),
        })
    })?;
    let key = match headers.contains_key(IDEMPOTENCY_KEY) {
        false => None,
        true => {
            let key = text(IDEMPOTENCY_KEY);
            let fits = |key: &&str| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
            let key = key.filter(fits).ok_or_else(|| {
                let message = format!(
                    "Idempotency-Key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
                );
                Box::new(named(400, "invalid_request", &message))
            })?;
            Some(key.to_owned())
        }
    };
    let digest = Digest::of(&[path.as_bytes(), b"\n", &body].concat());
    let body = serde_json::from_slice(&body).map_err(|e| {
        let message = format!("the body is not JSON: {e}");
        Box::new(named(400, "invalid_request", &message))
    })?;
    Ok(Posted { body, key, digest })
}

/// Reads a body. Where unknown fields are ignored, they are left out and named.
pub(super) fn lenient<T>(
    mut body: Value,
    unknown: Unknown,
    read: impl Fn(&Value) -> Result<T, ClientError>,
) -> Result<(T, Vec<String>), ClientError> {
    let mut ignored = Vec::new();
    let mut parsed = read(&body);
    while let (Unknown::Ignore, Err(ClientError::UnknownField { param })) = (unknown, &parsed) {
        if ignored.len() == IGNORED_FIELDS_MAX || !remove(&mut body, param) {
            break;
        }
        ignored.push(param.clone());
        parsed = read(&body);
    }
    // Whatever order the fields came in.
    ignored.sort();
    Ok((parsed?, ignored))
}

/// Takes out the field at a path such as `messages[2].x`. False where that is none, as with a name that has dots.
fn remove(body: &mut Value, path: &str) -> bool {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let pointer = parent.replace(['.', '['], "/").replace(']', "");
    let pointer = match pointer.as_str() {
        "" => pointer,
        _ => format!("/{pointer}"),
    };
    let fields = body.pointer_mut(&pointer).and_then(Value::as_object_mut);
    fields.is_some_and(|fields| fields.remove(name).is_some())
}

const IGNORED_FIELDS: header::HeaderName = header::HeaderName::from_static("x-ignored-fields");
const IDEMPOTENCY_KEY: header::HeaderName = header::HeaderName::from_static("idempotency-key");

fn joined<T>(
    job: Result<Result<T, ClientError>, tokio::task::JoinError>,
) -> Result<T, ClientError> {
    job.unwrap_or_else(|_| Err(ClientError::Internal("the job's task ended early".into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_is_taken_out_where_its_path_says() {
        let body = json!({"a": 1, "b.c": 2, "m": [{"x": 3, "y": 4}], "o": {"p": {"q": 5}}});
        for (path, pointer) in [("a", "/a"), ("m[0].x", "/m/0/x"), ("o.p.q", "/o/p/q")] {
            let mut changed = body.clone();
            assert!(remove(&mut changed, path), "{path}");
            assert!(changed.pointer(pointer).is_none() && changed != body);
        }
        for none in ["z", "b.c", "m[1].x", "m[0]", "", "a.b"] {
            assert!(!remove(&mut body.clone(), none), "{none}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_gets_an_error_for_an_end() {
        let text = "x".repeat(READER_LAG_BYTES_MAX / 4);
        let read = async |lines_written| {
            let (writer, mut reader) = lines();
            for _ in 0..lines_written {
                writer.push(text.clone());
            }
            writer.end(Ok("end".into()));
            let mut read = Vec::new();
            while let Some(line) = reader.next().await {
                read.push(line);
            }
            (read.len(), read.pop())
        };
        assert_eq!(read(4).await, (5, Some(Ok("end".into()))));
        let (held, last) = read(400).await;
        assert_eq!(last, Some(Err(ClientError::ReaderTooSlow)));
        assert!(held < 10, "{held} lines were held");
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_reads_any_length() {
        let (writer, mut reader) = lines();
        for _ in 0..100 {
            writer.push("x".repeat(READER_LAG_BYTES_MAX / 4));
            assert!(matches!(reader.next().await, Some(Ok(_))));
        }
        writer.end(Ok("end".into()));
        assert_eq!(reader.next().await, Some(Ok("end".into())));
    }
}
