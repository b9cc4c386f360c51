//! What is written.

use std::collections::BTreeSet;
use std::fs;

use image_builder::provenance;
use image_builder::provenance::{Bill, ENVELOPE, Envelope, SBOM, STATEMENT, SbomError, Statement};
use registers::Digest32;

use super::made_image::{image, key};

#[test]
fn the_same_image_has_the_same_papers_and_another_has_others() {
    let one = image(b"agent", Some(&key(1)));
    let two = image(b"agent", Some(&key(1)));
    let other = image(b"agent of another build", Some(&key(1)));
    for name in [SBOM, STATEMENT, ENVELOPE] {
        let read = |directory: &std::path::Path| fs::read(directory.join(name)).expect("there");
        assert_eq!(read(&one.out), read(&two.out), "{name}");
        assert_ne!(read(&one.out), read(&other.out), "{name}");
    }
}

#[test]
fn the_statement_lists_every_other_file_and_the_envelope_holds_it() {
    let made = image(b"agent", Some(&key(1)));
    let text = fs::read(made.out.join(STATEMENT)).expect("there");
    let statement = Statement::from_json(&text).expect("a statement");
    let mut listed = BTreeSet::new();
    for subject in statement.subjects() {
        let bytes = fs::read(made.out.join(&subject.name)).expect(&subject.name);
        assert_eq!(subject.bytes, bytes.len() as u64, "{}", subject.name);
        assert_eq!(subject.sha256.0, Digest32::of(&bytes).0, "{}", subject.name);
        listed.insert(subject.name);
    }
    let beside: BTreeSet<String> = fs::read_dir(&made.out)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("plain")
        })
        .filter(|name| name != STATEMENT && name != ENVELOPE)
        .collect();
    assert_eq!(listed, beside);
    let inputs: Vec<_> = statement.dependencies().map(|input| input.name).collect();
    assert_eq!(
        inputs,
        [
            "made.yaml",
            "made.lock.json",
            "Cargo.lock",
            "sources",
            "linux 6.12",
            "g++ 4:14.2-1",
            "input nvrtc",
            "model tiny"
        ]
    );
    let envelope = fs::read(made.out.join(ENVELOPE)).expect("there");
    let envelope = Envelope::from_json(&envelope).expect("an envelope");
    assert_eq!(envelope.open(&key(1).public()), Ok(&text[..]));
    assert!(envelope.open(&key(2).public()).is_err());
}

#[test]
fn without_a_key_there_is_no_envelope_and_signing_later_makes_the_same_one() {
    let unsigned = image(b"agent", None);
    assert!(!unsigned.out.join(ENVELOPE).exists());
    provenance::sign(&unsigned.out, &key(1)).expect("signed");
    let signed = image(b"agent", Some(&key(1)));
    let read = |directory: &std::path::Path| fs::read(directory.join(ENVELOPE)).expect("there");
    assert_eq!(read(&unsigned.out), read(&signed.out));
    fs::write(unsigned.out.join(STATEMENT), b"{}").expect("written");
    assert!(provenance::sign(&unsigned.out, &key(1)).is_err());
    assert_eq!(read(&unsigned.out), read(&signed.out));
}

