//! Bundles, event logs and explanations.

mod bundle;
mod bundle_bytes;
mod common;
mod explain_logs;
mod explained;
mod replay_hostile;
mod replay_oracles;
