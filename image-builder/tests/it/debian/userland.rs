//! Made packages unpacked for a root: what is kept that a tree on the disk could not hold, and what is refused.

use std::collections::BTreeMap;

use image_builder::error::Error;
use image_builder::formats::entry::{Entry, Owner, What};
use image_builder::lock::Role;
use image_builder::rootfs as userland;
use image_builder::rootfs::Unpacked;
use image_builder::store::Store;
use tar::{EntryType, Header};

use super::archive::Archive;
use super::made_packages::{ar_of, lock_of};

/// One entry: path, kind, mode, owner, link's target, content, attribute.
#[derive(Clone, Copy)]
struct Made<'a> {
    path: &'a str,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    target: &'a str,
    content: &'a [u8],
    attribute: Option<(&'a str, &'a [u8])>,
}

const FILE: Made<'_> = Made {
    path: "./usr/bin/a",
    kind: EntryType::Regular,
    mode: 0o755,
    owner: (0, 0),
    target: "",
    content: b"content",
    attribute: None,
};

const DIRECTORY: Made<'_> = Made {
    path: "./var/mail/",
    kind: EntryType::Directory,
    mode: 0o2775,
    owner: (0, 8),
    content: b"",
    ..FILE
};

fn tar_of(entries: &[Made<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for made in entries {
        if let Some((name, value)) = made.attribute {
            archive
                .append_pax_extensions([(name, value)])
                .expect("a vector");
        }
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..made.path.len()].copy_from_slice(made.path.as_bytes());
        header.as_mut_bytes()[157..157 + made.target.len()].copy_from_slice(made.target.as_bytes());
        header.set_entry_type(made.kind);
        header.set_mode(made.mode);
        header.set_uid(made.owner.0);
        header.set_gid(made.owner.1);
        header.set_size(made.content.len() as u64);
        header.set_cksum();
        archive.append(&header, made.content).expect("a vector");
    }
    archive.into_inner().expect("a vector")
}

fn deb(entries: &[Made<'_>], scripts: &[(&str, &str)]) -> Vec<u8> {
    let control: Vec<Made<'_>> = scripts
        .iter()
        .map(|(path, text)| Made {
            path,
            content: text.as_bytes(),
            ..FILE
        })
        .collect();
    ar_of(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", &tar_of(&control)),
        ("data.tar", &tar_of(entries)),
    ])
}

fn unpack(packages: &[(&str, Vec<u8>)]) -> Result<Unpacked, Error> {
    let archive = Archive::start();
    let packages: Vec<(&str, &[u8])> = packages
        .iter()
        .map(|(name, deb)| (*name, &deb[..]))
        .collect();
    let lock = lock_of(&archive, &packages);
    let store = tempfile::tempdir().expect("a directory");
    let store = Store::at(store.path());
    // The lock's packages are the tools' there; which closure they are of makes no difference here.
    let first = userland::ensure(&store, &lock, &lock.closure(Role::Run), &mut |_| {});
    let again = userland::ensure(&store, &lock, &lock.closure(Role::Run), &mut |_| {});
    assert_eq!(
        first.as_ref().map(lines).ok(),
        again.as_ref().map(lines).ok(),
        "from the store it is the same"
    );
    first
}

fn lines(unpacked: &Unpacked) -> Vec<String> {
    unpacked.entries.iter().map(Entry::line).collect()
}

#[test]
fn owners_modes_attributes_and_packages_are_kept() {
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let one = deb(
        &[
            DIRECTORY,
            Made {
                mode: 0o4755,
                owner: (0, 42),
                ..FILE
            },
            Made {
                path: "./usr/bin/ping",
                attribute: Some(("SCHILY.xattr.security.capability", capability)),
                ..FILE
            },
            Made {
                path: "./usr/bin/other",
                kind: EntryType::Link,
                target: "./usr/bin/ping",
                content: b"",
                ..FILE
            },
        ],
        &[("./postinst", "#!/bin/sh\n"), ("./prerm", "not ours")],
    );
    let two = deb(
        &[
            DIRECTORY,
            Made {
                path: "./usr/bin/b",
                kind: EntryType::Symlink,
                target: "a",
                content: b"",
                ..FILE
            },
        ],
        &[],
    );
    let unpacked = unpack(&[("one", one), ("two", two)]).expect("good packages");
    let by_path: BTreeMap<&str, &Entry> = unpacked
        .entries
        .iter()
        .map(|entry| (entry.path.as_str(), entry))
        .collect();
    let mail = by_path["/var/mail"];
    assert_eq!(
        (mail.mode, mail.owner),
        (0o2775, Owner { user: 0, group: 8 })
    );
    let a = by_path["/usr/bin/a"];
    assert_eq!(
        (a.mode, a.owner.group, a.from()),
        (0o4755, 42, Some("one 1.0-1"))
    );
    // Of two names of one file the first in order is the file.
    let other = by_path["/usr/bin/other"];
    assert!(matches!(other.what, What::File { bytes: 7, .. }));
    assert_eq!(other.attributes["security.capability"], capability);
    assert!(
        matches!(&by_path["/usr/bin/ping"].what, What::SameAs { path, .. } if path == "/usr/bin/other")
    );
    assert!(matches!(&by_path["/usr/bin/b"].what, What::Link { target, .. } if target == "a"));
    assert!(matches!(&by_path["/lib64"].what, What::Link { target, .. } if target == "usr/lib64"));
    assert!(by_path.contains_key("/") && by_path.contains_key("/var"));
    let scripts: Vec<&String> = unpacked.scripts["one 1.0-1"].keys().collect();
    assert_eq!(scripts, ["postinst"]);
}

#[test]
fn what_would_be_lost_or_be_someone_elses_is_refused() {
    let fails = |packages: &[(&str, Vec<u8>)], word: &str| {
        let error = unpack(packages).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    };
    // A number that another system gives to somebody else.
    for owner in [(100, 0), (0, 1000), (1 << 32, 0), (0, 999)] {
        fails(
            &[("one", deb(&[Made { owner, ..FILE }], &[]))],
            "not the same on every system",
        );
    }
    let attribute = Some(("SCHILY.acl.access", &b"x"[..]));
    fails(
        &[("one", deb(&[Made { attribute, ..FILE }], &[]))],
        "key that is not known",
    );
    fails(
        &[("one", deb(&[FILE], &[])), ("two", deb(&[FILE], &[]))],
        "is there already",
    );
    let other = Made {
        mode: 0o755,
        ..DIRECTORY
    };
    fails(
        &[("one", deb(&[DIRECTORY], &[])), ("two", deb(&[other], &[]))],
        "say different things",
    );
    let device = Made {
        kind: EntryType::Char,
        content: b"",
        ..FILE
    };
    fails(
        &[("one", deb(&[device], &[]))],
        "no directory, file or link",
    );
}

#[test]
fn base_files_decides_about_directories() {
    let other = Made {
        mode: 0o755,
        ..DIRECTORY
    };
    for order in [["base-files", "two"], ["base-files", "a-first"]] {
        let packages = [
            (order[0], deb(&[DIRECTORY], &[])),
            (order[1], deb(&[other], &[])),
        ];
        let mut sorted = packages;
        sorted.sort_by_key(|(name, _)| *name);
        let unpacked = unpack(&sorted).expect("it decides");
        let mail = unpacked
            .entries
            .iter()
            .find(|entry| entry.path == "/var/mail")
            .expect("there");
        assert_eq!(mail.mode, 0o2775);
    }
}
