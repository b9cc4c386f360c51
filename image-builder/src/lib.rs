//! The builder of guest images; for now, its fetcher.
//!
//! **What it is.** The builder of guest images. In this version it is the first room of that house: it fetches models by
//! digest into a store (boundary B5, where the internet becomes an image). Recipes, image locks and manifests come later.
//!
//! **Trusts.** The committed lock, `models.lock.yaml`, and the store directory's owner. It trusts no mirror, no proxy on
//! the way and no certificate: TLS only hides what is fetched, the digest in the lock decides whether it is right.
//!
//! **Promises.** What lies at a final path in the store has the size and SHA-256 that the lock names. A failure leaves
//! either nothing or a partial download under `partial/`, never half a file at a final path; the next run resumes it.
//!
//! **Lacks.** No unpacking of names chosen by an archive, no Python, no shell, no root, and no way to accept a digest that
//! the lock does not list. It does not resolve versions: changing the lock is a reviewed edit.
//!
//! The public interface is:

pub mod acpi;
pub mod build;
pub mod cpio;
pub mod debian;
mod download;
pub mod erofs;
mod error;
pub mod fetch;
pub mod limits;
pub mod lock;
pub mod locking;
pub mod modules;
pub mod package_lock;
pub mod packages;
pub mod recipe;
pub mod sandbox;
mod store;
mod stream;
mod tree;
mod unpack;
pub mod verity;
mod yaml;

pub use error::{Fault, FetchError, MirrorFault};
pub use fetch::{Progress, ensure_models};
pub use lock::{Digest, LockError, ModelLock};
pub use store::Store;
