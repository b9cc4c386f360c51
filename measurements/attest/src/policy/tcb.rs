//! The state of a platform, and which states a policy accepts.

use std::fmt;

use crate::{Policy, Refusal};

/// How Intel's collateral judges a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcbStatus {
    /// All known fixes are in.
    UpToDate,
    /// The hardware is fine; software inside must mitigate something.
    SwHardeningNeeded,
    /// The platform must be configured differently.
    ConfigurationNeeded,
    /// Both of the above.
    ConfigurationAndSwHardeningNeeded,
    /// Fixes are missing.
    OutOfDate,
    /// Fixes are missing and the platform must be configured differently.
    OutOfDateConfigurationNeeded,
    /// The guest was started before a fix that the platform has now.
    TdRelaunchAdvised,
    /// The same, and the platform must be configured differently.
    TdRelaunchAdvisedConfigurationNeeded,
    /// Keys of the platform leaked. No policy accepts this.
    Revoked,
}

/// Which of Intel's advisories may stand against a platform that is not `UpToDate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisories {
    /// Whatever the collateral lists.
    Any,
    /// Only these, by name. A new one is refused until somebody has read it.
    Only(Vec<String>),
}

/// What the collateral says of one platform.
pub(crate) struct PlatformTcb {
    pub(crate) status: TcbStatus,
    pub(crate) advisories: Vec<String>,
    /// The oldest date among the levels of its parts that are out of date.
    pub(crate) out_of_date_level_unix_s: Option<u64>,
}

impl Policy {
    /// Accepts or refuses the state of a platform. `Some` is the end of its grace, if it is accepted by grace.
    pub(crate) fn check_tcb(
        &self,
        tcb: &PlatformTcb,
        now_unix_s: u64,
    ) -> Result<Option<u64>, Refusal> {
        let listed = tcb.status != TcbStatus::Revoked && self.tcb_statuses.contains(&tcb.status);
        let grace_ends = match listed {
            true => None,
            false => Some(self.grace_ends_unix_s(tcb, now_unix_s)?),
        };
        if let Advisories::Only(allowed) = &self.advisories
            && tcb.status != TcbStatus::UpToDate
        {
            let unread: Vec<_> = tcb
                .advisories
                .iter()
                .filter(|advisory| !allowed.contains(advisory))
                .cloned()
                .collect();
            if !unread.is_empty() {
                return Err(Refusal::AdvisoriesRefused {
                    status: tcb.status,
                    advisories: unread,
                });
            }
        }
        Ok(grace_ends)
    }

    fn grace_ends_unix_s(&self, tcb: &PlatformTcb, now_unix_s: u64) -> Result<u64, Refusal> {
        let refused = Refusal::TcbRefused {
            status: tcb.status,
            advisories: tcb.advisories.clone(),
        };
        let only_old = match tcb.status {
            TcbStatus::OutOfDate => true,
            // Grace forgives the age; what remains must be accepted by name.
            TcbStatus::OutOfDateConfigurationNeeded => {
                self.tcb_statuses.contains(&TcbStatus::ConfigurationNeeded)
            }
            _ => false,
        };
        let (true, true, Some(level_unix_s)) = (
            only_old,
            self.out_of_date_grace_days > 0,
            tcb.out_of_date_level_unix_s,
        ) else {
            return Err(refused);
        };
        let ends = level_unix_s.saturating_add(u64::from(self.out_of_date_grace_days) * DAY_S);
        if now_unix_s > ends {
            return Err(Refusal::GraceOver {
                status: tcb.status,
                grace_days: self.out_of_date_grace_days,
                days: (now_unix_s - level_unix_s) / DAY_S,
                advisories: tcb.advisories.clone(),
            });
        }
        Ok(ends)
    }
}

