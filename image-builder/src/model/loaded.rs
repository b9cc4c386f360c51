//! Whether a guest could load what is about to be packed. Otherwise that comes out when a guest ends at its boot.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use ::model::files::FilesError;
use ::model::{Family, File, ModelError, ModelFiles, Opened, loadable};

use crate::error::{Error, error};

/// The family of a model of these files, of which a guest could load it; `None` if guests read no models of its family. `places` says
/// where files lie, `made` has those that lie nowhere.
pub fn family(
    places: BTreeMap<String, PathBuf>,
    made: BTreeMap<String, Vec<u8>>,
) -> Result<Option<Family>, Error> {
    let told = |error: ModelError| error!(Model, "no guest of this version can load it: {error}");
    let directory = move |name: &str| match (made.get(name), places.get(name)) {
        (Some(content), _) => {
            let content = Cursor::new(content.clone());
            Opened::new(name, content.get_ref().len() as u64, content).map(Some)
        }
        (None, Some(place)) => {
            let opened = fs::File::open(place).and_then(|file| Ok((file.metadata()?.len(), file)));
            let (bytes, file) = opened.map_err(FilesError::unreadable(name))?;
            Opened::new(name, bytes, file).map(Some)
        }
        (None, None) => Ok(None),
    };
    let config =
        directory(File::Config.name()).and_then(|opened| opened.map(Opened::bytes).transpose());
    let config = config.map_err(|error| told(error.into()))?;
    let Some(family) = config.as_deref().and_then(loadable::family) else {
        return Ok(None);
    };
    let files = ModelFiles::read(directory).map_err(|error| told(error.into()))?;
    loadable::check(family, &files).map_err(told)?;
    Ok(Some(family))
}
