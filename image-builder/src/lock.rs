//! What an image and its models are made of: by name in a recipe, by digest in a lock (boundary B5).
//!
//! ```text
//! Recipe (people write it) ──make_lock, with Debian's signed indexes──► PackageLock (reviewed)
//! ModelLock (reviewed): the models that may be fetched
//! ```
//! The modules say what each trusts and promises; nothing below `debian` opens a connection or writes a file.

pub mod debian;
pub(crate) mod model_lock;
pub(crate) mod package_lock;
pub(crate) mod recipe;
pub(crate) mod yaml;

pub use model_lock::{Archive, LockedFile, MadeFile, Model, ModelLock};
pub(crate) use model_lock::{base_url, is_plain_name};
pub use package_lock::{InputKind, LockedInput, Package, PackageLock, Role};
pub use recipe::{Choice, Fingerprint, Recipe};
