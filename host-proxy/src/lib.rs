//! The untrusted proxy: relays sealed jobs, keeps vouchers, settles.
//!
//! **What it is.** The provider's program between the internet and its guest. Clients reach it by HTTP; it reaches the
//! guest by a Unix socket or vsock, and a TON node by HTTP. It also launches the guest, and says what a host lacks for one.
//!
//! **Trusts.** Its operator, its disk, and one chain node within a maximum age. Of clients and guest it believes what is
//! signed, after it checked the signature.
//!
//! **Promises.** It may be killed at any moment: a voucher it acknowledged is on the disk, and no payout happens twice.
//! It endorses only keysets that pay its own operator. No peer makes it hold more than a bounded amount of memory or wait
//! without a deadline.
//!
//! **Lacks.** A session key, a plaintext, anybody's belief. It can drop, delay and refuse; it can neither read an answer
//! nor make one up.

#![forbid(unsafe_code)]

pub mod chain;
pub mod channels;
pub mod check;
pub mod cli;
pub mod collateral;
mod config;
mod endorse;
#[cfg(test)]
mod fake;
mod guest;
mod http;
pub mod launch;
pub mod limits;
mod proxy;
mod relay;
mod reply;
mod settle;
pub mod vouchers;

// The public interface is:
pub use config::{
    BaseUrl, CollateralConfig, CollateralFrom, Config, ConfigError, NodeUrl, OcspSource, RimSource,
    SettleRule, TdxSource,
};
pub use endorse::{KeyFileError, NotEndorsed, Payee};
pub use guest::{GuestAddress, GuestAddressError, GuestError, GuestStream};
pub use http::serve;
pub use proxy::{Proxy, Reservation, StartError};
pub use reply::{Executed, Reply};
pub use settle::{SettleError, Settled, Settler};
