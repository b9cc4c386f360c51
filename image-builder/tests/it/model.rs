//! A directory becomes a volume, or is refused by name; a volume is what its description says, or is refused.
//!
//! `dd` stands for `mkfs.erofs` where the data may be anything; images of EROFS are made here, byte by byte, from the kernel's header.
//! tests/tests/scenarios/model_volume.rs has the locked tool.

use crate::erofs_image::erofs_image;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use image_builder::error::Error;
use image_builder::formats::entry::Entry;
use image_builder::formats::verity;
use image_builder::formats::verity::Difference;
use image_builder::model;
use image_builder::model::{
    DESCRIPTION, Description, Directory, ModelSigner, ModelVerifier, SIGNATURE, Statement, Tool,
    VOLUME, parse_description,
};
use image_builder::provenance::SecretKey;
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use registers::{Digest32, VerityRoot};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A whole file of one tensor of so many bytes.
pub fn tensors(bytes: usize) -> Vec<u8> {
    let header =
        format!("{{\"t\":{{\"dtype\":\"U8\",\"shape\":[{bytes}],\"data_offsets\":[0,{bytes}]}}}}");
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![7; bytes]].concat()
}

pub const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";

/// A small model with directories whose names sort differently by byte and by component.
pub fn small_model(directory: &Path, backwards: bool) {
    let mut files = vec![
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", tensors(9000)),
        ("tokenizer.json", b"{}".to_vec()),
        ("d/a.json", b"1".to_vec()),
        ("d-1/b.json", b"2".to_vec()),
        ("d.md", b"3".to_vec()),
    ];
    if backwards {
        files.reverse();
    }
    for (path, bytes) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

pub fn read(directory: &Path, leave_out: &[&str]) -> Result<Directory, Error> {
    let leave_out: Vec<String> = leave_out.iter().map(|path| (*path).to_owned()).collect();
    Directory::read(directory, &leave_out, &mut |_| {})
}

fn tool() -> Tool {
    Tool {
        name: "dd".into(),
        version: "9".into(),
        sha256: Digest32([9; 32]),
    }
}

/// Copies the stream, and fills the last block.
fn copy(directory: &Path, name: &str, _: &[Entry]) -> Command {
    let mut command = Command::new("dd");
    command.args(["status=none", "conv=sync", "ibs=4096", "iflag=fullblock"]);
    command.arg(format!("of={}", directory.join(name).display()));
    command
}

pub fn pack(directory: &Path, out: &Path) -> Result<Description, Error> {
    let directory = read(directory, &[])?;
    model::pack(
        &directory,
        "small",
        tool(),
        &copy,
        None,
        model::claim(out)?,
        &mut |_| {},
    )
}

#[test]
fn order_times_modes_and_umask_of_a_directory_change_no_byte() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_model(&one.path().join("model"), false);
    let other = two.path().join("called otherwise");
    small_model(&other, true);
    fs::create_dir(other.join(".git")).unwrap();
    fs::write(other.join(".git/config"), "x").unwrap();
    fs::write(other.join(".gitattributes"), "x").unwrap();
    fs::create_dir(other.join("empty")).unwrap();
    for entry in fs::read_dir(&other).unwrap() {
        let path = entry.unwrap().path();
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let early = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::open(&path).unwrap().set_modified(early).unwrap();
    }
    let first = pack(&one.path().join("model"), &one.path().join("out")).unwrap();
    let second = pack(&other, &two.path().join("out")).unwrap();
    assert_eq!(first, second);
    for name in [VOLUME, DESCRIPTION, SIGNATURE] {
        let (one, two) = (
            one.path().join("out").join(name),
            two.path().join("out").join(name),
        );
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap(), "{name}");
        let mode = fs::metadata(&two).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{name}");
    }
    let paths: Vec<&str> = first.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "config.json",
            "d/a.json",
            "d-1/b.json",
            "d.md",
            "model.safetensors",
            "tokenizer.json"
        ]
    );
}

#[test]
fn the_statement_is_the_one_that_model_signing_makes() {
    let directory = tempfile::tempdir().unwrap();
    small_model(&directory.path().join("model"), false);
    let description = pack(
        &directory.path().join("model"),
        &directory.path().join("out"),
    )
    .unwrap();
    // Printed by the Python package model-signing 1.1.1 for this directory: `Payload(hashing.Config().hash(…))`.
    let statement = Statement::of(&description);
    assert_eq!(statement.subject().to_string(), SUBJECT);
    let statement: Value = serde_json::from_slice(&statement.to_json()).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(
        statement["predicateType"],
        "https://model_signing/signature/v1.0"
    );
    assert_eq!(
        statement["subject"],
        json!([{"name": "small", "digest": {"sha256": SUBJECT}}])
    );
    let second = json!({
        "name": "d/a.json",
        "algorithm": "sha256",
        "digest": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
    });
    assert_eq!(statement["predicate"]["resources"][1], second);
    assert_eq!(statement["predicate"]["serialization"]["method"], "files");
}

