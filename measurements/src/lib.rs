//! The program `measurements`: predicts the registers of a TDX guest, and verifies, replays and explains its evidence.
//!
//! **What it is.** Commands for providers and verifiers. They read files and the clock, call the crates beside this one
//! (`attest`, `gpu`, `predict`, `diagnose`) and print.
//!
//! **Trusts.** The files and options that its caller names, and this machine's clock unless a time is named.
//!
//! **Promises.** No command believes a peer that `attest::verify` refuses. Files are read up to a limit.
//!
//! **Lacks.** Sockets: it fetches no collateral. Rules: what it prints is decided in the crates.

#![forbid(unsafe_code)]

mod cli;

pub use cli::{command, run};
