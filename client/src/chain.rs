//! What the client asks of a TON node: the state of its channel, and to carry messages to it.
//!
//! Two readers: [`read_channel`] for jobs, which takes only an open channel under the configured key, and [`owned_channel`] for its
//! owner, which also takes one that closes, is closed, or had its key rotated, since its money is still the owner's.
//!
//! Trusted: nothing that can be computed. A channel's address is a hash over its terms, so a node that lies about who is
//! paid is caught here. What it says about deposit and paid is its claim; a lie there costs at most a refused job, since
//! the payer signs no more than it counted.

mod message;
mod orders;
mod recent;
mod registry;
mod report;
mod stake;

pub use orders::{NotNow, Order, Plan, plan, send};
pub use registry::{
    ChangePlan, RegistryContents, RegistryRule, RegistrySeen, Role, check_registry, plan_change,
    read_registry, send_change,
};
pub use report::{ReportPlan, endorsed_key, plan_report, send_report};
pub use stake::{StakeView, check_stake, read_stake};

use crate::config::ConfigError;
use crate::error::ClientError;
use crate::limits::REPLY_BYTES_MAX;
use crate::transport::{Ask, Transport};
use settlement::toncenter::{self, AccountView, Call, ChainError};
use settlement::{
    Address, ChainId, ChannelState, ChannelStatus, ChannelTerms, Nano, Transfer, Wallet,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A channel that was read from the chain and whose terms belong to its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Where it lives.
    pub address: Address,
    /// What the node says of it.
    pub state: ChannelState,
}

/// What opening a channel did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Where the channel lives.
    pub channel: Channel,
    /// The wallet that paid.
    pub wallet: Address,
}

/// One question to the node.
pub async fn ask<T>(
    node: &Transport,
    call: &Call<T>,
) -> Result<Result<T, ChainError>, ClientError> {
    let request = call.request();
    let ask = Ask {
        method: request.method,
        path: request.path,
        content_type: "application/json",
        authorization: "",
        body: request.body.clone(),
    };
    let reply = node
        .call(ask, REPLY_BYTES_MAX)
        .await
        .map_err(|e| ClientError::Chain(format!("the node at the configured address: {e}")))?;
    Ok(call.answer(reply.status, &reply.body))
}

/// Reads a channel and refuses one that is not ours, not open, or not what its address says.
pub async fn read_channel(
    node: &Transport,
    chain: ChainId,
    address: Address,
    payer_key: &[u8; 32],
) -> Result<Channel, ClientError> {
    let channel = owned_channel(node, chain, address, payer_key).await?;
    usable(&channel.state, &address, payer_key)?;
    Ok(channel)
}

/// Reads a channel in whatever state it is, and refuses one that `first_key`, the key it was opened with, did not open.
pub async fn owned_channel(
    node: &Transport,
    chain: ChainId,
    address: Address,
    first_key: &[u8; 32],
) -> Result<Channel, ClientError> {
    let state = ask(node, &toncenter::channel_state(&address))
        .await?
        .map_err(|e| ClientError::Chain(format!("channel {address}: {e}")))?;
    prove(&state, chain, &address, first_key)?;
    Ok(Channel { address, state })
}

fn prove(
    state: &ChannelState,
    chain: ChainId,
    address: &Address,
    first_key: &[u8; 32],
) -> Result<(), ClientError> {
    let refuse = |why: &str| Err(ClientError::Chain(format!("channel {address} {why}")));
    if state.chain != chain {
        return refuse("is on another chain than the configuration says");
    }
    // The address is a hash over the terms and the key it was opened with, which rotations do not change.
    let terms = state.terms(*first_key);
    if terms.address() != *address && terms.address_v1() != *address {
        return refuse(
            "is not the address of the terms that the node tells and the key in `payer_key_file`: the channel was opened with \
             another key, or the node is not to be believed",
        );
    }
    Ok(())
}

