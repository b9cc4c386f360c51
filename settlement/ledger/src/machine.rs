//! One external message and everything it causes, in memory. Nothing here touches the database.

use crate::{
    config,
    error::{LedgerError, Refusal},
    limits,
    transaction::{self, TransactionView},
};
use settlement::Address;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use tycho_executor::{Executor, ExecutorInspector, ParsedConfig, TxError};
use tycho_types::{
    boc::Boc,
    cell::{Cell, CellBuilder, HashBytes, Lazy},
    models::{
        CurrencyCollection, IntAddr, IntMsgInfo, MsgInfo, OptionalAccount, OwnedMessage,
        ShardAccount, StdAddr,
    },
    num::Tokens,
};

/// Where the faucet's money comes from. No key exists for it.
pub(crate) const FAUCET: Address = Address {
    workchain: 0,
    hash: [0; 32],
};

/// The effects of one external message: to be written at once, or not at all.
pub(crate) struct Effects {
    pub(crate) accounts: HashMap<Address, ShardAccount>,
    pub(crate) transactions: Vec<TransactionView>,
    /// Collected by the network: fees of transactions, and forwarding of delivered messages.
    pub(crate) fees: u128,
    pub(crate) next_lt: u64,
    /// Internal messages that the next block delivers.
    pub(crate) queued: Vec<Cell>,
    /// Those of the block before that were delivered now, by their place in the queue.
    pub(crate) delivered: Vec<i64>,
}

/// Reads accounts as they were before this message.
pub(crate) trait Accounts {
    fn shard_account(&self, address: &Address) -> Result<ShardAccount, LedgerError>;
}

pub(crate) struct Machine<'a> {
    config: &'a ParsedConfig,
    accounts: &'a dyn Accounts,
    now: u32,
    effects: Effects,
}

pub(crate) fn no_account() -> Result<ShardAccount, LedgerError> {
    Ok(ShardAccount {
        account: Lazy::new(&OptionalAccount::EMPTY)?,
        last_trans_hash: HashBytes::ZERO,
        last_trans_lt: 0,
    })
}

/// An external message, its destination known.
#[derive(Clone)]
pub(crate) struct External {
    pub(crate) root: Cell,
    pub(crate) to: Address,
}

impl External {
    pub(crate) fn decode(boc: &[u8]) -> Result<External, Refusal> {
        if boc.len() > limits::EXTERNAL_BYTES_MAX {
            return Err(Refusal::Malformed("above 65535 bytes"));
        }
        let root =
            Boc::decode(boc).map_err(|_| Refusal::Malformed("not a bag of cells with one root"))?;
        if root.repr_depth() > limits::EXTERNAL_DEPTH_MAX {
            return Err(Refusal::Malformed("deeper than 512 cells"));
        }
        let message = root
            .parse::<OwnedMessage>()
            .map_err(|_| Refusal::Malformed("the cells are no message"))?;
        let MsgInfo::ExtIn(info) = message.info else {
            return Err(Refusal::Malformed(
                "an internal message cannot come from outside",
            ));
        };
        let to =
            transaction::address(&info.dst).ok_or(Refusal::Malformed("no such destination"))?;
        Ok(External { root, to })
    }
}

/// The same external message with an import fee of 1, as anyone on its way may encode it: another hash, the same effect.
pub fn reencoded(boc: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let external = External::decode(boc)?;
    let mut message = external.root.parse::<OwnedMessage>()?;
    if let MsgInfo::ExtIn(info) = &mut message.info {
        info.import_fee = Tokens::new(1);
    }
    Ok(Boc::encode(CellBuilder::build_from(&message)?))
}

