//! The untrusted proxy: relays sealed jobs, keeps vouchers, settles.
//!
//! **What it is.** The provider's program between the internet and its guest. Clients reach it by HTTP; it reaches the
//! guest by a Unix socket or vsock, and a TON node by HTTP. It also launches the guest, and reports what a host lacks for one.
//!
//! **Trusts.** Its operator, its disk, and one TON node within a maximum age. From clients and guest it accepts what is
//! signed, after it checked the signature.
//!
//! **Promises.** It may be killed at any moment: a voucher it acknowledged is on the disk, and no payout happens twice.
//! It endorses only keysets that pay its own operator. No peer makes it hold more than a bounded amount of memory or wait
//! without a deadline.
//!
//! **Lacks.** Session keys, plaintext, and anyone's trust. It can drop, delay and refuse; it can neither read an answer nor
//! forge one.

#![forbid(unsafe_code)]

mod api_error;
mod at_once;
mod auto_settle;
mod blocking;
mod channels;
mod check;
pub mod cli;
mod clock;
mod collateral;
mod config;
mod credit;
mod error;
mod evidence;
#[cfg(test)]
mod fixtures;
mod guest;
mod guest_policy;
mod guest_status;
mod guests;
mod http;
mod keys;
#[cfg(test)]
mod kill;
mod launch;
pub mod limits;
mod log;
mod metrics;
mod monitor;
mod node;
mod payee;
mod proxy;
mod rate;
mod receipts;
mod relay;
mod server;
mod service;
mod settle;
mod signer;
mod startup;
mod store;
mod telemetry;
mod tls;
mod tools;
mod voucher;

// Beside the program, for the fuzz targets, the tests of collateral and the hostile host:
pub use collateral::{
    Clock, CollateralCache, CollateralKey, Document, KeyError, OcspRequest, RimId, SourceError,
    SourceFailure, Unavailable, rim_document,
};
pub use config::{
    BaseUrl, BundleCollateral, CollateralConfig, Config, GuestFiles, NodeUrl, OcspSource, Rate,
    RimSource, SecondNode, ServiceConfig, SettleRule, TdxSource, TlsFiles,
};
pub use credit::{Credit, CreditRefused};
pub use error::Error;
pub use guest::{Dial, GuestAddress, GuestAddressError};
pub use keys::SecretSource;
pub use service::{InUse, Service};
pub use store::StatePlace;
pub use tools::Tools;
