//! The memory of a guest that is a process of this host, and the secret keys there. They are found by their public halves: no code of
//! the agent helps, and its own host could find them so, which this guest is not hidden from.

use ed25519_dalek::SigningKey;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem as _, Serializable as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::fs::FileExt;
use wire::Keyset;

/// How far around a public key its secret one is looked for: in memory an X-Wing key is its seed beside its public half, whose part of
/// ML-KEM is expanded and whose part of X25519 is as it travels.
const NEAR_BYTES: usize = 16 * 1024;

/// Every writable mapping of a process, a child of this one, which stands still meanwhile.
pub fn memory(process: u32) -> Vec<Vec<u8>> {
    let id = Pid::from_raw(i32::try_from(process).expect("an id"));
    kill(id, Signal::SIGSTOP).expect("it is our child");
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs");
    let memory = File::open(format!("/proc/{process}/mem")).expect("it is our child");
    let regions = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        rest.starts_with("rw").then_some((from, to))
    });
    let read = regions.filter_map(|(from, to)| {
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        memory.read_exact_at(&mut bytes, from).ok()?;
        Some(bytes)
    });
    let read = read.collect();
    kill(id, Signal::SIGCONT).expect("it is our child");
    read
}

/// The secret key to which a keyset's jobs are sealed, if it is there.
pub fn sealing_key(memory: &[Vec<u8>], keyset: &Keyset) -> Option<[u8; 32]> {
    let public = &keyset.kem_keys[0].public;
    let x25519 = &public[public.len() - 32..];
    secret(memory, x25519, |seed| {
        let secret = <XWing as hpke::Kem>::PrivateKey::from_bytes(seed).expect("32 bytes");
        XWing::sk_to_pk(&secret).to_bytes()[..] == public[..]
    })
}

/// The secret key by which a keyset's receipts are signed, if it is there.
pub fn receipt_key(memory: &[Vec<u8>], keyset: &Keyset) -> Option<[u8; 32]> {
    let public = &keyset.receipt_key;
    secret(memory, public, |seed| {
        SigningKey::from_bytes(seed).verifying_key().as_bytes() == public
    })
}

/// The first 32 bytes near these public ones that are the secret.
fn secret(
    memory: &[Vec<u8>],
    public: &[u8],
    is_secret: impl Fn(&[u8; 32]) -> bool,
) -> Option<[u8; 32]> {
    let near = memory.iter().flat_map(|bytes| {
        let places = memchr::memmem::find_iter(bytes, public);
        places.flat_map(|at| {
            let from = at.saturating_sub(NEAR_BYTES);
            bytes[from..bytes.len().min(at + NEAR_BYTES)].windows(32)
        })
    });
    // Random bytes repeat each other little, which spares most of the work.
    let random = near.filter(|window| {
        let mut bytes = window.to_vec();
        bytes.sort_unstable();
        bytes.dedup();
        bytes.len() > 20
    });
    let mut keys = random.map(|window| <[u8; 32]>::try_from(window).expect("32 bytes"));
    keys.find(|key| is_secret(key))
}