#[test]
fn the_bill_has_every_package_crate_model_and_file_and_how_they_stand() {
    let made = image(b"agent", None);
    let text = fs::read(made.out.join(SBOM)).expect("there");
    let bill = Bill::from_json(&text).expect("it keeps the rules");
    assert_eq!(bill.to_json(), text);
    let document = bill.document();
    let purls: Vec<&str> = { document.packages.iter() }
        .flat_map(|package| &package.external_refs)
        .map(|reference| reference.reference_locator.as_str())
        .collect();
    assert_eq!(
        purls,
        [
            "pkg:deb/debian/linux@6.12?arch=amd64&distro=trixie",
            "pkg:deb/debian/g%2B%2B@4%3A14.2-1?arch=amd64&distro=trixie",
            "pkg:cargo/serde@1.2.3",
            "pkg:cargo/syn@1.2.3",
            "pkg:pypi/nvidia-cuda-nvrtc-cu12@12.4.127",
        ]
    );
    let file = |path: &str| {
        let name = format!(".{path}");
        let found = document.files.iter().find(|file| file.file_name == name);
        found.expect(path).id.as_str()
    };
    let related = |one: &str, how: &str, other: &str| {
        document.relationships.iter().any(|relation| {
            relation.spdx_element_id == one
                && relation.relationship_type == how
                && relation.related_spdx_element == other
        })
    };
    let image = "SPDXRef-Image";
    for (one, how, other) in [
        ("SPDXRef-DOCUMENT", "DESCRIBES", image),
        (image, "CONTAINS", "SPDXRef-Package-deb-linux"),
        ("SPDXRef-Package-deb-g--", "BUILD_TOOL_OF", image),
        ("SPDXRef-Compiler", "BUILD_TOOL_OF", image),
        (
            "SPDXRef-Program-guest-agent",
            "STATIC_LINK",
            "SPDXRef-Crate-serde-1.2.3",
        ),
        (
            "SPDXRef-Crate-syn-1.2.3",
            "BUILD_DEPENDENCY_OF",
            "SPDXRef-Program-stage0",
        ),
        (image, "CONTAINS", file("/root.img")),
        (file("/root.img"), "CONTAINS", file("/agent")),
        (file("/initrd"), "CONTAINS", file("/init")),
        (
            file("/agent"),
            "GENERATED_FROM",
            "SPDXRef-Program-guest-agent",
        ),
        (
            file("/kernel"),
            "EXPANDED_FROM_ARCHIVE",
            "SPDXRef-Package-deb-linux",
        ),
        (
            file("/models/tiny/model.safetensors"),
            "EXPANDED_FROM_ARCHIVE",
            "SPDXRef-Model-tiny",
        ),
    ] {
        assert!(related(one, how, other), "{one} {how} {other}");
    }
    for content in &made.manifest.contents {
        let Some(sha256) = content.sha256() else {
            continue;
        };
        let id = file(&content.path);
        let found = document
            .files
            .iter()
            .find(|file| file.id == id)
            .expect("found");
        assert_eq!(found.checksums[1].checksum_value, sha256.to_string());
    }
}

#[test]
fn a_bill_that_breaks_a_rule_is_refused_by_it() {
    let made = image(b"agent", None);
    let text = fs::read_to_string(made.out.join(SBOM)).expect("there");
    let check = |from: &str, to: &str, expected: &str| {
        assert!(text.contains(from), "the case needs {from}");
        let error = Bill::from_json(text.replacen(from, to, 1).as_bytes()).expect_err(to);
        assert!(
            error.to_string().contains(expected),
            "{from} -> {to}: {error}"
        );
    };
    check("SPDX-2.3", "SPDX-2.2", "version");
    check("CC0-1.0", "MIT", "data licence");
    check("https://spdx.org", "spdx.org", "namespace");
    check("2026-09-12T07:55:41Z", "2026-09-12", "second of UTC");
    check("\"Tool: ", "\"", "creator");
    check("\"SPDXRef-Image\"", "\"SPDXRef-I mage\"", "identifier");
    check(
        "\"SPDXRef-Crate-serde-1.2.3\"",
        "\"SPDXRef-Image\"",
        "twice",
    );
    check(
        "\"SPDXRef-File-1\"",
        "\"SPDXRef-File-999\"",
        "between elements",
    );
    check("\"DESCRIBES\"", "\"CONTAINS\"", "describes");
    check("\"DESCRIBES\"", "\"describes\"", "type");
    check("\"./agent\"", "\"agent\"", "begins with ./");
    check("\"SHA1\"", "\"MD5\"", "checksum");
    check("\"pkg:deb", "\"deb", "pkg:");
    check("\"relationships\"", "\"relations\"", "parse");
    let long = vec![b' '; image_builder::limits::SBOM_BYTES_MAX + 1];
    let got = long.len();
    assert_eq!(Bill::from_json(&long), Err(SbomError::TooLong { got }));
}

#[test]
fn a_bill_with_any_byte_changed_is_an_error_or_a_bill() {
    let made = image(b"agent", None);
    let text = fs::read(made.out.join(SBOM)).expect("there");
    // A prime step, so that in time every kind of place is met.
    for at in (0..text.len()).step_by(37) {
        let mut changed = text.clone();
        changed[at] ^= 1;
        if let Ok(bill) = Bill::from_json(&changed) {
            assert_eq!(Bill::from_json(&bill.to_json()), Ok(bill));
        }
        assert!(Bill::from_json(&text[..at]).is_err());
    }
}
