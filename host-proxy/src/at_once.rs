//! What runs at once, counted by whom or what it is for, so that one cannot take what is meant for all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what runs.
pub(crate) struct AtOnce<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One that runs, until dropped.
pub(crate) struct Running<K: Hash + Eq> {
    all: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K> Default for AtOnce<K> {
    fn default() -> Self {
        AtOnce(Arc::default())
    }
}

impl<K: Hash + Eq + Copy> AtOnce<K> {
    /// `None`: `most` run already.
    pub(crate) fn enter(&self, key: K, most: usize) -> Option<Running<K>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = all.get(&key).copied().unwrap_or_default();
        if running >= most {
            return None;
        }
        all.insert(key, running + 1);
        let all = self.0.clone();
        Some(Running { all, key })
    }

    pub(crate) fn runs(&self, key: &K) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains_key(key)
    }
}

impl<K> AtOnce<K> {
    /// By how many keys something runs.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<K: Hash + Eq> Drop for Running<K> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = all.get_mut(&self.key) {
            *running -= 1;
            if *running == 0 {
                all.remove(&self.key);
            }
        }
    }
}

/// By what a peer is counted: whoever has one IPv6 address has the 2^64 beside it. `None`: it is not counted, since a reverse proxy on
/// loopback speaks for many.
pub(crate) fn household(peer: IpAddr) -> Option<IpAddr> {
    let peer = match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        other => other,
    };
    (!peer.is_loopback()).then_some(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_takes_its_share_and_no_other_ones() {
        let all = AtOnce::default();
        let first = (all.enter(1, 2), all.enter(1, 2));
        assert!(first.0.is_some() && first.1.is_some());
        assert!(all.enter(1, 2).is_none());
        assert!(all.enter(2, 2).is_some());
        assert!((all.runs(&1), all.runs(&2)) == (true, false));
        drop(first.0);
        assert!(all.enter(1, 2).is_some());
        drop(first.1);
        assert!(all.0.lock().expect("whole").is_empty());
    }

    #[test]
    fn a_peer_is_counted_by_what_it_can_have_many_of() {
        let check = |one: &str, other: &str, same: bool| {
            let household = |text: &str| household(text.parse().expect("an address"));
            assert_eq!(household(one) == household(other), same, "{one} {other}");
        };
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("2001:db8::1", "2001:db8::ffff:2", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        for loopback in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(household(loopback.parse().expect("an address")), None);
        }
    }
}