/// Whether jobs can be paid from it.
fn usable(
    state: &ChannelState,
    address: &Address,
    payer_key: &[u8; 32],
) -> Result<(), ClientError> {
    let refuse = |why: &str| Err(ClientError::Chain(format!("channel {address} {why}")));
    if state.terms(*payer_key).address_v1() == *address {
        return refuse(
            "is of version 1 of the contract, which pays for no more jobs: open another with `channel open`, and take the rest out of \
             this one with `channel close` and `channel withdraw` (`channel` in the configuration names it)",
        );
    }
    match state.status {
        ChannelStatus::Open => {}
        ChannelStatus::Closing => return refuse("is closing"),
        ChannelStatus::Closed => return refuse("is closed"),
    }
    if state.payer_key != *payer_key {
        return refuse(
            "had its key rotated. Guests know a channel by the key it was opened with: open another for jobs (`terms.salt`), and \
             take the rest out of this one with `channel close` and `channel withdraw`",
        );
    }
    if state.pending_at != 0 && state.pending_key != *payer_key {
        return refuse("has a rotation of its key under way; `channel cancel` takes it back");
    }
    Ok(())
}

/// The message that opens a channel, if the contract would take the deposit.
pub fn deployment(
    terms: &ChannelTerms,
    deposit: Nano,
    now_unix_s: u64,
) -> Result<Transfer, ClientError> {
    let refused = |error| ConfigError(format!("`terms`: {error}"));
    terms.check_at(now_unix_s).map_err(refused)?;
    let deploy = terms.deploy(deposit, now_unix_s);
    Ok(deploy.ok_or_else(|| ConfigError("the deposit is more than there is".into()))?)
}

