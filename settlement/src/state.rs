//! What a node says a channel's state is, read from the stack of its get method `channel_state`.

use crate::{Address, ChainId, ChannelTerms, Nano, TermsRefused, toncenter::StackItem};

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelStatus {
    /// Takes top-ups and claims.
    Open,
    /// The payer wants out; claims are still paid.
    Closing,
    /// A tombstone. Pays nothing, ever.
    Closed,
}

/// A channel's state, as one node told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// Where it is in its life.
    pub status: ChannelStatus,
    /// The network its terms name.
    pub chain: ChainId,
    /// Everything ever put in (equals `paid` once closed).
    pub deposit: Nano,
    /// Everything ever paid to the payee.
    pub paid: Nano,
    /// When the close delay ends; 0 unless closing.
    pub unlock_at: u32,
    /// No claim after this.
    pub claims_until: u32,
    /// The agreed delay.
    pub close_delay_s: u32,
    /// Whose money it is.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// The voucher key in force now.
    pub payer_key: [u8; 32],
    /// The voucher key to come or last come, zero if never rotated.
    pub pending_key: [u8; 32],
    /// When `pending_key` takes or took effect; 0 if never rotated.
    pub pending_at: u32,
    /// Checks a cooperative close.
    pub payee_key: [u8; 32],
    /// Tells channels of the same terms apart.
    pub salt: u64,
}

/// Why a stack is not a channel's state, or not the state of the channel meant. The fault is the node's or the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum StateError {
    #[error("{got} items on the stack where the state has {expected}")]
    Items { got: usize, expected: usize },
    #[error("the {0} is not a number in its range")]
    Field(&'static str),
    #[error("the channel's {0} is not what the terms say")]
    Terms(&'static str),
}

/// Why a channel gives no credit in its state. The payer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum NotAdmitted {
    #[error(transparent)]
    Terms(#[from] TermsRefused),
    #[error("the channel is closing")]
    Closing,
    #[error("the channel is closed")]
    Closed,
    #[error(
        "the channel's payer key changes at {at} (Unix seconds); vouchers of today's key are void from then on"
    )]
    Rotating { at: u32 },
}

const ITEMS: usize = 16;

impl ChannelState {
    /// The get method that answers the stack.
    pub const GET_METHOD: &'static str = "channel_state";

    /// Reads the stack of [`GET_METHOD`](Self::GET_METHOD).
    pub fn parse(stack: &[StackItem]) -> Result<ChannelState, StateError> {
        let wrong_count = StateError::Items {
            got: stack.len(),
            expected: ITEMS,
        };
        let items: &[StackItem; ITEMS] = stack.try_into().map_err(|_| wrong_count)?;
        let field = |index: usize, name| Item {
            item: &items[index],
            name,
        };
        Ok(ChannelState {
            status: match field(0, "status").u64()? {
                0 => ChannelStatus::Open,
                1 => ChannelStatus::Closing,
                2 => ChannelStatus::Closed,
                _ => return Err(StateError::Field("status")),
            },
            chain: ChainId(field(1, "chain").i32()?),
            deposit: Nano(field(2, "deposit").u64()?),
            paid: Nano(field(3, "paid").u64()?),
            unlock_at: field(4, "unlock time").u32()?,
            claims_until: field(5, "end of claims").u32()?,
            close_delay_s: field(6, "close delay").u32()?,
            payer: address(field(7, "payer"), field(8, "payer"))?,
            payee: address(field(9, "payee"), field(10, "payee"))?,
            payer_key: field(11, "payer key").bytes()?,
            pending_key: field(12, "pending key").bytes()?,
            pending_at: field(13, "pending time").u32()?,
            payee_key: field(14, "payee key").bytes()?,
            salt: field(15, "salt").u64()?,
        })
    }

    /// Refuses the state of another channel. The payer's key may differ by rotation; compare it where it matters.
    pub fn matches(&self, terms: &ChannelTerms) -> Result<(), StateError> {
        let checks = [
            (self.chain == terms.chain, "chain"),
            (self.payer == terms.payer, "payer"),
            (self.payee == terms.payee, "payee"),
            (self.payee_key == terms.payee_key, "payee key"),
            (self.close_delay_s == terms.close_delay_s, "close delay"),
            (self.claims_until == terms.claims_until, "end of claims"),
            (self.salt == terms.salt, "salt"),
        ];
        match checks.iter().find(|(same, _)| !same) {
            Some((_, name)) => Err(StateError::Terms(name)),
            None => Ok(()),
        }
    }

    /// The terms of a channel in this state, with the payer key it started with.
    pub fn terms(&self, first_key: [u8; 32]) -> ChannelTerms {
        ChannelTerms {
            chain: self.chain,
            payer: self.payer,
            payee: self.payee,
            payer_key: first_key,
            payee_key: self.payee_key,
            close_delay_s: self.close_delay_s,
            claims_until: self.claims_until,
            salt: self.salt,
        }
    }

