use super::*;
use crate::boot::clear_stack;
use hpke::{Kem as _, Serializable};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use settlement::{Address, ChainId, Nano};
use std::os::unix::fs::FileExt;
use wire::{Digest, Endpoint, ModelOffer, Padding, Prices};

fn keyset(keys: &Keys, lifetime_s: u32, jobs_max: u64) -> Keyset {
    let account = Address {
        workchain: 0,
        hash: [1; 32],
    };
    Keyset {
        version: 1,
        profile: "sim".into(),
        epoch: 0,
        lifetime_s,
        jobs_max,
        kem_keys: vec![keys.sealing.public()],
        receipt_key: keys.receipt.verifying_key().to_bytes(),
        models: vec![ModelOffer {
            id: "m".into(),
            endpoint: Endpoint::Chat,
            root: Digest([1; 32]),
            tokenizer: Digest([2; 32]),
            config: Digest([3; 32]),
            template: None,
            context_tokens: 16,
            quantisation: "f32".into(),
            determinism: "machine".into(),
            prices: Prices {
                prompt: Nano(1),
                cached: Nano(1),
                completion: Nano(1),
            },
        }],
        price_step: Nano(1),
        exposure_max: Nano(1),
        chain: ChainId::EMBEDDED,
        payee: account,
        payee_key: [4; 32],
        stake: account,
        registers: Digest([5; 32]),
        gpus: Vec::new(),
        padding: Padding {
            step_bytes: 512,
            interval_ms: 10,
        },
    }
}

fn random(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn epochs(lifetime_s: u32, jobs_max: u64, now: Instant) -> Epochs {
    let keys = Keys::make(&mut random(1));
    Epochs::new(Epoch::new(keyset(&keys, lifetime_s, jobs_max), keys, now))
}

fn numbers(epochs: &Epochs) -> Vec<u32> {
    let all = epochs.all();
    all.iter().map(|epoch| epoch.keyset.epoch).collect()
}

#[test]
fn epochs_overlap_and_end_on_time() {
    let mut now = Instant::now();
    let epochs = epochs(3600, 100, now);
    let mut rng = random(2);
    let mut after = |seconds: u64| {
        now += Duration::from_secs(seconds);
        epochs.turn(now, &mut rng);
        numbers(&epochs)
    };
    assert_eq!(after(1799), [0]);
    let first = epochs.newest();
    assert_eq!(after(1), [1, 0]);
    let second = epochs.newest();
    assert_ne!(first.keyset.receipt_key, second.keyset.receipt_key);
    assert_ne!(first.keyset.kem_keys, second.keyset.kem_keys);
    assert_eq!(first.keyset.models, second.keyset.models);
    // A client that was shown the first one a moment before the second was made may use it for an hour from then.
    assert_eq!(after(1800), [2, 1, 0]);
    assert_eq!(after(1799), [2, 1, 0]);
    assert!(epochs.of(&first.digest).is_some());
    assert_eq!(after(1), [3, 2, 1]);
    assert!(epochs.of(&first.digest).is_none() && epochs.of(&second.digest).is_some());
    // However long nobody looked.
    assert_eq!(after(1_000_000), [4]);
}

#[test]
fn jobs_use_epochs_up_and_few_are_alive_at_once() {
    let now = Instant::now();
    let epochs = epochs(3600, 8, now);
    let mut rng = random(2);
    let mut use_up = |jobs: u64, pays: bool| {
        let newest = epochs.newest();
        for _ in 0..jobs {
            let (mut enc, mut job) = ([0; 32], [0; 16]);
            rng.fill_bytes(&mut enc);
            rng.fill_bytes(&mut job);
            let channel = newest.keyset.payee;
            // Who pays nothing is refused at a half.
            let _ = newest.replay().admit(&enc, job, &channel, pays);
        }
        epochs.turn(now, &mut rng);
        numbers(&epochs)
    };
    assert_eq!(use_up(8, false), [0], "who pays nothing ends no epoch");
    assert_eq!(use_up(1, true), [0]);
    assert_eq!(use_up(1, true), [1, 0]);
    assert_eq!(use_up(5, true), [1, 0]);
    for newest in 2..6 {
        let alive = use_up(6, true);
        assert_eq!(alive[0], newest);
        assert_eq!(alive.len(), LIVE_MAX.min(newest as usize + 1));
    }
}

#[test]
fn receipts_of_one_key_form_one_chain() {
    let epochs = epochs(3600, 8, Instant::now());
    let epoch = epochs.newest();
    let place = |digest, account, cost| {
        let channel = Address {
            workchain: 0,
            hash: [account; 32],
        };
        epoch.place(channel, Nano(cost), |place| {
            let said = (place.number, place.previous, place.cumulative.0);
            (CoreDigest([digest; 32]), said)
        })
    };
    assert_eq!(place(1, 1, 10), (0, CoreDigest::default(), 10));
    assert_eq!(place(2, 1, 5), (1, CoreDigest([1; 32]), 15));
    assert_eq!(place(3, 2, 7), (2, CoreDigest([2; 32]), 7));
}

/// Whether this process has these bytes anywhere that it can write. They are given with all bits turned, so that the search does not
/// find itself.
fn is_found(turned: &[u8; 32]) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let ranges = maps
        .lines()
        .filter(|line| line.contains(" rw"))
        .map(|line| {
            let (from, rest) = line.split_once('-').unwrap();
            let (to, _) = rest.split_once(' ').unwrap();
            [from, to].map(|at| u64::from_str_radix(at, 16).unwrap())
        });
    let mut read = vec![0; 1 << 16];
    let mut has = |[from, to]: [u64; 2]| {
        // Reads overlap, for a key that lies across two of them.
        let starts = (from..to).step_by(read.len() - 32);
        let mut any = false;
        for start in starts {
            let length = read.len().min((to - start) as usize);
            let part = &mut read[..length];
            // Not every range can be read.
            if memory.read_exact_at(part, start).is_ok() {
                let begins = (0..length.saturating_sub(31)).filter(|at| part[*at] == !turned[0]);
                let is_it = |at: &usize| part[*at..].iter().zip(turned).all(|(a, b)| *a == !*b);
                any |= begins.into_iter().any(|at| is_it(&at));
            }
            part.fill(0);
        }
        any
    };
    ranges.fold(false, |any, range| any | has(range))
}

