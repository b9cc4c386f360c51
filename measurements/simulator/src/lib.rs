//! A simulated TDX module that signs with a test root of trust.
//!
//! **What it is.** A program, and a library for tests, in place of a TDX module, a quoting enclave and Intel's certificate
//! service: it holds registers and signs quotes of the real format under a root
//! made for this run ([`SimulatedModule`]). The guest is a process, whose registers start at zero, or a machine that was
//! launched with a software TPM, whose registers are computed from the files QEMU was given and from that TPM's log
//! ([`registers_of`]).
//!
//! **Trusts.** Every request on its socket, as hardware trusts the guest; and of a machine the firmware and memory in
//! [`Launched`]. Kernel, initrd and command line are compared with the log.
//!
//! **Promises.** Quotes and collateral have the real formats and go through the same verifier as Intel's. Keys are
//! made per run, live in memory and are never written. Every certificate, quote and file says that it is simulated.
//! A machine's MRTD and RTMR0-2 are computed by code of its own, which shares nothing with the code that predicts them, and
//! nothing that the guest sends changes them. Lengths on the socket and in files are checked before they are used.
//!
//! **Lacks.** Confidentiality, Intel's secrets, and any use in production: a production agent has no code that connects to it,
//! and a verifier must name its root as an insecure test root. It never starts a machine and never uses a TPM. It does not
//! read root images (the command line binds them).

mod asn1;
mod boot;
pub mod cli;
mod collateral;
mod firmware;
mod flaws;
mod hand_off;
mod kernel;
mod key;
mod launched;
pub mod limits;
mod module;
mod pki;
pub mod protocol;
mod quote;
mod server;
mod swtpm_log;

pub use boot::{BootError, Event, Source, events_in_log, events_of, registers_of};
pub use firmware::FirmwareError;
pub use flaws::{Flaws, Platform};
pub use kernel::KernelError;
pub use launched::{Accelerator, Launched, LaunchedError};
pub use module::{SimulatedModule, SimulatorError};
pub use server::{ServeError, serve, serve_launched};
pub use swtpm_log::LogError;
