//! `image-builder inspect`, `diff` and `sbom`: what an image says of itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{Error, Fault, error};
use crate::provenance::{Bill, Envelope};
use crate::release::{Directory, changes};
use ::model::whole::is_weights;
use ::model::{File, FileDigest, ModelRoot};
use attest::Profile;
use clap::Args;
use predict::image::{ContentKind, ImageManifest, Role};
use serde_json::{Value, json};

use super::print;

pub const INSPECT_EXAMPLE: &str = "Example:
  image-builder inspect image
  image-builder inspect image/manifest.json --all
  image-builder inspect image --json | jq .manifest.registers

Shows what manifest and provenance say and checks only that they do not contradict themselves. `verify` compares them with the bytes,
`reproduce` with the sources.

Exit code: 0 shown, 1 not an image, 2 wrong arguments.";

pub const DIFF_EXAMPLE: &str = "Example:
  image-builder diff old/manifest.json new/manifest.json
  image-builder diff old new --json

One line for each difference: `-` only in the first, `+` only in the second, `~` in both and different. It compares profile, lock,
compiler, machine, packages, kernel modules, files inside, artifacts, words of the command line and registers, as the manifests have
them.

Exit code: 0 the same, 1 different or not to be compared, 2 wrong arguments.";

pub const SBOM_EXAMPLE: &str = "Example:
  image-builder sbom image
  image-builder sbom image --json > image.spdx.json

Prints name, version, licence and package URL of everything in the image and of the tools that made it. With --json it prints the
SPDX 2.3 document, after checking that it belongs to this image and is valid.

Exit code: 0 printed, 1 there is none or it is not of this image, 2 wrong arguments.";

/// Shows an image.
#[derive(Args)]
pub struct Inspect {
    /// The image's directory, or its manifest
    #[arg(value_name = "IMAGE|MANIFEST")]
    image: PathBuf,
    /// Print packages and files inside too
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Compares two images.
#[derive(Args)]
pub struct Diff {
    /// An image's directory, or its manifest
    #[arg(value_name = "A")]
    first: PathBuf,
    /// The image to compare with: its directory, or its manifest
    #[arg(value_name = "B")]
    second: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints a bill of materials.
#[derive(Args)]
pub struct Sbom {
    /// The image's directory, or its manifest
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Print the SPDX document
    #[arg(long)]
    pub json: bool,
}

impl Inspect {
    pub fn run(self) -> Result<ExitCode, Error> {
        let directory = Directory::open(&self.image)?;
        let signers = signers(&directory);
        if self.json {
            let manifest: Value = serde_json::from_slice(&directory.manifest_bytes)
                .expect("it was parsed a moment ago");
            let report = json!({
                "image_sha256": directory.manifest.digest(),
                "manifest": manifest,
                "models": model_roots(&directory.manifest),
                "signatures_not_checked": signers,
            });
            print(&format!("{report}\n"));
            return Ok(ExitCode::SUCCESS);
        }
        print(&self.text(&directory, &signers));
        Ok(ExitCode::SUCCESS)
    }

