//! Whether an image is there already, so that asking for it twice costs the time of reading it.
//!
//! `STORE/images/<key>` holds the digest of the manifest that came of everything the key stands for: the draft, and this
//! program. The store's owner is trusted with that as with the rest of the store; a wrong answer there means an old image,
//! which has the registers of the old image.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use predict::image::{BootRegisters, ImageManifest};
use registers::Digest32;
use sha2::{Digest as _, Sha256};

use super::{BuildError, CMDLINE, Draft, Image, MANIFEST, read};
use crate::formats::metered::Metered;
use crate::limits::FILE_BYTES_MAX;
use crate::store::{Store, is_whole};

/// What is remembered of a draft.
pub struct BuildCache {
    path: PathBuf,
}

impl BuildCache {
    /// Of this draft, made by this program.
    pub fn of(store: &Store, draft: &Draft) -> Result<Self, BuildError> {
        let mut hasher = Sha256::new_with_prefix("chrysalis image key 1\n");
        hasher.update(this_program()?.0);
        hasher.update(draft.digest().0);
        let key = Digest32(hasher.finalize().into()).to_string();
        Ok(Self {
            path: store.root().join("images").join(key),
        })
    }

    /// The image in `out`, if it is what would be made, whole.
    pub fn find(&self, out: &Path) -> Option<Image> {
        let expected: Digest32 = fs::read_to_string(&self.path).ok()?.parse().ok()?;
        let bytes = read(
            &out.join(MANIFEST),
            predict::limits::IMAGE_MANIFEST_BYTES_MAX,
        );
        let bytes = bytes.ok().filter(|bytes| Digest32::of(bytes) == expected)?;
        let manifest = ImageManifest::from_json(&bytes).ok()?;
        let whole = |file: &predict::image::ImageFile| {
            is_whole(&out.join(&file.name), file.bytes, Digest32(file.sha256.0)).unwrap_or(false)
        };
        let same = manifest.files.all().all(|(_, file)| whole(file))
            && fs::read(out.join(CMDLINE)).is_ok_and(|line| line == manifest.cmdline.as_bytes());
        let registers: BootRegisters = manifest.registers;
        same.then_some(Image {
            manifest: Some(manifest),
            registers,
        })
    }

    /// Remembers what came of it.
    pub fn keep(&self, image: &Image) -> Result<(), BuildError> {
        match &image.manifest {
            Some(manifest) => keep(&self.path, manifest.digest().to_string().as_bytes()),
            None => Ok(()),
        }
    }
}

/// Writes a file of the store in one step.
pub fn keep(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let disk = BuildError::disk("writing", path);
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(&disk)?;
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(&disk)?;
    io::Write::write_all(&mut file, bytes).map_err(&disk)?;
    file.persist(path).map_err(|error| disk(error.error))?;
    Ok(())
}

/// The digest of the running program: another one may make another image of the same parts.
pub fn this_program() -> Result<Digest32, BuildError> {
    let path = Path::new("/proc/self/exe");
    let disk = BuildError::disk("reading", path);
    let mut metered = Metered::new(File::open(path).map_err(&disk)?, FILE_BYTES_MAX);
    io::copy(&mut metered, &mut io::sink()).map_err(disk)?;
    Ok(metered.finish().1)
}
