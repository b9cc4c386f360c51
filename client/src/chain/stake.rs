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
    use ledger::Ledger;
    use settlement::{ChainId, Nano, StakeTerms, Wallet};

    #[tokio::test]
    async fn a_stake_is_read_from_the_chain_and_nothing_else_is_one() {
        const NOW: u32 = 1_800_000_000;
        let ledger = Ledger::in_memory().expect("a ledger");
        ledger.set_time(NOW);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(ledger::serve(ledger.clone(), listener));
        let node = Transport::new(&url).expect("a url");
        let wallet = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
        let money = ledger.faucet(&wallet.address(), Nano(5_000_000_000));
        money.expect("money");
        let terms = StakeTerms {
            chain: ChainId::EMBEDDED,
            owner: wallet.address(),
            owner_key: [4; 32],
            unbond_delay_s: 7 * 86_400,
            slashable_until: NOW + 365 * 86_400,
            salt: 0,
        };
        let (stake, bonded) = (terms.address(), Nano(2_000_000_000));
        let read = async |stake: &Address| read_stake(&node, stake, NOW.into()).await;
        let refused = read(&stake)
            .await
            .expect_err("nothing is there")
            .to_string();
        assert!(refused.contains("stake"), "{refused}");

        let deposit = terms.deposit(bonded, 1).expect("an amount");
        let seqno = super::super::wallet_seqno(&node, &wallet.address()).await;
        let message = wallet.transfer(seqno.expect("read"), NOW + 60, &[deposit]);
        let sent = ledger.send_external(&message.expect("signed"));
        sent.expect("taken");
        let view = read(&stake).await.expect("a stake");
        assert_eq!((view.state.bonded, &view.state.terms), (bonded, &terms));
        let judge = |least| {
            let (chain, key) = (ChainId::EMBEDDED, &terms.owner_key);
            view.state
                .answers_for(&stake, chain, key, least, NOW.into())
        };
        assert_eq!(judge(bonded), Ok(()));
        let least = Nano(bonded.0 + 1);
        assert_eq!(
            judge(least),
            Err(StakeRefused::TooLittle { got: bonded, least })
        );
        // A contract of another kind, and a view that is too old.
        read(&wallet.address()).await.expect_err("a wallet");
        let late = u64::from(NOW) + STAKE_AGE_S_MAX + 60;
        let old = read_stake(&node, &stake, late).await.expect_err("old");
        assert!(old.to_string().contains("s old; at most"), "{old}");
    }

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