/// SHA-256 over the digests of [`small_model`], as model-signing has it.
const SUBJECT: &str = "920c31115475947e358b934a51b06fa6867942f865d53b642b810743b407dbc9";

/// What is said of [`small_model`] after a change.
pub fn refusal(change: impl FnOnce(&Path)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    small_model(&model, false);
    change(&model);
    let error = pack(&model, &directory.path().join("out")).expect_err("a refusal");
    assert!(!directory.path().join("out").exists(), "nothing came out");
    error.to_string()
}

#[test]
fn hostile_directories_are_refused_by_name() {
    let file = |name: &'static str| move |model: &Path| fs::write(model.join(name), "x").unwrap();
    let check = |said: String, expected: &str| assert!(said.contains(expected), "{said}");
    check(
        refusal(file("pytorch_model.bin")),
        "pytorch_model.bin: can hold a pickle",
    );
    check(refusal(file("d/x.pkl")), "d/x.pkl: can hold a pickle");
    check(refusal(file("model.pt")), "model.pt: can hold a pickle");
    check(
        refusal(file("modeling_x.py")),
        "modeling_x.py: is a program",
    );
    check(refusal(file("x.onnx")), "x.onnx: has weights in a form");
    check(
        refusal(file("weights")),
        "weights: is no file that a model is made of",
    );
    check(
        refusal(file("a b.json")),
        "a b.json: has a name with other characters",
    );
    check(
        refusal(file("a\n.json")),
        "has a name with other characters",
    );
    check(refusal(file(".hidden.json")), ".hidden.json: has a name");
    check(refusal(file("d/.gitignore")), "d/.gitignore: has a name");
    check(
        refusal(file("other.safetensors")),
        "other.safetensors: is no whole safetensors file",
    );
    check(
        refusal(|model| symlink("config.json", model.join("x.json")).unwrap()),
        "x.json: is a symbolic link",
    );
    check(
        refusal(|model| symlink("/etc", model.join("x")).unwrap()),
        "x: is a symbolic link",
    );
    check(
        refusal(|model| drop(UnixListener::bind(model.join("x.json")).unwrap())),
        "x.json: is neither a file nor a directory",
    );
    check(
        refusal(|model| fs::create_dir_all(model.join("1/2/3/4/5/6/7/8/9")).unwrap()),
        "1/2/3/4/5/6/7/8/9: lies too deep",
    );
    check(
        refusal(|model| fs::remove_file(model.join("model.safetensors")).unwrap()),
        "has no file of weights",
    );
    check(
        refusal(|model| {
            let long = File::create(model.join("long.json")).unwrap();
            long.set_len((256 << 20) + 1).unwrap();
            let vast = File::create(model.join("vast.safetensors")).unwrap();
            vast.set_len(2 << 40).unwrap();
        }),
        "more than 1099511627776 bytes in all",
    );
}

#[test]
fn what_is_to_be_left_out_has_to_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    small_model(&model, false);
    fs::write(model.join("pytorch_model.bin"), "x").unwrap();
    assert!(read(&model, &[]).is_err());
    let without = read(&model, &["pytorch_model.bin", "d"]).unwrap();
    assert!(without.left_out().contains(&"d".to_owned()));
    assert!(
        without
            .files()
            .iter()
            .all(|file| !file.path.starts_with("d/"))
    );
    let missing = read(&model, &["pytorch_model.bin", "nowhere"]);
    let missing = missing.expect_err("it is nowhere");
    assert_eq!(missing.to_string(), "there is no nowhere to leave out");
}

#[test]
fn a_file_that_changes_while_it_is_packed_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (model, out) = (directory.path().join("model"), directory.path().join("out"));
    small_model(&model, false);
    let listed = read(&model, &[]).unwrap();
    fs::write(model.join("config.json"), "[]").unwrap();
    let claimed = model::claim(&out).unwrap();
    let packed = model::pack(&listed, "small", tool(), &copy, None, claimed, &mut |_| {});
    assert!(packed.is_err_and(|error| error.to_string().contains("changed while")));
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the model: {left:?}");
}

#[test]
fn a_directory_of_somebody_elses_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), "x").unwrap();
    let claimed = model::claim(directory.path());
    let occupied = claimed.expect_err("occupied").to_string();
    assert!(occupied.contains("holds no model volume"), "{occupied}");
}

// ---- the description ----

