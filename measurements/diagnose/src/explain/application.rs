//! RTMR3: which agent and which configuration, and where two configurations differ.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{NamedConfig, NamedManifest, Planned, Suspect, SuspectKind};
use crate::limits;
use registers::Digest48;

/// What may have been measured in a place of RTMR3, with words for people.
type Named = (String, Digest48);

/// The agents and configurations that a guest may have, those of the manifest first.
pub(super) struct Applications {
    agents: Vec<Named>,
    configs: Vec<Named>,
}

impl Applications {
    /// None unless the manifest has an agent and a configuration, and nothing else.
    pub(super) fn of(
        planned: &[Planned<'_>],
        others: &[&NamedManifest],
        given: &[NamedConfig],
    ) -> Option<Applications> {
        let [agent, config] = planned else {
            return None;
        };
        let mut agents = vec![("the manifest's agent".to_owned(), agent.digest)];
        let mut configs = vec![("the manifest's configuration".to_owned(), config.digest)];
        for config in given {
            let named = format!("the configuration {}", config.name);
            configs.push((named, Digest48::of(&config.bytes)));
        }
        for other in others {
            let name = &other.name;
            let events = other.guest().map(|guest| guest.rtmr3_events());
            if let Some([agent, config]) = events {
                agents.push((format!("the agent of {name}"), agent.digest));
                configs.push((format!("the configuration of {name}"), config.digest));
            }
            if let Some(image) = other.image() {
                agents.push((format!("the agent of {name}"), image.agent_sha384));
            }
        }
        Some(Applications { agents, configs })
    }

    /// Every combination but the manifest's own, with the register that it leads to.
    pub(super) fn combinations(&self) -> impl Iterator<Item = (&Named, &Named, Digest48)> {
        let all = self
            .agents
            .iter()
            .flat_map(|agent| self.configs.iter().map(move |config| (agent, config)));
        all.skip(1).map(|(agent, config)| {
            let value = Digest48::ZERO.extended_by(&agent.1).extended_by(&config.1);
            (agent, config, value)
        })
    }

    /// The words of a combination; with the two configurations at hand, their differences.
    pub(super) fn suspect(&self, agent: &Named, config: &Named, given: &[NamedConfig]) -> Suspect {
        let bytes_of = |digest: Digest48| {
            let mut given = given.iter();
            given.find(|config| Digest48::of(&config.bytes) == digest)
        };
        let both = self
            .configs
            .first()
            .filter(|stated| stated.1 != config.1)
            .and_then(|stated| bytes_of(stated.1).zip(bytes_of(config.1)));
        let differences = both.map_or(String::new(), |(stated, got)| {
            format!(", {}", differences(&stated.bytes, &got.bytes))
        });
        Suspect {
            kind: SuspectKind::Application,
            what: format!("with {} and {}{differences}", agent.0, config.0),
            advice: "The image is the right one. Whoever launched the guest gave it another configuration, or the manifest was written from another: write it again, or launch the guest with the expected one.",
        }
    }
}

/// The fields in which one configuration differs from another, in words.
fn differences(stated: &[u8], got: &[u8]) -> String {
    let parsed = |bytes| serde_json::from_slice::<Value>(bytes);
    let (Ok(stated), Ok(got)) = (parsed(stated), parsed(got)) else {
        return "one of which is not JSON".into();
    };
    let mut found = Vec::new();
    compare("", &stated, &got, &mut found);
    match found.len() {
        0 => "which differ in white space or the order of fields alone".into(),
        count if count > limits::EXPLAIN_FIELDS_MAX => {
            found.truncate(limits::EXPLAIN_FIELDS_MAX);
            format!("which differ in {}, and more", found.join(", "))
        }
        _ => format!("which differ in {}", found.join(", ")),
    }
}

/// One more difference than are shown is looked for.
fn compare(path: &str, stated: &Value, got: &Value, found: &mut Vec<String>) {
    if stated == got || found.len() > limits::EXPLAIN_FIELDS_MAX {
        return;
    }
    let nothing = Value::Null;
    match (stated, got) {
        (Value::Object(stated), Value::Object(got)) => {
            let keys: BTreeSet<&String> = stated.keys().chain(got.keys()).collect();
            for key in keys {
                let path = match path {
                    "" => shown(key),
                    path => format!("{path}.{}", shown(key)),
                };
                match (stated.get(key), got.get(key)) {
                    (Some(stated), Some(got)) => compare(&path, stated, got, found),
                    (Some(_), None) => found.push(format!("{path} (missing)")),
                    _ => found.push(format!("{path} (added)")),
                }
            }
        }
        (Value::Array(stated), Value::Array(got)) => {
            for at in 0..stated.len().max(got.len()) {
                let one = |list: &'_ [Value]| list.get(at).cloned();
                let (stated, got) = (one(stated), one(got));
                let path = format!("{path}[{at}]");
                compare(
                    &path,
                    stated.as_ref().unwrap_or(&nothing),
                    got.as_ref().unwrap_or(&nothing),
                    found,
                );
            }
        }
        (stated, got) => {
            let value = |value: &Value| shown(&value.to_string());
            found.push(format!(
                "{path} ({} instead of {})",
                value(got),
                value(stated)
            ));
        }
    }
}

/// What a terminal shows as it is, and not too much of it.
fn shown(text: &str) -> String {
    let text = text.chars().take(limits::EXPLAIN_FIELD_CHARACTERS_MAX);
    text.flat_map(|letter| match letter.is_control() {
        true => letter.escape_default().collect::<Vec<_>>(),
        false => vec![letter],
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stated: &str, got: &str, expected: &str) {
        assert_eq!(differences(stated.as_bytes(), got.as_bytes()), expected);
    }

    #[test]
    fn fields_that_differ_are_named() {
        check(
            r#"{"a":1,"b":[1,{"c":"x"}]}"#,
            r#"{"a":2,"b":[1,{"c":"y"}]}"#,
            r#"which differ in a (2 instead of 1), b[1].c ("y" instead of "x")"#,
        );
        check(
            r#"{"a":1,"b":2}"#,
            r#"{"b":2,"c":3}"#,
            "which differ in a (missing), c (added)",
        );
        check("[1]", "[1,2]", "which differ in [1] (2 instead of null)");
        check(
            r#"{"a":1}"#,
            r#"{ "a": 1 }"#,
            "which differ in white space or the order of fields alone",
        );
        check("{}", "x", "one of which is not JSON");
        check(
            r#"{"a\u001b":1}"#,
            r#"{"a\u001b":2}"#,
            r"which differ in a\u{1b} (2 instead of 1)",
        );
    }

    #[test]
    fn words_about_configurations_are_bounded() {
        let list = |value: &str| format!("[{}]", vec![value; 5000].join(","));
        let long = differences(list("1").as_bytes(), list("2").as_bytes());
        assert!(
            long.ends_with(", and more") && long.len() < 4096,
            "{}",
            long.len()
        );
        let text = |letter: &str| format!("[\"{}\"]", letter.repeat(1 << 20));
        let long = differences(text("a").as_bytes(), text("b").as_bytes());
        assert!(long.len() < 1024, "{}", long.len());
        let deep = "[".repeat(5000);
        assert_eq!(
            differences(deep.as_bytes(), b"{}"),
            "one of which is not JSON"
        );
    }
}
