//! Where answers are had: from the cache as long as they hold, from the sources in order when they do not.
//!
//! ```text
//!            fresh ───────────── refresh due ─────────────── expired
//!  fetched ── served ──►│── served, and fetched again ──►│── fetched first, or refused
//! ```

use super::ask::Asker;
use super::cache::{Cache, CacheError, Entry, Head};
use super::fault::{Fault, SourceFault, Unavailable};
use super::want::Want;
use super::{intel, nvidia};
use crate::config::CollateralConfig;
use crate::limits::{
    CACHE_ENTRIES_MAX, FAILURE_REMEMBERED, FETCHES_MAX, FLIGHTS_MAX, REFRESH_ASKED_S, REFRESH_LOOK,
    RIM_KEPT_S, RIM_REFRESH_S, TDX_REFRESH_S,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hyper::body::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Seconds since 1970. A test has its own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The cache and the sources behind it. Cheap to clone.
#[derive(Clone)]
pub struct Depot(Arc<Inner>);

struct Inner {
    config: CollateralConfig,
    cache: Cache,
    asker: Asker,
    clock: Clock,
    fetches: Semaphore,
    flights: Mutex<HashMap<String, Flight>>,
    failures: Mutex<HashMap<String, (Instant, Arc<Unavailable>)>>,
    /// When each answer was asked for last. What nobody asks for is not kept fresh.
    asked: Mutex<HashMap<String, u64>>,
    opened_unix_s: u64,
}

/// An answer that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Intel's lists as our JSON, a RIM as NVIDIA's JSON, or an OCSP answer as DER.
    pub body: Bytes,
    /// Which source gave it.
    pub source: String,
    /// When it was fetched.
    pub fetched_unix_s: u64,
    /// It is never served after this: the first signed next update, or for a RIM thirty days.
    pub expires_unix_s: u64,
}

type Outcome = Result<Held, Arc<Unavailable>>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

impl Depot {
    /// Opens the cache. Nothing is asked before somebody asks.
    pub fn open(config: &CollateralConfig, clock: Clock) -> Result<Depot, CacheError> {
        let opened_unix_s = clock();
        Ok(Depot(Arc::new(Inner {
            cache: Cache::open(&config.cache, config.cache_bytes_max)?,
            config: config.clone(),
            asker: Asker::new(),
            clock,
            fetches: Semaphore::new(FETCHES_MAX),
            flights: Mutex::default(),
            failures: Mutex::default(),
            asked: Mutex::default(),
            opened_unix_s,
        })))
    }

    /// The system's clock.
    pub fn system_clock() -> Clock {
        Arc::new(crate::settle::now_unix_s)
    }

    /// An answer that holds, from the cache if there is one there.
    pub async fn get(&self, want: &Want) -> Outcome {
        let now = self.now();
        let name = want.file_name();
        self.remember_asked(&name, now);
        if let Some(held) = self.held(want).await
            && held.head.expires_unix_s > now
        {
            if held.head.refresh_unix_s <= now && self.failure(&name).is_none() {
                // Not waited for: what is held is good.
                drop(self.fly(want.clone(), name));
            }
            return Ok(Held::from(held));
        }
        if let Some(failure) = self.failure(&name) {
            return Err(failure);
        }
        self.fly(want.clone(), name).await
    }

    /// An answer that was fetched after this was called, or while it waited: for whoever sent a nonce, or distrusts the cache.
    pub async fn get_anew(&self, want: &Want) -> Outcome {
        let name = want.file_name();
        self.remember_asked(&name, self.now());
        let flight = match want {
            // An answer to another request about the certificate has another nonce.
            Want::Ocsp(question) => format!("{name} {}", Head::digest(question.der())),
            _ => format!("{name} anew"),
        };
        self.fly(want.clone(), flight).await
    }

    /// Fetches again what is due, one after another. Failures are logged; what is held goes on being served.
    pub async fn refresh_due(&self) {
        let depot = self.clone();
        let listed = tokio::task::spawn_blocking(move || depot.0.cache.list()).await;
        let list = match listed {
            Ok(Ok(list)) => list,
            Ok(Err(error)) => return tracing::error!(%error, "refreshing"),
            Err(error) => return tracing::error!(%error, "refreshing"),
        };
        for (want, head) in list {
            let (name, now) = (want.file_name(), self.now());
            let asked = lock(&self.0.asked).get(&name).copied();
            let asked = asked.unwrap_or(self.0.opened_unix_s);
            let wanted = asked.saturating_add(REFRESH_ASKED_S) > now;
            if wanted && head.refresh_unix_s <= now && self.failure(&name).is_none() {
                // The flight has logged its own failure.
                let _ = self.fly(want, name).await;
            }
        }
    }

