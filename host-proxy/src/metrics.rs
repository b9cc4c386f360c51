//! What the proxy counts, for Prometheus and the status page. Labels are words of this program, places in the configuration and status
//! codes: nothing that a client wrote, and nothing that depends on a prompt or an answer beyond its size, which this proxy sees.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a job ended, as far as this proxy sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Whole, with its charge on the disk.
    Answered,
    /// The guest refused it, with its signature.
    Refused,
    /// Accepted, then failed: nothing is owed.
    Failed,
    /// The client did not read, so the guest was made to end it.
    Slow,
    /// The guest was not reached, or its stream broke or violated the protocol.
    Cut,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Slow => "client_slow",
            Outcome::Cut => "cut",
        }
    }
}

/// One job that has ended.
#[derive(Debug, Clone)]
pub(crate) struct JobEnded {
    pub(crate) guest: usize,
    /// A model that the guest's keyset offers, else nothing.
    pub(crate) model: Option<String>,
    /// `chat` or `embeddings`.
    pub(crate) operation: &'static str,
    pub(crate) sealed_bytes: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) first: Option<Duration>,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

pub(crate) struct Metrics {
    pub(crate) since: Instant,
    jobs: Mutex<BTreeMap<(usize, Outcome), u64>>,
    /// By route, status and the error's code.
    requests: Mutex<BTreeMap<(&'static str, u16, &'static str), u64>>,
    sealed_bytes: AtomicU64,
    answer_bytes: AtomicU64,
    first: Histogram,
    took: Histogram,
    pub(crate) spans_dropped: AtomicU64,
    /// Receipts that were fetched from a guest whose stream had broken.
    pub(crate) receipts_recovered: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            since: Instant::now(),
            jobs: Mutex::default(),
            requests: Mutex::default(),
            sealed_bytes: AtomicU64::new(0),
            answer_bytes: AtomicU64::new(0),
            first: Histogram::default(),
            took: Histogram::default(),
            spans_dropped: AtomicU64::new(0),
            receipts_recovered: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub(crate) fn job(&self, job: &JobEnded) {
        // Sums: whole, whoever panicked.
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        *jobs.entry((job.guest, job.outcome)).or_default() += 1;
        drop(jobs);
        let add = |to: &AtomicU64, bytes: usize| to.fetch_add(bytes as u64, Ordering::Relaxed);
        add(&self.sealed_bytes, job.sealed_bytes);
        add(&self.answer_bytes, job.answer_bytes);
        self.took.observe(job.took);
        if let Some(first) = job.first {
            self.first.observe(first);
        }
    }

    pub(crate) fn request(&self, path: &str, status: u16, code: &'static str) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route(path), status, code)).or_default() += 1;
    }

    /// Jobs of one guest that ended so.
    pub(crate) fn jobs_of(&self, guest: usize, outcome: Outcome) -> u64 {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&(guest, outcome)).copied().unwrap_or_default()
    }

    /// Everything counted here.
    pub(crate) fn write(&self, text: &mut Exposition) {
        let jobs = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        text.family(
            "jobs_total",
            "counter",
            "Jobs that have ended, by guest and outcome.",
        );
        for ((guest, outcome), count) in jobs {
            let labels = format!("guest=\"{guest}\",outcome=\"{}\"", outcome.name());
            text.line("jobs_total", &labels, count);
        }
        let requests = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        text.family(
            "requests_total",
            "counter",
            "Requests by route, status and error code.",
        );
        for ((route, status, code), count) in requests {
            let labels = format!("route=\"{route}\",status=\"{status}\",code=\"{code}\"");
            text.line("requests_total", &labels, count);
        }
        let load = |from: &AtomicU64| from.load(Ordering::Relaxed);
        for (name, help, value) in [
            (
                "sealed_bytes_total",
                "Sealed requests given to guests, in bytes.",
                &self.sealed_bytes,
            ),
            (
                "answer_bytes_total",
                "Sealed answers taken from guests, in bytes.",
                &self.answer_bytes,
            ),
            (
                "spans_dropped_total",
                "Spans that the collector did not take.",
                &self.spans_dropped,
            ),
            (
                "receipts_recovered_total",
                "Receipts fetched from a guest after its stream broke.",
                &self.receipts_recovered,
            ),
        ] {
            text.one(name, "counter", help, load(value));
        }
        let help = "From the job's way to the guest to the first frame of its answer.";
        self.first.write(text, "first_frame_seconds", help);
        let help = "From the job's way to the guest to its end.";
        self.took.write(text, "job_seconds", help);
        text.one(
            "uptime_seconds",
            "gauge",
            "Since this program started.",
            self.since.elapsed().as_secs(),
        );
    }
}