#[test]
fn a_description_is_read_as_it_is_written_and_not_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    small_model(&directory.path().join("model"), false);
    let description = pack(
        &directory.path().join("model"),
        &directory.path().join("out"),
    )
    .unwrap();
    let text = description.to_json();
    assert_eq!(parse_description(&text).unwrap(), description);
    let value: Value = serde_json::from_slice(&text).unwrap();
    for (pointer, odd) in [
        ("/version", json!(2)),
        ("/id", json!("../x")),
        ("/bytes", json!(1)),
        ("/volume/data_blocks", json!(0)),
        ("/volume/data_blocks", json!(u64::MAX)),
        ("/files", json!([])),
        ("/files/0/path", json!("/etc/passwd")),
        ("/files/0/path", json!("a/../b")),
        ("/files/0/path", json!("zzz")),
        ("/files/0/bytes", json!(1u64 << 50)),
        ("/files/0/bytes", json!(u64::MAX)),
        ("/files/1/path", json!("config.json")),
    ] {
        let mut changed = value.clone();
        *changed.pointer_mut(pointer).unwrap() = odd;
        let mut changed = serde_json::to_vec_pretty(&changed).unwrap();
        changed.push(b'\n');
        assert!(parse_description(&changed).is_err(), "{pointer}");
    }
    for at in 0..text.len() {
        assert!(parse_description(&text[..at]).is_err(), "cut at {at}");
        let mut flipped = text.clone();
        flipped[at] ^= 1;
        // Another digit may be another description; it is never the same one.
        assert_ne!(
            parse_description(&flipped).ok().as_ref(),
            Some(&description),
            "byte {at}"
        );
    }
}

// ---- the hash tree ----

#[test]
fn every_flipped_byte_of_data_and_tree_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let data: Vec<u8> = (0..130 * 4096u32).map(|at| (at / 7) as u8).collect();
    fs::write(&path, &data).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let root = verity::append(&file).unwrap();
    let check = || verity::check(&file, &root, &mut |_| {}).unwrap();
    assert_eq!(check(), None);
    let length = file.metadata().unwrap().len();
    assert_eq!(verity::blocks(130), Some(length / 4096));
    let mut places: Vec<u64> = (0..length).step_by(9973).collect();
    places.extend([
        0,
        4095,
        4096,
        130 * 4096 - 1,
        130 * 4096,
        131 * 4096,
        length - 1,
    ]);
    for at in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let found = check().expect("a difference");
        let superblock = at / 4096 == 130;
        assert_eq!(
            found == Difference::Superblock,
            superblock,
            "byte {at}: {found}"
        );
        file.write_all_at(&byte, at).unwrap();
    }
    let other = verity::Root {
        hash: [1; 32],
        ..root
    };
    let found = verity::check(&file, &other, &mut |_| {}).unwrap();
    assert_eq!(found, Some(Difference::Root));
}

// ---- whole volumes ----

/// A volume of [`erofs_image`] with its description and statement.
fn volume(directory: &Path) -> Description {
    let path = directory.join(VOLUME);
    let mut image = erofs_image();
    image.resize(4 * 4096, 0);
    File::create(&path).unwrap().write_all(&image).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let root = verity::append(&file).unwrap();
    let of = |path: &str, bytes: &[u8]| model::VolumeFile {
        path: path.into(),
        bytes: bytes.len() as u64,
        sha256: Digest32::of(bytes),
    };
    let description = Description {
        version: 1,
        id: "made".into(),
        bytes: file.metadata().unwrap().len(),
        volume: VerityRoot::from(root),
        files: vec![
            of("a", &[7; 4000]),
            of("b", b"hello"),
            of("sub/c", &[7; 4000]),
        ],
        left_out: Vec::new(),
        tool: Some(tool()),
    };
    describe(directory, &description);
    description
}

fn describe(directory: &Path, description: &Description) {
    fs::write(directory.join(DESCRIPTION), description.to_json()).unwrap();
    let statement = Statement::of(description).to_json();
    fs::write(directory.join(SIGNATURE), statement).unwrap();
}

#[test]
fn a_volume_is_what_its_description_says_or_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let description = volume(directory.path());
    let verify = || model::verify(directory.path(), None, &mut |_| {});
    assert_eq!(verify().unwrap(), description);

    // Every file of the directory, flipped where it could matter least.
    for name in [VOLUME, DESCRIPTION, SIGNATURE] {
        let path = directory.path().join(name);
        let whole = fs::read(&path).unwrap();
        let step = whole.len().div_ceil(100);
        for at in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&path, flipped).unwrap();
            // Which program made the volume is all that nothing checks.
            let same = verify().is_ok_and(|read| read.tool == Some(tool()));
            assert!(!same, "{name} byte {at}");
        }
        let longer = [&whole[..], &[0; 4096]].concat();
        for other in [&whole[..whole.len() - 1], &longer] {
            fs::write(&path, other).unwrap();
            assert!(verify().is_err(), "{name} with {} bytes", other.len());
        }
        fs::write(&path, &whole).unwrap();
        assert!(verify().is_ok());
    }

    // A description that lies, with a statement that lies with it.
    let lies: [&dyn Fn(&mut Description); 6] = [
        &|lie| lie.files[1].sha256 = Digest32([1; 32]),
        &|lie| lie.files[1].bytes = 4,
        &|lie| lie.files[1].path = "bb".into(),
        &|lie| drop(lie.files.pop()),
        &|lie| lie.volume.verity_hash = registers::Digest32([1; 32]),
        &|lie| lie.volume.salt = registers::Digest32([1; 32]),
    ];
    for (number, lie) in lies.iter().enumerate() {
        let mut lying = description.clone();
        lie(&mut lying);
        describe(directory.path(), &lying);
        assert!(verify().is_err(), "lie {number}");
    }
}

