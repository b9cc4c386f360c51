//! The ledger: a store, a machine and a clock behind one lock.

use crate::{
    Answer, config,
    error::LedgerError,
    getter, limits,
    machine::{Accounts, Effects, External, Machine, reencoded},
    network::{Conditions, Network, Past, View},
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
use tycho_types::{
    boc::Boc,
    models::{self, ShardAccount},
};

/// An embedded TON. Clones share one ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<World>>);

struct World {
    store: Store,
    config: ParsedConfig,
    clock: Clock,
    /// `None`: what a message causes happens at once.
    network: Option<Network>,
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

/// Where all the money is. `issued == balances + in_flight + fees`, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Everything the faucet ever gave.
    pub issued: u128,
    /// Everything accounts hold.
    pub balances: u128,
    /// Everything in messages that wait for the next block.
    pub in_flight: u128,
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
            network: None,
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

    /// From now on there are blocks, and what goes wrong between them; or other faults than before.
    pub fn set_conditions(&self, conditions: Conditions) {
        let mut world = self.world();
        let now = world.now();
        match &mut world.network {
            Some(network) => network.conditions = conditions,
            none => *none = Some(Network::new(conditions, now)),
        }
    }

    /// The state that one answer is from: the newest, or with faults an older one.
    pub fn view(&self) -> Result<View, LedgerError> {
        let mut world = self.world();
        world.advance()?;
        let seqno = world.store.counters()?.seqno;
        let newest = View {
            seqno,
            unix_s: world.now(),
            lt_below: u64::MAX,
        };
        let network = world.network.as_mut();
        Ok(network.map_or(newest, |network| network.view(seqno)))
    }

    /// Whether a question is refused because there are too many, as the faults have it.
    pub(crate) fn refuses(&self) -> bool {
        self.world().network.as_mut().is_some_and(Network::refuses)
    }

    /// Simulated money out of nothing.
    pub fn faucet(&self, to: &Address, amount: Nano) -> Result<TransactionView, LedgerError> {
        let mut world = self.world();
        world.advance()?;
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

    /// Delivers an external message. When this returns `Ok`, it and everything it caused are on disk. Where there are blocks, it is on
    /// its way: no account would refuse it now, and nothing is known of what it will cause.
    pub fn send_external(&self, boc: &[u8]) -> Result<Accepted, LedgerError> {
        let external = External::decode(boc)?;
        let mut world = self.world();
        world.advance()?;
        let (counters, now) = (world.store.counters()?, world.now());
        let machine = Machine::new(&world.config, &world.store, now, counters.next_lt);
        let hash = external.root.repr_hash().0;
        if world.network.is_none() {
            let effects = machine.external(&external)?;
            world.commit(&effects, counters)?;
            return Ok(Accepted {
                hash,
                transactions: effects.transactions,
            });
        }
        machine.would_take(&external)?;
        let anew = External::decode(&reencoded(boc)?).ok();
        if let Some(network) = &mut world.network {
            network.hold(external, anew, counters.seqno);
        }
        Ok(Accepted {
            hash,
            transactions: Vec::new(),
        })
    }

    /// An account as it is now.
    pub fn account(&self, address: &Address) -> Result<AccountView, LedgerError> {
        let mut world = self.world();
        world.advance()?;
        let shard = world.store.shard_account(address)?;
        drop(world);
        account_view(&shard)
    }

    /// An account as a view has it.
    pub fn account_in(&self, view: &View, address: &Address) -> Result<AccountView, LedgerError> {
        let shard = self.world().shard_account_in(view, address)?;
        account_view(&shard)
    }

    /// Runs a get method; it changes nothing.
    pub fn run_get_method(
        &self,
        address: &Address,
        method: &str,
        stack: &[StackItem],
    ) -> Result<Answer, LedgerError> {
        let mut world = self.world();
        world.advance()?;
        let account = world.store.shard_account(address)?.load_account()?;
        getter::run(&world.config, world.now(), address, account, method, stack)
    }

    /// The same on an account as a view has it.
    pub fn run_get_method_in(
        &self,
        view: &View,
        address: &Address,
        method: &str,
        stack: &[StackItem],
    ) -> Result<Answer, LedgerError> {
        let world = self.world();
        let account = world.shard_account_in(view, address)?.load_account()?;
        getter::run(&world.config, view.unix_s, address, account, method, stack)
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
        let mut world = self.world();
        world.advance()?;
        let limit = limit.min(limits::TRANSACTIONS_MAX);
        world.store.transactions(address, before_lt, limit)
    }

    /// The same as a view has them.
    pub fn transactions_in(
        &self,
        view: &View,
        address: &Address,
        before_lt: Option<u64>,
        limit: usize,
    ) -> Result<Vec<TransactionView>, LedgerError> {
        let before = before_lt.unwrap_or(u64::MAX).min(view.lt_below);
        let limit = limit.min(limits::TRANSACTIONS_MAX);
        self.world()
            .store
            .transactions(address, Some(before), limit)
    }

    /// The number of the newest block: where there are none, how many messages from outside were taken.
    pub fn seqno(&self) -> Result<u64, LedgerError> {
        let mut world = self.world();
        world.advance()?;
        Ok(world.store.counters()?.seqno)
    }

    /// Where all the money is.
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        let mut world = self.world();
        world.advance()?;
        let Counters { issued, fees, .. } = world.store.counters()?;
        let mut in_flight = 0;
        for (_, message) in world.store.queue()? {
            in_flight += transaction::carried(&message)?;
        }
        Ok(Totals {
            issued,
            balances: world.store.balances()?,
            in_flight,
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

fn account_view(shard: &ShardAccount) -> Result<AccountView, LedgerError> {
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

    /// Makes the blocks that are due.
    fn advance(&mut self) -> Result<(), LedgerError> {
        let now = self.now();
        loop {
            let Some(network) = &mut self.network else {
                return Ok(());
            };
            let block_s = network.block_s();
            let due = now.saturating_sub(network.block_unix_s) / block_s;
            if due == 0 {
                return Ok(());
            }
            let (counters, queue) = (self.store.counters()?, self.store.queue()?);
            if queue.is_empty() && network.is_idle() {
                network.block_unix_s += due * block_s;
                let seqno = counters.seqno + u64::from(due);
                return self.store.skip(&Counters { seqno, ..counters });
            }
            network.block_unix_s += block_s;
            let (externals, queue) = (network.due(counters.seqno + 1), network.order(queue));
            let unix_s = network.block_unix_s;
            let machine = Machine::new(&self.config, &self.store, unix_s, counters.next_lt);
            let effects = machine.block(&externals, queue)?;
            self.commit(&effects, counters)?;
        }
    }

    fn shard_account_in(
        &self,
        view: &View,
        address: &Address,
    ) -> Result<ShardAccount, LedgerError> {
        let before = self.network.as_ref();
        match before.and_then(|network| network.before(view, address)) {
            Some(account) => Ok(account.clone()),
            None => self.store.shard_account(address),
        }
    }

    fn commit(&mut self, effects: &Effects, before: Counters) -> Result<(), LedgerError> {
        if let Some(network) = &mut self.network {
            let addresses = effects.accounts.keys();
            let accounts = addresses.map(|at| Ok((*at, self.store.shard_account(at)?)));
            network.remember(Past {
                block: before.seqno + 1,
                next_lt: before.next_lt,
                accounts: accounts.collect::<Result<_, LedgerError>>()?,
            });
        }
        let after = Counters {
            next_lt: effects.next_lt,
            seqno: before.seqno + 1,
            fees: before.fees + effects.fees,
            issued: before.issued,
        };
        self.store.commit(effects, &after)
    }
}
