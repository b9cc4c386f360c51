//! Reading a bill: the rules of SPDX 2.3 that a document of ours has to keep.

use std::collections::BTreeSet;

use super::document::{DOCUMENT, VERSION};
use super::spdx::{Checksum, Document};
use crate::limits::SBOM_BYTES_MAX;

/// A document that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill(Document);

/// Why bytes are no bill. Its author is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SbomError {
    #[error("the bill of materials has {got} bytes, more than the {SBOM_BYTES_MAX} allowed")]
    TooLong { got: usize },
    #[error("the bill of materials does not parse: {0}")]
    Syntax(String),
    #[error("the bill of materials breaks a rule of SPDX 2.3: {rule}: {got:?}")]
    Rule { rule: &'static str, got: String },
}

impl Bill {
    /// Reads a document and checks it.
    pub fn from_json(text: &[u8]) -> Result<Self, SbomError> {
        if text.len() > SBOM_BYTES_MAX {
            return Err(SbomError::TooLong { got: text.len() });
        }
        let document =
            serde_json::from_slice(text).map_err(|error| SbomError::Syntax(error.to_string()))?;
        Self::new(document)
    }

    /// Checks a document.
    pub fn new(document: Document) -> Result<Self, SbomError> {
        check_head(&document)?;
        let ids = check_ids(&document)?;
        check_parts(&document)?;
        for one in &document.relationships {
            for end in [&one.spdx_element_id, &one.related_spdx_element] {
                hold(
                    ids.contains(end.as_str()),
                    "a relationship is between elements of the document",
                    end,
                )?;
            }
            let plain = |c: char| c.is_ascii_uppercase() || c == '_';
            let word = &one.relationship_type;
            hold(
                !word.is_empty() && word.chars().all(plain),
                "a relationship has a type",
                word,
            )?;
        }
        let described = document
            .relationships
            .iter()
            .any(|one| one.spdx_element_id == DOCUMENT && one.relationship_type == "DESCRIBES");
        hold(described, "the document describes something", "")?;
        Ok(Self(document))
    }

    /// The document.
    pub fn document(&self) -> &Document {
        &self.0
    }

    /// The file: one value, one text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_vec_pretty(&self.0).expect("texts and lists have a JSON form");
        text.push(b'\n');
        text
    }
}

fn check_head(document: &Document) -> Result<(), SbomError> {
    let Document {
        spdx_version,
        data_license,
        id,
        document_namespace,
        creation_info,
        ..
    } = document;
    hold(
        spdx_version == VERSION,
        "the version is SPDX-2.3",
        spdx_version,
    )?;
    hold(
        data_license == "CC0-1.0",
        "the data licence is CC0-1.0",
        data_license,
    )?;
    hold(id == DOCUMENT, "the document is SPDXRef-DOCUMENT", id)?;
    let uri = document_namespace.starts_with("https://") && !document_namespace.contains('#');
    hold(
        uri,
        "the namespace is a URI without fragment",
        document_namespace,
    )?;
    let created = &creation_info.created;
    let shape = |text: &str| -> String {
        let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
        text.chars().map(digit).collect()
    };
    let date = shape(created) == "0000-00-00T00:00:00Z";
    hold(date, "a document was created at a second of UTC", created)?;
    let named = creation_info
        .creators
        .iter()
        .any(|one| one.starts_with("Tool: "));
    hold(named, "a document has a creator", "")
}

fn check_ids(document: &Document) -> Result<BTreeSet<&str>, SbomError> {
    let mut ids = BTreeSet::from([DOCUMENT]);
    let packages = document.packages.iter().map(|package| &package.id);
    let files = document.files.iter().map(|file| &file.id);
    for id in packages.chain(files) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let name = id.strip_prefix("SPDXRef-").unwrap_or_default();
        let good = !name.is_empty() && name.chars().all(plain);
        hold(
            good,
            "an identifier is SPDXRef- and letters, digits, `.` and `-`",
            id,
        )?;
        hold(ids.insert(id), "no identifier is there twice", id)?;
    }
    Ok(ids)
}

fn check_parts(document: &Document) -> Result<(), SbomError> {
    for package in &document.packages {
        let name = &package.name;
        hold(plain(name), "a package has a name", name)?;
        let version = &package.version_info;
        hold(plain(version), "a version is plain text", version)?;
        check_sums(&package.checksums, name)?;
        let coded = package.package_verification_code.is_some();
        hold(
            coded == package.files_analyzed,
            "a package whose files are listed has a verification code",
            name,
        )?;
        for reference in &package.external_refs {
            let purl = &reference.reference_locator;
            hold(
                purl.starts_with("pkg:") && plain(purl),
                "a purl begins with pkg:",
                purl,
            )?;
        }
    }
    for file in &document.files {
        let name = &file.file_name;
        hold(
            name.starts_with("./") && plain(name),
            "a file's name begins with ./",
            name,
        )?;
        check_sums(&file.checksums, name)?;
        let sha1 = file.checksums.iter().any(|one| one.algorithm == "SHA1");
        hold(sha1, "a file has a SHA-1 digest", name)?;
    }
    Ok(())
}

fn check_sums(sums: &[Checksum], of: &str) -> Result<(), SbomError> {
    for sum in sums {
        let length = match sum.algorithm.as_str() {
            "SHA1" => 40,
            "SHA256" => 64,
            _ => 0,
        };
        let value = &sum.checksum_value;
        let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let good = length == value.len() && length > 0 && value.bytes().all(lower);
        hold(good, "a checksum is SHA1 or SHA256 in lower-case hex", of)?;
    }
    Ok(())
}

/// What a terminal shows as it is.
fn plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn hold(good: bool, rule: &'static str, got: &str) -> Result<(), SbomError> {
    match good {
        true => Ok(()),
        false => Err(SbomError::Rule {
            rule,
            got: got.chars().take(80).collect(),
        }),
    }
}
