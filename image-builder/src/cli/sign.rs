//! `image-builder keygen` and `image-builder sign`.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::error::{Error, Fault, error};
use crate::files;
use crate::limits::KEY_BYTES_MAX;
use crate::provenance;
use crate::provenance::{ENVELOPE, KeyError, PublicKey, SecretKey};
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::answer;

pub const KEYGEN_EXAMPLE: &str = "Example:
  image-builder keygen --out release.key

Writes release.key, readable only by its owner, and release.key.pub, which verifiers need, in OpenSSL's formats for Ed25519
(PKCS#8 and SubjectPublicKeyInfo, PEM). Existing files are not overwritten.

Exit code: 0 done, 1 refused or failed, 2 wrong arguments.";

pub const SIGN_EXAMPLE: &str = "Example:
  image-builder sign image --key release.key

Writes provenance.dsse.json around provenance.json. The signature says that the owner of the key claims that this image came of these
inputs. It says nothing about what a guest runs: that is what registers are for.

Exit code: 0 done, 1 refused or failed, 2 wrong arguments.";

/// Makes a key.
#[derive(Args)]
pub struct Keygen {
    /// Where to write the secret key; the public key is written beside it with `.pub`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object instead of the public key's name
    #[arg(long)]
    pub json: bool,
}

/// Signs an image's provenance.
#[derive(Args)]
pub struct Sign {
    /// The image's directory
    #[arg(value_name = "DIR")]
    image: PathBuf,
    /// The secret key
    #[arg(long, value_name = "KEYFILE")]
    key: PathBuf,
    /// Print one JSON object instead of a path
    #[arg(long)]
    pub json: bool,
}

impl Keygen {
    pub fn run(self) -> Result<ExitCode, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        let filled = getrandom::fill(&mut seed[..]);
        filled.map_err(Error::of(Fault::Host, "asking the system for randomness: "))?;
        let key = SecretKey::from_seed(&seed);
        let public = key.public();
        let mut name = self.out.file_name().unwrap_or_default().to_owned();
        name.push(".pub");
        let beside = self.out.with_file_name(name);
        write_new(&self.out, key.to_pem().as_bytes(), 0o600)?;
        write_new(&beside, public.to_pem().as_bytes(), 0o644)?;
        let told = json!({ "key": self.out, "public_key": beside, "id": public.id() });
        answer(self.json, told, public.id());
        Ok(ExitCode::SUCCESS)
    }
}

impl Sign {
    pub fn run(self) -> Result<ExitCode, Error> {
        let key = read_secret(&self.key)?;
        provenance::sign(&self.image, &key)?;
        let envelope = self.image.join(ENVELOPE);
        let told = json!({ "envelope": envelope, "signed_by": key.public().id() });
        answer(self.json, told, envelope.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// A secret key's file. Others who can read it could sign as well, so that is said.
pub fn read_secret(path: &Path) -> Result<SecretKey, Error> {
    let mode = path
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        eprintln!(
            "image-builder: others on this machine can read {}: chmod 600",
            path.display()
        );
    }
    read_key(path, SecretKey::from_pem)
}

/// A public key's file.
pub fn read_public(path: &Path) -> Result<PublicKey, Error> {
    read_key(path, PublicKey::from_pem)
}

/// What `parse` makes of a key's file.
pub fn read_key<K>(path: &Path, parse: fn(&[u8]) -> Result<K, KeyError>) -> Result<K, Error> {
    // Never grown, so that no copy stays behind.
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_BYTES_MAX + 2));
    let file = files::open(path)?.take(KEY_BYTES_MAX as u64 + 1);
    { file }
        .read_to_end(&mut text)
        .map_err(Error::disk("reading", path))?;
    parse(&text).map_err(|error| error!(Disk, "{} is no key: {error}", path.display()))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let opened = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => error!(Disk, "{} is there already", path.display()),
        _ => Error::disk("writing", path)(error),
    })
}
