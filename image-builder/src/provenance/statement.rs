//! The statement: in-toto Statement v1 around a predicate of SLSA provenance v1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::cut;
use crate::limits::{
    DEPENDENCIES_MAX, ENVELOPE_BYTES_MAX, FILE_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX, SUBJECTS_MAX,
};
use crate::lock::is_plain_name;
use registers::Digest32;

/// in-toto attestation framework, "Statement v1".
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// SLSA, "Build: Provenance", version 1.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// How our parameters are to be read: docs/image.md, "Provenance".
pub const BUILD_TYPE: &str = "urn:chrysalis:image-build:v1";
/// Who builds, for SLSA's vocabulary: this program, wherever it runs. Who answers for it is the key.
const BUILDER_ID: &str = "urn:chrysalis:image-builder";

/// A statement that agrees with itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement(Parts);

/// What a new statement is made of.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The files of the image.
    pub subjects: Vec<Subject>,
    /// What whoever asked for the build chose: SLSA's `externalParameters`.
    pub parameters: Map<String, Value>,
    /// What went in.
    pub dependencies: Vec<Dependency>,
    /// Components of the builder by name, with their versions.
    pub builder: BTreeMap<String, String>,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name: one component.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// What it is, for people.
    pub name: String,
    /// A package URL or another URI.
    pub uri: Option<String>,
    /// Its digest.
    pub sha256: Digest32,
}

/// Why bytes or facts are no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum StatementError {
    #[error("the statement has {got} bytes, more than the {ENVELOPE_BYTES_MAX} allowed")]
    TooLong { got: usize },
    #[error("the statement does not parse: {0}")]
    Syntax(String),
    #[error("the statement's {key} is `{got}`, where this program reads {expected}")]
    Kind {
        key: &'static str,
        got: String,
        expected: &'static str,
    },
    #[error("the statement lists {got} {what}; from 1 to {max} are allowed")]
    Count {
        what: &'static str,
        got: usize,
        max: usize,
    },
    #[error("the statement's {what} is not what it should be: {got:?}")]
    Text { what: &'static str, got: String },
    #[error("the statement lists the file {0:?} twice")]
    Twice(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Parts {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Described<FileNotes>>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

/// in-toto's ResourceDescriptor, as far as we write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Described<N> {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    digest: Digests,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    annotations: Option<N>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Digests {
    sha256: Digest32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileNotes {
    bytes: u64,
}

/// Inputs have no notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NoNotes {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Predicate {
    #[serde(rename = "buildDefinition")]
    definition: Definition,
    #[serde(rename = "runDetails")]
    run: Run,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    build_type: String,
    external_parameters: Map<String, Value>,
    resolved_dependencies: Vec<Described<NoNotes>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Run {
    builder: Builder,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Builder {
    id: String,
    version: BTreeMap<String, String>,
}

impl Statement {
    /// A statement of these facts, if they are plain.
    pub fn new(facts: Facts) -> Result<Self, StatementError> {
        let subject = |subject: Subject| Described {
            name: subject.name,
            uri: None,
            digest: Digests {
                sha256: subject.sha256,
            },
            annotations: Some(FileNotes {
                bytes: subject.bytes,
            }),
        };
        let input = |input: Dependency| Described {
            name: input.name,
            uri: input.uri,
            digest: Digests {
                sha256: input.sha256,
            },
            annotations: None,
        };
        let parts = Parts {
            kind: STATEMENT_TYPE.into(),
            subject: facts.subjects.into_iter().map(subject).collect(),
            predicate_type: PREDICATE_TYPE.into(),
            predicate: Predicate {
                definition: Definition {
                    build_type: BUILD_TYPE.into(),
                    external_parameters: facts.parameters,
                    resolved_dependencies: facts.dependencies.into_iter().map(input).collect(),
                },
                run: Run {
                    builder: Builder {
                        id: BUILDER_ID.into(),
                        version: facts.builder,
                    },
                },
            },
        };
        parts.check()?;
        Ok(Self(parts))
    }

    /// Reads a statement, of an envelope that was opened or of a file that is compared with one. What we do not know is passed over, as
    /// in-toto has it.
    pub fn from_json(text: &[u8]) -> Result<Self, StatementError> {
        if text.len() > ENVELOPE_BYTES_MAX {
            return Err(StatementError::TooLong { got: text.len() });
        }
        let parts: Parts = serde_json::from_slice(text)
            .map_err(|error| StatementError::Syntax(error.to_string()))?;
        parts.check()?;
        Ok(Self(parts))
    }

    /// The file, and what is signed: one value, one text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_vec_pretty(&self.0).expect("texts, numbers and lists have a JSON form");
        text.push(b'\n');
        text
    }

    /// The files of the image.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        self.0.subject.iter().map(|subject| Subject {
            name: subject.name.clone(),
            bytes: subject.annotations.as_ref().map_or(0, |notes| notes.bytes),
            sha256: subject.digest.sha256,
        })
    }

    /// The file called `name`.
    pub fn subject(&self, name: &str) -> Option<Subject> {
        self.subjects().find(|subject| subject.name == name)
    }

    /// What went in.
    pub fn dependencies(&self) -> impl Iterator<Item = Dependency> {
        let inputs = &self.0.predicate.definition.resolved_dependencies;
        inputs.iter().map(|input| Dependency {
            name: input.name.clone(),
            uri: input.uri.clone(),
            sha256: input.digest.sha256,
        })
    }

    /// What whoever asked for the build chose.
    pub fn parameters(&self) -> &Map<String, Value> {
        &self.0.predicate.definition.external_parameters
    }

    /// Components of the builder with their versions.
    pub fn builder(&self) -> &BTreeMap<String, String> {
        &self.0.predicate.run.builder.version
    }
}

