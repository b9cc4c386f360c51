//! One message from a wallet, followed to its end.
//!
//! Promises: [`follow`] ends with the message's effect, or says for certain that it has none and may be repeated, or, when the node is
//! away, until when it may still take effect.

use super::{account, ask, seqno_of};
use crate::error::ClientError;
use crate::transport::Transport;
use settlement::toncenter::{self, AccountView};
use settlement::{Address, Nano, Transfer, Wallet};
use std::time::Duration;
use tokio::time::sleep;

/// How long a message may be taken by the wallet.
const VALID_S: u32 = 60;
/// How far a node may be behind the chain.
const MARGIN_S: u64 = 30;
/// Between two looks at the chain.
const POLL: Duration = Duration::from_millis(250);
/// What the wallet itself costs at most, its first message and forwarding included.
const WALLET_FEE: Nano = Nano(20_000_000);

/// A message that was not sent yet.
pub(super) struct Message {
    /// The wallet that sends.
    pub(super) wallet: Address,
    /// It is void after this, by the chain's clock.
    pub(super) valid_until: u32,
    seqno: u32,
    transfer: Transfer,
}

/// What a wallet must hold for a transfer. `None` if there is not so much.
pub(super) fn needed(transfer: &Transfer) -> Option<Nano> {
    transfer.value.checked_add(WALLET_FEE)
}

impl Message {
    /// The next one of a wallet in this state.
    pub(super) async fn next(
        node: &Transport,
        wallet: Address,
        account: &AccountView,
        transfer: Transfer,
        now_unix_s: u64,
    ) -> Result<Message, ClientError> {
        let now = u32::try_from(now_unix_s).unwrap_or(u32::MAX);
        Ok(Message {
            wallet,
            valid_until: now.saturating_add(VALID_S),
            seqno: seqno_of(node, &wallet, account).await?,
            transfer,
        })
    }

    /// What goes with it. What is not used of it comes back.
    pub(super) fn value(&self) -> Nano {
        self.transfer.value
    }
}

/// Sends a message to what `at` names, and looks for its effect with `shown`. Whoever is left in doubt looks with `command`.
pub(super) async fn follow<T>(
    node: &Transport,
    wallet: &Wallet,
    message: &Message,
    at: &str,
    command: &str,
    mut shown: impl AsyncFnMut() -> Result<Option<T>, ClientError>,
) -> Result<T, ClientError> {
    let said = |what: String| ClientError::Chain(format!("{at}: {what}"));
    let transfers = std::slice::from_ref(&message.transfer);
    let boc = wallet
        .transfer(message.seqno, message.valid_until, transfers)
        .map_err(|e| ClientError::Internal(e.to_string()))?;
    let sent = ask(node, &toncenter::send_boc(&boc)).await?;
    sent.map_err(|e| said(format!("the node did not take the message: {e}")))?;
    let uncertain = |error: ClientError| {
        let until = u64::from(message.valid_until) + MARGIN_S;
        said(format!(
            "{error}; the message may still take effect until {until} (Unix seconds): look with `{command}` before you repeat it"
        ))
    };
    let mut taken_at = None;
    loop {
        if let Some(effect) = shown().await.map_err(uncertain)? {
            return Ok(effect);
        }
        let account = account(node, &message.wallet).await.map_err(uncertain)?;
        let now = account
            .block_unix_s
            .ok_or_else(|| uncertain(said("the node does not date its answers".into())))?;
        let seqno = seqno_of(node, &message.wallet, &account).await;
        if seqno.map_err(uncertain)? > message.seqno {
            let since = *taken_at.get_or_insert(now);
            // The message takes a few blocks from the wallet to its end; a refused one comes back.
            if now > since + MARGIN_S {
                return Err(said(
                    "the wallet sent the message and it shows no effect; if it was refused, the value came back".into(),
                ));
            }
        } else if now > u64::from(message.valid_until) + MARGIN_S {
            return Err(said(
                "the message was not taken in its time and is void: nothing happened, repeat it"
                    .into(),
            ));
        }
        sleep(POLL).await;
    }
}