    /// Keeps what is held fresh, for ever.
    pub async fn keep_fresh(self) {
        loop {
            tokio::time::sleep(REFRESH_LOOK).await;
            self.refresh_due().await;
        }
    }

    fn now(&self) -> u64 {
        (self.0.clock)()
    }

    fn remember_asked(&self, name: &str, now: u64) {
        let mut asked = lock(&self.0.asked);
        if asked.len() >= CACHE_ENTRIES_MAX {
            asked.retain(|_, at| at.saturating_add(REFRESH_ASKED_S) > now);
        }
        if asked.len() < CACHE_ENTRIES_MAX || asked.contains_key(name) {
            asked.insert(name.to_owned(), now);
        }
    }

    async fn held(&self, want: &Want) -> Option<Entry> {
        let (depot, want) = (self.clone(), want.clone());
        let read = tokio::task::spawn_blocking(move || depot.0.cache.read(&want)).await;
        read.ok().flatten()
    }

    /// A failure of a moment ago: a source in trouble is not asked by every client anew.
    fn failure(&self, name: &str) -> Option<Arc<Unavailable>> {
        let failures = lock(&self.0.failures);
        let (at, failure) = failures.get(name)?;
        (at.elapsed() < FAILURE_REMEMBERED).then(|| failure.clone())
    }

    fn remember_failure(&self, name: String, failure: Arc<Unavailable>) {
        let mut failures = lock(&self.0.failures);
        if failures.len() >= CACHE_ENTRIES_MAX {
            failures.retain(|_, (at, _)| at.elapsed() < FAILURE_REMEMBERED);
        }
        if failures.len() < CACHE_ENTRIES_MAX {
            failures.insert(name, (Instant::now(), failure));
        }
    }

    /// The one fetch under way for this name, started if there is none. It goes on when nobody waits any more.
    fn fly(&self, want: Want, name: String) -> Flight {
        let mut flights = lock(&self.0.flights);
        if let Some(flight) = flights.get(&name) {
            return flight.clone();
        }
        let ours = move |want: Want, fault| {
            Arc::new(Unavailable {
                want,
                faults: vec![SourceFault {
                    source: "this proxy".to_owned(),
                    fault,
                }],
                expired_at_unix_s: None,
            })
        };
        if flights.len() >= FLIGHTS_MAX {
            let busy = Err(ours(want, Fault::Busy));
            return std::future::ready(busy).boxed().shared();
        }
        let depot = self.clone();
        let anew = name != want.file_name();
        let (flown, lost) = (name.clone(), want.clone());
        let task = tokio::spawn(async move {
            let outcome = depot.fetch(want, anew).await;
            // Waits until the flight below is in the table.
            lock(&depot.0.flights).remove(&flown);
            if let Err(failure) = &outcome {
                tracing::error!(%failure, "collateral");
                depot.remember_failure(flown, failure.clone());
            } else {
                lock(&depot.0.failures).remove(&flown);
            }
            outcome
        });
        let flight = async move {
            match task.await {
                Ok(outcome) => outcome,
                Err(error) => Err(ours(lost, Fault::Internal(error.to_string()))),
            }
        };
        let flight = flight.boxed().shared();
        flights.insert(name, flight.clone());
        flight
    }

