//! What a provider has staked for what its workers sign, as a node tells it: asked for before a job is sealed, where the owner demands
//! a stake.
//!
//! Trusted: the node, for the amounts and the block's time. That the account is a stake of this payee its address proves.

use super::ask;
use super::recent::{Recent, failed};
use crate::error::ClientError;
use crate::transport::Transport;
use settlement::toncenter;
use settlement::{Address, Nano, StakeRefused, StakeState};
use wire::Keyset;

/// A stake, and how old this view of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StakeView {
    /// What the node says of it.
    pub state: StakeState,
    /// Seconds since the block that it is from.
    pub age_s: u64,
}

/// Refuses a worker whose stake does not hold what the owner demands, if the owner demands any.
pub async fn check_stake(
    node: &Transport,
    least: Option<Nano>,
    keyset: &Keyset,
    now_unix_s: u64,
) -> Result<(), ClientError> {
    let Some(least) = least else {
        return Ok(());
    };
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
    let recent = Recent::read(node, "stake", stake, now_unix_s).await?;
    if !recent.is_active {
        return Err(StakeRefused::NotAStake(*stake).into());
    }
    let answer = ask(node, &toncenter::stake_state(stake)).await?;
    let (state, block) = answer.map_err(|error| failed("stake", stake, &error))?;
    let covered = recent.cover(block);
    covered.map_err(|why| failed("stake", stake, &why))?;
    let age_s = recent.age_s;
    Ok(StakeView { state, age_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHAIN_AGE_S_MAX;
    use ledger::Ledger;
    use settlement::{ChainId, StakeTerms, Wallet};

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
        let late = u64::from(NOW) + CHAIN_AGE_S_MAX + 60;
        let old = read_stake(&node, &stake, late).await.expect_err("old");
        assert!(old.to_string().contains("s old; at most"), "{old}");
    }
}
