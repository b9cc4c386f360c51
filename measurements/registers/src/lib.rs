//! Digests and registers of a TDX guest, and the arithmetic between them: all that a guest and a simulator need.
//!
//! **What it is.** Typed digests ([`Digest32`], [`Digest48`]), the five registers of a guest ([`Registers`]) and how events
//! extend one ([`replay`]), the events that every agent measures ([`application_events`]), and the 64 bytes that a quote
//! binds ([`ReportData`]).
//!
//! **Trusts.** `sha2` for the hashes.
//!
//! **Promises.** One value has one spelling: text is lower-case hex of the exact length, and anything else is an error.
//!
//! **Lacks.** Files, sockets, clocks and random sources. It predicts nothing and verifies nothing.

#![forbid(unsafe_code)]

mod digest;
mod event;
mod register;
mod report_data;
mod verity_root;

// The public interface is:
pub use digest::{Digest32, Digest48, DigestError, lower_hex};
pub use event::{RuntimeEvent, application_events, replay};
pub use register::{Register, Registers};
pub use report_data::{GpuBinding, ReportData};
pub use verity_root::VerityRoot;