    fn text(&self, directory: &Directory, signers: &[String]) -> String {
        let mut lines: Vec<String> = Vec::new();
        let manifest = &directory.manifest;
        let machine = manifest.machine;
        lines.push(format!("image        {}", manifest.digest()));
        lines.push(format!("profile      {}", manifest.profile.as_str()));
        match manifest.profile {
            Profile::Dev => lines.push(
                "             INSECURE: for developers, with doors that production does not have"
                    .into(),
            ),
            Profile::Sim => lines.push("             simulated: protects nothing".into()),
            Profile::Cpu | Profile::H100 => {}
        }
        lines.push(format!("lock         {}", manifest.lock_sha256));
        lines.push(format!("compiler     {}", manifest.compiler));
        lines.push(format!(
            "machine      {} processors, {} MiB",
            machine.vcpus, machine.memory_mib
        ));
        for (what, file) in manifest.files.all() {
            lines.push(format!(
                "{what:12} {} ({} bytes) {}",
                file.sha256, file.bytes, file.name
            ));
        }
        lines.push(format!("root hash    {}", manifest.root.verity_hash));
        lines.push(format!("agent        {}", manifest.agent_sha384));
        lines.push(format!("mrtd         {}", manifest.registers.mrtd));
        lines.push(format!("rtmr0        {}", manifest.registers.rtmr0));
        lines.push(format!("rtmr1        {}", manifest.registers.rtmr1));
        lines.push(format!("rtmr2        {}", manifest.registers.rtmr2));
        lines.push(format!("cmdline      {}", manifest.cmdline));
        let tools = manifest
            .packages
            .iter()
            .filter(|package| package.role == Role::Build);
        let tools = tools.count();
        lines.push(format!(
            "packages     {} in the image, {tools} that made it",
            manifest.packages.len() - tools
        ));
        lines.push(format!(
            "inside       {} files, directories, links and devices",
            manifest.contents.len()
        ));
        for (id, root) in model_roots(manifest) {
            lines.push(format!("model        {root} {id}"));
        }
        match signers {
            [] => lines.push("signed       no".into()),
            ids => lines.push(format!(
                "signed       by {}, NOT CHECKED: see `verify`",
                ids.join(", ")
            )),
        }
        if self.all {
            lines.extend(lists(directory));
        }
        lines.join("\n") + "\n"
    }
}

/// The root of each model in the image, by its id: what a guest's configuration names.
fn model_roots(manifest: &ImageManifest) -> BTreeMap<&str, String> {
    let mut models: BTreeMap<&str, BTreeMap<&str, FileDigest>> = BTreeMap::new();
    for content in &manifest.contents {
        let place = content.path.strip_prefix("/models/");
        let place = place.and_then(|place| place.split_once('/'));
        if let (Some((id, name)), ContentKind::File { bytes, sha256 }) = (place, &content.kind) {
            let digest = FileDigest {
                bytes: *bytes,
                sha256: sha256.0,
            };
            models.entry(id).or_default().insert(name, digest);
        }
    }
    let root = |files: BTreeMap<&str, FileDigest>| {
        let indexed = files.contains_key(File::Index.name());
        let counts = |name: &str| {
            File::ALL.iter().any(|file| file.name() == name) || (indexed && is_weights(name))
        };
        let files = files.into_iter().filter(|(name, _)| counts(name));
        let files = files.map(|(name, digest)| (name.to_owned(), digest));
        ModelRoot::of(&files.collect()).to_string()
    };
    models
        .into_iter()
        .map(|(id, files)| (id, root(files)))
        .collect()
}

/// Packages, and what lies inside.
fn lists(directory: &Directory) -> Vec<String> {
    let word = |role: &dyn std::fmt::Debug| format!("{role:?}").to_lowercase();
    let packages = directory.manifest.packages.iter().map(|package| {
        let (role, name) = (word(&package.role), &package.name);
        format!("package      {role:8} {name} {}", package.version)
    });
    let contents = directory.manifest.contents.iter().map(|content| {
        let (part, from) = (word(&content.part), content.from.as_deref().unwrap_or("-"));
        format!("{part:12} {} {} ({from})", content.mode, content.path)
    });
    packages.chain(contents).collect()
}

/// Names of keys in the envelope, which prove nothing.
fn signers(directory: &Directory) -> Vec<String> {
    let envelope = directory.envelope().ok().flatten();
    let envelope = envelope.and_then(|text| Envelope::from_json(&text).ok());
    let plain =
        |id: &str| -> String { id.chars().filter(char::is_ascii_graphic).take(64).collect() };
    let ids = envelope.iter().flat_map(Envelope::insecure_key_ids);
    ids.map(plain).collect()
}

impl Diff {
    pub fn run(self) -> Result<ExitCode, Error> {
        let (first, second) = (
            Directory::open(&self.first)?,
            Directory::open(&self.second)?,
        );
        let changes = changes(&first.manifest, &second.manifest);
        let same = changes.is_empty();
        print(&match self.json {
            true => format!("{}\n", json!({ "same": same, "changes": changes })),
            false => { changes.iter() }
                .map(|change| format!("{change}\n"))
                .collect(),
        });
        match same {
            true => eprintln!("the same image"),
            false => eprintln!("{} differences", changes.len()),
        }
        Ok(ExitCode::from(u8::from(!same)))
    }
}

impl Sbom {
    pub fn run(self) -> Result<ExitCode, Error> {
        let directory = Directory::open(&self.image)?;
        let text = directory.bill()?;
        let text = text.ok_or_else(|| error!(Image, "the image has no bill of materials"))?;
        let bill = Bill::from_json(&text).map_err(Error::of(Fault::Image, ""))?;
        let document = bill.document();
        let digest = directory.manifest.digest().to_string();
        let of_it = document.packages.first().is_some_and(|image| {
            { image.checksums.iter() }.any(|checksum| checksum.checksum_value == digest)
        });
        if !of_it {
            return Err(error!(
                Image,
                "the bill of materials beside it is of another image"
            ));
        }
        if self.json {
            print(&String::from_utf8_lossy(&text));
            return Ok(ExitCode::SUCCESS);
        }
        let mut lines = String::new();
        for package in &document.packages {
            let reference = package.external_refs.first();
            let purl = reference.map_or("-", |reference| &reference.reference_locator);
            let (name, version) = (&package.name, &package.version_info);
            let licence = &package.license_declared;
            lines += &format!("{name}\t{version}\t{licence}\t{purl}\n");
        }
        print(&lines);
        Ok(ExitCode::SUCCESS)
    }
}