impl TcbStatus {
    /// All of them.
    pub const ALL: [TcbStatus; 9] = [
        TcbStatus::UpToDate,
        TcbStatus::SwHardeningNeeded,
        TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSwHardeningNeeded,
        TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded,
        TcbStatus::TdRelaunchAdvised,
        TcbStatus::TdRelaunchAdvisedConfigurationNeeded,
        TcbStatus::Revoked,
    ];

    /// What to do about it, for the sentence of a refusal.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            TcbStatus::UpToDate => {
                "nothing is wrong with the platform: the policy must list UpToDate"
            }
            TcbStatus::SwHardeningNeeded => {
                "no update helps, software inside the guest must carry the mitigations of the advisories: a verifier who knows \
                 that it does lists this state and those advisories in the policy"
            }
            TcbStatus::ConfigurationNeeded => {
                "its operator must change the firmware settings that the advisories name, and register the platform again"
            }
            TcbStatus::ConfigurationAndSwHardeningNeeded => {
                "its operator must change the firmware settings that the advisories name, and software inside the guest must carry \
                 their mitigations"
            }
            TcbStatus::OutOfDate => {
                "fixes are missing: its operator must update firmware with microcode, TDX module and quoting enclave, and register the \
                 platform again; until then a policy may grant days of grace"
            }
            TcbStatus::OutOfDateConfigurationNeeded => {
                "fixes are missing and settings are wrong: its operator must update firmware, TDX module and quoting enclave, change the \
                 settings that the advisories name, and register the platform again"
            }
            TcbStatus::TdRelaunchAdvised => {
                "the platform was updated below the running guest: its operator must start the guest again"
            }
            TcbStatus::TdRelaunchAdvisedConfigurationNeeded => {
                "the platform was updated below the running guest and settings are wrong: its operator must change the settings that the \
                 advisories name, and start the guest again"
            }
            TcbStatus::Revoked => {
                "keys of this platform leaked: no update and no policy helps; use another platform"
            }
        }
    }
}

impl From<dcap_qvl::TcbStatus> for TcbStatus {
    fn from(status: dcap_qvl::TcbStatus) -> TcbStatus {
        use dcap_qvl::TcbStatus as Q;
        match status {
            Q::UpToDate => TcbStatus::UpToDate,
            Q::SWHardeningNeeded => TcbStatus::SwHardeningNeeded,
            Q::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
            Q::ConfigurationAndSWHardeningNeeded => TcbStatus::ConfigurationAndSwHardeningNeeded,
            Q::OutOfDate => TcbStatus::OutOfDate,
            Q::OutOfDateConfigurationNeeded => TcbStatus::OutOfDateConfigurationNeeded,
            Q::TDRelaunchAdvised => TcbStatus::TdRelaunchAdvised,
            Q::TDRelaunchAdvisedConfigurationNeeded => {
                TcbStatus::TdRelaunchAdvisedConfigurationNeeded
            }
            Q::Revoked => TcbStatus::Revoked,
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Intel's spelling, so that the word can be searched for in Intel's documents.
        f.write_str(match self {
            TcbStatus::UpToDate => "UpToDate",
            TcbStatus::SwHardeningNeeded => "SWHardeningNeeded",
            TcbStatus::ConfigurationNeeded => "ConfigurationNeeded",
            TcbStatus::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            TcbStatus::OutOfDate => "OutOfDate",
            TcbStatus::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            TcbStatus::TdRelaunchAdvised => "TDRelaunchAdvised",
            TcbStatus::TdRelaunchAdvisedConfigurationNeeded => {
                "TDRelaunchAdvisedConfigurationNeeded"
            }
            TcbStatus::Revoked => "Revoked",
        })
    }
}

const DAY_S: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use registers::{Digest48, Registers};

    const LEVEL_UNIX_S: u64 = 1_700_000_000;

    fn policy() -> Policy {
        let zero = Digest48::ZERO;
        Policy::exact(Registers {
            mrtd: zero,
            rtmr: [zero; 4],
        })
    }

