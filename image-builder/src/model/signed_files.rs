//! `model.sig.json`: the files of a model, in the form of OpenSSF Model Signing 1.0.
//!
//! An in-toto statement (version 1) with the predicate type `https://model_signing/signature/v1.0`. Its predicate lists each file
//! with its SHA-256, sorted by the components of the path; its subject is the model's name and SHA-256 over those digests, 32 bytes
//! each, in that order. Source: the documentation of `Payload` in the Python package `model-signing` 1.1.1, whose `verify` compares
//! such a list with a directory; docs/image.md says what was compared.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Description, VolumeFile};
use registers::Digest32;

/// What is said about a model's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    statement_type: &'static str,
    subject: [Subject; 1],
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: Predicate,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Subject {
    name: String,
    digest: Sha256Of,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Sha256Of {
    sha256: Digest32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Serialization {
    method: &'static str,
    hash_type: &'static str,
    allow_symlinks: bool,
    ignore_paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Resource {
    name: String,
    algorithm: &'static str,
    digest: Digest32,
}

impl Statement {
    /// About the files of a volume.
    pub fn of(description: &Description) -> Self {
        let resource = |file: &VolumeFile| Resource {
            name: file.path.clone(),
            algorithm: "sha256",
            digest: file.sha256,
        };
        Self {
            statement_type: STATEMENT_TYPE,
            subject: [Subject {
                name: description.id.clone(),
                digest: Sha256Of {
                    sha256: subject(&description.files),
                },
            }],
            predicate_type: PREDICATE_TYPE,
            predicate: Predicate {
                serialization: Serialization {
                    method: "files",
                    hash_type: "sha256",
                    allow_symlinks: false,
                    ignore_paths: description.left_out.clone(),
                },
                resources: description.files.iter().map(resource).collect(),
            },
        }
    }

    /// Its text; the same statement is the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("text has a JSON form");
        text.push(b'\n');
        text
    }

    /// One digest for all files, whatever the model is called.
    pub fn subject(&self) -> Digest32 {
        self.subject[0].digest.sha256
    }
}

fn subject(files: &[VolumeFile]) -> Digest32 {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.sha256.0);
    }
    Digest32(hasher.finalize().into())
}

/// in-toto's, version 1.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// OpenSSF Model Signing's, version 1.0.
pub const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
