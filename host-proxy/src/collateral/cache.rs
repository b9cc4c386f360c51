//! Collateral from the disk until it expires, and from the sources in order when it has.
//!
//! ```text
//!            fresh ─────────── refresh due ─────────────── expired
//!  fetched ─ served ────►│─ served, and fetched again ──►│─ fetched first, or refused
//! ```

use super::disk_cache::{DiskCache, Entry, EntryHeader};
use super::http_client::HttpClient;
use super::key::CollateralKey;
use super::source_error::{SourceError, SourceFailure, Unavailable};
use super::{intel, nvidia};
use crate::config::CollateralConfig;
use crate::error::Error;
use crate::limits::{
    CACHE_ENTRIES_MAX, FAILURE_REMEMBERED, FETCHES_MAX, FETCHES_WAITING_MAX, REFRESH_ASKED_S,
    REFRESH_PAUSE, RIM_KEPT_S, RIM_REFRESH_S, TDX_REFRESH_S,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hyper::body::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Unix time in seconds. A test has its own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The cache and the sources behind it. Cheap to clone.
#[derive(Clone)]
pub struct CollateralCache(Arc<Inner>);

struct Inner {
    config: CollateralConfig,
    disk: DiskCache,
    client: HttpClient,
    clock: Clock,
    fetch_slots: Semaphore,
    /// By key, and by request where an answer of its own was asked for.
    fetches: Mutex<HashMap<String, Fetch>>,
    failures: Mutex<HashMap<String, (Instant, Arc<Unavailable>)>>,
    /// When each key was asked for last. Unused keys are not refreshed.
    asked: Mutex<HashMap<String, u64>>,
    opened_unix_s: u64,
}

/// Collateral that has not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Intel's collateral as our JSON, a RIM as NVIDIA's JSON, or an OCSP answer as DER.
    pub body: Bytes,
    /// The source that gave it, as the configuration names it.
    pub source: String,
    /// When it was fetched.
    pub fetched_unix_s: u64,
    /// Never served after this: the earliest signed next update, or for a RIM thirty days.
    pub expires_unix_s: u64,
}

type Outcome = Result<Document, Arc<Unavailable>>;
type Fetch = Shared<BoxFuture<'static, Outcome>>;

impl CollateralCache {
    /// Opens the cache's directory. Nothing is fetched yet.
    pub fn open(config: &CollateralConfig, clock: Clock) -> Result<CollateralCache, Error> {
        let opened_unix_s = clock();
        Ok(CollateralCache(Arc::new(Inner {
            disk: DiskCache::open(&config.cache, config.cache_bytes_max)?,
            config: config.clone(),
            client: HttpClient::new(),
            clock,
            fetch_slots: Semaphore::new(FETCHES_MAX),
            fetches: Mutex::default(),
            failures: Mutex::default(),
            asked: Mutex::default(),
            opened_unix_s,
        })))
    }

    /// This host's clock.
    pub fn system_clock() -> Clock {
        Arc::new(crate::clock::now_unix_s)
    }

    /// Collateral that has not expired, from the disk if it is there.
    pub async fn get(&self, key: &CollateralKey) -> Outcome {
        let now = self.now();
        let name = key.file_name();
        self.remember_asked(&name, now);
        let (cache, cached) = (self.clone(), key.clone());
        let cached = tokio::task::spawn_blocking(move || cache.0.disk.read(&cached)).await;
        if let Ok(Some(entry)) = cached
            && entry.header.expires_unix_s > now
        {
            if entry.header.refresh_unix_s <= now && self.failure(&name).is_none() {
                // Not waited for: the cached answer is still valid.
                drop(self.fetch_once(key.clone(), name));
            }
            return Ok(Document::from(entry));
        }
        if let Some(failure) = self.failure(&name) {
            return Err(failure);
        }
        self.fetch_once(key.clone(), name).await
    }

    /// Collateral that was fetched after this call, or while it waited: for a client with a nonce, or with doubts.
    pub async fn get_fresh(&self, key: &CollateralKey) -> Outcome {
        let name = key.file_name();
        self.remember_asked(&name, self.now());
        let fetch = match key {
            // An answer to another request about the certificate has another nonce.
            CollateralKey::Ocsp(request) => {
                format!("{name} {}", EntryHeader::digest(request.der()))
            }
            _ => format!("{name} fresh"),
        };
        self.fetch_once(key.clone(), fetch).await
    }

