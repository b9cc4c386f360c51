//! What an image is for.

use serde::{Deserialize, Serialize};

/// What an image is for. Here it is a name; what makes it true is the programs inside, which are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Its module is simulated. Protects nothing.
    Sim,
    /// Runs models on the processor.
    Cpu,
    /// Runs models on an H100 and stops without one.
    H100,
    /// For developers, with doors that production does not have.
    Dev,
}

impl Profile {
    /// As files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Sim => "sim",
            Profile::Cpu => "cpu",
            Profile::H100 => "h100",
            Profile::Dev => "dev",
        }
    }

    /// The profile that files write so.
    pub fn parse(text: &str) -> Option<Profile> {
        [Profile::Sim, Profile::Cpu, Profile::H100, Profile::Dev]
            .into_iter()
            .find(|profile| profile.as_str() == text)
    }
}
