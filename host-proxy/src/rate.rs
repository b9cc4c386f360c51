//! How many jobs one payer may send: a token bucket for each payer's key.
//!
//! Only keys of channels that the chain shows come here, so nobody fills the table for free; and it is bounded all the same.

use crate::api_error::ApiError;
use crate::config::Rate;
use crate::limits::RATES_MAX;
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The buckets of all payers. Without a rate it lets everything through.
pub(crate) struct RateLimit {
    rate: Option<Rate>,
    buckets: Mutex<HashMap<[u8; 32], Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Jobs that may be sent at once; a fraction of one is on its way.
    jobs: f64,
    at: Instant,
}

impl RateLimit {
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        RateLimit {
            rate,
            buckets: Mutex::default(),
        }
    }

    /// Takes one job out of a payer's bucket.
    pub(crate) fn take(&self, payer_key: &[u8; 32], now: Instant) -> Result<(), ApiError> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(payer_key) && buckets.len() >= RATES_MAX {
            make_room(&mut buckets, rate, now);
        }
        let bucket = buckets.entry(*payer_key).or_insert(Bucket {
            jobs: rate.burst.into(),
            at: now,
        });
        bucket.refill(rate, now);
        if bucket.jobs >= 1.0 {
            bucket.jobs -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - bucket.jobs) * 60.0 / f64::from(rate.jobs_per_min);
        // At most a minute: a job a minute is the slowest rate.
        let wait_s = seconds.ceil().clamp(1.0, 60.0) as u32;
        let words = format!(
            "this payer may send {} jobs a minute, {} at once; the next one in {wait_s} s",
            rate.jobs_per_min, rate.burst
        );
        let refused = ApiError::refuse(StatusCode::TOO_MANY_REQUESTS, "rate_limited", words);
        Err(refused.retry_after(wait_s))
    }
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed_s = now.saturating_duration_since(self.at).as_secs_f64();
        let jobs = self.jobs + passed_s * f64::from(rate.jobs_per_min) / 60.0;
        self.jobs = jobs.min(rate.burst.into());
        self.at = now;
    }
}

/// Forgets full buckets, which say nothing that a new one would not; if there are none, the fullest.
fn make_room(buckets: &mut HashMap<[u8; 32], Bucket>, rate: Rate, now: Instant) {
    buckets.retain(|_, bucket| {
        bucket.refill(rate, now);
        bucket.jobs < f64::from(rate.burst)
    });
    if buckets.len() >= RATES_MAX {
        let fullest = buckets.iter().max_by(|a, b| a.1.jobs.total_cmp(&b.1.jobs));
        if let Some(key) = fullest.map(|(key, _)| *key) {
            buckets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATE: Rate = Rate {
        jobs_per_min: 30,
        burst: 3,
    };

    #[test]
    fn a_burst_passes_then_one_each_two_seconds_and_other_payers_do_not_notice() {
        let limit = RateLimit::new(Some(RATE));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..3 {
            assert!(limit.take(&[1; 32], start).is_ok());
        }
        let refused = limit.take(&[1; 32], start).expect_err("the fourth");
        assert_eq!(
            (refused.status.as_u16(), refused.code, refused.retry_after_s),
            (429, "rate_limited", Some(2))
        );
        assert!(limit.take(&[2; 32], start).is_ok());
        let sooner = limit.take(&[1; 32], at(1_500)).expect_err("too soon");
        assert_eq!(sooner.retry_after_s, Some(1));
        assert!(limit.take(&[1; 32], at(2_000)).is_ok());
        assert!(limit.take(&[1; 32], at(2_001)).is_err());
        // However long it was silent, a burst is all.
        for _ in 0..3 {
            assert!(limit.take(&[1; 32], at(3_600_000)).is_ok());
        }
        assert!(limit.take(&[1; 32], at(3_600_000)).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_no_exhausted_payer() {
        let limit = RateLimit::new(Some(RATE));
        let start = Instant::now();
        for _ in 0..3 {
            assert!(limit.take(&[0xff; 32], start).is_ok());
        }
        for payer in 0..2 * RATES_MAX {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&payer.to_be_bytes());
            assert!(limit.take(&key, start).is_ok());
        }
        assert!(limit.buckets.lock().expect("whole").len() <= RATES_MAX);
        assert!(limit.take(&[0xff; 32], start).is_err());
    }

    #[test]
    fn without_a_rate_everything_passes() {
        let limit = RateLimit::new(None);
        let now = Instant::now();
        assert!((0..1000).all(|_| limit.take(&[1; 32], now).is_ok()));
        assert!(limit.buckets.lock().expect("whole").is_empty());
    }
}
