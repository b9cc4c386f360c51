//! The table, a module for each part of the repository.

use crate::mutation::Mutation;

mod client;
mod guest_agent;
mod host_proxy;
mod hostile;
mod image_builder;
mod measurements;
mod settlement;
mod wire;

/// All of it.
pub fn all() -> impl Iterator<Item = Mutation> {
    let parts: [&[Mutation]; 8] = [
        settlement::ALL,
        wire::ALL,
        guest_agent::ALL,
        host_proxy::ALL,
        client::ALL,
        measurements::ALL,
        image_builder::ALL,
        hostile::ALL,
    ];
    parts.into_iter().flatten().copied()
}
