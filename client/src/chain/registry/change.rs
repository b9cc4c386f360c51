//! What admin, guardian or anyone sends to a registry: judged first, sent once, followed until the version has grown.

use super::{RegistryRule, WHAT, answered};
use crate::chain::account;
use crate::chain::message::{Message, follow, needed};
use crate::chain::recent::{Recent, failed};
use crate::error::ClientError;
use crate::session::unix_s;
use crate::transport::Transport;
use settlement::{Address, Nano, RegistryState, Transfer, Wallet, toncenter};

/// Who may send a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The admin alone.
    Admin,
    /// The admin or the guardian.
    Either,
    /// Anyone.
    Anyone,
}

/// A change that its sender may make, not sent yet.
pub struct ChangePlan {
    /// The registry as it is.
    pub before: RegistryState,
    /// The wallet that sends.
    pub wallet: Address,
    /// What the wallet holds.
    pub balance: Nano,
    /// What goes with the message. What is not used of it comes back.
    pub value: Nano,
    /// The message is void after this, by the chain's clock.
    pub valid_until: u32,
    registry: Address,
    message: Message,
}

/// Reads registry and wallet, and refuses what this wallet may not send. Sends nothing.
pub async fn plan_change(
    node: &Transport,
    wallet: &Wallet,
    rule: &RegistryRule,
    role: Role,
    transfer: Transfer,
) -> Result<ChangePlan, ClientError> {
    let (registry, address) = (rule.address, wallet.address());
    let refuse = |why: String| failed(WHAT, &registry, &why);
    let before = state(node, &registry).await?;
    let (admin, guardian) = (before.terms.admin, before.terms.guardian);
    let may = match role {
        Role::Admin => address == admin,
        Role::Either => address == admin || address == guardian,
        Role::Anyone => true,
    };
    if !may {
        let or = match role {
            Role::Either => format!(" or the guardian's {guardian}"),
            _ => String::new(),
        };
        return Err(refuse(format!(
            "only the admin's wallet {admin}{or} may do this; `wallet_key_file` is that of {address}"
        )));
    }
    let account = account(node, &address).await?;
    let now = account.block_unix_s.unwrap_or(unix_s()?);
    let (balance, needed) = (account.balance, needed(&transfer).unwrap_or(Nano(u64::MAX)));
    if balance < needed {
        return Err(refuse(format!(
            "the wallet {address} holds {} and this needs {}, of which what is not used comes back",
            balance.in_ton(),
            needed.in_ton()
        )));
    }
    let message = Message::next(node, address, &account, transfer, now).await?;
    Ok(ChangePlan {
        before,
        wallet: address,
        balance,
        value: message.value(),
        valid_until: message.valid_until,
        registry,
        message,
    })
}

/// Sends a plan's message and follows it to its end. Returns the registry's version then.
pub async fn send_change(
    node: &Transport,
    wallet: &Wallet,
    plan: ChangePlan,
) -> Result<u64, ClientError> {
    let registry = plan.registry;
    let at = format!("{WHAT} {registry}");
    let shown = async || {
        let version = state(node, &registry).await?.version;
        Ok((version > plan.before.version).then_some(version))
    };
    follow(node, wallet, &plan.message, &at, "registry show", shown).await
}

async fn state(node: &Transport, registry: &Address) -> Result<RegistryState, ClientError> {
    let recent = Recent::read(node, WHAT, registry, unix_s()?).await?;
    let call = toncenter::registry_state(registry);
    answered(node, registry, &recent, &call).await
}
