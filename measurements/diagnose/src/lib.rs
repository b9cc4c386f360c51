//! Why a guest measured to what it did: event logs, explanations, bundles of evidence and sets of machines.
//!
//! **What it is.** Event logs and the registers that they lead to ([`EventLog`]), the causes of a register that differs
//! ([`explain`]), one file with everything that a quote is judged by ([`bundle`]), and one image in many machines
//! ([`MachineSet`]).
//!
//! **Trusts.** Nothing that it reads. Who is believed is decided by `attest` and `gpu`.
//!
//! **Promises.** A cause is named only if the register recomputed with it equals the quote's. No input makes it panic, and
//! no length is believed before it is bounded.
//!
//! **Lacks.** Files, sockets, a clock, a random source: files and times are arguments.

#![forbid(unsafe_code)]

pub mod bundle;
mod event_log;
pub mod explain;
pub mod limits;
mod machine_set;

// The public interface is:
pub use event_log::{Claim, Event, EventLog, EventLogError, EventType, Kind, Replay, Source};
pub use machine_set::{
    Devices, DevicesError, Machine, MachineSet, MachineSetError, Membership, SetFirmware,
};
