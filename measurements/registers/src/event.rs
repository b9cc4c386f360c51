//! Events that a guest measures into RTMR3, and the register that they lead to.

use serde::{Deserialize, Serialize};

use crate::Digest48;

/// One thing a guest measured into RTMR3 after boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeEvent {
    /// What was measured, for people.
    pub name: String,
    /// The digest that extended the register.
    pub digest: Digest48,
}

/// The value of a register that started at zero and was extended by these events, in order: `r = SHA384(r || digest)`.
pub fn replay(events: &[RuntimeEvent]) -> Digest48 {
    events.iter().fold(Digest48::ZERO, |register, event| {
        register.extended_by(&event.digest)
    })
}

/// What every agent measures into RTMR3, whatever it runs on: its own binary, then its measured configuration.
pub fn application_events(agent: Digest48, config: Digest48) -> [RuntimeEvent; 2] {
    [("agent", agent), ("config", config)].map(|(name, digest)| RuntimeEvent {
        name: name.into(),
        digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_of_nothing_is_zero() {
        assert_eq!(replay(&[]), Digest48::ZERO);
    }

    // Expected value: python3, hashlib.sha384(bytes(48) + hashlib.sha384(b"agent").digest()).
    #[test]
    fn replay_matches_another_implementation() {
        let event = |name: &str| RuntimeEvent {
            name: name.into(),
            digest: Digest48::of(name.as_bytes()),
        };
        assert_eq!(replay(&[event("agent")]).to_string(), AGENT_ONLY);
        assert_eq!(
            replay(&[event("agent"), event("config")]).to_string(),
            AGENT_THEN_CONFIG
        );
        assert_ne!(
            replay(&[event("config"), event("agent")]).to_string(),
            AGENT_THEN_CONFIG
        );
    }

    const AGENT_ONLY: &str = "82a140b4b2ccd3c1c13c23daaebd6fa3cc2588cc8cdc3decefd3cf754821199fd1f2ad72b3f663468bb2a4edd81fc813";
    const AGENT_THEN_CONFIG: &str = "37438dc63d92dbbb82df674b4a2872683a012938d1bea9f8964b68d6993d1b19b8d8fa63f949c467e237e0242407c7f1";
}
