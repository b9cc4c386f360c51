//! An embedded TON: a real TVM and transaction executor in this process, accounts in SQLite, toncenter's HTTP in front.
//!
//! **What it is.** A ledger for tests, demonstrations and offline development that speaks what `settlement::toncenter` speaks, so the
//! same client code settles here and on a live network. Its value is simulated: anyone may ask [`Ledger::faucet`] for more.
//!
//! **Trusts.** `tycho-executor` and `tycho-vm` to compute as TON does, SQLite to keep what it has committed, and the clock it is given.
//! It trusts no message: whatever bytes arrive, they are decoded within limits and judged by the contracts.
//!
//! **Promises.** An accepted external message and everything it causes, or with conditions a block, are one durable write
//! (`synchronous=FULL`): after a crash all of it is there, or none. A message that is not accepted leaves no trace. The network id is 20241, which no live network has, and
//! signatures made for it are void elsewhere.
//!
//! **Two ways.** By itself a message and all that it causes happen within one call, which no live network does. With
//! [`Conditions`] there are blocks: each message waits for the next one, and messages are dropped, delayed, doubled, encoded anew and
//! reordered, answers come late or not at all, by a seed. What has to stand a live network is tested so.
//!
//! **Lacks.** Validators, shards, masterchain contracts, proofs, forks.

pub mod cli;
mod config;
mod error;
mod getter;
mod http;
pub mod limits;
mod machine;
mod network;
mod shape;
mod store;
mod transaction;
mod world;

pub use error::{LedgerError, Refusal};
pub use getter::Answer;
pub use http::serve;
pub use machine::reencoded;
pub use network::{Conditions, Faults, View};
pub use transaction::{MessageView, Party, TransactionView};
pub use world::{Accepted, AccountState, AccountView, Ledger, Totals};
