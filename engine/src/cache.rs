//! Who holds which block of the memory of keys and values: a sequence, a prefix that several sequences share, or nobody.
//!
//! A [`Block`] cannot be copied, so each has one holder and the accounts are exact. A prefix is known by a secret handle that its
//! client sealed, never by its content; the first job with a handle leaves the whole blocks of its prefix behind, later ones that
//! bring the same tokens read them.
//!
//! ```text
//!             lease                          hold (whole blocks of a prefix)
//!   free ────────────► one sequence ─────────────────────────────────────────► a prefix, read by `users` sequences
//!    ▲                      │ release                                              │ nobody uses it, and its life ended
//!    └──────────────────────┴──────────────────────────────────────────────────────┘ or its blocks are needed
//! ```
//!
//! **Promises.** Handles and tokens are compared as wholes, each with all that is held: time and addresses tell whether a prefix
//! was reused and how long it is, which its client accepts by asking for it, and nothing of the ids.

use std::hint::black_box;

use crate::forward::{BLOCK_TOKENS, BlockTable};

/// A secret name that a client gives to the beginning of a prompt.
pub type Handle = [u8; 32];

/// One block. There is one value for each, so it has one holder.
#[derive(Debug, PartialEq, Eq)]
pub struct Block(u32);

/// The blocks of one sequence: those that it shares with others, then its own. It goes back by [`Cache::release`].
#[derive(Debug)]
pub struct Lease {
    /// The prefix that it uses and how many of its blocks.
    shared: Option<(usize, usize)>,
    own: Vec<Block>,
    table: BlockTable,
}

/// A beginning of a prompt that a client wants to be kept, or to be reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Its secret name.
    pub handle: Handle,
    /// Its length in tokens.
    pub tokens: usize,
}

/// Why a sequence gets no blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum CacheError {
    #[error("{wanted} blocks are needed; {free} can be had")]
    Full { wanted: usize, free: usize },
    #[error("the prompt does not begin with the tokens of the prefix that its handle names")]
    PrefixDiffers,
}

/// The accounts.
#[derive(Debug)]
pub struct Cache {
    free: Vec<Block>,
    held: Vec<Option<Held>>,
    life_ms: u64,
    blocks: usize,
}

/// A prefix that is held.
#[derive(Debug)]
struct Held {
    handle: Handle,
    /// Those of its blocks.
    tokens: Vec<u32>,
    blocks: Vec<Block>,
    /// Sequences that read it now.
    users: usize,
    /// When it is no longer given to a new sequence.
    until_ms: u64,
    used_ms: u64,
}

impl Lease {
    /// The blocks in the order of the sequence.
    pub fn table(&self) -> &BlockTable {
        &self.table
    }

    /// Tokens whose keys and values are there already.
    pub fn cached_tokens(&self) -> usize {
        self.shared.map_or(0, |(_, blocks)| blocks * BLOCK_TOKENS)
    }
}

impl Cache {
    /// All of `blocks` are free. At most `prefixes_max` prefixes are held at once, each for `life_ms` at most.
    pub fn new(blocks: usize, prefixes_max: usize, life_ms: u64) -> Self {
        Cache {
            free: (0..blocks).rev().map(|block| Block(block as u32)).collect(),
            held: (0..prefixes_max).map(|_| None).collect(),
            life_ms,
            blocks,
        }
    }

    /// Blocks that there are.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Blocks that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Blocks for `positions` tokens that begin with `prompt`, some of them shared where `prefix` is held. At least the last
    /// token of the prompt is left to compute, since its scores are wanted.
    pub fn lease(
        &mut self,
        positions: usize,
        prompt: &[u32],
        prefix: Option<&Prefix>,
        now_ms: u64,
    ) -> Result<Lease, CacheError> {
        self.expire(now_ms);
        let found = prefix.and_then(|prefix| Some((self.find(&prefix.handle, now_ms)?, prefix)));
        let mut shared = match found {
            Some((index, prefix)) => self.shareable(index, prompt, prefix)?,
            None => None,
        };
        let all = positions.div_ceil(BLOCK_TOKENS);
        let rest = all - shared.map_or(0, |(_, blocks)| blocks).min(all);
        let wanted = match self.make_free(rest, shared.map(|(index, _)| index)) {
            Ok(()) => rest,
            // The prefix may have more blocks than this sequence shares: without it there may be enough.
            Err(_) => {
                shared = None;
                self.make_free(all, None)?;
                all
            }
        };
        let own = self.free.split_off(self.free.len() - wanted);
        let mut table = BlockTable(Vec::with_capacity(all));
        if let Some((index, blocks)) = shared
            && let Some(held) = &mut self.held[index]
        {
            held.users += 1;
            held.used_ms = now_ms;
            table.0.extend(held.blocks[..blocks].iter().map(|b| b.0));
        }
        table.0.extend(own.iter().map(|block| block.0));
        Ok(Lease { shared, own, table })
    }

