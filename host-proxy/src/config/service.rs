//! What makes the proxy a service: how much it takes at once and from one payer, where its figures are read, its certificate.

use super::{BaseUrl, refused};
use crate::error::Error;
use crate::limits::{
    CLIENT_WAIT_S, CLIENT_WAIT_S_MAX, CONNECTIONS, CONNECTIONS_MAX, DRAIN_S, DRAIN_S_MAX,
    JOBS_PER_GUEST, JOBS_PER_GUEST_MAX, JOBS_WAITING, JOBS_WAITING_MAX, LOG_PERIOD_S,
    LOG_PERIOD_S_MAX, LOG_PERIOD_S_MIN, RATE_JOBS_MAX,
};
use serde::Deserialize;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The part of a configuration that has a default for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where the operator reads metrics and the status page; absent: nowhere.
    pub monitor: Option<SocketAddr>,
    /// The certificate under which clients are served; absent: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where spans of jobs are sent; absent: nowhere.
    pub otlp: Option<BaseUrl>,
    /// Open connections of clients.
    pub connections: usize,
    /// Jobs at one guest at once.
    pub jobs_per_guest: usize,
    /// Jobs that wait for a place at a guest.
    pub jobs_waiting: usize,
    /// What one payer may send.
    pub rate: Option<Rate>,
    /// How long all waiting for a client that does not read may take in one job, before the job is ended.
    pub client_wait: Duration,
    /// How long running jobs may take to end after a request to stop.
    pub drain: Duration,
    /// Seconds after which a tree of the log of receipts is closed.
    pub log_period_s: u64,
    /// Who puts its time on closed trees; absent: nobody.
    pub time_authority: Option<TimeAuthority>,
}

/// A time-stamping authority (RFC 3161).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeAuthority {
    /// Where it is asked.
    pub url: BaseUrl,
    /// Its roots, a PEM file: a time-stamp that does not lead there is not kept.
    pub roots: PathBuf,
}

