//! Where a secret key comes from, and how it lies on the disk.
//!
//! A key is 32 bytes of Ed25519 seed: 64 hex digits, or one line of [`SEALED`] when a passphrase protects it. Argon2id (RFC 9106,
//! 64 MiB, three passes) makes a key of passphrase and salt, ChaCha20-Poly1305 seals the seed under it. Neither is printed, and both
//! are wiped after use.

use crate::error::{Context, Error, Fault};
use crate::limits::{KEY_FILE_BYTES_MAX, PASSPHRASE_BYTES_MAX};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zeroize::Zeroizing;

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `file:PATH`, which nobody else should be able to read.
    File(PathBuf),
    /// `env:NAME`. Root and the same user can read a process's environment.
    Environment(String),
    /// `stdin`: the next line of standard input.
    Stdin,
}

/// An Ed25519 seed.
pub type Seed = Zeroizing<[u8; 32]>;

/// What a sealed key's line begins with; then salt, nonce and sealed seed in hex.
const SEALED: &str = "chrysalis-key-v1";

impl SecretSource {
    /// Relative paths start at a directory.
    pub(crate) fn within(self, directory: &Path) -> Self {
        match self {
            SecretSource::File(path) => SecretSource::File(directory.join(path)),
            other => other,
        }
    }

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            SecretSource::File(path) => Some(path),
            _ => None,
        }
    }

    /// One line, without its end.
    fn read(&self) -> Result<Zeroizing<String>, Error> {
        let reading = || format!("cannot read {self}");
        let max = KEY_FILE_BYTES_MAX.max(PASSPHRASE_BYTES_MAX);
        let mut text = Zeroizing::new(String::with_capacity(max as usize));
        match self {
            SecretSource::File(path) => {
                let file = std::fs::File::open(path).context(Fault::Configuration, reading)?;
                let mode = file
                    .metadata()
                    .map(|metadata| metadata.permissions().mode());
                if mode.context(Fault::Configuration, reading)? & 0o077 != 0 {
                    tracing::warn!(path = %path.display(), "other users can read this key: chmod 600");
                }
                let read = file.take(max).read_to_string(&mut text);
                read.context(Fault::Configuration, reading)?;
            }
            SecretSource::Environment(name) => {
                let value = std::env::var(name).context(Fault::Configuration, reading)?;
                text.push_str(Zeroizing::new(value).as_str());
            }
            SecretSource::Stdin => {
                let read = std::io::stdin().lock().take(max).read_line(&mut text);
                read.context(Fault::Configuration, reading)?;
            }
        }
        let line = text.lines().next().unwrap_or_default().trim();
        Ok(Zeroizing::new(line.to_owned()))
    }

    /// A passphrase, which may not be empty.
    pub fn passphrase(&self) -> Result<Zeroizing<String>, Error> {
        let passphrase = self.read()?;
        if passphrase.is_empty() {
            let words = format!("the passphrase in {self} is empty");
            return Err(Error::new(Fault::Configuration, words));
        }
        Ok(passphrase)
    }

    /// A key, opened with the passphrase if it is sealed.
    pub fn seed(&self, passphrase: Option<&str>) -> Result<Seed, Error> {
        let text = self.read()?;
        if text.starts_with(SEALED) {
            let passphrase = passphrase.ok_or_else(|| {
                let words = format!(
                    "the key in {self} is sealed; `passphrase` must say where its passphrase is"
                );
                Error::new(Fault::Configuration, words)
            })?;
            return open(&text, passphrase).ok_or_else(|| {
                let words = format!(
                    "the key in {self} does not open: another passphrase, or a changed file"
                );
                Error::new(Fault::Configuration, words)
            });
        }
        let mut seed = Zeroizing::new([0; 32]);
        match hex::decode_to_slice(text.as_bytes(), seed.as_mut()) {
            Ok(()) => Ok(seed),
            Err(_) => {
                let words = format!(
                    "{self} must hold 64 hex digits, or a key that `keygen --passphrase` sealed"
                );
                Err(Error::new(Fault::Configuration, words))
            }
        }
    }
}

/// A new seed from the kernel's randomness.
pub fn new_seed() -> Result<Seed, Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).context(Fault::Host, || "asking the kernel for randomness")?;
    Ok(seed)
}

/// Writes a key to a new file that nobody else may read. An existing file is never overwritten.
pub fn write_new(path: &Path, seed: &Seed, passphrase: Option<&str>) -> Result<(), Error> {
    let line = match passphrase {
        Some(passphrase) => seal(seed, passphrase)?,
        None => Zeroizing::new(hex::encode(seed.as_ref())),
    };
    let mut options = OpenOptions::new();
    let new = options.write(true).create_new(true).mode(0o600);
    let written = new.open(path).and_then(|mut file| {
        writeln!(file, "{}", line.as_str())?;
        file.sync_all()
    });
    written.context(Fault::Configuration, || path.display())
}

