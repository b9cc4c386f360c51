//! Recipes, locks, packages and trees against an archive on the loopback that serves what these tests make.

mod archive;
mod beside;
mod cases;
mod hostile;
mod inputs;
mod killed;
mod locking;
mod made_packages;
mod signatures;
mod signer;
mod suite;
mod trees;
mod updates;
mod userland;