/// The route of a path. A path itself is never shown: it may name anything.
fn route(path: &str) -> &'static str {
    const EXACT: &[&str] = &[
        "/v1/attestation",
        "/v1/sealed",
        "/v1/vouchers",
        "/v1/cancel",
    ];
    const BELOW: &[(&str, &str)] = &[
        ("/v1/channels/", "/v1/channels/{address}"),
        ("/v1/receipts/", "/v1/receipts/{envelope}"),
        ("/v1/log/", "/v1/log/{leaf}"),
        ("/v1/evidence/", "/v1/evidence/{keyset}"),
        ("/v1/collateral/", "/v1/collateral"),
    ];
    let exact = EXACT.iter().find(|route| **route == path).copied();
    let below = || BELOW.iter().find(|(before, _)| path.starts_with(before));
    exact
        .or_else(|| below().map(|(_, route)| *route))
        .unwrap_or("other")
}

/// Seconds, in buckets.
#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; Self::UPPER_S.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    const UPPER_S: [f64; 10] = [0.005, 0.02, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = Self::UPPER_S.iter().position(|upper| seconds <= *upper);
        if let Some(bucket) = bucket.and_then(|at| self.buckets.get(at)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Exposition, name: &str, help: &str) {
        text.family(name, "histogram", help);
        let mut below = 0;
        for (upper, bucket) in Self::UPPER_S.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            text.line(&format!("{name}_bucket"), &format!("le=\"{upper}\""), below);
        }
        let count = self.count.load(Ordering::Relaxed);
        text.line(&format!("{name}_bucket"), "le=\"+Inf\"", count);
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        text.line(&format!("{name}_sum"), "", sum);
        text.line(&format!("{name}_count"), "", count);
    }
}

/// Prometheus' text format.
#[derive(Default)]
pub(crate) struct Exposition(pub(crate) String);

impl Exposition {
    pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// What the lines of one name are.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text does not fail.
        let _ = write!(
            self.0,
            "# HELP host_proxy_{name} {help}\n# TYPE host_proxy_{name} {kind}\n"
        );
    }

    /// `labels` without braces, or nothing.
    pub(crate) fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "host_proxy_{name} {value}"),
            labels => writeln!(self.0, "host_proxy_{name}{{{labels}}} {value}"),
        };
    }

    /// A name with one line and no labels.
    pub(crate) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, "", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_requests_are_counted_and_a_path_is_not_shown() {
        let metrics = Metrics::default();
        let job = JobEnded {
            guest: 1,
            model: Some("small".to_owned()),
            operation: "chat",
            sealed_bytes: 2_000,
            answer_bytes: 512,
            first: Some(Duration::from_millis(10)),
            took: Duration::from_millis(1_500),
            outcome: Outcome::Answered,
        };
        metrics.job(&job);
        metrics.job(&job);
        for path in ["/v1/sealed", "/v1/receipts/secret", "/secret"] {
            metrics.request(path, 429, "rate_limited");
        }
        let mut text = Exposition::default();
        metrics.write(&mut text);
        let text = text.0;
        assert!(!text.contains("secret"), "{text}");
        for line in [
            "host_proxy_jobs_total{guest=\"1\",outcome=\"answered\"} 2",
            "host_proxy_requests_total{route=\"/v1/receipts/{envelope}\",status=\"429\",code=\"rate_limited\"} 1",
            "host_proxy_requests_total{route=\"other\",status=\"429\",code=\"rate_limited\"} 1",
            "host_proxy_answer_bytes_total 1024",
            "host_proxy_first_frame_seconds_bucket{le=\"0.005\"} 0",
            "host_proxy_first_frame_seconds_bucket{le=\"0.02\"} 2",
            "host_proxy_job_seconds_bucket{le=\"1\"} 0",
            "host_proxy_job_seconds_bucket{le=\"2.5\"} 2",
            "host_proxy_job_seconds_bucket{le=\"+Inf\"} 2",
            "host_proxy_job_seconds_sum 3",
            "host_proxy_job_seconds_count 2",
        ] {
            assert!(text.lines().any(|got| got == line), "{line}: {text}");
        }
        // Each name is described once, before its lines.
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            assert_eq!(
                text.matches(&format!("# TYPE {name}\n")).count(),
                1,
                "{name}"
            );
        }
    }
}
