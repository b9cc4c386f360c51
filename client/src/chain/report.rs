//! A report of what a worker signed, to the stake that answers for it.
//!
//! Trusted: the node, for whether the stake can still be slashed. The contract judges the report itself, by signatures alone.

use super::message::{Message, follow, needed};
use super::{account, read_stake};
use crate::error::ClientError;
use crate::session::unix_s;
use crate::transport::Transport;
use settlement::{Address, EndorsedKey, Nano, Offence, StakeState, Wallet};
use wire::{Bundle, Endorsement, Evidence, Keyset, NotTrusted};

/// Seconds that a report is on its way.
const ON_ITS_WAY_S: u64 = 60;

/// A report that would be judged, not sent yet.
pub struct ReportPlan {
    /// Which stake answers.
    pub stake: Address,
    /// What it is now.
    pub before: StakeState,
    /// The wallet that sends, and gets the reporter's part.
    pub wallet: Address,
    /// What goes with the message. What is not used of it comes back.
    pub value: Nano,
    message: Message,
}

/// The key that committed an offence, as its stake knows it: from the evidence that was verified when its worker was asked.
pub fn endorsed_key(bundle: &[u8]) -> Result<EndorsedKey, ClientError> {
    let bundle = Bundle::decode(bundle).map_err(NotTrusted::from)?;
    let evidence = Evidence::decode(&bundle.evidence).map_err(NotTrusted::from)?;
    let keyset = Keyset::decode(&evidence.keyset).map_err(NotTrusted::from)?;
    let receipt_key = keyset.receipt_key;
    let (delegation, signature) = match bundle.endorsement {
        Endorsement::Direct(signature) => (None, signature),
        Endorsement::Delegated {
            delegation,
            signature,
        } => (Some(delegation.encode()), signature),
    };
    let key = EndorsedKey::new(&evidence.keyset, receipt_key, delegation, signature);
    key.map_err(|e| ClientError::Chain(e.to_string()))
}

/// Reads stake and wallet, and refuses what would not be slashed any more. Sends nothing.
pub async fn plan_report(
    node: &Transport,
    wallet: &Wallet,
    offence: &Offence,
) -> Result<ReportPlan, ClientError> {
    let (stake, address) = (offence.charge().charge.stake, wallet.address());
    let refuse = |why: String| ClientError::Chain(format!("stake {stake}: {why}"));
    let now = unix_s()?;
    let before = read_stake(node, &stake, now).await?.state;
    if before.terms.address() != stake {
        return Err(refuse("its terms give another address".into()));
    }
    let account = account(node, &address).await?;
    let now = account.block_unix_s.unwrap_or(now);
    if !before.reportable(now, ON_ITS_WAY_S) {
        return Err(refuse("nothing is left that a report would cut".into()));
    }
    let transfer = before.terms.report(offence, now);
    let (balance, needed) = (account.balance, needed(&transfer).unwrap_or(Nano(u64::MAX)));
    if balance < needed {
        let (balance, needed) = (balance.in_ton(), needed.in_ton());
        return Err(refuse(format!(
            "the wallet {address} holds {balance} and this needs {needed}, of which what is not used comes back"
        )));
    }
    let message = Message::next(node, address, &account, transfer, now).await?;
    Ok(ReportPlan {
        stake,
        before,
        wallet: address,
        value: message.value(),
        message,
    })
}

/// Sends a report and follows it until the stake has been cut. Returns the stake then.
pub async fn send_report(
    node: &Transport,
    wallet: &Wallet,
    plan: ReportPlan,
) -> Result<StakeState, ClientError> {
    let at = format!("stake {}", plan.stake);
    let shown = async || {
        let state = read_stake(node, &plan.stake, unix_s()?).await?.state;
        Ok((state.slashes > plan.before.slashes).then_some(state))
    };
    follow(node, wallet, &plan.message, &at, "report --dry-run", shown).await
}
