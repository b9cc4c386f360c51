//! Spans of jobs for an OpenTelemetry collector: OTLP over HTTP in its JSON form, with the names of the semantic conventions for
//! generative AI. Sent in batches from a bounded queue; what a collector does not take is dropped and counted.
//!
//! A span says which model (if the guest offers it), which operation, how long, how it ended, and sizes rounded up to powers of two.
//! No id of a job, payer or channel is in it, and nothing that depends on a prompt or an answer beyond those sizes.

use crate::config::BaseUrl;
use crate::limits::{OTLP_CALL, OTLP_PAUSE, SPANS_PER_BATCH_MAX, SPANS_WAITING};
use crate::metrics::{JobEnded, Metrics, Outcome};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Where spans go. Without a collector nowhere.
pub(crate) struct Telemetry(Option<mpsc::Sender<Value>>);

/// The other end of a [`Telemetry`]: sends until it is dropped.
pub(crate) struct Exporter {
    url: String,
    spans: mpsc::Receiver<Value>,
    metrics: Arc<Metrics>,
}

impl Telemetry {
    pub(crate) fn new(otlp: Option<&BaseUrl>, metrics: &Arc<Metrics>) -> (Self, Option<Exporter>) {
        let Some(base) = otlp else {
            return (Telemetry(None), None);
        };
        let (sender, spans) = mpsc::channel(SPANS_WAITING);
        let exporter = Exporter {
            url: format!("{base}/v1/traces"),
            spans,
            metrics: metrics.clone(),
        };
        (Telemetry(Some(sender)), Some(exporter))
    }

    pub(crate) fn job(&self, job: &JobEnded, metrics: &Metrics) {
        let Some(spans) = &self.0 else {
            return;
        };
        let mut ids = [0; 24];
        let drawn = getrandom::fill(&mut ids).is_ok();
        if !drawn || spans.try_send(span(job, &ids, SystemTime::now())).is_err() {
            metrics.spans_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Exporter {
    /// Sends what comes, until nothing can come any more.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        while self.spans.recv_many(&mut batch, SPANS_PER_BATCH_MAX).await > 0 {
            let (count, body) = (batch.len() as u64, request(std::mem::take(&mut batch)));
            let url = self.url.clone();
            let sent = tokio::task::spawn_blocking(move || post(&url, &body)).await;
            if let Ok(Err(error)) = sent {
                tracing::warn!(%error, count, "the collector did not take spans");
                self.metrics
                    .spans_dropped
                    .fetch_add(count, Ordering::Relaxed);
            }
            tokio::time::sleep(OTLP_PAUSE).await;
        }
    }
}

/// A thread that may block. The answer is not read: a collector that takes some of the spans says so to nobody here.
fn post(url: &str, body: &str) -> Result<(), Box<ureq::Error>> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(OTLP_CALL))
        .build();
    let agent = ureq::Agent::new_with_config(config);
    let request = agent.post(url).header("content-type", "application/json");
    request.send(body).map(drop).map_err(Box::new)
}

/// One `ExportTraceServiceRequest`.
fn request(spans: Vec<Value>) -> String {
    let version = env!("CHRYSALIS_VERSION");
    let resource = [
        attribute("service.name", "host-proxy".into()),
        attribute("service.version", version.into()),
    ];
    let scope = json!({ "name": "chrysalis.host-proxy", "version": version });
    let spans = json!([{ "scope": scope, "spans": spans }]);
    json!({ "resourceSpans": [{ "resource": { "attributes": resource }, "scopeSpans": spans }] })
        .to_string()
}

