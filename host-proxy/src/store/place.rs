//! Where the books are.

use crate::keys::SecretSource;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where the books are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePlace {
    /// An SQLite file of this host.
    File(PathBuf),
    /// A PostgreSQL database, which proxies on several hosts may share.
    Database {
        /// `postgresql://…`, without a password.
        url: String,
        /// Where the password is, if the server asks for one.
        password: Option<SecretSource>,
    },
}

impl StatePlace {
    /// What the configuration's `state` says; `directory` is where a relative path starts.
    pub(crate) fn new(text: &str, password: Option<SecretSource>, directory: &Path) -> Self {
        let is_url = ["postgresql://", "postgres://"].map(|begin| text.starts_with(begin));
        match is_url.contains(&true) {
            true => StatePlace::Database {
                url: text.to_owned(),
                password,
            },
            false => StatePlace::File(directory.join(text)),
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            StatePlace::File(path) => Some(path),
            StatePlace::Database { .. } => None,
        }
    }
}

impl fmt::Display for StatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatePlace::File(path) => path.display().fmt(f),
            // A password that was put there by mistake is not shown: it would stand before the host or among the parameters.
            StatePlace::Database { url, .. } => {
                let shown = url.split('?').next().unwrap_or_default();
                match shown.rsplit_once('@') {
                    Some((_, after)) => write!(f, "postgresql://…@{after}"),
                    None => f.write_str(shown),
                }
            }
        }
    }
}