impl Parts {
    fn check(&self) -> Result<(), StatementError> {
        let definition = &self.predicate.definition;
        for (key, got, expected) in [
            ("_type", &self.kind, STATEMENT_TYPE),
            ("predicateType", &self.predicate_type, PREDICATE_TYPE),
            ("buildType", &definition.build_type, BUILD_TYPE),
        ] {
            if got != expected {
                let got = cut(got);
                return Err(StatementError::Kind { key, got, expected });
            }
        }
        let inputs = &definition.resolved_dependencies;
        count("files", self.subject.len(), SUBJECTS_MAX)?;
        count("inputs", inputs.len(), DEPENDENCIES_MAX)?;
        let mut seen: Vec<&str> = Vec::new();
        for subject in &self.subject {
            let name = subject.name.as_str();
            if !is_plain_name(name) {
                return Err(bad("name of a file", name));
            }
            if seen.contains(&name) {
                return Err(StatementError::Twice(cut(name)));
            }
            seen.push(name);
            let bytes = subject.annotations.as_ref().map(|notes| notes.bytes);
            if bytes.is_none_or(|bytes| bytes > FILE_BYTES_MAX) {
                return Err(bad("length of a file", name));
            }
        }
        for input in inputs {
            text("name of an input", &input.name)?;
            if let Some(uri) = &input.uri {
                text("URI of an input", uri)?;
            }
        }
        let builder = &self.predicate.run.builder;
        text("name of the builder", &builder.id)?;
        for (name, version) in &builder.version {
            text("part of the builder", name)?;
            text("version of the builder", version)?;
        }
        Ok(())
    }
}

fn count(what: &'static str, got: usize, max: usize) -> Result<(), StatementError> {
    match (1..=max).contains(&got) {
        true => Ok(()),
        false => Err(StatementError::Count { what, got, max }),
    }
}

/// Text that a terminal shows as it is.
fn text(what: &'static str, got: &str) -> Result<(), StatementError> {
    let plain = (1..=STATEMENT_TEXT_BYTES_MAX).contains(&got.len());
    match plain && !got.contains(char::is_control) {
        true => Ok(()),
        false => Err(bad(what, got)),
    }
}