/// PEM files. They are read again on SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those between it and its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A token bucket: `burst` jobs at once, refilled at `jobs_per_min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Jobs a minute in the long run.
    pub jobs_per_min: u32,
    /// Jobs at once.
    pub burst: u32,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        ServiceConfig {
            monitor: None,
            tls: None,
            otlp: None,
            connections: CONNECTIONS,
            jobs_per_guest: JOBS_PER_GUEST,
            jobs_waiting: JOBS_WAITING,
            rate: None,
            client_wait: Duration::from_secs(CLIENT_WAIT_S),
            drain: Duration::from_secs(DRAIN_S),
            log_period_s: LOG_PERIOD_S,
            time_authority: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsSection {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeAuthoritySection {
    url: BaseUrl,
    roots: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsSection {
    connections: Option<usize>,
    jobs_per_guest: Option<usize>,
    jobs_waiting: Option<usize>,
    jobs_per_payer_per_min: Option<u32>,
    jobs_per_payer_burst: Option<u32>,
    client_wait_s: Option<u64>,
    drain_s: Option<u64>,
}

/// The sections of a file, as they stand.
pub(super) struct Sections {
    pub(super) monitor: Option<SocketAddr>,
    pub(super) tls: Option<TlsSection>,
    pub(super) otlp: Option<BaseUrl>,
    pub(super) limits: Option<LimitsSection>,
    pub(super) log_period_s: Option<u64>,
    pub(super) time_authority: Option<TimeAuthoritySection>,
}

impl Sections {
    pub(super) fn finish(self, directory: &Path) -> Result<ServiceConfig, Error> {
        let limits = self.limits.unwrap_or_default();
        let drain_s = within("limits.drain_s", limits.drain_s, DRAIN_S, 0..=DRAIN_S_MAX)?;
        let wait = ("limits.client_wait_s", limits.client_wait_s);
        let wait_s = within(wait.0, wait.1, CLIENT_WAIT_S, 1..=CLIENT_WAIT_S_MAX)?;
        let periods = LOG_PERIOD_S_MIN..=LOG_PERIOD_S_MAX;
        let jobs = ("limits.jobs_per_guest", limits.jobs_per_guest);
        let waiting = ("limits.jobs_waiting", limits.jobs_waiting);
        let connections = ("limits.connections", limits.connections);
        Ok(ServiceConfig {
            monitor: self.monitor,
            tls: self.tls.map(|files| TlsFiles {
                certificate: directory.join(files.certificate),
                key: directory.join(files.key),
            }),
            otlp: self.otlp,
            connections: within(
                connections.0,
                connections.1,
                CONNECTIONS,
                1..=CONNECTIONS_MAX,
            )?,
            jobs_per_guest: within(jobs.0, jobs.1, JOBS_PER_GUEST, 1..=JOBS_PER_GUEST_MAX)?,
            jobs_waiting: within(waiting.0, waiting.1, JOBS_WAITING, 0..=JOBS_WAITING_MAX)?,
            rate: rate(limits.jobs_per_payer_per_min, limits.jobs_per_payer_burst)?,
            client_wait: Duration::from_secs(wait_s),
            drain: Duration::from_secs(drain_s),
            log_period_s: within("log_period_s", self.log_period_s, LOG_PERIOD_S, periods)?,
            time_authority: self.time_authority.map(|section| TimeAuthority {
                url: section.url,
                roots: directory.join(section.roots),
            }),
        })
    }
}

fn rate(per_min: Option<u32>, burst: Option<u32>) -> Result<Option<Rate>, Error> {
    let (per_min, burst) = match (per_min, burst) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err(refused(
                "limits.jobs_per_payer_burst is set without limits.jobs_per_payer_per_min",
            ));
        }
        (Some(per_min), burst) => (per_min, burst.unwrap_or(per_min)),
    };
    let range = 1..=RATE_JOBS_MAX;
    Ok(Some(Rate {
        jobs_per_min: within(
            "limits.jobs_per_payer_per_min",
            Some(per_min),
            1,
            range.clone(),
        )?,
        burst: within("limits.jobs_per_payer_burst", Some(burst), 1, range)?,
    }))
}

fn within<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: Option<T>,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, Error> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(refused(format!(
        "{key} is {value}; it must be {least} to {most}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const EXAMPLE: &str = include_str!("../../example.yaml");

    fn read(lines: &str) -> Result<ServiceConfig, String> {
        let config = Config::from_yaml(&format!("{EXAMPLE}\n{lines}\n"), Path::new("/etc"));
        config
            .map(|config| config.service)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_without_these_keys_has_the_defaults() {
        assert_eq!(read("").expect("the example"), ServiceConfig::default());
    }

    #[test]
    fn every_key_is_taken() {
        let service = read(
            "monitor: 127.0.0.1:9100\ntls: {certificate: proxy.pem, key: proxy.key}\notlp: http://127.0.0.1:4318\nlog_period_s: 60\n\
             limits: {connections: 6000, jobs_per_guest: 64, jobs_waiting: 0, jobs_per_payer_per_min: 60, drain_s: 5}",
        )
        .expect("a configuration");
        assert_eq!(service.monitor, Some(([127, 0, 0, 1], 9100).into()));
        let tls = service.tls.expect("there");
        let times = read("time_authority: {url: \"https://a.example/tsr/\", roots: a.pem}");
        let times = times
            .expect("a configuration")
            .time_authority
            .expect("there");
        assert_eq!(times.url.as_str(), "https://a.example/tsr");
        assert_eq!(times.roots, Path::new("/etc/a.pem"));
        assert_eq!(
            (tls.certificate, tls.key),
            ("/etc/proxy.pem".into(), "/etc/proxy.key".into())
        );
        let jobs = (
            service.connections,
            service.jobs_per_guest,
            service.jobs_waiting,
        );
        assert_eq!(jobs, (6000, 64, 0));
        let (jobs_per_min, burst) = (60, 60);
        assert_eq!(
            service.rate,
            Some(Rate {
                jobs_per_min,
                burst
            })
        );
        assert_eq!(
            (service.drain, service.log_period_s),
            (Duration::from_secs(5), 60)
        );
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (lines, key) in [
            ("limits: {connections: 0}", "limits.connections is 0"),
            ("limits: {jobs_per_guest: 0}", "limits.jobs_per_guest"),
            ("limits: {jobs_waiting: 100000}", "limits.jobs_waiting"),
            (
                "limits: {jobs_per_payer_per_min: 0}",
                "limits.jobs_per_payer_per_min",
            ),
            (
                "limits: {jobs_per_payer_burst: 5}",
                "without limits.jobs_per_payer_per_min",
            ),
            (
                "limits: {drain_s: 901}",
                "limits.drain_s is 901; it must be 0 to 900",
            ),
            ("limits: {often: 1}", "unknown field"),
            ("log_period_s: 1", "log_period_s"),
            ("otlp: ftp://a", "must begin with http://"),
            ("tls: {certificate: a}", "missing field `key`"),
        ] {
            let error = read(lines).expect_err(lines);
            assert!(error.contains(key), "{lines}: {error}");
        }
    }
}
