//! **What it is.** A hostile host, simulated: it plays the network between the shipped client and the shipped proxy, and between that and
//! the shipped guest agent, and does by a seed what a host may do to all three. One thread, links in memory, a clock that stands still
//! until everybody waits. Attestation, sealing, receipts, vouchers, contracts and SQLite are real; the TDX module is the simulator's, and
//! the model's layers are replaced by a named stand-in, [`scripted`].
//!
//! **Trusts.** Nothing that passes. What it changes it parses with `wire`; frames and states of its own it has none.
//!
//! **Promises.** One seed is one plan of faults and one story: the same connections, bytes and moments of faults, and verdicts. What
//! blocks runs in the order of the virtual clock, and keys, job ids and seals are drawn from generators of the seed. Only challenges,
//! and the seconds of the wall clock within certificates and receipts, differ from run to run; their sizes do not.
//!
//! **Lacks.** Real sockets, settling on chain, embeddings, and a clock of the guest's own: all three parties share the simulated one, and a
//! guest whose clock stands still is one whose steps and streams do.

#![forbid(unsafe_code)]

pub mod dice;
pub mod faults;
pub mod host;
pub mod invariants;
pub mod lies;
pub mod links;
pub mod scripted;
pub mod site;
pub mod story;
pub mod world;