    async fn fetch(&self, want: Want, anew: bool) -> Outcome {
        let slot = self.0.fetches.acquire().await;
        let depot = self.clone();
        let asked = want.clone();
        let fetched = tokio::task::spawn_blocking(move || depot.fetch_blocking(&asked, anew)).await;
        drop(slot);
        fetched.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Asks the sources in order until one gives something that fits.
    fn fetch_blocking(&self, want: &Want, anew: bool) -> Outcome {
        let held = self.0.cache.read(want);
        // Whoever looked before another flight landed takes off after it, and need not ask again.
        let held = match held {
            Some(entry) if !anew && entry.head.refresh_unix_s > self.now() => {
                return Ok(Held::from(entry));
            }
            held => held.map(|entry| entry.head),
        };
        let floor = held.as_ref().and_then(|head| head.evaluation_number);
        let mut faults = Vec::new();
        for index in 0.. {
            let Some((source, asked)) = self.ask(want, index) else {
                break;
            };
            let checked = asked.and_then(|body| {
                let claims = check(&body, want, floor, self.now())?;
                Ok((body, claims))
            });
            match checked {
                Ok((body, claims)) => return Ok(self.keep(want, source, body, claims)),
                Err(fault) => {
                    tracing::warn!(%want, "{source} {fault}");
                    faults.push(SourceFault { source, fault });
                }
            }
        }
        Err(Arc::new(Unavailable {
            want: want.clone(),
            faults,
            expired_at_unix_s: held.map(|head| head.expires_unix_s),
        }))
    }

    /// Asks one source. `None` is the end of the list.
    fn ask(&self, want: &Want, index: usize) -> Option<(String, Result<Vec<u8>, Fault>)> {
        let (asker, config) = (&self.0.asker, &self.0.config);
        Some(match want {
            Want::Tdx(platform) => {
                let source = config.tdx.get(index)?;
                (source.to_string(), intel::fetch(asker, source, platform))
            }
            Want::Rim(id) => {
                let source = config.rim.get(index)?;
                (source.to_string(), nvidia::fetch_rim(asker, source, id))
            }
            Want::Ocsp(question) => {
                let source = config.ocsp.get(index)?;
                (
                    source.to_string(),
                    nvidia::fetch_ocsp(asker, source, question),
                )
            }
        })
    }

    fn keep(&self, want: &Want, source: String, body: Vec<u8>, claims: Claims) -> Held {
        let now = self.now();
        let expires_unix_s = claims.expires_unix_s.unwrap_or(now);
        let head = Head {
            version: 1,
            source: source.clone(),
            fetched_unix_s: now,
            refresh_unix_s: refresh_at(want, now, expires_unix_s),
            expires_unix_s,
            evaluation_number: claims.evaluation_number,
            question: match want {
                Want::Ocsp(question) => Some(hex::encode(question.der())),
                _ => None,
            },
            sha256: Head::digest(&body),
        };
        // An answer that holds for this moment only is not kept.
        if claims.expires_unix_s.is_some()
            && let Err(error) = self.0.cache.write(want, head, &body)
        {
            tracing::error!(%error, "not kept");
        }
        tracing::info!(%want, %source, expires_unix_s, "fetched");
        Held {
            body: body.into(),
            source,
            fetched_unix_s: now,
            expires_unix_s,
        }
    }
}

/// What an answer says of itself, after it was held against the question.
struct Claims {
    expires_unix_s: Option<u64>,
    evaluation_number: Option<u32>,
}

fn check(body: &[u8], want: &Want, floor: Option<u32>, now: u64) -> Result<Claims, Fault> {
    match want {
        Want::Tdx(platform) => {
            let claims = intel::check(body, platform, now)?;
            let got = claims.tcb_evaluation_number;
            match floor {
                Some(held) if got < held => Err(Fault::Older { got, held }),
                _ => Ok(Claims {
                    expires_unix_s: Some(claims.first_to_expire().expires_unix_s),
                    evaluation_number: Some(got),
                }),
            }
        }
        Want::Rim(id) => {
            nvidia::check_rim(body, id)?;
            Ok(Claims {
                expires_unix_s: Some(now.saturating_add(RIM_KEPT_S)),
                evaluation_number: None,
            })
        }
        Want::Ocsp(question) => Ok(Claims {
            expires_unix_s: question.check(body, now)?,
            evaluation_number: None,
        }),
    }
}

/// Half of its life or sooner, and not at one moment for all who fetched at one moment.
fn refresh_at(want: &Want, now: u64, expires: u64) -> u64 {
    let life = expires.saturating_sub(now);
    let after = match want {
        Want::Tdx(_) => TDX_REFRESH_S.min(life / 2),
        Want::Rim(_) => RIM_REFRESH_S.min(life / 2),
        Want::Ocsp(_) => life / 2,
    };
    let mut random = [0; 8];
    // Without randomness everybody asks at once; that is no reason to fail.
    let _ = getrandom::fill(&mut random);
    let sooner = u64::from_le_bytes(random) % (after / 4 + 1);
    now + after - sooner
}

impl From<Entry> for Held {
    fn from(entry: Entry) -> Held {
        Held {
            body: entry.body.into(),
            source: entry.head.source,
            fetched_unix_s: entry.head.fetched_unix_s,
            expires_unix_s: entry.head.expires_unix_s,
        }
    }
}

/// No holder of these locks can leave a table half-changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