fn bad(what: &'static str, got: &str) -> StatementError {
    let got = cut(got);
    StatementError::Text { what, got }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let subject = |name: &str| Subject {
            name: name.into(),
            bytes: 5,
            sha256: Digest32([7; 32]),
        };
        Facts {
            subjects: ["manifest.json", "root.img"].map(subject).into(),
            parameters: Map::from_iter([("profile".into(), "sim".into())]),
            dependencies: vec![Dependency {
                name: "linux 6.12".into(),
                uri: Some("pkg:deb/debian/linux@6.12".into()),
                sha256: Digest32([8; 32]),
            }],
            builder: BTreeMap::from([("image-builder".into(), "0.1.0".into())]),
        }
    }

    #[test]
    fn a_statement_has_the_fields_that_in_toto_and_slsa_ask_for() {
        let statement = Statement::new(facts()).expect("plain facts");
        let text = statement.to_json();
        assert_eq!(Statement::from_json(&text), Ok(statement));
        let json: Value = serde_json::from_slice(&text).expect("JSON");
        let sevens = "07".repeat(32);
        assert_eq!(json["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(json["subject"][1]["name"], "root.img");
        assert_eq!(json["subject"][1]["digest"]["sha256"], *sevens);
        assert_eq!(json["subject"][1]["annotations"]["bytes"], 5);
        assert_eq!(json["predicateType"], "https://slsa.dev/provenance/v1");
        let definition = &json["predicate"]["buildDefinition"];
        assert_eq!(definition["buildType"], BUILD_TYPE);
        assert_eq!(definition["externalParameters"]["profile"], "sim");
        let input = &definition["resolvedDependencies"][0];
        assert_eq!(input["uri"], "pkg:deb/debian/linux@6.12");
        assert_eq!(input["digest"]["sha256"], *"08".repeat(32));
        let run = &json["predicate"]["runDetails"];
        assert_eq!(run["builder"]["id"], BUILDER_ID);
        // Times would differ between two builds of the same bytes.
        assert_eq!(run.get("metadata"), None);
    }

    #[test]
    fn a_bad_statement_is_refused_with_its_reason() {
        let text = String::from_utf8(Statement::new(facts()).expect("plain").to_json());
        let text = text.expect("JSON");
        let check = |from: &str, to: &str, expected: &str| {
            assert!(text.contains(from), "the case needs {from}");
            let error = Statement::from_json(text.replace(from, to).as_bytes()).expect_err(to);
            assert!(
                error.to_string().contains(expected),
                "{from} -> {to}: {error}"
            );
        };
        check("Statement/v1", "Statement/v0.1", "_type");
        check("provenance/v1", "provenance/v0.2", "predicateType");
        check(BUILD_TYPE, "urn:another", "buildType");
        check("\"root.img\"", "\"../root.img\"", "name of a file");
        check("\"root.img\"", "\"/root.img\"", "name of a file");
        check("\"root.img\"", "\".hidden\"", "name of a file");
        check("\"root.img\"", "\"manifest.json\"", "twice");
        check("\"bytes\": 5", "\"bytes\": -5", "does not parse");
        check("\"bytes\": 5", "\"bytes\": 68719476737", "length of a file");
        check("\"bytes\"", "\"octets\"", "does not parse");
        check("\"annotations\"", "\"notes\"", "length of a file");
        check(&"07".repeat(32), "07", "does not parse");
        check("linux 6.12", "linux\\u001b[2J", "name of an input");
        check("pkg:deb", "\\n", "URI of an input");
        check("0.1.0", "", "version of the builder");
        let mut none = facts();
        none.subjects.clear();
        let got = Statement::new(none).expect_err("nothing");
        assert!(matches!(got, StatementError::Count { got: 0, .. }), "{got}");
        let mut many = facts();
        many.subjects = vec![many.subjects[0].clone(); SUBJECTS_MAX + 1];
        let got = Statement::new(many).expect_err("too many");
        assert!(
            matches!(got, StatementError::Count { got: 65, .. }),
            "{got}"
        );
        let long = vec![b' '; ENVELOPE_BYTES_MAX + 1];
        assert!(matches!(
            Statement::from_json(&long),
            Err(StatementError::TooLong { .. })
        ));
    }

    #[test]
    fn a_statement_with_any_byte_changed_is_an_error_or_a_statement() {
        let text = Statement::new(facts()).expect("plain facts").to_json();
        for at in 0..text.len() {
            for bit in [1, 0x20, 0x80] {
                let mut changed = text.clone();
                changed[at] ^= bit;
                if let Ok(statement) = Statement::from_json(&changed) {
                    assert_eq!(Statement::from_json(&statement.to_json()), Ok(statement));
                }
            }
            assert!(Statement::from_json(&text[..at.min(text.len() - 2)]).is_err());
        }
    }
}