/// Deploys a channel with its first deposit and waits until the chain shows it. One message, valid for a minute: a
/// second call after a failure first looks whether the channel is there.
pub async fn open_channel(
    node: &Transport,
    wallet: &Wallet,
    terms: &ChannelTerms,
    deposit: Nano,
    now_unix_s: u64,
) -> Result<Opened, ClientError> {
    let address = terms.address();
    let read = || read_channel(node, terms.chain, address, &terms.payer_key);
    if let Ok(channel) = read().await {
        return Err(ClientError::Chain(format!(
            "channel {address} is open already, with a deposit of {}",
            channel.state.deposit.in_ton()
        )));
    }
    let seqno = wallet_seqno(node, &wallet.address()).await?;
    let deploy = deployment(terms, deposit, now_unix_s)?;
    let valid_until = u32::try_from(now_unix_s + 60)
        .map_err(|_| ClientError::Internal("this machine's clock is not set".into()))?;
    let message = wallet
        .transfer(seqno, valid_until, &[deploy])
        .map_err(|e| ClientError::Internal(e.to_string()))?;
    ask(node, &toncenter::send_boc(&message))
        .await?
        .map_err(|e| ClientError::Chain(format!("opening channel {address}: {e}")))?;
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        match read().await {
            Ok(channel) if channel.state.deposit >= deposit => {
                let wallet = wallet.address();
                return Ok(Opened { channel, wallet });
            }
            Err(error) if Instant::now() > patience => return Err(error),
            _ if Instant::now() > patience => {
                return Err(ClientError::Chain(format!(
                    "channel {address} has no deposit after a minute"
                )));
            }
            _ => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// An account, as the node says it is.
pub async fn account(node: &Transport, address: &Address) -> Result<AccountView, ClientError> {
    ask(node, &toncenter::account(address))
        .await?
        .map_err(|e| ClientError::Chain(format!("account {address}: {e}")))
}

/// The number of the wallet's next message.
async fn wallet_seqno(node: &Transport, wallet: &Address) -> Result<u32, ClientError> {
    let account = account(node, wallet).await?;
    seqno_of(node, wallet, &account).await
}

async fn seqno_of(
    node: &Transport,
    wallet: &Address,
    account: &AccountView,
) -> Result<u32, ClientError> {
    if account.status != toncenter::AccountStatus::Active {
        return Ok(0);
    }
    ask(node, &toncenter::wallet_seqno(wallet))
        .await?
        .map_err(|e| ClientError::Chain(format!("wallet {wallet}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (ChannelState, Address) {
        let account = |n| Address {
            workchain: 0,
            hash: [n; 32],
        };
        let state = ChannelState {
            status: ChannelStatus::Open,
            chain: ChainId::EMBEDDED,
            deposit: Nano(10),
            paid: Nano(0),
            unlock_at: 0,
            claims_until: 2_000_000_000,
            close_delay_s: 3_600,
            payer: account(1),
            payee: account(2),
            payer_key: [3; 32],
            pending_key: [0; 32],
            pending_at: 0,
            payee_key: [4; 32],
            salt: 5,
        };
        let address = state.terms(state.payer_key).address();
        (state, address)
    }

    #[test]
    fn a_channel_of_version_1_is_its_owners_and_pays_for_no_job() {
        let (state, _) = state();
        let old = state.terms(state.payer_key).address_v1();
        assert_eq!(prove(&state, ChainId::EMBEDDED, &old, &[3; 32]), Ok(()));
        let refused = verdict(&state, &old).expect_err("refused");
        assert!(refused.to_string().contains("version 1"), "{refused}");
    }

    fn verdict(state: &ChannelState, address: &Address) -> Result<(), ClientError> {
        prove(state, ChainId::EMBEDDED, address, &[3; 32])?;
        usable(state, address, &[3; 32])
    }

    #[test]
    fn a_node_cannot_name_another_payee() {
        let (state, address) = state();
        assert_eq!(verdict(&state, &address), Ok(()));
        let lie = ChannelState {
            payee_key: [9; 32],
            ..state.clone()
        };
        assert!(verdict(&lie, &address).is_err());
        let lie = ChannelState {
            payee: state.payer,
            ..state
        };
        assert!(verdict(&lie, &address).is_err());
    }

    #[test]
    fn an_owner_reads_what_jobs_are_refused_on() {
        let (state, address) = state();
        let owned = |state: &ChannelState| prove(state, ChainId::EMBEDDED, &address, &[3; 32]);
        for (change, said) in [
            (
                (|s| s.status = ChannelStatus::Closing) as fn(&mut ChannelState),
                "is closing",
            ),
            (|s| s.status = ChannelStatus::Closed, "is closed"),
            (|s| s.payer_key = [9; 32], "had its key rotated"),
            (
                |s| (s.pending_key, s.pending_at) = ([9; 32], 7),
                "has a rotation of its key under way",
            ),
        ] {
            let mut changed = state.clone();
            change(&mut changed);
            assert_eq!(owned(&changed), Ok(()));
            let refused = verdict(&changed, &address).expect_err("refused");
            assert!(refused.to_string().contains(said), "{refused}");
        }
        let back = ChannelState {
            pending_key: [3; 32],
            pending_at: 7,
            ..state.clone()
        };
        assert_eq!(verdict(&back, &address), Ok(()), "rotated to its own key");
        let others = prove(&state, ChainId::EMBEDDED, &address, &[9; 32]);
        assert!(others.is_err(), "opened with another key");
    }

    #[test]
    fn a_channel_of_another_chain_or_key_or_near_its_end_is_refused() {
        let (state, address) = state();
        for other in [
            ChannelState {
                chain: ChainId::TESTNET,
                ..state.clone()
            },
            ChannelState {
                payer_key: [9; 32],
                ..state.clone()
            },
            ChannelState {
                status: ChannelStatus::Closing,
                ..state.clone()
            },
            ChannelState {
                status: ChannelStatus::Closed,
                ..state.clone()
            },
        ] {
            assert!(verdict(&other, &address).is_err());
        }
    }
}
