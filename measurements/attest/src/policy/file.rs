//! A policy as a file: JSON, version 1, no unknown keys. What the file leaves out is as strict as [`Policy::exact`].
//!
//! `policy.example.json` beside this crate has every key. Whoever reads a policy from a file trusts the file as its own
//! opinion; the limits are for accidents, and for policies that an untrusted party hands to a service.

use serde::{Deserialize, Deserializer, de};

use super::{Advisories, MIGRATABLE, SERVTD_EXT, TUD, TcbStatus};
use crate::Policy;
use crate::limits;
use registers::{Digest48, Registers};

/// Why bytes are not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum PolicyError {
    #[error("the policy has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("the policy is not valid: {0}")]
    Json(String),
    #[error("the policy has version {got}; this program reads version {VERSION}")]
    Version { got: u32 },
    #[error("the policy's {what} is over its limit of {max}")]
    OverLimit { what: &'static str, max: usize },
    #[error("the policy accepts {what}, which is always refused: take it out")]
    NeverAccepted { what: &'static str },
    #[error(
        "the policy requires XFAM bits {required:#x} and allows {allowed:#x}: it must allow what it requires"
    )]
    Xfam { required: u64, allowed: u64 },
}

impl Policy {
    /// Reads a policy file. Its list of registers may be empty, and then [`verify`](crate::verify) accepts nobody until
    /// the caller adds some.
    pub fn from_json(bytes: &[u8]) -> Result<Policy, PolicyError> {
        if bytes.len() > limits::POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong {
                got: bytes.len(),
                max: limits::POLICY_BYTES_MAX,
            });
        }
        let file: PolicyJson =
            serde_json::from_slice(bytes).map_err(|e| PolicyError::Json(e.to_string()))?;
        file.check()?;
        Ok(file.with_defaults())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyJson {
    version: u32,
    #[serde(default)]
    registers: Vec<Registers>,
    #[serde(default)]
    tcb: TcbJson,
    #[serde(default)]
    td_attributes_allowed: Option<Bits>,
    #[serde(default)]
    xfam: Option<XfamJson>,
    #[serde(default)]
    mr_config_id: Option<Digest48>,
    #[serde(default)]
    mr_owner: Option<Digest48>,
    #[serde(default)]
    mr_owner_config: Option<Digest48>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbJson {
    #[serde(default)]
    statuses: Option<Vec<TcbStatus>>,
    #[serde(default)]
    advisories: Option<AdvisoriesJson>,
    #[serde(default)]
    out_of_date_grace_days: u32,
    #[serde(default)]
    evaluation_number_min: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AdvisoriesJson {
    Any,
    Only(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct XfamJson {
    required: Bits,
    allowed: Bits,
}

/// `0x` and up to 16 lower-case hex digits: JSON's numbers lose bits above the 53rd.
#[derive(Clone, Copy)]
struct Bits(u64);

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bits, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.strip_prefix("0x")
            .filter(|digits| {
                digits
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Bits)
            .ok_or_else(|| de::Error::custom("bits are written as 0x and lower-case hex digits"))
    }
}

impl<'de> Deserialize<'de> for TcbStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TcbStatus, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        TcbStatus::ALL
            .into_iter()
            .find(|status| status.to_string() == text)
            .ok_or_else(|| de::Error::custom("no platform state of this name, in Intel's spelling"))
    }
}

impl PolicyJson {
    fn check(&self) -> Result<(), PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version { got: self.version });
        }
        let within = |what, got: usize, max: usize| match got <= max {
            true => Ok(()),
            false => Err(PolicyError::OverLimit { what, max }),
        };
        within(
            "list of registers",
            self.registers.len(),
            limits::POLICY_REGISTERS_MAX,
        )?;
        let statuses = self.tcb.statuses.as_deref().unwrap_or_default();
        within("list of statuses", statuses.len(), TcbStatus::ALL.len())?;
        if let Some(AdvisoriesJson::Only(names)) = &self.tcb.advisories {
            within(
                "list of advisories",
                names.len(),
                limits::POLICY_ADVISORIES_MAX,
            )?;
            let longest = names.iter().map(String::len).max().unwrap_or(0);
            within("advisory name", longest, limits::ADVISORY_BYTES_MAX)?;
        }
        let grace_days = self.tcb.out_of_date_grace_days.try_into();
        within(
            "out_of_date_grace_days",
            grace_days.unwrap_or(usize::MAX),
            limits::POLICY_GRACE_DAYS_MAX,
        )?;

        let never = |what| Err(PolicyError::NeverAccepted { what });
        if statuses.contains(&TcbStatus::Revoked) {
            return never("a revoked platform");
        }
        let attributes = self.td_attributes_allowed.map_or(0, |bits| bits.0);
        for (bits, what) in [
            (TUD, "a guest under debug or profiling"),
            (MIGRATABLE, "a migratable guest"),
            (SERVTD_EXT, "a guest with service TDs"),
        ] {
            if attributes & bits != 0 {
                return never(what);
            }
        }
        if let Some(XfamJson { required, allowed }) = self.xfam
            && required.0 & !allowed.0 != 0
        {
            return Err(PolicyError::Xfam {
                required: required.0,
                allowed: allowed.0,
            });
        }
        Ok(())
    }

    fn with_defaults(self) -> Policy {
        let strict = Policy::with_registers(self.registers);
        Policy {
            tcb_statuses: self.tcb.statuses.unwrap_or(strict.tcb_statuses),
            advisories: match self.tcb.advisories {
                None => strict.advisories,
                Some(AdvisoriesJson::Any) => Advisories::Any,
                Some(AdvisoriesJson::Only(names)) => Advisories::Only(names),
            },
            out_of_date_grace_days: self.tcb.out_of_date_grace_days,
            tcb_evaluation_number_min: self.tcb.evaluation_number_min,
            td_attributes_allowed: self
                .td_attributes_allowed
                .map_or(strict.td_attributes_allowed, |bits| bits.0),
            xfam_required: self
                .xfam
                .as_ref()
                .map_or(strict.xfam_required, |xfam| xfam.required.0),
            xfam_allowed: self
                .xfam
                .as_ref()
                .map_or(strict.xfam_allowed, |xfam| xfam.allowed.0),
            mr_config_id: self.mr_config_id.unwrap_or(strict.mr_config_id),
            mr_owner: self.mr_owner.unwrap_or(strict.mr_owner),
            mr_owner_config: self.mr_owner_config.unwrap_or(strict.mr_owner_config),
            registers: strict.registers,
        }
    }
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> PolicyError {
        Policy::from_json(json.as_bytes()).expect_err(json)
    }

    #[test]
    fn the_example_has_every_key_and_is_read() {
        let policy = Policy::from_json(EXAMPLE).unwrap();
        assert_eq!(policy.registers.len(), 1);
        assert_eq!(
            policy,
            Policy {
                tcb_statuses: vec![TcbStatus::UpToDate, TcbStatus::SwHardeningNeeded],
                advisories: Advisories::Only(vec![
                    "INTEL-SA-00289".into(),
                    "INTEL-SA-00615".into()
                ]),
                out_of_date_grace_days: 30,
                tcb_evaluation_number_min: 17,
                ..Policy::exact(policy.registers[0])
            }
        );
    }

    #[test]
    fn what_a_file_leaves_out_is_strict() {
        let policy = Policy::from_json(br#"{"version":1}"#).unwrap();
        assert_eq!(policy, Policy::with_registers(Vec::new()));
        let any = Policy::from_json(br#"{"version":1,"tcb":{"advisories":"any"}}"#).unwrap();
        assert_eq!(any.advisories, Advisories::Any);
    }

    #[test]
    fn unknown_doubled_or_misspelt_is_refused() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"version":1}x"#,
            r#"{"version":1,"version":1}"#,
            r#"{"version":1,"extra":0}"#,
            r#"{"version":1,"tcb":{"extra":0}}"#,
            r#"{"version":1,"tcb":{"statuses":["uptodate"]}}"#,
            r#"{"version":1,"tcb":{"advisories":["A"]}}"#,
            r#"{"version":1,"tcb":{"advisories":"none"}}"#,
            r#"{"version":1,"tcb":{"out_of_date_grace_days":-1}}"#,
            r#"{"version":1,"xfam":{"required":"0x3"}}"#,
            r#"{"version":1,"td_attributes_allowed":268435456}"#,
            r#"{"version":1,"td_attributes_allowed":"0x1000000A"}"#,
            r#"{"version":1,"td_attributes_allowed":"0x+1"}"#,
            r#"{"version":1,"td_attributes_allowed":"0x"}"#,
            r#"{"version":1,"td_attributes_allowed":"0x10000000000000000"}"#,
            r#"{"version":1,"mr_owner":"00"}"#,
            r#"{"version":1,"registers":[{}]}"#,
        ] {
            assert!(matches!(refused(json), PolicyError::Json(_)), "{json}");
        }
        assert_eq!(refused(r#"{"version":2}"#), PolicyError::Version { got: 2 });
    }

    #[test]
    fn what_is_always_refused_cannot_be_asked_for() {
        for json in [
            r#"{"version":1,"tcb":{"statuses":["Revoked"]}}"#,
            r#"{"version":1,"td_attributes_allowed":"0x10000001"}"#,
            r#"{"version":1,"td_attributes_allowed":"0x30000000"}"#,
            r#"{"version":1,"td_attributes_allowed":"0x10020000"}"#,
        ] {
            let refusal = refused(json);
            assert!(
                matches!(refusal, PolicyError::NeverAccepted { .. }),
                "{json}"
            );
        }
        assert_eq!(
            refused(r#"{"version":1,"xfam":{"required":"0x7","allowed":"0x3"}}"#),
            PolicyError::Xfam {
                required: 7,
                allowed: 3
            }
        );
    }

    #[test]
    fn limits_hold() {
        let max = limits::POLICY_BYTES_MAX;
        assert_eq!(
            Policy::from_json(&vec![b' '; max + 1]),
            Err(PolicyError::TooLong { got: max + 1, max })
        );
        let over = |json: String, expected: &str| {
            let refusal = refused(&json);
            assert!(
                matches!(refusal, PolicyError::OverLimit { what, .. } if what == expected),
                "{refusal}"
            );
        };
        let names = vec!["\"A\""; limits::POLICY_ADVISORIES_MAX + 1].join(",");
        over(
            format!(r#"{{"version":1,"tcb":{{"advisories":{{"only":[{names}]}}}}}}"#),
            "list of advisories",
        );
        let name = "A".repeat(limits::ADVISORY_BYTES_MAX + 1);
        over(
            format!(r#"{{"version":1,"tcb":{{"advisories":{{"only":["{name}"]}}}}}}"#),
            "advisory name",
        );
        over(
            r#"{"version":1,"tcb":{"out_of_date_grace_days":4000000000}}"#.into(),
            "out_of_date_grace_days",
        );
        let statuses = ["\"UpToDate\""; 10].join(",");
        over(
            format!(r#"{{"version":1,"tcb":{{"statuses":[{statuses}]}}}}"#),
            "list of statuses",
        );
    }

    #[test]
    fn a_cut_or_flipped_policy_never_panics() {
        for at in 0..EXAMPLE.len() {
            let _ = Policy::from_json(&EXAMPLE[..at]);
            let mut flipped = EXAMPLE.to_vec();
            flipped[at] ^= 1;
            let _ = Policy::from_json(&flipped);
        }
    }

    const EXAMPLE: &[u8] = include_bytes!("../../policy.example.json");
}