#[test]
fn a_volume_that_holds_no_whole_model_is_refused_although_it_is_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut description = volume(directory.path());
    let path = directory.path().join(VOLUME);
    let mut image = fs::read(&path).unwrap();
    image.truncate(4 * 4096);
    let at = image.windows(4000).position(|bytes| bytes == [7; 4000]);
    let at = at.expect("a file of sevens");
    image[at..at + POINTER.len()].copy_from_slice(POINTER.as_bytes());
    let content = image[at..at + 4000].to_vec();
    fs::write(&path, &image).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    description.volume = VerityRoot::from(verity::append(&file).unwrap());
    // One inode with two names.
    for number in [0, 2] {
        description.files[number].sha256 = Digest32::of(&content);
    }
    describe(directory.path(), &description);
    let verified = model::verify(directory.path(), None, &mut |_| {});
    let said = verified.expect_err("a pointer").to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].ends_with("the model is not whole"), "{said}");
    assert!(lines[1].starts_with("a: is a Git LFS pointer"), "{said}");
    assert!(
        lines[2].starts_with("sub/c: is a Git LFS pointer"),
        "{said}"
    );
}

// ---- signatures ----

/// Keys in the files that `openssl genpkey` writes.
fn keys() -> [String; 2] {
    let p256 = p256::SecretKey::from_slice(&[5; 32]).unwrap();
    let p256 = p256.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let ed25519 = SecretKey::from_seed(&Zeroizing::new([5; 32]));
    [p256, ed25519.to_pem().to_string()]
}

#[test]
fn a_signed_statement_is_believed_with_its_key_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let description = volume(directory.path());
    let statement = Statement::of(&description).to_json();
    let path = directory.path().join(SIGNATURE);
    let keys = keys().map(|text| ModelSigner::from_pem(text.as_bytes()).unwrap());
    let [p256, ed25519] = &keys;
    for (key, other) in [(p256, ed25519), (ed25519, p256)] {
        let verify =
            |key: Option<&ModelVerifier>| model::verify(directory.path(), key, &mut |_| {});
        let (right, wrong) = (key.verifier(), other.verifier());
        let bundle = key.sign(&statement);
        assert_eq!(bundle, key.sign(&statement), "the same every time");
        fs::write(&path, &bundle).unwrap();
        assert_eq!(verify(Some(&right)).unwrap(), description);
        assert_eq!(verify(None).unwrap(), description);
        assert!(verify(Some(&wrong)).is_err());

        // Another statement, well signed.
        let mut lying = description.clone();
        lying.files[0].sha256 = Digest32([1; 32]);
        fs::write(&path, key.sign(&Statement::of(&lying).to_json())).unwrap();
        assert!(verify(Some(&right)).is_err());

        // No byte of the payload or of the signature may change; names of keys are not signed.
        let text = String::from_utf8(bundle.clone()).unwrap();
        let hint = text.find("\"hint\"").unwrap()..text.find("\"dsseEnvelope\"").unwrap();
        for at in (0..bundle.len()).step_by(7) {
            let mut flipped = bundle.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            let refused = verify(Some(&right)).is_err();
            let white = bundle[at].is_ascii_whitespace();
            assert!(refused || hint.contains(&at) || white, "byte {at}");
        }
        fs::write(&path, &statement).unwrap();
        let unsigned = verify(Some(&right)).unwrap_err().to_string();
        assert!(unsigned.contains("is not signed"), "{unsigned}");
    }
}

#[test]
fn what_is_no_key_signs_nothing() {
    let rsa = "-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEA\n-----END PRIVATE KEY-----\n";
    let [p256, _] = keys();
    for text in ["", "hello", rsa, &p256.replace("PRIVATE", "PUBLIC")] {
        assert!(ModelSigner::from_pem(text.as_bytes()).is_err(), "{text}");
        assert!(ModelVerifier::from_pem(text.as_bytes()).is_err(), "{text}");
    }
}
