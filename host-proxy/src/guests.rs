//! The guests behind this proxy: which one a job goes to, which one a client is shown, and what is known of each.
//!
//! A job goes to the guest whose keyset it was sealed to, and waits for a place there, a while and in a bounded queue. A client that
//! attests is shown the least loaded guest that answers, so that load follows from whom clients seal to.

use crate::api_error::ApiError;
use crate::clock::now_unix_s;
use crate::config::Config;
use crate::guest::GuestAddress;
use crate::limits::{GUEST_SHUNNED, JOB_WAIT, KEYSETS_MAX};
use crate::store::RememberedKeyset;
use settlement::{Address, SignedCharge, VerifiedCharge};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use wire::{Keyset, KeysetDigest};

/// All of them, in the order of the configuration.
pub(crate) struct Guests {
    all: Vec<Arc<Guest>>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// One of them.
pub(crate) struct Guest {
    /// Its place in the configuration, from 0.
    pub(crate) index: usize,
    pub(crate) address: GuestAddress,
    places: Arc<Semaphore>,
    /// Jobs that it may have at once.
    pub(crate) places_max: usize,
    /// Clients that were shown it: breaks a tie of load.
    shown: AtomicU64,
    known: Mutex<Known>,
}

/// What was learned of a guest.
#[derive(Default)]
struct Known {
    keysets: VecDeque<KnownKeyset>,
    attested: Option<Attested>,
    refused: Option<(Instant, &'static str)>,
}

struct KnownKeyset {
    digest: KeysetDigest,
    receipt_key: [u8; 32],
    models: Vec<String>,
}

/// When a guest was last seen to be what this provider stands behind.
#[derive(Debug, Clone)]
pub(crate) struct Attested {
    pub(crate) at: Instant,
    pub(crate) unix_s: u64,
    pub(crate) keyset: KeysetDigest,
    pub(crate) profile: String,
    pub(crate) models: Vec<String>,
    pub(crate) gpus: usize,
}

/// A job's place at a guest, until dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Guests {
    /// Of the configuration, with the keysets that were remembered of each.
    pub(crate) fn new(config: &Config, remembered: &[RememberedKeyset]) -> Self {
        let guest = |(index, address): (usize, &GuestAddress)| {
            let name = address.to_string();
            let own = remembered.iter().filter(|keyset| keyset.guest == name);
            let keysets = own.map(|keyset| KnownKeyset {
                digest: keyset.digest,
                receipt_key: keyset.receipt_key,
                models: Vec::new(),
            });
            let known = Known {
                keysets: keysets.collect(),
                ..Known::default()
            };
            Arc::new(Guest {
                index,
                address: address.clone(),
                places: Arc::new(Semaphore::new(config.service.jobs_per_guest)),
                places_max: config.service.jobs_per_guest,
                shown: AtomicU64::new(0),
                known: Mutex::new(known),
            })
        };
        Guests {
            all: config.guests.iter().enumerate().map(guest).collect(),
            waiting: AtomicUsize::new(0),
            waiting_max: config.service.jobs_waiting,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Guest>> {
        self.all.iter()
    }

    /// Least loaded first; those that were not to be reached a moment ago come last.
    pub(crate) fn by_load(&self) -> Vec<Arc<Guest>> {
        let mut all = self.all.clone();
        all.sort_by_cached_key(|guest| {
            let shown = guest.shown.load(Ordering::Relaxed);
            (guest.is_shunned(), guest.running(), shown)
        });
        all
    }

    /// The first of [`Self::by_load`].
    pub(crate) fn least_loaded(&self) -> Arc<Guest> {
        let first = self.by_load().into_iter().next();
        first.expect("a configuration has a guest at least")
    }

    /// The guest that has this keyset, as far as this proxy knows.
    pub(crate) fn of(&self, keyset: KeysetDigest) -> Option<&Arc<Guest>> {
        let mut all = self.all.iter();
        all.find(|guest| guest.receipt_key(keyset).is_some())
    }

    /// The receipt key of a known keyset.
    pub(crate) fn receipt_key(&self, keyset: KeysetDigest) -> Option<[u8; 32]> {
        self.all.iter().find_map(|guest| guest.receipt_key(keyset))
    }

    /// Whether a known keyset offers this model: only then may its name be repeated, since a client can write anything there.
    pub(crate) fn offers(&self, keyset: KeysetDigest, model: &str) -> bool {
        self.all.iter().any(|guest| {
            let known = guest.known();
            let mut keysets = known.keysets.iter().filter(|of| of.digest == keyset);
            keysets.any(|of| of.models.iter().any(|offered| offered == model))
        })
    }

    /// A charge that one of these guests signed under any keyset that is known, for which this stake answers.
    pub(crate) fn own_charge(
        &self,
        signed: &SignedCharge,
        payer_key: &[u8; 32],
        stake: &Address,
    ) -> Option<([u8; 32], VerifiedCharge)> {
        let keys = self.all.iter().flat_map(|guest| guest.receipt_keys());
        let mut verified = keys.filter_map(|key| Some((key, signed.verify(&key, payer_key).ok()?)));
        verified.find(|(_, charge)| charge.stake == *stake)
    }

    /// A place at this guest: at once, or in a while if not too many wait already.
    pub(crate) async fn place(
        &self,
        guest: &Arc<Guest>,
        until: Instant,
    ) -> Result<Place, ApiError> {
        let placed = |permit| Place { _permit: permit };
        if let Ok(permit) = guest.places.clone().try_acquire_owned() {
            return Ok(placed(permit));
        }
        let _one_of_few = Waiting::enter(self).ok_or_else(ApiError::busy)?;
        let until = until.min(Instant::now() + JOB_WAIT);
        let permit = timeout_at(until, guest.places.clone().acquire_owned()).await;
        let permit = permit.map_err(|_elapsed| ApiError::busy())?;
        Ok(placed(permit.map_err(|_closed| ApiError::busy())?))
    }

    /// Jobs that have a place.
    pub(crate) fn running(&self) -> usize {
        self.all.iter().map(|guest| guest.running()).sum()
    }

    /// Jobs that wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One that waits, until dropped.
struct Waiting<'a>(&'a Guests);

impl<'a> Waiting<'a> {
    fn enter(guests: &'a Guests) -> Option<Self> {
        let entered = Waiting(guests);
        let before = guests.waiting.fetch_add(1, Ordering::Relaxed);
        // Dropped, and so taken back, where there were enough.
        (before < guests.waiting_max).then_some(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guest {
    /// Jobs that it has now.
    pub(crate) fn running(&self) -> usize {
        self.places_max - self.places.available_permits()
    }

    /// Remembers the key that signs this keyset's charges, and that the guest was seen to have it.
    pub(crate) fn learn(&self, keyset: &Keyset) {
        let digest = keyset.digest();
        let models: Vec<String> = keyset.models.iter().map(|model| model.id.clone()).collect();
        let mut known = self.known();
        known.keysets.retain(|of| of.digest != digest);
        known.keysets.truncate(KEYSETS_MAX - 1);
        known.keysets.push_front(KnownKeyset {
            digest,
            receipt_key: keyset.receipt_key,
            models: models.clone(),
        });
        known.refused = None;
        known.attested = Some(Attested {
            at: Instant::now(),
            unix_s: now_unix_s(),
            keyset: digest,
            profile: keyset.profile.clone(),
            models,
            gpus: keyset.gpus.len(),
        });
    }

    /// Remembers that it was not attested, and why: an error's code.
    pub(crate) fn refused(&self, code: &'static str) {
        self.known().refused = Some((Instant::now(), code));
    }

    pub(crate) fn shown(&self) {
        self.shown.fetch_add(1, Ordering::Relaxed);
    }

    /// When it was last attested, and why it was not since then.
    pub(crate) fn attestation(&self) -> (Option<Attested>, Option<&'static str>) {
        let known = self.known();
        (known.attested.clone(), known.refused.map(|(_, code)| code))
    }

    fn is_shunned(&self) -> bool {
        let refused = self.known().refused;
        refused.is_some_and(|(at, _)| at.elapsed() < GUEST_SHUNNED)
    }

    fn receipt_keys(&self) -> Vec<[u8; 32]> {
        let known = self.known();
        known.keysets.iter().map(|of| of.receipt_key).collect()
    }

    /// The receipt key of a keyset that it is known to have.
    pub(crate) fn receipt_key(&self, keyset: KeysetDigest) -> Option<[u8; 32]> {
        let known = self.known();
        let mut keysets = known.keysets.iter();
        let found = keysets.find(|of| of.digest == keyset);
        found.map(|of| of.receipt_key)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeUrl;
    use crate::fixtures::{config, directory, keyset, payee};
    use std::time::Duration;

    fn guests(count: usize, places: usize, waiting: usize) -> Guests {
        let directory = directory();
        let node = NodeUrl::parse("http://127.0.0.1:1").expect("a url");
        let mut config = config(directory.path(), node);
        let address = |index| GuestAddress::Unix(format!("/{index}").into());
        config.guests = (0..count).map(address).collect();
        config.service.jobs_per_guest = places;
        config.service.jobs_waiting = waiting;
        Guests::new(&config, &[])
    }

    fn first(guests: &Guests) -> usize {
        guests.by_load()[0].index
    }

    #[tokio::test]
    async fn the_least_loaded_guest_that_answers_is_shown_first() {
        let guests = guests(3, 4, 0);
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(first(&guests), 0);
        let zero = guests.all[0].clone();
        let running = guests.place(&zero, soon).await.expect("a place");
        assert_eq!(first(&guests), 1);
        guests.all[1].shown();
        assert_eq!(first(&guests), 2);
        guests.all[2].refused("guest_unreachable");
        assert_eq!(first(&guests), 1);
        guests.all[1].refused("guest_unreachable");
        assert_eq!(first(&guests), 0, "loaded, but it answers");
        guests.all[1].learn(&keyset(&payee()));
        assert_eq!(first(&guests), 1);
        drop(running);
        assert_eq!((first(&guests), guests.running()), (0, 0));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_a_place_goes_to_who_waits() {
        let guests = Arc::new(guests(1, 1, 1));
        let guest = guests.all[0].clone();
        let until = Instant::now() + Duration::from_secs(60);
        let held = guests.place(&guest, until).await.expect("a place");
        let waiter = tokio::spawn({
            let (guests, guest) = (guests.clone(), guest.clone());
            async move { guests.place(&guest, until).await.is_ok() }
        });
        while guests.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let refused = guests.place(&guest, until).await.err().expect("too many");
        assert_eq!((refused.code, guests.waiting()), ("busy", 1));
        drop(held);
        assert!(waiter.await.expect("waited"));
        assert_eq!((guests.waiting(), guests.running()), (0, 0));
        // Whose first token would be late does not wait on.
        let _held = guests.place(&guest, until).await.expect("a place");
        let late = guests.place(&guest, Instant::now()).await;
        assert_eq!(late.err().expect("late").code, "busy");
        assert_eq!(guests.waiting(), 0);
    }

    #[test]
    fn a_keyset_leads_to_its_guest_and_names_its_models() {
        let guests = guests(2, 1, 0);
        let keyset = keyset(&payee());
        assert!(guests.of(keyset.digest()).is_none());
        guests.all[1].learn(&keyset);
        let found = guests.of(keyset.digest()).expect("known");
        assert_eq!(found.index, 1);
        assert!(guests.offers(keyset.digest(), "small"));
        assert!(!guests.offers(keyset.digest(), "a name that a client made up"));
    }
}
