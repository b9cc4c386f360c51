//! The ledger: a store, a machine and a clock behind one lock.

use crate::{
    Answer, config,
    error::LedgerError,
    getter, limits,
    machine::{Accounts, Effects, External, Machine},
    store::{Counters, Store},
    transaction::{self, TransactionView},
};
use settlement::{Address, ChainId, Nano, toncenter::StackItem};
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};
use tycho_executor::ParsedConfig;
use tycho_types::{boc::Boc, models};

/// An embedded TON. Clones share one ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<World>>);

struct World {
    store: Store,
    config: ParsedConfig,
    clock: Clock,
}

enum Clock {
    System,
    Fixed(u32),
    Source(Box<dyn Fn() -> u32 + Send>),
}

/// An external message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its hash.
    pub hash: [u8; 32],
    /// What it caused, in order; the first is the accepting account's.
    pub transactions: Vec<TransactionView>,
}

/// Whether an account runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// No such account.
    Nonexistent,
    /// Money without code.
    Uninitialized,
    /// It runs.
    Active {
        /// Hash of its code.
        code_hash: [u8; 32],
        /// Code, as a bag of cells.
        code_boc: Vec<u8>,
        /// Data, as a bag of cells.
        data_boc: Vec<u8>,
    },
    /// It owes too much rent.
    Frozen,
}

/// An account as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// What it holds.
    pub balance: Nano,
    /// Whether it runs.
    pub state: AccountState,
    /// Logical time of its last transaction, 0 if none.
    pub last_lt: u64,
    /// Hash of its last transaction, zero if none.
    pub last_hash: [u8; 32],
}

/// Where all the money is. `issued == balances + fees`, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Everything the faucet ever gave.
    pub issued: u128,
    /// Everything accounts hold.
    pub balances: u128,
    /// Everything the network collected.
    pub fees: u128,
}

impl Ledger {
    /// Opens or creates the ledger in this file. The clock is the system's until told otherwise.
    pub fn open(path: &Path) -> Result<Ledger, LedgerError> {
        Ledger::with_store(Store::open(path, ChainId::EMBEDDED)?)
    }

    /// A ledger that is gone with its last clone.
    pub fn in_memory() -> Result<Ledger, LedgerError> {
        Ledger::with_store(Store::in_memory(ChainId::EMBEDDED)?)
    }

    fn with_store(store: Store) -> Result<Ledger, LedgerError> {
        let config = config::network(ChainId::EMBEDDED, 1)?;
        Ok(Ledger(Arc::new(Mutex::new(World {
            store,
            config,
            clock: Clock::System,
        }))))
    }

    /// The network's id.
    pub fn chain(&self) -> ChainId {
        ChainId::EMBEDDED
    }

    /// From now on the clock stands still at this moment.
    pub fn set_time(&self, unix_s: u32) {
        self.world().clock = Clock::Fixed(unix_s);
    }

    /// From now on the clock is this function, in seconds since 1970.
    pub fn set_clock(&self, source: impl Fn() -> u32 + Send + 'static) {
        self.world().clock = Clock::Source(Box::new(source));
    }

    /// The time contracts see.
    pub fn now(&self) -> u32 {
        self.world().now()
    }

    /// Simulated money out of nothing.
    pub fn faucet(&self, to: &Address, amount: Nano) -> Result<TransactionView, LedgerError> {
        let mut world = self.world();
        let (counters, now) = (world.store.counters()?, world.now());
        let effects = Machine::new(&world.config, &world.store, now, counters.next_lt)
            .faucet(to, amount.0)?;
        let issued = counters.issued + u128::from(amount.0);
        world.commit(&effects, Counters { issued, ..counters })?;
        effects
            .transactions
            .into_iter()
            .next()
            .ok_or(LedgerError::Machine(
                "a faucet without a transaction".into(),
            ))
    }

    /// Delivers an external message. When this returns `Ok`, it and everything it caused are on disk.
    pub fn send_external(&self, boc: &[u8]) -> Result<Accepted, LedgerError> {
        let external = External::decode(boc)?;
        let mut world = self.world();
        let (counters, now) = (world.store.counters()?, world.now());
        let effects =
            Machine::new(&world.config, &world.store, now, counters.next_lt).external(&external)?;
        world.commit(&effects, counters)?;
        Ok(Accepted {
            hash: external.root.repr_hash().0,
            transactions: effects.transactions,
        })
    }

    /// An account as it is now.
    pub fn account(&self, address: &Address) -> Result<AccountView, LedgerError> {
        let shard = self.world().store.shard_account(address)?;
        let (last_lt, last_hash) = (shard.last_trans_lt, shard.last_trans_hash.0);
        let Some(account) = shard.load_account()? else {
            return Ok(AccountView {
                balance: Nano::ZERO,
                state: AccountState::Nonexistent,
                last_lt,
                last_hash,
            });
        };
        let state = match account.state {
            models::AccountState::Uninit => AccountState::Uninitialized,
            models::AccountState::Frozen(_) => AccountState::Frozen,
            models::AccountState::Active(init) => {
                let (code, data) = (init.code.unwrap_or_default(), init.data.unwrap_or_default());
                let code_hash = code.repr_hash().0;
                AccountState::Active {
                    code_hash,
                    code_boc: Boc::encode(code),
                    data_boc: Boc::encode(data),
                }
            }
        };
        Ok(AccountView {
            balance: transaction::nano(account.balance.tokens)?,
            state,
            last_lt,
            last_hash,
        })
    }

    /// Runs a get method; it changes nothing.
    pub fn run_get_method(
        &self,
        address: &Address,
        method: &str,
        stack: &[StackItem],
    ) -> Result<Answer, LedgerError> {
        let world = self.world();
        let account = world.store.shard_account(address)?.load_account()?;
        getter::run(&world.config, world.now(), address, account, method, stack)
    }

    /// An account's transactions, newest first, at most [`limits::TRANSACTIONS_MAX`].
    pub fn transactions(&self, address: &Address) -> Result<Vec<TransactionView>, LedgerError> {
        self.transactions_before(address, None, limits::TRANSACTIONS_MAX)
    }

    /// Those before a logical time, newest first.
    pub fn transactions_before(
        &self,
        address: &Address,
        before_lt: Option<u64>,
        limit: usize,
    ) -> Result<Vec<TransactionView>, LedgerError> {
        self.world()
            .store
            .transactions(address, before_lt, limit.min(limits::TRANSACTIONS_MAX))
    }

    /// How many messages from outside were taken: this ledger's block number.
    pub fn seqno(&self) -> Result<u64, LedgerError> {
        Ok(self.world().store.counters()?.seqno)
    }

    /// Where all the money is.
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        let world = self.world();
        let Counters { issued, fees, .. } = world.store.counters()?;
        Ok(Totals {
            issued,
            balances: world.store.balances()?,
            fees,
        })
    }

    // A panic under the lock cannot leave the world half changed: what counts is in the database, written at once.
    fn world(&self) -> MutexGuard<'_, World> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl World {
    fn now(&self) -> u32 {
        match &self.clock {
            Clock::Fixed(unix_s) => *unix_s,
            Clock::Source(source) => source(),
            Clock::System => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
            }
        }
    }

    fn commit(&mut self, effects: &Effects, before: Counters) -> Result<(), LedgerError> {
        let after = Counters {
            next_lt: effects.next_lt,
            seqno: before.seqno + 1,
            fees: before.fees + effects.fees,
            issued: before.issued,
        };
        self.store.commit(effects, &after)
    }
}
