//! How the network behaves: blocks at intervals, and what a message and an answer suffer on their way.
//!
//! ```text
//!  sendBoc ─► judged by the state of now ─► dropped?  twice?  encoded anew?  held for some blocks ─► a block takes it
//!  block n:   external messages that are due, and all internal ones that block n-1 made ─► block n+1 takes what they made
//!  an answer: the state of some blocks ago, or 429
//! ```
//!
//! Everything comes from a seed, so that a run can be repeated. Messages between the same two accounts keep their order, as TON
//! promises; others do not where [`Faults::reorder`] says so.

use crate::machine::External;
use settlement::Address;
use std::collections::{HashMap, VecDeque};
use tycho_types::{
    cell::Cell,
    models::{IntAddr, MsgInfo, OwnedMessage, ShardAccount},
};

/// Blocks, instead of everything at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Seconds of the ledger's clock between two blocks. 0 counts as 1.
    pub block_s: u32,
    /// Where all chance comes from.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
}

/// What goes wrong, in thousandths of all cases where it is a number without a unit. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// External messages that are taken and never reach a block.
    pub drop: u16,
    /// External messages that arrive twice.
    pub duplicate: u16,
    /// External messages that somebody encodes anew on their way: another hash, the same effect.
    pub reencode: u16,
    /// Questions that are answered with 429.
    pub refuse: u16,
    /// External messages wait up to so many blocks more.
    pub delay_blocks_max: u32,
    /// Answers are of a state up to so many blocks ago, each of another.
    pub lag_blocks_max: u32,
    /// Internal messages of one block are delivered in any order that TON allows.
    pub reorder: bool,
}

/// An old state is kept for so many changes.
const PAST_MAX: usize = 128;

pub(crate) struct Network {
    pub(crate) conditions: Conditions,
    /// When the last block was made.
    pub(crate) block_unix_s: u32,
    random: Random,
    waiting: Vec<Waiting>,
    past: VecDeque<Past>,
}

struct Waiting {
    due: u64,
    message: External,
}

/// What a change replaced.
pub(crate) struct Past {
    /// The block that the change made.
    pub(crate) block: u64,
    /// Logical times below this were before it.
    pub(crate) next_lt: u64,
    pub(crate) accounts: HashMap<Address, ShardAccount>,
}

/// A state to answer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its block.
    pub seqno: u64,
    /// When that was made.
    pub unix_s: u32,
    pub(crate) lt_below: u64,
}

impl Network {
    pub(crate) fn new(conditions: Conditions, now: u32) -> Network {
        Network {
            conditions,
            block_unix_s: now,
            random: Random(conditions.seed),
            waiting: Vec::new(),
            past: VecDeque::new(),
        }
    }

    pub(crate) fn block_s(&self) -> u32 {
        self.conditions.block_s.max(1)
    }

    /// Takes an external message into the next blocks, as the faults have it.
    pub(crate) fn hold(&mut self, message: External, anew: Option<External>, seqno: u64) {
        let faults = self.conditions.faults;
        if self.happens(faults.drop) {
            return;
        }
        let copies = 1 + usize::from(self.happens(faults.duplicate));
        for _ in 0..copies {
            let due = seqno + 1 + self.below(u64::from(faults.delay_blocks_max) + 1);
            let message = match &anew {
                Some(anew) if self.happens(faults.reencode) => anew.clone(),
                _ => message.clone(),
            };
            self.waiting.push(Waiting { due, message });
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The external messages that block `seqno` takes.
    pub(crate) fn due(&mut self, seqno: u64) -> Vec<External> {
        let (due, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.due <= seqno);
        self.waiting = later;
        due.into_iter().map(|waiting| waiting.message).collect()
    }

    /// The order in which a block takes the internal messages before it.
    pub(crate) fn order(&mut self, mut messages: Vec<(i64, Cell)>) -> Vec<(i64, Cell)> {
        if !self.conditions.faults.reorder {
            return messages;
        }
        let mut ordered = Vec::with_capacity(messages.len());
        while !messages.is_empty() {
            let pick = self.below(messages.len() as u64) as usize;
            // The first of those between the same two accounts goes first.
            let pair = pair(&messages[pick].1);
            let first = messages
                .iter()
                .position(|(_, other)| self::pair(other) == pair);
            ordered.push(messages.remove(first.unwrap_or(pick)));
        }
        ordered
    }

    pub(crate) fn remember(&mut self, past: Past) {
        if self.past.len() >= PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(past);
    }

    /// The state that the next answer is from.
    pub(crate) fn view(&mut self, seqno: u64) -> View {
        let lag_max = u64::from(self.conditions.faults.lag_blocks_max);
        let lag = self.below(lag_max + 1).min(seqno.saturating_sub(1));
        // Before what is remembered nothing is known.
        let oldest = match self.past.front() {
            Some(past) if self.past.len() >= PAST_MAX => past.block,
            _ => 0,
        };
        let at = (seqno - lag).max(oldest);
        let behind = u32::try_from(seqno - at).unwrap_or(u32::MAX);
        let after = self.past.iter().find(|past| past.block > at);
        View {
            seqno: at,
            unix_s: self
                .block_unix_s
                .saturating_sub(behind.saturating_mul(self.block_s())),
            lt_below: after.map_or(u64::MAX, |past| past.next_lt),
        }
    }

    /// An account as a view has it, where that is not as it is now.
    pub(crate) fn before(&self, view: &View, address: &Address) -> Option<&ShardAccount> {
        let after = self.past.iter().filter(|past| past.block > view.seqno);
        after.filter_map(|past| past.accounts.get(address)).next()
    }

    /// Whether this question is refused.
    pub(crate) fn refuses(&mut self) -> bool {
        self.happens(self.conditions.faults.refuse)
    }

    fn happens(&mut self, thousandths: u16) -> bool {
        thousandths > 0 && self.below(1_000) < u64::from(thousandths)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }
}

/// SplitMix64: short, and good enough to choose faults by.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `end`, or 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end <= 1 {
            return 0;
        }
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn pair(message: &Cell) -> Option<(IntAddr, IntAddr)> {
    match message.parse::<OwnedMessage>().ok()?.info {
        MsgInfo::Int(info) => Some((info.src, info.dst)),
        _ => None,
    }
}
