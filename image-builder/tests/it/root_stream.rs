//! The stream that the root's file system is made from, against another reader of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use image_builder::formats::entry::{Entry, Owner, What};
use image_builder::formats::erofs::writer as erofs;
use image_builder::formats::erofs::writer::RootError;

fn entries(directory: &Path) -> Vec<Entry> {
    fs::write(directory.join("weights"), vec![7; 100_000]).expect("written");
    vec![
        Entry::directory("/models/m"),
        Entry::disk(
            "/models/m/weights",
            0o644,
            directory.join("weights"),
            "m".into(),
        )
        .expect("read"),
        Entry::memory("/agent", 0o755, b"program".to_vec(), "compiled".into()),
        Entry::directory("/models"),
        Entry::directory("/"),
    ]
}

#[test]
fn the_stream_has_every_entry_once_with_nothing_of_the_builder() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut stream = Vec::new();
    erofs::write_tar(&entries(directory.path()), &mut stream).expect("written");
    let mut seen = BTreeMap::new();
    let mut order = Vec::new();
    let mut archive = tar::Archive::new(Cursor::new(&stream));
    for entry in archive.entries().expect("a stream") {
        let entry = entry.expect("an entry");
        let header = entry.header();
        let number = |field: std::io::Result<u64>| field.expect("a number");
        assert_eq!((number(header.uid()), number(header.gid())), (0, 0));
        assert_eq!(number(header.mtime()), 1);
        for name in [header.username(), header.groupname()] {
            assert_eq!(name.expect("text").unwrap_or_default(), "");
        }
        let path = entry.path().expect("a path").display().to_string();
        order.push(path.clone());
        seen.insert(path, (header.mode().expect("a mode"), entry.size()));
    }
    assert_eq!(
        order,
        ["./", "agent", "models/", "models/m/", "models/m/weights"]
    );
    assert_eq!(seen["agent"], (0o755, 7));
    assert_eq!(seen["models/m/weights"], (0o644, 100_000));
}

#[test]
fn the_stream_keeps_owners_modes_attributes_and_links() {
    let mut ping = Entry::memory("/usr/bin/ping", 0o4755, b"ping".to_vec(), "p 1".into());
    ping.owner = Owner { user: 7, group: 42 };
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    ping.attributes
        .insert("security.capability".into(), capability.clone());
    let mut same = Entry::link("/usr/bin/ping6", "", "p 1".into());
    same.what = What::SameAs {
        path: "/usr/bin/ping".into(),
        from: "p 1".into(),
    };
    let far = format!("../{}", "x".repeat(200));
    let link = Entry::link("/usr/bin/far", far.clone(), "p 1".into());
    let mut stream = Vec::new();
    erofs::write_tar(&[same, link, ping], &mut stream).expect("written");

    let mut archive = tar::Archive::new(Cursor::new(&stream));
    let mut entries = archive.entries().expect("a stream");
    let mut next = || entries.next().expect("one more").expect("an entry");
    let link = next();
    assert_eq!(link.link_name_bytes().expect("a target"), far.as_bytes());
    assert!(link.header().entry_type().is_symlink());
    let mut ping = next();
    let header = ping.header();
    let numbers = (header.mode(), header.uid(), header.gid());
    assert_eq!(
        (numbers.0.ok(), numbers.1.ok(), numbers.2.ok()),
        (Some(0o4755), Some(7), Some(42))
    );
    let records = ping.pax_extensions().expect("readable").expect("there");
    let records: Vec<_> = records.map(|record| record.expect("a record")).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key(), Ok("SCHILY.xattr.security.capability"));
    assert_eq!(records[0].value_bytes(), capability);
    let same = next();
    assert!(same.header().entry_type().is_hard_link());
    assert_eq!(
        same.link_name_bytes().expect("a target"),
        &b"usr/bin/ping"[..]
    );
}

#[test]
fn whoever_owns_a_file_changes_the_file_systems_name() {
    let uuid = |change: &dyn Fn(&mut Entry)| {
        let mut entry = Entry::memory("/a", 0o755, b"a".to_vec(), "p 1".into());
        change(&mut entry);
        erofs::arguments(&[entry], "/out/root.img")
            .into_iter()
            .find(|word| word.starts_with("-U"))
    };
    let same = uuid(&|_| {});
    assert_ne!(same, uuid(&|entry| entry.owner.user = 1));
    assert_ne!(same, uuid(&|entry| entry.owner.group = 1));
    assert_ne!(same, uuid(&|entry| entry.mode = 0o4755));
    let attribute = |entry: &mut Entry| {
        entry.attributes.insert("user.a".into(), vec![0]);
    };
    assert_ne!(same, uuid(&attribute));
    assert_eq!(same, uuid(&|_| {}));
}

#[test]
fn a_file_that_changes_under_the_writer_is_an_error() {
    for changed in [&[8u8; 100_000][..], &[7; 99_999], &[7; 100_001], &[]] {
        let directory = tempfile::tempdir().expect("a directory");
        let entries = entries(directory.path());
        fs::write(directory.path().join("weights"), changed).expect("written");
        let error = erofs::write_tar(&entries, std::io::sink()).expect_err("changed");
        let sentence = error.to_string();
        assert!(sentence.contains("/models/m/weights"), "{sentence}");
    }
}

#[test]
fn the_tool_gets_the_whole_stream_and_its_failure_is_ours() {
    let directory = tempfile::tempdir().expect("a directory");
    let entries = entries(directory.path());
    let image = directory.path().join("image");
    let mut copy = Command::new("dd");
    copy.arg("status=none")
        .arg(format!("of={}", image.display()));
    erofs::make(&entries, copy).expect("copied");
    let mut stream = Vec::new();
    erofs::write_tar(&entries, &mut stream).expect("written");
    assert_eq!(fs::read(&image).expect("there"), stream);

    let mut fails = Command::new("sh");
    fails.args(["-c", "echo no room >&2; exit 3"]);
    match erofs::make(&entries, fails) {
        Err(RootError::Tool { problem }) => assert!(problem.contains("no room"), "{problem}"),
        other => panic!("{other:?}"),
    }
    let missing = Command::new(directory.path().join("nothing"));
    assert!(matches!(
        erofs::make(&entries, missing),
        Err(RootError::Tool { .. })
    ));
}

#[test]
fn the_tools_arguments_depend_on_contents_and_on_nothing_else() {
    let (one, two) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let mut shuffled = entries(two.path());
    shuffled.reverse();
    let arguments = erofs::arguments(&entries(one.path()), "/out/root.img");
    assert_eq!(arguments, erofs::arguments(&shuffled, "/out/root.img"));
    shuffled[0].mode = 0o700;
    assert_ne!(arguments, erofs::arguments(&shuffled, "/out/root.img"));
}
