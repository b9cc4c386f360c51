//! What a provider has staked for what its workers sign, as a node tells it: asked for before a job is sealed, where the owner demands
//! a stake.
//!
//! Trusted: the node, for the amounts and the block's time. That the account is a stake of this payee its address proves.

use super::ask;
use crate::error::ClientError;
use crate::limits::STAKE_AGE_S_MAX;
use crate::session::{Session, unix_s};
use crate::transport::Transport;
use settlement::toncenter::{self, AccountStatus, AccountView};
use settlement::{Address, StakeRefused, StakeState};

/// A stake, and how old this view of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StakeView {
    /// What the node says of it.
    pub state: StakeState,
    /// Seconds since the block that it is from.
    pub age_s: u64,
}

/// Refuses a worker whose stake does not hold what the owner demands, if the owner demands any.
pub async fn check_stake(node: &Transport, session: &Session) -> Result<(), ClientError> {
    let Some(least) = session.shared().stake_min else {
        return Ok(());
    };
    let (keyset, now_unix_s) = (session.keyset(), unix_s()?);
    let StakeView { state, age_s } = read_stake(node, &keyset.stake, now_unix_s).await?;
    let (at, chain, key) = (&keyset.stake, keyset.chain, &keyset.payee_key);
    state.answers_for(at, chain, key, least, now_unix_s)?;
    let bonded = state.bonded.in_ton();
    tracing::info!("the provider's stake {at} holds {bonded}, as of {age_s} s ago");
    Ok(())
}

/// Reads a stake in a block that is recent enough.
pub async fn read_stake(
    node: &Transport,
    stake: &Address,
    now_unix_s: u64,
) -> Result<StakeView, ClientError> {
    let failed = |why: &dyn std::fmt::Display| ClientError::Chain(format!("stake {stake}: {why}"));
    let account = ask(node, &toncenter::account(stake)).await?;
    let account = account.map_err(|error| failed(&error))?;
    let (age_s, dated) = date(&account, now_unix_s).map_err(|why| failed(&why))?;
    if account.status != AccountStatus::Active {
        return Err(StakeRefused::NotAStake(*stake).into());
    }
    let answer = ask(node, &toncenter::stake_state(stake)).await?;
    let (state, block) = answer.map_err(|error| failed(&error))?;
    // A node has several servers behind it; one that is behind the dated block would make it younger than it is.
    if block.is_none_or(|block| block < dated) {
        return Err(failed(
            &"the node's answer is from an older block than it said",
        ));
    }
    Ok(StakeView { state, age_s })
}

/// How old the block is, and its number.
fn date(account: &AccountView, now_unix_s: u64) -> Result<(u64, u32), String> {
    let (Some(unix_s), Some(block)) = (account.block_unix_s, account.block_seqno) else {
        return Err("the node does not say which block its answer is from".into());
    };
    match now_unix_s.saturating_sub(unix_s) {
        age_s @ ..=STAKE_AGE_S_MAX => Ok((age_s, block)),
        age_s => Err(format!(
            "the node's answer is {age_s} s old; at most {STAKE_AGE_S_MAX} s are accepted"
        )),
    }
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
        let at = |age_s| date(&account(Some(NOW - age_s), Some(7)), NOW);
        assert_eq!(at(0), Ok((0, 7)));
        assert_eq!(at(STAKE_AGE_S_MAX), Ok((STAKE_AGE_S_MAX, 7)));
        let old = at(STAKE_AGE_S_MAX + 1).expect_err("refused");
        assert!(old.contains("121 s old"), "{old}");
        for undated in [account(None, Some(7)), account(Some(NOW), None)] {
            let refused = date(&undated, NOW).expect_err("refused");
            assert!(refused.contains("which block"), "{refused}");
        }
    }
}
