//! The words of SPDX 2.3 that we use, in the order in which they are written.

use serde::{Deserialize, Serialize};

/// A document (SPDX 2.3, clause 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// `SPDX-2.3`.
    pub spdx_version: String,
    /// `CC0-1.0`: what SPDX asks for.
    pub data_license: String,
    /// `SPDXRef-DOCUMENT`.
    #[serde(rename = "SPDXID")]
    pub id: String,
    /// For people.
    pub name: String,
    /// A URI that no other document has.
    pub document_namespace: String,
    /// Who and when.
    pub creation_info: CreationInfo,
    /// Clause 7.
    pub packages: Vec<Package>,
    /// Clause 8.
    pub files: Vec<File>,
    /// Clause 11.
    pub relationships: Vec<Relationship>,
}

/// Clause 6.8 to 6.10.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreationInfo {
    /// RFC 3339, to the second, UTC.
    pub created: String,
    /// `Tool: name-version`.
    pub creators: Vec<String>,
    /// What the date is.
    pub comment: String,
}

/// Something with a name and a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Package {
    /// `SPDXRef-…`.
    #[serde(rename = "SPDXID")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version_info: String,
    /// Who distributes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<String>,
    /// Its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_file_name: Option<String>,
    /// A URL or `NOASSERTION`.
    pub download_location: String,
    /// Whether the document has the files that it consists of.
    pub files_analyzed: bool,
    /// Over those files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_verification_code: Option<VerificationCode>,
    /// Of its file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    /// What we found: nothing.
    pub license_concluded: String,
    /// What its author says.
    pub license_declared: String,
    /// `NOASSERTION`.
    pub copyright_text: String,
    /// What it is for.
    pub primary_package_purpose: String,
    /// Its names in databases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<ExternalRef>,
}

/// Clause 7.9.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerificationCode {
    /// SHA-1 over the sorted SHA-1 digests of the files, in hex.
    pub package_verification_code_value: String,
}

/// Clauses 7.10 and 8.4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checksum {
    /// `SHA1` or `SHA256`.
    pub algorithm: String,
    /// Lower-case hex.
    pub checksum_value: String,
}

/// Clause 7.21.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalRef {
    /// `PACKAGE-MANAGER`.
    pub reference_category: String,
    /// `purl`.
    pub reference_type: String,
    /// The package URL.
    pub reference_locator: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// `SPDXRef-File-…`.
    #[serde(rename = "SPDXID")]
    pub id: String,
    /// Relative, beginning with `./`.
    pub file_name: String,
    /// SHA-1, which SPDX asks for, and SHA-256.
    pub checksums: Vec<Checksum>,
    /// What we found: nothing.
    pub license_concluded: String,
    /// `NOASSERTION`.
    pub copyright_text: String,
}

/// How two things stand to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Relationship {
    /// The one.
    pub spdx_element_id: String,
    /// A word of clause 11.1.
    pub relationship_type: String,
    /// The other.
    pub related_spdx_element: String,
}