    /// Fetches again what is due, one key after another. Failures are logged; the cached answer stays.
    pub async fn refresh_due(&self) {
        let cache = self.clone();
        let listed = tokio::task::spawn_blocking(move || cache.0.disk.list()).await;
        let list = match listed {
            Ok(Ok(list)) => list,
            Ok(Err(error)) => return tracing::error!(%error, "refreshing"),
            Err(error) => return tracing::error!(%error, "refreshing"),
        };
        for (key, header) in list {
            let (name, now) = (key.file_name(), self.now());
            let asked = lock(&self.0.asked).get(&name).copied();
            let asked = asked.unwrap_or(self.0.opened_unix_s);
            let in_use = asked.saturating_add(REFRESH_ASKED_S) > now;
            if in_use && header.refresh_unix_s <= now && self.failure(&name).is_none() {
                // The fetch logs its own failure.
                let _ = self.fetch_once(key, name).await;
            }
        }
    }

    /// Refreshes for ever.
    pub async fn keep_fresh(self) {
        loop {
            tokio::time::sleep(REFRESH_PAUSE).await;
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

    /// A recent failure, so that not every client asks a failing source again.
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

    /// The one running fetch of this name, started if there is none. It continues when its callers have left.
    fn fetch_once(&self, key: CollateralKey, name: String) -> Fetch {
        let mut fetches = lock(&self.0.fetches);
        if let Some(fetch) = fetches.get(&name) {
            return fetch.clone();
        }
        let not_asked = move |key: CollateralKey, error| {
            Arc::new(Unavailable {
                key,
                failures: vec![SourceFailure {
                    source: "this proxy".to_owned(),
                    error,
                }],
                expired_at_unix_s: None,
            })
        };
        if fetches.len() >= FETCHES_WAITING_MAX {
            let busy = Err(not_asked(key, SourceError::Busy));
            return std::future::ready(busy).boxed().shared();
        }
        let cache = self.clone();
        let skip_disk = name != key.file_name();
        let (task_name, task_key) = (name.clone(), key.clone());
        let task = tokio::spawn(async move {
            let outcome = cache.fetch(task_key, skip_disk).await;
            // Waits until the fetch below is in the table.
            lock(&cache.0.fetches).remove(&task_name);
            if let Err(failure) = &outcome {
                tracing::error!(%failure, "collateral");
                cache.remember_failure(task_name, failure.clone());
            } else {
                lock(&cache.0.failures).remove(&task_name);
            }
            outcome
        });
        let fetch = async move {
            let internal = |error: tokio::task::JoinError| {
                Err(not_asked(key, SourceError::Internal(error.to_string())))
            };
            task.await.unwrap_or_else(internal)
        };
        let fetch = fetch.boxed().shared();
        fetches.insert(name, fetch.clone());
        fetch
    }

    async fn fetch(&self, key: CollateralKey, skip_disk: bool) -> Outcome {
        let slot = self.0.fetch_slots.acquire().await;
        let cache = self.clone();
        let fetched = tokio::task::spawn_blocking(move || cache.fetch_blocking(&key, skip_disk));
        let fetched = fetched.await;
        drop(slot);
        fetched.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Asks the sources in order until one gives something that fits.
    fn fetch_blocking(&self, key: &CollateralKey, skip_disk: bool) -> Outcome {
        let cached = self.0.disk.read(key);
        let cached = match cached {
            // Another fetch has ended since the caller looked.
            Some(entry) if !skip_disk && entry.header.refresh_unix_s > self.now() => {
                return Ok(Document::from(entry));
            }
            cached => cached.map(|entry| entry.header),
        };
        let number_min = cached.as_ref().and_then(|header| header.evaluation_number);
        let mut failures = Vec::new();
        for index in 0.. {
            let Some((source, answer)) = self.ask(key, index) else {
                break;
            };
            let checked = answer.and_then(|body| {
                let claims = check(&body, key, number_min, self.now())?;
                Ok((body, claims))
            });
            match checked {
                Ok((body, claims)) => return Ok(self.keep(key, source, body, claims)),
                Err(error) => {
                    tracing::warn!(%key, "{source} {error}");
                    failures.push(SourceFailure { source, error });
                }
            }
        }
        Err(Arc::new(Unavailable {
            key: key.clone(),
            failures,
            expired_at_unix_s: cached.map(|header| header.expires_unix_s),
        }))
    }

    /// Asks one source. `None` is the end of the list.
    fn ask(
        &self,
        key: &CollateralKey,
        index: usize,
    ) -> Option<(String, Result<Vec<u8>, SourceError>)> {
        let (client, config) = (&self.0.client, &self.0.config);
        Some(match key {
            CollateralKey::Tdx(platform) => {
                let source = config.tdx.get(index)?;
                (source.to_string(), intel::fetch(client, source, platform))
            }
            CollateralKey::Rim(id) => {
                let source = config.rim.get(index)?;
                (source.to_string(), nvidia::fetch_rim(client, source, id))
            }
            CollateralKey::Ocsp(request) => {
                let source = config.ocsp.get(index)?;
                let answer = nvidia::fetch_ocsp(client, source, request);
                (source.to_string(), answer)
            }
        })
    }

    fn keep(&self, key: &CollateralKey, source: String, body: Vec<u8>, claims: Claims) -> Document {
        let now = self.now();
        let expires_unix_s = claims.expires_unix_s.unwrap_or(now);
        let header = EntryHeader {
            version: 1,
            source: source.clone(),
            fetched_unix_s: now,
            refresh_unix_s: refresh_at(key, now, expires_unix_s),
            expires_unix_s,
            evaluation_number: claims.evaluation_number,
            ocsp_request: match key {
                CollateralKey::Ocsp(request) => Some(hex::encode(request.der())),
                _ => None,
            },
            sha256: EntryHeader::digest(&body),
        };
        // An answer that holds for this moment only is not cached.
        if claims.expires_unix_s.is_some()
            && let Err(error) = self.0.disk.write(key, header, &body)
        {
            tracing::error!(%error, "not cached");
        }
        tracing::info!(%key, %source, expires_unix_s, "fetched");
        Document {
            body: body.into(),
            source,
            fetched_unix_s: now,
            expires_unix_s,
        }
    }
}

/// What an answer says of itself, after it was checked against its key.
struct Claims {
    expires_unix_s: Option<u64>,
    evaluation_number: Option<u32>,
}

fn check(
    body: &[u8],
    key: &CollateralKey,
    number_min: Option<u32>,
    now: u64,
) -> Result<Claims, SourceError> {
    match key {
        CollateralKey::Tdx(platform) => {
            let claims = intel::check(body, platform, now)?;
            let got = claims.tcb_evaluation_number;
            match number_min {
                Some(cached) if got < cached => Err(SourceError::Older { got, cached }),
                _ => Ok(Claims {
                    expires_unix_s: Some(claims.first_to_expire().expires_unix_s),
                    evaluation_number: Some(got),
                }),
            }
        }
        CollateralKey::Rim(id) => {
            nvidia::check_rim(body, id)?;
            Ok(Claims {
                expires_unix_s: Some(now.saturating_add(RIM_KEPT_S)),
                evaluation_number: None,
            })
        }
        CollateralKey::Ocsp(request) => Ok(Claims {
            expires_unix_s: nvidia::check_ocsp(body, request, now)?,
            evaluation_number: None,
        }),
    }
}

/// Half of the remaining life or sooner, spread so that hosts that fetched together do not ask together.
fn refresh_at(key: &CollateralKey, now: u64, expires: u64) -> u64 {
    let life = expires.saturating_sub(now);
    let after = match key {
        CollateralKey::Tdx(_) => TDX_REFRESH_S.min(life / 2),
        CollateralKey::Rim(_) => RIM_REFRESH_S.min(life / 2),
        CollateralKey::Ocsp(_) => life / 2,
    };
    let mut random = [0; 8];
    // Without randomness all ask at once, which is no reason to fail.
    let _ = getrandom::fill(&mut random);
    let sooner = u64::from_le_bytes(random) % (after / 4 + 1);
    now + after - sooner
}

impl From<Entry> for Document {
    fn from(entry: Entry) -> Document {
        Document {
            body: entry.body.into(),
            source: entry.header.source,
            fetched_unix_s: entry.header.fetched_unix_s,
            expires_unix_s: entry.header.expires_unix_s,
        }
    }
}

/// No holder of these locks can leave a table half-changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
