//! Whether an image is there already, so that asking for it twice costs the time of reading it.
//!
//! `STORE/images/<key>` holds the digest of the manifest that came of everything the key stands for: the draft, and this
//! program. The store's owner is trusted with that as with the rest of the store; a wrong answer there means an old image,
//! which has the registers of the old image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use predict::image::{BootRegisters, ImageManifest};
use registers::Digest32;
use sha2::{Digest as _, Sha256};

use super::{CMDLINE, Draft, Image, MANIFEST};
use crate::error::Error;
use crate::files;
use crate::formats::metered::Metered;
use crate::limits::FILE_BYTES_MAX;
use crate::provenance::{
    ENVELOPE, Envelope, Materials, SBOM, STATEMENT, Statement, read as read_provenance,
};
use crate::store::{Store, is_whole};

/// What is remembered of a draft.
pub struct BuildCache {
    path: PathBuf,
}

impl BuildCache {
    /// Of this draft, made by this program.
    pub fn of(store: &Store, draft: &Draft) -> Result<Self, Error> {
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
        let bytes_max = predict::limits::IMAGE_MANIFEST_BYTES_MAX as u64;
        let bytes = files::read(&out.join(MANIFEST), bytes_max);
        let bytes = bytes.ok().filter(|bytes| Digest32::of(bytes) == expected)?;
        let manifest = ImageManifest::from_json(&bytes).ok()?;
        let whole = |file: &predict::image::ImageFile| {
            is_whole(&out.join(&file.name), file.bytes, file.sha256).unwrap_or(false)
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
    pub fn keep(&self, image: &Image) -> Result<(), Error> {
        match &image.manifest {
            Some(manifest) => {
                files::replace(&self.path, manifest.digest().to_string().as_bytes(), 0o644)
            }
            None => Ok(()),
        }
    }
}

/// What is remembered of provenance, so that an image that is there is left alone only with the provenance that it would be given.
pub struct Kept(PathBuf);

impl Kept {
    /// Of the provenance of this image.
    pub fn of(
        store: &Store,
        manifest: &ImageManifest,
        materials: &Materials,
    ) -> Result<Self, Error> {
        let mut hasher = Sha256::new_with_prefix("chrysalis provenance key 1\n");
        for part in [this_program()?.0, manifest.digest().0, materials.digest().0] {
            hasher.update(part);
        }
        let key = Digest32(hasher.finalize().into()).to_string();
        Ok(Self(store.root().join("provenance").join(key)))
    }

    /// Remembers those in `directory`.
    pub fn keep(&self, directory: &Path) -> Result<(), Error> {
        let statement = read_provenance(&directory.join(STATEMENT))?;
        files::replace(
            &self.0,
            Digest32::of(&statement).to_string().as_bytes(),
            0o644,
        )
    }

    /// Whether they lie in `directory`, whole. An envelope there has to be around them, or absent.
    pub fn are_in(&self, directory: &Path) -> bool {
        let whole = || {
            let kept = fs::read_to_string(&self.0).ok()?.parse::<Digest32>().ok()?;
            let statement = read_provenance(&directory.join(STATEMENT)).ok()?;
            let same = Digest32::of(&statement) == kept;
            let bill = Statement::from_json(&statement).ok()?.subject(SBOM)?;
            let bill = is_whole(&directory.join(SBOM), bill.bytes, bill.sha256).ok()?;
            let around = match read_provenance(&directory.join(ENVELOPE)) {
                Ok(text) => Envelope::from_json(&text).ok()?.insecure_payload() == statement,
                Err(_) => !directory.join(ENVELOPE).exists(),
            };
            Some(same && bill && around)
        };
        whole() == Some(true)
    }
}

/// The digest of the running program: another one may make another image of the same parts.
pub fn this_program() -> Result<Digest32, Error> {
    static DIGEST: OnceLock<Digest32> = OnceLock::new();
    if let Some(digest) = DIGEST.get() {
        return Ok(*digest);
    }
    let path = Path::new("/proc/self/exe");
    let mut metered = Metered::new(files::open(path)?, FILE_BYTES_MAX);
    io::copy(&mut metered, &mut io::sink()).map_err(Error::disk("reading", path))?;
    Ok(*DIGEST.get_or_init(|| metered.finish().1))
}