fn seal(seed: &Seed, passphrase: &str) -> Result<Zeroizing<String>, Error> {
    let mut random = [0; 28];
    getrandom::fill(&mut random).context(Fault::Host, || "asking the kernel for randomness")?;
    let (salt, nonce) = random.split_at(16);
    let sealed = cipher(passphrase, salt)
        .and_then(|cipher| {
            cipher
                .encrypt(&Nonce::try_from(nonce).ok()?, payload(&seed[..]))
                .ok()
        })
        .ok_or_else(|| Error::new(Fault::Host, "sealing a key: not enough memory"))?;
    let [salt, nonce, sealed] = [salt, nonce, &sealed[..]].map(hex::encode);
    Ok(Zeroizing::new(format!("{SEALED} {salt} {nonce} {sealed}")))
}

fn open(line: &str, passphrase: &str) -> Option<Seed> {
    let mut parts = line.split(' ');
    let (name, salt, nonce, sealed) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if name != SEALED || parts.next().is_some() {
        return None;
    }
    let (mut salt_bytes, mut nonce_bytes, mut sealed_bytes) = ([0; 16], [0; 12], [0; 48]);
    hex::decode_to_slice(salt, &mut salt_bytes).ok()?;
    hex::decode_to_slice(nonce, &mut nonce_bytes).ok()?;
    hex::decode_to_slice(sealed, &mut sealed_bytes).ok()?;
    let cipher = cipher(passphrase, &salt_bytes)?;
    let opened = cipher.decrypt(&Nonce::from(nonce_bytes), payload(&sealed_bytes));
    let opened = Zeroizing::new(opened.ok()?);
    Some(Zeroizing::new(opened.as_slice().try_into().ok()?))
}

fn cipher(passphrase: &str, salt: &[u8]) -> Option<ChaCha20Poly1305> {
    let params = Params::new(64 * 1024, 3, 1, Some(32)).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    let made = argon2.hash_password_into(passphrase.as_bytes(), salt, key.as_mut());
    made.ok()?;
    Some(ChaCha20Poly1305::new(&Key::from(*key)))
}

fn payload(message: &[u8]) -> Payload<'_, '_> {
    Payload {
        msg: message,
        aad: SEALED.as_bytes(),
    }
}

impl FromStr for SecretSource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(SecretSource::File(path.into())),
            Some(("env", name)) if !name.is_empty() => {
                Ok(SecretSource::Environment(name.to_owned()))
            }
            None if text == "stdin" => Ok(SecretSource::Stdin),
            _ => Err("it must be file:PATH, env:NAME or stdin"),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "file:{}", path.display()),
            SecretSource::Environment(name) => write!(f, "env:{name}"),
            SecretSource::Stdin => f.write_str("stdin"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::directory;

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_alone() {
        let directory = directory();
        let path = directory.path().join("wallet.key");
        let seed = Zeroizing::new([7; 32]);
        write_new(&path, &seed, Some("correct horse")).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(!text.contains(&hex::encode([7; 32])), "{text}");
        let source = SecretSource::File(path.clone());
        let read = |passphrase| source.seed(passphrase).map(|seed| *seed);
        assert_eq!(read(Some("correct horse")).expect("opens"), [7; 32]);
        let said = |passphrase| read(passphrase).expect_err("refused").to_string();
        assert!(said(Some("correct horsf")).contains("does not open"));
        assert!(said(None).contains("is sealed"));
        // One hex digit of salt, nonce and seed each.
        for at in [SEALED.len() + 1, SEALED.len() + 34, text.trim().len() - 1] {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            std::fs::write(&path, changed).expect("written");
            assert!(
                said(Some("correct horse")).contains("does not open"),
                "{at}"
            );
        }
        write_new(&path, &seed, None).expect_err("it is there already");
    }

    #[test]
    fn a_source_is_a_file_a_variable_or_standard_input() {
        for text in ["file:a/b", "env:KEY", "stdin"] {
            let source: SecretSource = text.parse().expect(text);
            assert_eq!(source.to_string(), text);
        }
        for text in ["", "a/b", "file:", "env:", "stdin:x", "deadbeef"] {
            assert!(text.parse::<SecretSource>().is_err(), "{text}");
        }
        // Set for every process; it is no key.
        let path = SecretSource::Environment("PATH".into());
        let said = path.seed(None).expect_err("no key").to_string();
        assert!(said.contains("env:PATH must hold 64 hex digits"), "{said}");
    }
}