    fn tcb(status: TcbStatus, advisories: &[&str]) -> PlatformTcb {
        PlatformTcb {
            status,
            advisories: advisories.iter().map(|id| (*id).to_owned()).collect(),
            out_of_date_level_unix_s: matches!(
                status,
                TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded
            )
            .then_some(LEVEL_UNIX_S),
        }
    }

    #[test]
    fn every_state_but_up_to_date_is_refused_with_its_own_remedy() {
        let mut sentences = std::collections::BTreeSet::new();
        for status in TcbStatus::ALL {
            let outcome = policy().check_tcb(&tcb(status, &[]), LEVEL_UNIX_S);
            assert_eq!(outcome.is_ok(), status == TcbStatus::UpToDate, "{status}");
            if let Err(refusal) = outcome {
                assert!(refusal.to_string().contains(status.remedy()), "{refusal}");
            }
            sentences.insert(status.remedy());
        }
        assert_eq!(sentences.len(), TcbStatus::ALL.len());
    }

    #[test]
    fn a_listed_state_is_accepted_with_the_listed_advisories_only() {
        for status in TcbStatus::ALL {
            let mut policy = policy();
            policy.tcb_statuses = vec![status];
            let clean = policy.check_tcb(&tcb(status, &[]), 0);
            assert_eq!(clean.is_ok(), status != TcbStatus::Revoked, "{status}");
            if matches!(status, TcbStatus::Revoked | TcbStatus::UpToDate) {
                continue;
            }
            policy.advisories = Advisories::Only(vec!["A".into()]);
            assert_eq!(policy.check_tcb(&tcb(status, &["A"]), 0), Ok(None));
            assert_eq!(
                policy.check_tcb(&tcb(status, &["A", "B"]), 0),
                Err(Refusal::AdvisoriesRefused {
                    status,
                    advisories: vec!["B".into()]
                })
            );
            policy.advisories = Advisories::Any;
            assert_eq!(policy.check_tcb(&tcb(status, &["A", "B"]), 0), Ok(None));
        }
    }

    #[test]
    fn grace_counts_whole_days_from_the_date_of_the_level() {
        let mut policy = policy();
        policy.out_of_date_grace_days = 30;
        let old = tcb(TcbStatus::OutOfDate, &[]);
        let ends = LEVEL_UNIX_S + 30 * DAY_S;
        for now in [0, LEVEL_UNIX_S, ends] {
            assert_eq!(policy.check_tcb(&old, now), Ok(Some(ends)));
        }
        assert_eq!(
            policy.check_tcb(&old, ends + 1),
            Err(Refusal::GraceOver {
                status: TcbStatus::OutOfDate,
                grace_days: 30,
                days: 30,
                advisories: vec![]
            })
        );
        policy.out_of_date_grace_days = u32::MAX;
        assert!(policy.check_tcb(&old, u64::MAX).is_err());
    }

    #[test]
    fn grace_forgives_age_and_nothing_else() {
        let mut policy = policy();
        policy.out_of_date_grace_days = 30;
        for status in TcbStatus::ALL {
            let accepted = policy.check_tcb(&tcb(status, &[]), LEVEL_UNIX_S).is_ok();
            let expected = matches!(status, TcbStatus::UpToDate | TcbStatus::OutOfDate);
            assert_eq!(accepted, expected, "{status}");
        }
        let both = tcb(TcbStatus::OutOfDateConfigurationNeeded, &[]);
        policy.tcb_statuses.push(TcbStatus::ConfigurationNeeded);
        assert!(policy.check_tcb(&both, LEVEL_UNIX_S).is_ok());
        let advised = tcb(TcbStatus::OutOfDate, &["A"]);
        assert!(policy.check_tcb(&advised, LEVEL_UNIX_S).is_err());
        policy.advisories = Advisories::Only(vec!["A".into()]);
        assert!(policy.check_tcb(&advised, LEVEL_UNIX_S).is_ok());
    }
}