    /// Keeps the whole blocks of the first `prefix.tokens` tokens of `prompt`, all of which have been computed, for later
    /// sequences. A held prefix that the lease shares grows. Nothing happens if another sequence was faster, if as many are
    /// held as may be and all are in use, or if the prefix has no whole block.
    pub fn hold(&mut self, lease: &mut Lease, prompt: &[u32], prefix: &Prefix, now_ms: u64) {
        let blocks = prefix.tokens.min(prompt.len()) / BLOCK_TOKENS;
        let index = match lease.shared {
            Some((index, shared)) if self.is_all_of(index, shared) && blocks > shared => index,
            None if blocks > 0 && self.find(&prefix.handle, now_ms).is_none() => {
                let Some(index) = self.vacancy() else { return };
                self.held[index] = Some(Held {
                    handle: prefix.handle,
                    tokens: Vec::new(),
                    blocks: Vec::new(),
                    users: 1,
                    until_ms: now_ms.saturating_add(self.life_ms),
                    used_ms: now_ms,
                });
                index
            }
            _ => return,
        };
        let Some(held) = &mut self.held[index] else {
            return;
        };
        let more = blocks - held.blocks.len();
        held.blocks.extend(lease.own.drain(..more));
        held.tokens.clear();
        held.tokens
            .extend_from_slice(&prompt[..blocks * BLOCK_TOKENS]);
        lease.shared = Some((index, blocks));
    }

    /// The sequence has ended.
    pub fn release(&mut self, lease: Lease) {
        self.free.extend(lease.own);
        if let Some((index, _)) = lease.shared
            && let Some(held) = &mut self.held[index]
        {
            held.users -= 1;
        }
    }

    /// How much of a held prefix `prompt` can use. What both say to be the prefix must be equal.
    fn shareable(
        &self,
        index: usize,
        prompt: &[u32],
        prefix: &Prefix,
    ) -> Result<Option<(usize, usize)>, CacheError> {
        let Some(held) = &self.held[index] else {
            return Ok(None);
        };
        let same = prefix.tokens.min(held.tokens.len());
        let begins = prompt.get(..same).zip(held.tokens.get(..same));
        match begins {
            Some((a, b)) if equal(a, b) => {
                let blocks = same.min(prompt.len().saturating_sub(1)) / BLOCK_TOKENS;
                Ok((blocks > 0).then_some((index, blocks)))
            }
            _ => Err(CacheError::PrefixDiffers),
        }
    }

    /// The living prefix of that handle. All are compared.
    fn find(&self, handle: &Handle, now_ms: u64) -> Option<usize> {
        let mut found = usize::MAX;
        for (index, held) in self.held.iter().enumerate() {
            let Some(held) = held.as_ref().filter(|held| held.until_ms > now_ms) else {
                continue;
            };
            let pairs = held.handle.iter().zip(handle);
            let differs = pairs.fold(0u8, |all, (a, b)| black_box(all | (a ^ b)));
            // All ones where no bit differs.
            let mask = (usize::from(differs).wrapping_sub(1) >> 8) & 1;
            found &= !black_box(0usize.wrapping_sub(mask)) | index;
        }
        (found != usize::MAX).then_some(found)
    }

    fn is_all_of(&self, index: usize, blocks: usize) -> bool {
        self.held[index]
            .as_ref()
            .is_some_and(|held| held.blocks.len() == blocks)
    }

    /// A place for a prefix, that of the longest unused one if need be.
    fn vacancy(&mut self) -> Option<usize> {
        if let Some(empty) = self.held.iter().position(Option::is_none) {
            return Some(empty);
        }
        let index = self.longest_unused(None)?;
        self.drop_prefix(index);
        Some(index)
    }

    /// Ends prefixes that nobody uses until `wanted` blocks are free, or none if that does not suffice.
    fn make_free(&mut self, wanted: usize, keep: Option<usize>) -> Result<(), CacheError> {
        let unused = |(index, held): (usize, &Option<Held>)| {
            let held = held.as_ref().filter(|held| held.users == 0);
            held.filter(|_| Some(index) != keep)
                .map_or(0, |held| held.blocks.len())
        };
        let spare: usize = self.held.iter().enumerate().map(unused).sum();
        let free = self.free.len() + spare;
        if free < wanted {
            return Err(CacheError::Full { wanted, free });
        }
        while self.free.len() < wanted {
            let Some(index) = self.longest_unused(keep) else {
                break;
            };
            self.drop_prefix(index);
        }
        Ok(())
    }

