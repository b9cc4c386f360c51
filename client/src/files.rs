//! Files that are for this user alone: keys, state, the directory of a socket. Others on the machine may be curious.

use crate::config::ConfigError;
use crate::session::random;
use ed25519_dalek::SigningKey;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Refuses a secret that others can read: it is no secret any more, and changing its mode would not make it one.
pub(crate) fn refuse_if_readable(path: &Path, entry: &Metadata) -> Result<(), ConfigError> {
    let mode = entry.permissions().mode() & 0o7777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(ConfigError(format!(
            "{}: its mode is {mode:04o}, so that other users can read the key; use another key, or `chmod 600` it if \
             nobody has",
            path.display()
        ))),
    }
}

/// Makes a file of this program's own, with its directories, or takes it away from others if it is there.
pub(crate) fn make_private(path: &Path) -> Result<(), ConfigError> {
    let refuse = |e: std::io::Error| ConfigError(format!("{}: {e}", path.display()));
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        made.map_err(refuse)?;
    }
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path);
    let file = file.map_err(refuse)?;
    let mode = file.metadata().map_err(refuse)?.permissions().mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => { file.set_permissions(Permissions::from_mode(0o600)) }.map_err(refuse),
    }
}

/// A directory of this user's that nobody else may enter, for a socket or for secrets. Made if it is absent.
pub(crate) fn private_directory(path: &Path) -> Result<(), ConfigError> {
    let refuse = |reason: &str| ConfigError(format!("{}: {reason}", path.display()));
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(refuse(&error.to_string()));
        }
        _ => {}
    }
    let entry = fs::metadata(path).map_err(|e| refuse(&e.to_string()))?;
    // Whoever may write into this process's own entry is this user.
    let own = fs::metadata("/proc/self").map_err(|e| refuse(&e.to_string()))?;
    if !entry.is_dir() || entry.uid() != own.uid() {
        return Err(refuse("it must be a directory of this user"));
    }
    match entry.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => Err(refuse(
            "it must be a directory that only this user may enter; `chmod 700` it",
        )),
    }
}

/// Draws a key, writes its seed to a new file of this user's, and returns its public half.
pub(crate) fn new_key(path: &Path) -> Result<[u8; 32], ConfigError> {
    let refuse = |e: std::io::Error| ConfigError(format!("{}: {e}", path.display()));
    let seed = random::<32>().map_err(|e| ConfigError(e.to_string()))?;
    let seed = Zeroizing::new(seed);
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let text = Zeroizing::new(hex::encode(&seed[..]));
    { file.map_err(refuse)? }
        .write_all(text.as_bytes())
        .map_err(refuse)?;
    Ok(SigningKey::from_bytes(&seed).verifying_key().to_bytes())
}

/// Writes a new file; one that is there is left alone and refused.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
    let refuse = |e: std::io::Error| ConfigError(format!("{}: {e}", path.display()));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    { file.map_err(refuse)? }.write_all(bytes).map_err(refuse)
}

/// The key that applications show to the sidecar: read from its file, or drawn and written there.
pub fn api_key(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let refuse = |e: std::io::Error| ConfigError(format!("{}: {e}", path.display()));
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = random::<32>().map_err(|e| ConfigError(e.to_string()))?;
            let key = Zeroizing::new(format!("sk-chrysalis-{}", hex::encode(secret)));
            file.write_all(key.as_bytes()).map_err(refuse)?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            refuse_if_readable(
                path,
                &File::open(path)
                    .and_then(|f| f.metadata())
                    .map_err(refuse)?,
            )?;
            let bytes = crate::config::read_file(path, crate::limits::API_KEY_BYTES_MAX)?;
            let text = String::from_utf8(bytes).unwrap_or_default();
            let text = Zeroizing::new(text);
            let key = text.trim();
            match key.len() >= 16 && key.bytes().all(|b| b.is_ascii_graphic()) {
                true => Ok(Zeroizing::new(key.to_owned())),
                false => Err(ConfigError(format!(
                    "{}: a key for applications is at least 16 visible ASCII characters; remove the file to get one",
                    path.display()
                ))),
            }
        }
        Err(error) => Err(refuse(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_private_is_made_so_and_an_open_secret_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        make_private(&at("new/state")).unwrap();
        assert_eq!((mode(&at("new")), mode(&at("new/state"))), (0o700, 0o600));
        fs::write(at("old"), "kept").unwrap();
        fs::set_permissions(at("old"), Permissions::from_mode(0o644)).unwrap();
        make_private(&at("old")).unwrap();
        assert_eq!(
            (mode(&at("old")), fs::read(at("old")).unwrap()),
            (0o600, b"kept".to_vec())
        );

        let key = api_key(&at("api.key")).unwrap();
        assert_eq!(
            (mode(&at("api.key")), api_key(&at("api.key"))),
            (0o600, Ok(key))
        );
        fs::set_permissions(at("api.key"), Permissions::from_mode(0o640)).unwrap();
        let error = api_key(&at("api.key")).unwrap_err().to_string();
        assert!(
            error.contains("0640") && error.contains("chmod 600"),
            "{error}"
        );
    }

    #[test]
    fn a_socket_lies_where_nobody_else_may_enter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        private_directory(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(
            private_directory(&path)
                .unwrap_err()
                .to_string()
                .contains("chmod 700")
        );
        assert!(private_directory(Path::new("/proc/1")).is_err());
    }
}
