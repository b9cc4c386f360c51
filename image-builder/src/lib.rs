//! The builder of guest images.
//!
//! **What it is.** Boundary B5, where the internet becomes an image. A recipe names what a guest is made of; a lock, made from
//! it by one command, names every byte; what the lock lists is fetched into a store and unpacked into trees; from those an
//! image and its manifest are made. Models have a lock of their own.
//!
//! **Trusts.** The reviewed locks and recipes, and the store directory's owner. It trusts no mirror, no proxy on the way and no
//! certificate: TLS only hides what is fetched, the digest in the lock decides whether it is right. The making of a new package
//! lock believes who signed an archive's `InRelease`, if the recipe pins that key by its fingerprint, and the caller's clock.
//!
//! **Promises.** A file at a final path in the store had the size and SHA-256 that the lock names; a tree holds the files of its
//! packages and nothing else, and no link in it leads out. A failure leaves either nothing or a partial download under
//! `partial/`, never half a thing at a final path; the next run resumes it.
//!
//! **Lacks.** No maintainer script of a package ever runs. No Python, no shell, no root, and no way to accept a digest that a lock
//! does not list: changing a lock is a reviewed edit.
//!
//! The public interface is, in the order in which an image comes to be:

pub mod cli;
pub mod compile;
pub mod error;
pub(crate) mod files;
pub mod formats;
pub mod image;
pub mod limits;
pub mod lock;
pub mod locking;
pub mod model;
pub mod provenance;
pub mod release;
pub mod rootfs;
pub mod sandbox;
pub mod store;
