//! The maintainer scripts of a `.deb`, as text. They are read so that somebody can judge what is lost by not running them; none is
//! ever run.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::deb;
use super::deb::DebError;
use crate::formats::metered::Limited;
use crate::limits::{DEB_CONTROL_BYTES_MAX, DEB_ENTRIES_MAX, DEB_SCRIPT_BYTES_MAX};

/// What dpkg runs when a package is installed where it was not before (Debian Policy 6.5).
pub const INSTALL_SCRIPTS: [&str; 2] = ["preinst", "postinst"];

/// The scripts of [`INSTALL_SCRIPTS`] that the package has, by name.
pub fn install_scripts(mut deb: impl Read) -> Result<BTreeMap<String, Vec<u8>>, DebError> {
    let (compression, bytes) = deb::find(&mut deb, deb::CONTROL)?;
    pick(compression.open(deb::Exactly::new(deb, bytes)))
}

fn pick(tar: impl Read) -> Result<BTreeMap<String, Vec<u8>>, DebError> {
    let mut archive = tar::Archive::new(Limited::new(tar, DEB_CONTROL_BYTES_MAX));
    let mut scripts = BTreeMap::new();
    for (count, entry) in archive.entries().map_err(broken)?.raw(true).enumerate() {
        let entry = entry.map_err(broken)?;
        if count > DEB_ENTRIES_MAX {
            return Err(DebError::TooMuch {
                what: "entries in its control archive",
                max: DEB_ENTRIES_MAX as u64,
            });
        }
        let path = entry.header().path_bytes();
        let name = path.strip_prefix(b"./").unwrap_or(&path);
        let Some(script) = INSTALL_SCRIPTS.iter().find(|one| one.as_bytes() == name) else {
            continue;
        };
        let mut text = Vec::new();
        let read = entry.take(DEB_SCRIPT_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(broken)?;
        if text.len() as u64 > DEB_SCRIPT_BYTES_MAX {
            return Err(DebError::TooMuch {
                what: "bytes in a maintainer script",
                max: DEB_SCRIPT_BYTES_MAX,
            });
        }
        scripts.insert((*script).to_owned(), text);
    }
    // As for the data: what lies behind the archive's end is judged as well.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(scripts)
}

fn broken(error: std::io::Error) -> DebError {
    DebError::Broken(error.to_string())
}