    /// Whether a payee lends on this channel now: terms that it accepts, and no end of claims under way.
    pub fn admits(&self, now_unix_s: u64) -> Result<(), NotAdmitted> {
        match self.status {
            ChannelStatus::Open => {}
            ChannelStatus::Closing => return Err(NotAdmitted::Closing),
            ChannelStatus::Closed => return Err(NotAdmitted::Closed),
        }
        if let Some(at) = self.rotates_at() {
            return Err(NotAdmitted::Rotating { at });
        }
        Ok(self.terms(self.payer_key).check_at(now_unix_s)?)
    }

    /// When today's payer key stops to count, if another is pending.
    pub fn rotates_at(&self) -> Option<u32> {
        // Once it is in force, the pending key is the payer key.
        (self.pending_at != 0 && self.pending_key != self.payer_key).then_some(self.pending_at)
    }

    /// When vouchers of today's payer key become worthless, by what is under way now.
    pub fn claimable_until(&self) -> u32 {
        let unlock_at = (self.status == ChannelStatus::Closing).then_some(self.unlock_at);
        let ends = [Some(self.claims_until), unlock_at, self.rotates_at()];
        ends.into_iter()
            .flatten()
            .min()
            .unwrap_or(self.claims_until)
    }

    /// What is deposited and not yet paid.
    pub fn remaining(&self) -> Nano {
        self.deposit.checked_sub(self.paid).unwrap_or(Nano::ZERO)
    }
}

pub(crate) struct Item<'a> {
    pub(crate) item: &'a StackItem,
    pub(crate) name: &'static str,
}

impl Item<'_> {
    pub(crate) fn bytes(&self) -> Result<[u8; 32], StateError> {
        self.item.to_uint256().ok_or(StateError::Field(self.name))
    }

    pub(crate) fn u64(&self) -> Result<u64, StateError> {
        self.item.to_u64().ok_or(StateError::Field(self.name))
    }

    pub(crate) fn u32(&self) -> Result<u32, StateError> {
        self.u64()?
            .try_into()
            .map_err(|_| StateError::Field(self.name))
    }

    pub(crate) fn i32(&self) -> Result<i32, StateError> {
        let number = self.item.to_i64().ok_or(StateError::Field(self.name))?;
        number.try_into().map_err(|_| StateError::Field(self.name))
    }
}

pub(crate) fn address(workchain: Item<'_>, hash: Item<'_>) -> Result<Address, StateError> {
    let wrong = StateError::Field(workchain.name);
    let number = i8::try_from(workchain.i32()?).map_err(|_| wrong)?;
    Address::checked(number, hash.bytes()?).map_err(|_| wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_lends_only_while_no_end_of_claims_is_under_way() {
        const NOW: u64 = 1_990_000_000;
        let mut open = ChannelState::parse(&stack()).expect("a state");
        open.payee.workchain = 0;
        let check = |change: &dyn Fn(&mut ChannelState), expected, until: u32| {
            let mut state = open.clone();
            change(&mut state);
            assert_eq!(
                (state.admits(NOW), state.claimable_until()),
                (expected, until)
            );
        };
        let end = open.claims_until;
        check(&|_| (), Ok(()), end);
        let closing = |s: &mut ChannelState| (s.status, s.unlock_at) = (ChannelStatus::Closing, 7);
        check(&closing, Err(NotAdmitted::Closing), 7);
        check(
            &|s| s.status = ChannelStatus::Closed,
            Err(NotAdmitted::Closed),
            end,
        );
        let rotating = |s: &mut ChannelState| (s.pending_key, s.pending_at) = ([1; 32], 9);
        check(&rotating, Err(NotAdmitted::Rotating { at: 9 }), 9);
        let rotated = |s: &mut ChannelState| (s.pending_key, s.pending_at) = (s.payer_key, 9);
        check(&rotated, Ok(()), end);
        let hasty = NotAdmitted::Terms(TermsRefused::CloseDelay(0));
        check(&|s| s.close_delay_s = 0, Err(hasty), end);
    }

    fn stack() -> Vec<StackItem> {
        let numbers = [
            0,
            20241,
            500,
            100,
            0,
            2_000_000_000,
            3600,
            0,
            5,
            -1,
            6,
            7,
            0,
            0,
            8,
            9,
        ];
        numbers.iter().map(|n| StackItem::from_i64(*n)).collect()
    }

    #[test]
    fn a_state_is_read_and_nearby_stacks_are_refused() {
        let state = ChannelState::parse(&stack()).expect("a state");
        assert_eq!(
            (state.status, state.remaining(), state.payee.workchain),
            (ChannelStatus::Open, Nano(400), -1)
        );
        let check = |index: usize, value: i64, field: &'static str| {
            let mut changed = stack();
            changed[index] = StackItem::from_i64(value);
            assert_eq!(ChannelState::parse(&changed), Err(StateError::Field(field)));
        };
        check(0, 3, "status");
        check(1, 1 << 40, "chain");
        check(2, -1, "deposit");
        check(4, 1 << 32, "unlock time");
        check(7, 1, "payer");
        check(9, 300, "payee");
        check(15, -1, "salt");
        let short = StateError::Items {
            got: 15,
            expected: 16,
        };
        assert_eq!(ChannelState::parse(&stack()[1..]), Err(short));
    }
}