/// A span of the job, as OTLP's JSON has it: ids in hexadecimal, 64-bit integers as strings, enumerations as numbers.
fn span(job: &JobEnded, ids: &[u8; 24], ended: SystemTime) -> Value {
    const KIND_CLIENT: u8 = 3;
    const STATUS_OK: u8 = 1;
    const STATUS_ERROR: u8 = 2;
    let nanos = |time: Duration| time.as_nanos().to_string();
    let end = ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = match &job.model {
        Some(model) => format!("{} {model}", job.operation),
        None => job.operation.to_owned(),
    };
    let mut attributes = vec![
        attribute("gen_ai.operation.name", job.operation.into()),
        attribute("gen_ai.provider.name", "chrysalis".into()),
        attribute("chrysalis.outcome", job.outcome.name().into()),
        size("chrysalis.guest", job.guest as u64),
        size(
            "chrysalis.sealed_request.bucket_bytes",
            bucket(job.sealed_bytes),
        ),
        size("chrysalis.answer.bucket_bytes", bucket(job.answer_bytes)),
    ];
    if let Some(model) = &job.model {
        attributes.push(attribute("gen_ai.request.model", model.as_str().into()));
    }
    if let Some(first) = job.first {
        let value = json!({ "doubleValue": first.as_secs_f64() });
        attributes.push(json!({ "key": "chrysalis.first_frame_s", "value": value }));
    }
    let good = matches!(job.outcome, Outcome::Answered);
    if !good {
        attributes.push(attribute("error.type", job.outcome.name().into()));
    }
    json!({
        "traceId": hex::encode(&ids[..16]),
        "spanId": hex::encode(&ids[16..]),
        "name": name,
        "kind": KIND_CLIENT,
        "startTimeUnixNano": nanos(end.saturating_sub(job.took)),
        "endTimeUnixNano": nanos(end),
        "attributes": attributes,
        "status": { "code": if good { STATUS_OK } else { STATUS_ERROR } },
    })
}

fn attribute(key: &str, value: String) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn size(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// Rounded up to a power of two.
fn bucket(bytes: usize) -> u64 {
    (bytes as u64).max(1).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(outcome: Outcome) -> JobEnded {
        JobEnded {
            guest: 2,
            model: Some("small".to_owned()),
            operation: "chat",
            sealed_bytes: 3_000,
            answer_bytes: 0,
            first: None,
            took: Duration::from_millis(1_500),
            outcome,
        }
    }

    fn value<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
        let all = span["attributes"].as_array().expect("a list");
        all.iter()
            .find(|of| of["key"] == key)
            .map(|of| &of["value"])
    }

    #[test]
    fn a_span_has_otlps_form_and_sizes_in_buckets() {
        let ended = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let made = span(&job(Outcome::Answered), &[0xab; 24], ended);
        assert_eq!(made["traceId"], "ab".repeat(16));
        assert_eq!(made["spanId"], "ab".repeat(8));
        assert_eq!(
            (&made["name"], &made["kind"]),
            (&json!("chat small"), &json!(3))
        );
        assert_eq!(made["endTimeUnixNano"], "1800000000000000000");
        assert_eq!(made["startTimeUnixNano"], "1799999998500000000");
        assert_eq!(made["status"], json!({ "code": 1 }));
        let string = |text: &str| json!({ "stringValue": text });
        let int = |text: &str| json!({ "intValue": text });
        for (key, expected) in [
            ("gen_ai.operation.name", string("chat")),
            ("gen_ai.request.model", string("small")),
            ("chrysalis.sealed_request.bucket_bytes", int("4096")),
            ("chrysalis.answer.bucket_bytes", int("1")),
            ("chrysalis.guest", int("2")),
        ] {
            assert_eq!(value(&made, key), Some(&expected), "{key}");
        }
        assert_eq!(value(&made, "error.type"), None);
        let cut = span(&job(Outcome::Cut), &[0; 24], ended);
        assert_eq!(value(&cut, "error.type"), Some(&string("cut")));
        assert_eq!(cut["status"], json!({ "code": 2 }));
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_never_waits() {
        let metrics = Arc::<Metrics>::default();
        let url = BaseUrl::try_from("http://127.0.0.1:1".to_owned()).expect("a url");
        let (telemetry, exporter) = Telemetry::new(Some(&url), &metrics);
        for _ in 0..SPANS_WAITING + 3 {
            telemetry.job(&job(Outcome::Answered), &metrics);
        }
        assert_eq!(metrics.spans_dropped.load(Ordering::Relaxed), 3);
        assert_eq!(exporter.expect("there").url, "http://127.0.0.1:1/v1/traces");
    }
}
