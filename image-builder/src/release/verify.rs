//! Whether an image is what its manifest and its provenance say. What was not computed is not verified: whoever accepts that an image's
//! statement about something goes unchecked names it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use ::registers::Digest48;
pub use predict::image::Outcome;
use predict::image::{Content, ContentKind, ImagePart};
use sha2::{Digest as _, Sha256, Sha384};

use super::directory::Directory;
use super::registers;
use crate::error::Error;
use crate::files as on_disk;
use crate::formats::bytes::{Part, ReadError};
use crate::formats::metered::Metered;
use crate::formats::{Item, ItemKind, Listing, list};
use crate::image::{AGENT, MANIFEST};
use crate::limits::FILE_BYTES_MAX;
use crate::provenance::Bill;
use crate::provenance::{Envelope, PublicKey, SBOM, Statement};
use ::registers::Digest32;

/// What came of every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

/// Something that the provenance states, and what came of checking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Report {
    /// The first check that differs, or was not computed and is not named among the `allowed`. The image is verified if there is none
    /// and nothing is allowed.
    pub fn refusal(&self, allowed: &[&str]) -> Option<&Check> {
        self.checks.iter().find(|check| match &check.outcome {
            Outcome::Same(_) => false,
            Outcome::Differs(_) => true,
            Outcome::NotComputed(_) => !allowed.contains(&&*check.what),
        })
    }
}

impl Check {
    /// A check and what came of it.
    pub fn new(what: impl Into<String>, outcome: Outcome) -> Self {
        let what = what.into();
        Self { what, outcome }
    }
}

/// Checks an image. Without a key nobody answers for it, and its provenance is compared with its bytes all the same; the report says so.
pub fn check(directory: &Directory, key: Option<&PublicKey>) -> Result<Report, Error> {
    let (statement, signature) = signature(directory, key)?;
    let mut checks = vec![signature];
    if let Some(statement) = &statement {
        checks.extend(files(directory, statement)?);
        checks.push(agreement(directory, statement));
    }
    // What a broken image's other parts say is of no interest.
    if !checks
        .iter()
        .any(|check| matches!(check.outcome, Outcome::Differs(_)))
    {
        checks.push(cmdline(directory)?);
        checks.push(bill(directory)?);
        checks.extend(registers::checks(&directory.manifest, directory)?);
        checks.push(contents(directory, ImagePart::Initrd)?);
        checks.push(contents(directory, ImagePart::Root)?);
        checks.push(agent(directory)?);
    }
    Ok(Report { checks })
}

/// The statement: signed if there is a key, otherwise as it lies there.
fn signature(
    directory: &Directory,
    key: Option<&PublicKey>,
) -> Result<(Option<Statement>, Check), Error> {
    let differs = |why: String| Ok((None, Check::new(SIGNATURE, Outcome::Differs(why))));
    let loose = directory.statement()?;
    let Some(key) = key else {
        let parsed = loose.as_deref().map(Statement::from_json).transpose();
        return match parsed {
            Ok(statement) => {
                let why = "no key was given: nobody answers for this image".into();
                Ok((statement, Check::new(SIGNATURE, Outcome::NotComputed(why))))
            }
            Err(error) => differs(error.to_string()),
        };
    };
    let Some(text) = directory.envelope()? else {
        return differs("there is no envelope: the image is not signed".into());
    };
    let opened = || {
        let envelope = Envelope::from_json(&text).map_err(|error| error.to_string())?;
        let payload = envelope.open(key).map_err(|error| error.to_string())?;
        // A statement beside the envelope that says something else would be read by somebody.
        if loose.is_some_and(|loose| loose != payload) {
            return Err("the statement beside the envelope is not the one inside".into());
        }
        Statement::from_json(payload).map_err(|error| error.to_string())
    };
    match opened() {
        Ok(statement) => {
            let outcome = Outcome::Same(format!("by the key {}", key.id()));
            Ok((Some(statement), Check::new(SIGNATURE, outcome)))
        }
        Err(why) => differs(why),
    }
}