impl<'a> Machine<'a> {
    pub(crate) fn new(
        config: &'a ParsedConfig,
        accounts: &'a dyn Accounts,
        now: u32,
        lt: u64,
    ) -> Machine<'a> {
        let effects = Effects {
            accounts: HashMap::new(),
            transactions: Vec::new(),
            fees: 0,
            next_lt: lt,
            queued: Vec::new(),
            delivered: Vec::new(),
        };
        Machine {
            config,
            accounts,
            now,
            effects,
        }
    }

    pub(crate) fn external(mut self, external: &External) -> Result<Effects, LedgerError> {
        let out = self.execute(&external.to, true, &external.root, 0)?;
        self.deliver(out)
    }

    /// Whether the account would take the message now.
    pub(crate) fn would_take(mut self, external: &External) -> Result<(), LedgerError> {
        self.execute(&external.to, true, &external.root, 0)?;
        Ok(())
    }

    /// One block: these external messages, then these internal ones. What they cause waits for the next block. An external message
    /// that is refused leaves no trace.
    pub(crate) fn block(
        mut self,
        externals: &[External],
        internals: Vec<(i64, Cell)>,
    ) -> Result<Effects, LedgerError> {
        for external in externals {
            match self.execute(&external.to, true, &external.root, 0) {
                Ok(out) => self.queue(out)?,
                Err(LedgerError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for (place, root) in internals {
            let message = root.parse::<OwnedMessage>()?;
            if let MsgInfo::Int(info) = message.info {
                let out = self.internal(&info, &root)?;
                self.queue(out)?;
            }
            self.effects.delivered.push(place);
        }
        Ok(self.effects)
    }

    fn queue(&mut self, out: Vec<Cell>) -> Result<(), LedgerError> {
        for root in out {
            // Messages to the outside are events: kept in their transaction, delivered to nobody.
            if matches!(root.parse::<OwnedMessage>()?.info, MsgInfo::Int(_)) {
                self.effects.queued.push(root);
            }
        }
        Ok(())
    }

    /// Money out of nothing, by a message from [`FAUCET`] like any other.
    pub(crate) fn faucet(mut self, to: &Address, amount: u64) -> Result<Effects, LedgerError> {
        let info = IntMsgInfo {
            ihr_disabled: true,
            bounce: false,
            bounced: false,
            src: std_address(&FAUCET).into(),
            dst: std_address(to).into(),
            value: CurrencyCollection::from(Tokens::new(amount.into())),
            extra_flags: Default::default(),
            fwd_fee: Tokens::ZERO,
            created_lt: self.effects.next_lt,
            created_at: self.now,
        };
        let message = OwnedMessage {
            info: MsgInfo::Int(info),
            init: None,
            body: Default::default(),
            layout: None,
        };
        let root = CellBuilder::build_from(&message)?;
        let created_lt = self.effects.next_lt;
        let out = self.execute(to, false, &root, created_lt)?;
        self.deliver(out)
    }

    // In the order of their making, as one shard would.
    fn deliver(mut self, first: Vec<Cell>) -> Result<Effects, LedgerError> {
        let mut queue = VecDeque::from(first);
        let mut delivered = 0;
        while let Some(root) = queue.pop_front() {
            let message = root.parse::<OwnedMessage>()?;
            let MsgInfo::Int(info) = message.info else {
                continue;
            };
            delivered += 1;
            if delivered > limits::MESSAGES_PER_EXTERNAL_MAX {
                return Err(Refusal::TooManyMessages {
                    max: limits::MESSAGES_PER_EXTERNAL_MAX,
                }
                .into());
            }
            queue.extend(self.internal(&info, &root)?);
        }
        Ok(self.effects)
    }

    fn internal(&mut self, info: &IntMsgInfo, root: &Cell) -> Result<Vec<Cell>, LedgerError> {
        let to = transaction::address(&info.dst).ok_or_else(|| {
            LedgerError::Machine(
                "an action phase let a message to a malformed address through".into(),
            )
        })?;
        self.effects.fees += info.fwd_fee.into_inner();
        self.execute(&to, false, root, info.created_lt)
    }

    /// One transaction. Answers the messages it sent.
    fn execute(
        &mut self,
        to: &Address,
        external: bool,
        root: &Cell,
        created_lt: u64,
    ) -> Result<Vec<Cell>, LedgerError> {
        let before = match self.effects.accounts.get(to) {
            Some(account) => account.clone(),
            None => self.accounts.shard_account(to)?,
        };
        // A transaction comes after the message that causes it and after everything before it here.
        let lt = self.effects.next_lt.max(created_lt + 1);
        let seed = Sha256::digest(lt.to_be_bytes());
        let params = config::execution(self.now, lt, seed.into());
        let mut inspector = ExecutorInspector::default();
        let executor = Executor::new(&params, self.config).with_min_lt(lt);
        let output = executor
            .begin_ordinary_ext(
                &std_address(to),
                external,
                root.clone(),
                &before,
                Some(&mut inspector),
            )
            .and_then(|transaction| transaction.commit().map_err(TxError::Fatal));
        let output = match output {
            Ok(output) => output,
            Err(TxError::Skipped) => {
                let account = *to;
                return Err(match inspector.exit_code {
                    Some(exit_code) => Refusal::NotAccepted { account, exit_code }.into(),
                    None => Refusal::CannotRun { account }.into(),
                });
            }
            Err(TxError::Fatal(error)) => return Err(LedgerError::Machine(format!("{error:#}"))),
        };
        self.effects.fees +=
            output.transaction_meta.total_fees.into_inner() + output.burned.into_inner();
        self.effects.next_lt = output.transaction_meta.next_lt.max(lt + 1);
        self.effects
            .transactions
            .push(transaction::view(to, output.transaction.inner())?);
        self.effects.accounts.insert(*to, output.new_state);
        Ok(output
            .transaction_meta
            .out_msgs
            .into_iter()
            .map(Lazy::into_inner)
            .collect())
    }
}

pub(crate) fn std_address(address: &Address) -> StdAddr {
    StdAddr::new(address.workchain, HashBytes(address.hash))
}

pub(crate) fn int_address(address: &Address) -> IntAddr {
    IntAddr::Std(std_address(address))
}

#[cfg(test)]
mod differential;
