//! The two endpoints that cost money, as one answer or as server-sent events.

use super::{failed, named};
use crate::client::{Answer, Client};
use crate::error::ClientError;
use crate::limits::{READER_LAG_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::objects::{chat_object, embeddings_object, last_chunks};
use crate::openai::{self, error_object};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use wire::Endpoint;

type Given = Result<Bytes, BytesRejection>;

pub(super) async fn embeddings(
    State(client): State<Arc<Client>>,
    headers: HeaderMap,
    body: Given,
) -> Response {
    let (body, delivery) = match read(Endpoint::Embeddings, &headers, body) {
        Ok((body, request)) => (body, request.delivery),
        Err(refused) => return *refused,
    };
    // A caller that hangs up must not leave a verified answer unpaid, so the job has a task of its own.
    let job = tokio::spawn(async move { client.embeddings(&body).await });
    match joined(job.await) {
        Ok(answer) => Json(embeddings_object(&answer, delivery)).into_response(),
        Err(error) => failed(&error),
    }
}

pub(super) async fn chat(
    State(client): State<Arc<Client>>,
    headers: HeaderMap,
    body: Given,
) -> Response {
    let (body, delivery) = match read(Endpoint::Chat, &headers, body) {
        Ok((body, request)) => (body, request.delivery),
        Err(refused) => return *refused,
    };
    if delivery.stream {
        return stream(client, body, delivery.include_usage).await;
    }
    let job = tokio::spawn(async move { client.chat(&body, &mut |_| ()).await });
    match joined(job.await) {
        Ok(answer) => Json(chat_object(&answer)).into_response(),
        Err(error) => failed(&error),
    }
}

/// Server-sent events. The status waits for the first event: an error before it is an ordinary HTTP error.
async fn stream(client: Arc<Client>, body: Value, include_usage: bool) -> Response {
    let (writer, mut reader) = lines();
    tokio::spawn(async move {
        // A reader that stopped reading loses the stream, never the verification and the payment.
        let mut sink = |event: &Value| {
            // The reason for the end is given once the answer is verified.
            if event["choices"][0]["finish_reason"].is_null() {
                writer.push(line(event));
            }
        };
        match client.chat(&body, &mut sink).await {
            Ok(answer) => writer.end(Ok(end(&answer, include_usage))),
            Err(error) => writer.end(Err(error)),
        }
    });
    let first = match reader.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return failed(&error),
        None => return named(500, "internal", "the job ended without a word"),
    };
    let rest = futures_util::stream::unfold(reader, |mut reader| async move {
        let line = match reader.next().await? {
            Ok(line) => line,
            Err(error) => line(&error_object(&error)),
        };
        Some((line, reader))
    });
    let first = futures_util::stream::once(async { first });
    let lines = futures_util::StreamExt::chain(first, rest);
    let lines = futures_util::StreamExt::map(lines, Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn line(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn end(answer: &Answer, include_usage: bool) -> String {
    let chunks = last_chunks(answer, include_usage);
    let lines: String = chunks.iter().map(line).collect();
    format!("{lines}data: [DONE]\n\n")
}

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

/// Reads a request before anything is done for it, so that a bad one gets its status and not a stream.
fn read(
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: Given,
) -> Result<(Value, openai::Request), Box<Response>> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if kind != Some("application/json") {
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
    let body = serde_json::from_slice(&body).map_err(|e| {
        let message = format!("the body is not JSON: {e}");
        Box::new(named(400, "invalid_request", &message))
    })?;
    match openai::parse(endpoint, &body) {
        Ok(request) => Ok((body, request)),
        Err(error) => Err(Box::new(failed(&error))),
    }
}

fn joined<T>(
    job: Result<Result<T, ClientError>, tokio::task::JoinError>,
) -> Result<T, ClientError> {
    job.unwrap_or_else(|_| Err(ClientError::Internal("the job's task ended early".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

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