/// Every file of the statement, by length and digest.
fn files(directory: &Directory, statement: &Statement) -> Result<Vec<Check>, Error> {
    let mut found = Vec::new();
    for subject in statement.subjects() {
        let outcome = match measured(&directory.file(&subject.name)) {
            Ok((bytes, sha256)) if (bytes, sha256) == (subject.bytes, subject.sha256) => {
                Outcome::Same(format!("{bytes} bytes, sha256 {sha256}"))
            }
            Ok((bytes, sha256)) => Outcome::Differs(format!(
                "it has {bytes} bytes and sha256 {sha256}; stated are {} and {}",
                subject.bytes, subject.sha256
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Outcome::Differs("it is missing".into())
            }
            Err(error) => {
                let path = directory.file(&subject.name);
                return Err(Error::disk("reading", &path)(error));
            }
        };
        found.push(Check::new(subject.name, outcome));
    }
    Ok(found)
}

/// Whether statement and manifest speak of the same image.
fn agreement(directory: &Directory, statement: &Statement) -> Check {
    let manifest = &directory.manifest;
    let of_manifest = statement.subject(MANIFEST).map(|subject| subject.sha256);
    let mut problem = None;
    if of_manifest != Some(Digest32::of(&directory.manifest_bytes)) {
        problem = Some("the statement is of another manifest".to_owned());
    }
    for (what, file) in manifest.files.all() {
        let stated = statement.subject(&file.name);
        if stated.is_none_or(|stated| (stated.bytes, stated.sha256) != (file.bytes, file.sha256)) {
            problem = Some(format!("they differ about the {what}"));
        }
    }
    let parameter = |name: &str| statement.parameters().get(name);
    if parameter("profile").and_then(|value| value.as_str()) != Some(manifest.profile.as_str()) {
        problem = Some("they differ about the profile".into());
    }
    let lock = |input: crate::provenance::Dependency| input.sha256 == manifest.lock_sha256;
    if !statement.dependencies().any(lock) {
        problem = Some("the statement does not have the manifest's lock".into());
    }
    let outcome = match problem {
        Some(problem) => Outcome::Differs(problem),
        None => Outcome::Same("the statement is about this manifest".into()),
    };
    Check::new("provenance", outcome)
}

/// The command line, which QEMU is given and no file of the manifest has.
fn cmdline(directory: &Directory) -> Result<Check, Error> {
    let bytes_max = predict::limits::CMDLINE_BYTES_MAX as u64;
    let line = on_disk::read(&directory.cmdline(), bytes_max)?;
    let outcome = match line == directory.manifest.cmdline.as_bytes() {
        true => Outcome::Same("as the manifest says".into()),
        false => Outcome::Differs("it is not the manifest's".into()),
    };
    Ok(Check::new("command line", outcome))
}

fn bill(directory: &Directory) -> Result<Check, Error> {
    let outcome = match directory.bill()? {
        None => Outcome::NotComputed(format!("there is no {SBOM}")),
        Some(text) => match Bill::from_json(&text) {
            Err(error) => Outcome::Differs(error.to_string()),
            Ok(bill) => of_this_image(directory, &bill),
        },
    };
    Ok(Check::new("bill of materials", outcome))
}

/// Its first package is the image, by the digest of the manifest.
fn of_this_image(directory: &Directory, bill: &Bill) -> Outcome {
    let digest = Digest32::of(&directory.manifest_bytes).to_string();
    let document = bill.document();
    let image = document.packages.first();
    let names = image.is_some_and(|image| {
        { image.checksums.iter() }.any(|checksum| checksum.checksum_value == digest)
    });
    match names {
        true => Outcome::Same(format!(
            "{} packages, {} files",
            document.packages.len(),
            document.files.len()
        )),
        false => Outcome::Differs("it is of another image".into()),
    }
}

/// Whether what lies inside is what the manifest lists: nothing more, nothing less, nothing else.
fn contents(directory: &Directory, part: ImagePart) -> Result<Check, Error> {
    let (what, name) = match part {
        ImagePart::Initrd => ("inside the initrd", &directory.manifest.files.initrd.name),
        ImagePart::Root => ("inside the root", &directory.manifest.files.root.name),
    };
    let file = on_disk::open(&directory.file(name))?;
    let looked = || {
        let whole = Part::whole(&file)?;
        let listing = list(&whole)?;
        compare(directory, part, &whole, &listing)
    };
    let outcome = match looked() {
        Ok(outcome) => outcome,
        Err(error @ (ReadError::Unknown { .. } | ReadError::Strange)) => {
            Outcome::NotComputed(error.to_string())
        }
        Err(error) => Outcome::Differs(error.to_string()),
    };
    Ok(Check::new(what, outcome))
}

/// What the agent will measure of itself into RTMR3.
fn agent(directory: &Directory) -> Result<Check, Error> {
    let file = on_disk::open(&directory.file(&directory.manifest.files.root.name))?;
    let hashed = || {
        let whole = Part::whole(&file)?;
        let listing = list(&whole)?;
        let mut hasher = Sha384::new();
        if let Some(agent) = listing.item(AGENT) {
            agent.read(&whole, &mut |piece| hasher.update(piece))?;
        }
        Ok::<_, ReadError>(Digest48(hasher.finalize().into()))
    };
    let stated = directory.manifest.agent_sha384;
    let outcome = match hashed() {
        Ok(hash) if hash == stated => Outcome::Same(hash.to_string()),
        Ok(hash) => Outcome::Differs(format!("computed {hash}, stated {stated}")),
        Err(error @ (ReadError::Unknown { .. } | ReadError::Strange)) => {
            Outcome::NotComputed(error.to_string())
        }
        Err(error) => Outcome::Differs(error.to_string()),
    };
    Ok(Check::new("agent", outcome))
}

fn compare(
    directory: &Directory,
    part: ImagePart,
    whole: &Part<'_>,
    listing: &Listing,
) -> Result<Outcome, ReadError> {
    let mut stated: BTreeMap<&str, &Content> = { directory.manifest.contents.iter() }
        .filter(|content| content.part == part)
        .map(|content| (content.path.as_str(), content))
        .collect();
    let items: BTreeMap<&str, &Item> = { listing.items.iter() }
        .map(|item| (item.path.as_str(), item))
        .collect();
    let mut count = 0;
    for item in &listing.items {
        let Some(content) = stated.remove(item.path.as_str()) else {
            // The top directory may go without saying.
            if item.path == "/" {
                continue;
            }
            return Ok(Outcome::Differs(format!(
                "{} is not in the manifest",
                item.path
            )));
        };
        if let Some(problem) = problem_of(whole, &items, item, content)? {
            return Ok(Outcome::Differs(format!("{} {problem}", item.path)));
        }
        count += 1;
    }
    match stated.first_key_value() {
        Some((path, _)) => Ok(Outcome::Differs(format!("{path} is in the manifest alone"))),
        None => Ok(Outcome::Same(format!(
            "{count} files, directories, links and devices"
        ))),
    }
}

fn problem_of(
    whole: &Part<'_>,
    items: &BTreeMap<&str, &Item>,
    item: &Item,
    content: &Content,
) -> Result<Option<&'static str>, ReadError> {
    // Linux gives every symbolic link this mode.
    let mode = item.kind == ItemKind::Link || format!("{:04o}", item.mode) == content.mode;
    if !mode {
        return Ok(Some("has another mode than the manifest says"));
    }
    if item.owner != (content.user, content.group) {
        return Ok(Some("has another owner than the manifest says"));
    }
    let right = match (&content.kind, item.kind) {
        (ContentKind::File { bytes, sha256 }, ItemKind::File) => {
            let mut hasher = Sha256::new();
            if *bytes == item.bytes {
                item.read(whole, &mut |piece| hasher.update(piece))?;
            }
            *bytes == item.bytes && sha256.0[..] == hasher.finalize()[..]
        }
        (ContentKind::Same { target }, ItemKind::File) => {
            let first = items.get(target.as_str());
            first.is_some_and(|first| first.extents == item.extents && first.header == item.header)
        }
        (ContentKind::Link { target }, ItemKind::Link) => {
            let mut found = Vec::new();
            if item.bytes == target.len() as u64 {
                item.read(whole, &mut |piece| found.extend_from_slice(piece))?;
            }
            found == target.as_bytes()
        }
        (ContentKind::Directory, ItemKind::Directory) => true,
        (ContentKind::Device { .. }, ItemKind::Device) => true,
        _ => return Ok(Some("is of another kind than the manifest says")),
    };
    Ok((!right).then_some("has other content than the manifest says"))
}

/// The check that fails without a key, for [`Report::refusal`].
pub const SIGNATURE: &str = "signature";

/// Length and digest of a file, read once in pieces. A link would lead elsewhere, and is followed by nobody.
fn measured(path: &Path) -> io::Result<(u64, Digest32)> {
    if !path.symlink_metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let file = File::open(path)?;
    let mut metered = Metered::new(io::BufReader::with_capacity(1 << 20, file), FILE_BYTES_MAX);
    io::copy(&mut metered, &mut io::sink())?;
    Ok(metered.finish())
}