    fn longest_unused(&self, keep: Option<usize>) -> Option<usize> {
        let held = self.held.iter().enumerate();
        let unused = held.filter_map(|(index, held)| {
            let held = held.as_ref().filter(|held| held.users == 0)?;
            (Some(index) != keep).then_some((held.used_ms, index))
        });
        unused.min().map(|(_, index)| index)
    }

    fn expire(&mut self, now_ms: u64) {
        for index in 0..self.held.len() {
            let over = |held: &Held| held.users == 0 && held.until_ms <= now_ms;
            if self.held[index].as_ref().is_some_and(over) {
                self.drop_prefix(index);
            }
        }
    }

    fn drop_prefix(&mut self, index: usize) {
        if let Some(held) = self.held[index].take() {
            self.free.extend(held.blocks);
        }
    }
}

/// Whether two sequences of one length are equal. All is compared: only the answer shows.
fn equal(a: &[u32], b: &[u32]) -> bool {
    let pairs = a.iter().zip(b);
    pairs.fold(0, |all, (a, b)| black_box(all | (a ^ b))) == 0
}

#[cfg(test)]
impl Cache {
    /// Every block is free, in one of `leases` or in one prefix; each table is what its lease says; each prefix has as many
    /// users as leases name it, and as many tokens as its blocks have room for.
    pub(crate) fn check<'a>(&self, leases: impl Iterator<Item = &'a Lease>) {
        let mut seen = vec![0; self.blocks];
        let mut users = vec![0; self.held.len()];
        self.free
            .iter()
            .for_each(|block| seen[block.0 as usize] += 1);
        for held in self.held.iter().flatten() {
            held.blocks
                .iter()
                .for_each(|block| seen[block.0 as usize] += 1);
            assert_eq!(held.tokens.len(), held.blocks.len() * BLOCK_TOKENS);
        }
        for lease in leases {
            lease
                .own
                .iter()
                .for_each(|block| seen[block.0 as usize] += 1);
            let mut table = Vec::new();
            if let Some((index, blocks)) = lease.shared {
                users[index] += 1;
                let held = self.held[index].as_ref().expect("a used prefix stays");
                table.extend(held.blocks[..blocks].iter().map(|block| block.0));
            }
            table.extend(lease.own.iter().map(|block| block.0));
            assert_eq!(lease.table.0, table);
        }
        assert_eq!(seen, vec![1; self.blocks], "every block has one holder");
        let counted = self
            .held
            .iter()
            .map(|held| held.as_ref().map_or(0, |held| held.users));
        assert_eq!(counted.collect::<Vec<usize>>(), users);
    }

    /// Elements that its vectors have room for.
    pub(crate) fn footprint(&self) -> usize {
        let held = self.held.iter().flatten();
        let inside: usize = held
            .map(|held| held.blocks.capacity() + held.tokens.capacity())
            .sum();
        self.free.capacity() + self.held.capacity() + inside
    }

    pub(crate) fn prefixes(&self) -> usize {
        self.held.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: u64 = 1_000;

    fn prompt(tokens: usize) -> Vec<u32> {
        (0..tokens as u32).collect()
    }

    fn prefix(name: u8, tokens: usize) -> Prefix {
        Prefix {
            handle: [name; 32],
            tokens,
        }
    }

    #[test]
    fn blocks_are_given_exactly_and_a_full_cache_says_so() {
        let mut cache = Cache::new(4, 2, LIFE);
        let one = cache.lease(33, &prompt(33), None, 0).unwrap();
        assert_eq!((one.table().0.len(), cache.free()), (2, 2));
        let refused = cache.lease(65, &prompt(65), None, 0).err();
        assert_eq!(refused, Some(CacheError::Full { wanted: 3, free: 2 }));
        let two = cache.lease(64, &prompt(64), None, 0).unwrap();
        cache.check([&one, &two].into_iter());
        cache.release(one);
        cache.check([&two].into_iter());
        cache.release(two);
        assert_eq!(cache.free(), 4);
        cache.check([].into_iter());
    }

    #[test]
    fn a_prefix_is_shared_by_whole_blocks_and_counted() {
        let mut cache = Cache::new(8, 2, LIFE);
        let asked = prefix(7, 70);
        let mut one = cache.lease(100, &prompt(90), Some(&asked), 0).unwrap();
        assert_eq!(one.cached_tokens(), 0);
        cache.hold(&mut one, &prompt(90), &asked, 0);
        cache.check([&one].into_iter());
        let two = cache.lease(100, &prompt(90), Some(&asked), 1).unwrap();
        assert_eq!((two.cached_tokens(), cache.free()), (64, 8 - 4 - 2));
        assert_eq!(two.table().0[..2], one.table().0[..2]);
        cache.check([&one, &two].into_iter());
        cache.release(one);
        cache.release(two);
        assert_eq!((cache.free(), cache.prefixes()), (6, 1));
        // The last token of a prompt is always computed.
        let whole = cache
            .lease(64, &prompt(64), Some(&prefix(7, 64)), 2)
            .unwrap();
        assert_eq!(whole.cached_tokens(), 32);
        cache.release(whole);
        let other = cache
            .lease(64, &prompt(64), Some(&prefix(8, 64)), 2)
            .unwrap();
        assert_eq!(other.cached_tokens(), 0, "another handle");
    }

    #[test]
    fn other_tokens_under_a_held_handle_are_refused_wherever_they_differ() {
        let mut cache = Cache::new(8, 2, LIFE);
        let asked = prefix(7, 64);
        let mut one = cache.lease(64, &prompt(64), Some(&asked), 0).unwrap();
        cache.hold(&mut one, &prompt(64), &asked, 0);
        for at in 0..64 {
            let mut other = prompt(80);
            other[at] ^= 1 << (at % 32);
            let refused = cache.lease(80, &other, Some(&asked), 1).err();
            assert_eq!(refused, Some(CacheError::PrefixDiffers), "token {at}");
        }
        let short = cache.lease(40, &prompt(40), Some(&asked), 1).err();
        assert_eq!(
            short,
            Some(CacheError::PrefixDiffers),
            "it has not all of it"
        );
        let mut other = prompt(80);
        other[64] = 9;
        assert!(cache.lease(80, &other, Some(&asked), 1).is_ok());
    }

    #[test]
    fn a_handle_that_differs_in_any_bit_is_another() {
        let mut cache = Cache::new(4, 3, LIFE);
        let asked = prefix(0, 32);
        let mut one = cache.lease(33, &prompt(33), Some(&asked), 0).unwrap();
        cache.hold(&mut one, &prompt(33), &asked, 0);
        assert_eq!(cache.find(&[0; 32], 0), Some(0));
        for bit in 0..256 {
            let mut handle = [0; 32];
            handle[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cache.find(&handle, 0), None, "bit {bit}");
        }
    }

    #[test]
    fn a_prefix_grows_with_a_job_that_brings_more_of_it() {
        let mut cache = Cache::new(10, 1, LIFE);
        let mut one = cache
            .lease(40, &prompt(40), Some(&prefix(7, 32)), 0)
            .unwrap();
        cache.hold(&mut one, &prompt(40), &prefix(7, 32), 0);
        let asked = prefix(7, 100);
        let mut two = cache.lease(120, &prompt(120), Some(&asked), 0).unwrap();
        let mut three = cache.lease(120, &prompt(120), Some(&asked), 0).unwrap();
        assert_eq!(two.cached_tokens(), 32);
        cache.hold(&mut two, &prompt(120), &asked, 0);
        cache.check([&one, &two, &three].into_iter());
        cache.hold(&mut three, &prompt(120), &asked, 0);
        cache.check([&one, &two, &three].into_iter());
        assert_eq!(two.cached_tokens(), 96);
        assert_eq!(three.cached_tokens(), 32, "another was faster");
        [one, two, three]
            .into_iter()
            .for_each(|lease| cache.release(lease));
        let four = cache.lease(120, &prompt(120), Some(&asked), 0).unwrap();
        assert_eq!(four.cached_tokens(), 96);
    }

    #[test]
    fn prefixes_end_with_their_life_under_pressure_and_beyond_their_number_but_not_in_use() {
        let mut cache = Cache::new(4, 1, LIFE);
        let mut one = cache
            .lease(33, &prompt(33), Some(&prefix(1, 32)), 0)
            .unwrap();
        cache.hold(&mut one, &prompt(33), &prefix(1, 32), 0);
        let mut two = cache
            .lease(33, &prompt(33), Some(&prefix(2, 32)), 0)
            .unwrap();
        cache.hold(&mut two, &prompt(33), &prefix(2, 32), 0);
        assert_eq!(two.cached_tokens(), 0, "the one place is in use");
        let full = cache.lease(32, &prompt(32), None, LIFE).err();
        assert_eq!(full, Some(CacheError::Full { wanted: 1, free: 0 }));
        assert_eq!(cache.find(&[1; 32], LIFE), None, "its life has ended");
        assert_eq!(cache.prefixes(), 1, "and it is in use");
        cache.release(one);
        cache.hold(&mut two, &prompt(33), &prefix(2, 32), 5);
        cache.check([&two].into_iter());
        assert_eq!(two.cached_tokens(), 32, "an unused one makes room");
        cache.release(two);
        assert_eq!((cache.free(), cache.prefixes()), (3, 1));
        let all = cache.lease(128, &prompt(128), None, 6).unwrap();
        assert_eq!((cache.free(), cache.prefixes()), (0, 0));
        cache.release(all);
    }
}
