//! A transaction as people and programs want to read it, with the fees told apart.

use crate::error::LedgerError;
use settlement::{Address, Nano};
use tycho_types::{
    boc::Boc,
    cell::{Cell, HashBytes},
    models::{ActionPhase, ComputePhase, IntAddr, MsgInfo, OwnedMessage, Transaction, TxInfo},
    num::Tokens,
};

/// One end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// An account.
    Account(Address),
    /// Somebody outside the chain.
    Outside,
}

/// A message in or out of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageView {
    /// Representation hash.
    pub hash: [u8; 32],
    /// Who sent it.
    pub source: Party,
    /// Who receives it.
    pub destination: Party,
    /// What it carries.
    pub value: Nano,
    /// What is collected for forwarding when it is delivered; the sender paid it.
    pub forward_fee: Nano,
    /// Logical time of its making; with the source it is unique.
    pub created_lt: u64,
    /// Whether it is a refused message on its way back.
    pub bounced: bool,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionView {
    /// Whose.
    pub account: Address,
    /// Logical time.
    pub lt: u64,
    /// Hash of its cell.
    pub hash: [u8; 32],
    /// When.
    pub unix_s: u32,
    /// Collected in this transaction: rent, gas, actions, and the first part of forwarding.
    pub total_fees: Nano,
    /// Of that, rent.
    pub storage_fees: Nano,
    /// The TVM's exit code; `None` if no code ran.
    pub exit_code: Option<i32>,
    /// Gas used, 0 if no code ran.
    pub gas_used: u64,
    /// The action phase's result; `None` if there was none.
    pub action_code: Option<i32>,
    /// Whether the account's state was left as it was.
    pub aborted: bool,
    /// What caused it.
    pub in_message: Option<MessageView>,
    /// What it caused.
    pub out_messages: Vec<MessageView>,
    /// The transaction itself, as a bag of cells.
    pub boc: Vec<u8>,
}

impl TransactionView {
    /// Everything the account paid here, as toncenter's `fee` counts it: [`total_fees`](Self::total_fees) and what its outgoing
    /// messages still carry for forwarding.
    pub fn fee(&self) -> Nano {
        let forward = self
            .out_messages
            .iter()
            .map(|message| message.forward_fee.0);
        Nano(forward.fold(self.total_fees.0, u64::saturating_add))
    }
}

pub(crate) fn view(account: &Address, root: &Cell) -> Result<TransactionView, LedgerError> {
    let transaction = root.parse::<Transaction>()?;
    let TxInfo::Ordinary(info) = transaction.load_info()? else {
        return Err(LedgerError::Machine(
            "a transaction without a message".into(),
        ));
    };
    let (exit_code, gas_used) = match &info.compute_phase {
        ComputePhase::Executed(phase) => (Some(phase.exit_code), phase.gas_used.into_inner()),
        ComputePhase::Skipped(_) => (None, 0),
    };
    let out = transaction
        .out_msgs
        .values()
        .map(|cell| message(&cell?))
        .collect::<Result<Vec<_>, LedgerError>>()?;
    Ok(TransactionView {
        account: *account,
        lt: transaction.lt,
        hash: root.repr_hash().0,
        unix_s: transaction.now,
        total_fees: nano(transaction.total_fees.tokens)?,
        storage_fees: nano(
            info.storage_phase
                .map_or(Tokens::ZERO, |phase| phase.storage_fees_collected),
        )?,
        exit_code,
        gas_used,
        action_code: info
            .action_phase
            .map(|phase: ActionPhase| phase.result_code),
        aborted: info.aborted,
        in_message: transaction.in_msg.as_ref().map(message).transpose()?,
        out_messages: out,
        boc: Boc::encode(root),
    })
}

fn message(root: &Cell) -> Result<MessageView, LedgerError> {
    let hash = root.repr_hash().0;
    let outside = MessageView {
        hash,
        source: Party::Outside,
        destination: Party::Outside,
        value: Nano::ZERO,
        forward_fee: Nano::ZERO,
        created_lt: 0,
        bounced: false,
    };
    Ok(match root.parse::<OwnedMessage>()?.info {
        MsgInfo::Int(info) => MessageView {
            source: party(&info.src),
            destination: party(&info.dst),
            value: nano(info.value.tokens)?,
            forward_fee: nano(info.fwd_fee)?,
            created_lt: info.created_lt,
            bounced: info.bounced,
            ..outside
        },
        MsgInfo::ExtIn(info) => MessageView {
            destination: party(&info.dst),
            ..outside
        },
        MsgInfo::ExtOut(info) => MessageView {
            source: party(&info.src),
            created_lt: info.created_lt,
            ..outside
        },
    })
}

/// Everything that an internal message carries: value, and what is still to be collected for forwarding.
pub(crate) fn carried(root: &Cell) -> Result<u128, LedgerError> {
    let view = message(root)?;
    Ok(u128::from(view.value.0) + u128::from(view.forward_fee.0))
}

pub(crate) fn nano(tokens: Tokens) -> Result<Nano, LedgerError> {
    u64::try_from(tokens.into_inner())
        .map(Nano)
        .map_err(|_| LedgerError::AmountOverflow)
}

/// `None` for addresses that are no account's here: other workchains, variable length, anycast.
pub(crate) fn address(address: &IntAddr) -> Option<Address> {
    match address {
        IntAddr::Std(std) if std.anycast.is_none() && matches!(std.workchain, 0 | -1) => {
            let HashBytes(hash) = std.address;
            Some(Address {
                workchain: std.workchain,
                hash,
            })
        }
        _ => None,
    }
}

fn party(at: &IntAddr) -> Party {
    address(at).map_or(Party::Outside, Party::Account)
}
