//! When a node's answer is from: what decides money or trust is read in a block that is recent enough.

use super::ask;
use crate::error::ClientError;
use crate::limits::CHAIN_AGE_S_MAX;
use crate::transport::Transport;
use settlement::Address;
use settlement::toncenter::{self, AccountStatus, AccountView};

/// An account in a block that is recent enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recent {
    /// Seconds since the block.
    pub(super) age_s: u64,
    /// Whether the account runs code.
    pub(super) is_active: bool,
    block: u32,
}

impl Recent {
    /// Asks for the account, and refuses an answer that is old or from no block. `what` names the account in errors.
    pub(super) async fn read(
        node: &Transport,
        what: &str,
        address: &Address,
        now_unix_s: u64,
    ) -> Result<Recent, ClientError> {
        let account = ask(node, &toncenter::account(address)).await?;
        let account = account.map_err(|error| failed(what, address, &error))?;
        Recent::of(&account, now_unix_s).map_err(|why| failed(what, address, &why))
    }

    /// Refuses another answer about the account from a block before this one. A node has several servers behind it; one that is behind
    /// would make the answer younger than it is.
    pub(super) fn cover(&self, block: Option<u32>) -> Result<(), &'static str> {
        match block {
            Some(block) if block >= self.block => Ok(()),
            _ => Err("the node's answer is from an older block than it said"),
        }
    }

    fn of(account: &AccountView, now_unix_s: u64) -> Result<Recent, String> {
        let (Some(unix_s), Some(block)) = (account.block_unix_s, account.block_seqno) else {
            return Err("the node does not say which block its answer is from".into());
        };
        let age_s = now_unix_s.saturating_sub(unix_s);
        if age_s > CHAIN_AGE_S_MAX {
            return Err(format!(
                "the node's answer is {age_s} s old; at most {CHAIN_AGE_S_MAX} s are accepted"
            ));
        }
        Ok(Recent {
            age_s,
            is_active: account.status == AccountStatus::Active,
            block,
        })
    }
}

/// An account could not be read.
pub(super) fn failed(what: &str, address: &Address, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::Chain(format!("{what} {address}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement::Nano;

    #[test]
    fn a_view_has_a_block_and_an_age_with_a_bound() {
        const NOW: u64 = 1_800_000_000;
        let account = |block_unix_s, block_seqno| AccountView {
            balance: Nano(1),
            status: AccountStatus::Active,
            last_lt: 1,
            block_unix_s,
            block_seqno,
        };
        let at = |age_s| Recent::of(&account(Some(NOW - age_s), Some(7)), NOW);
        let recent = at(0).expect("recent");
        assert_eq!((recent.age_s, recent.is_active), (0, true));
        assert_eq!(at(CHAIN_AGE_S_MAX).map(|r| r.age_s), Ok(CHAIN_AGE_S_MAX));
        let old = at(CHAIN_AGE_S_MAX + 1).expect_err("refused");
        assert!(old.contains("121 s old"), "{old}");
        for undated in [account(None, Some(7)), account(Some(NOW), None)] {
            let refused = Recent::of(&undated, NOW).expect_err("refused");
            assert!(refused.contains("which block"), "{refused}");
        }
        assert_eq!(recent.cover(Some(7)), Ok(()));
        assert!(recent.cover(Some(6)).is_err() && recent.cover(None).is_err());
    }
}