/// The secrets of an epoch, turned: the seed of its receipt key, and the key that opens what is sealed to it.
#[inline(never)]
fn secrets(seed: u8) -> [[u8; 32]; 2] {
    let mut rng = random(seed);
    let (mut receipt, mut ikm) = ([0; 32], [0; 32]);
    rng.fill_bytes(&mut receipt);
    rng.fill_bytes(&mut ikm);
    let (secret, _) = hpke::kem::XWing::derive_keypair(&ikm);
    let sealing: [u8; 32] = secret.to_bytes().into();
    [receipt, sealing].map(|bytes| bytes.map(|byte| !byte))
}

#[inline(never)]
fn drawn(seed: u8, now: Instant) -> Epochs {
    let keys = Keys::make(&mut random(seed));
    Epochs::new(Epoch::new(keyset(&keys, 3600, 100), keys, now))
}

#[test]
fn keys_are_erased_when_their_epoch_ends_and_no_job_holds_it() {
    let secrets = secrets(7);
    clear_stack();
    assert!(!secrets.iter().any(is_found), "what the test knows of them");
    let now = Instant::now();
    let epochs = drawn(7, now);
    clear_stack();
    assert!(secrets.iter().all(is_found), "they are in memory");
    let running = epochs.newest();
    epochs.turn(now + Duration::from_secs(5400), &mut random(8));
    assert_eq!(numbers(&epochs), [1]);
    assert!(secrets.iter().all(is_found), "a job runs under them");
    drop(running);
    assert!(!secrets.iter().any(is_found), "nothing is left of them");
}
