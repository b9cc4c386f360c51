//! `measurements image`: an image's files against its manifest.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use predict::image::{Disk, Files, ImageFile, ImageManifest, Report, Root, check};
use serde_json::{Value, json};

use super::firmware::FirmwareArguments;
use super::predict::{MachineArguments, acpi_files};
use super::{manifest_of, open, print, print_json, read_bounded};

#[derive(Subcommand)]
pub enum ImageCommand {
    /// Compare an image's files with its manifest, and recompute every register.
    ///
    /// An image with a register that cannot be computed is refused: nothing would show that it is right. The digest of the
    /// agent and the lists of files and packages inside are not checked here: rebuild the image from its lock, or use
    /// `image-builder verify`.
    ///
    /// Example:
    ///   measurements image verify --image image
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
}

#[derive(Args)]
pub struct VerifyArguments {
    /// The image's directory, or its manifest.json with the files beside it.
    #[arg(long, value_name = "DIR", alias = "manifest")]
    image: PathBuf,
    #[command(flatten)]
    machine: MachineArguments,
    /// Accept the image although this was not computed: a register, or the registers of a file that is missing. The image is
    /// then accepted, not verified. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = ["rtmr0", "uki", "disk"])]
    allow_unchecked: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Whether the image may be used: verified, or accepted with what the caller allows to be unchecked.
pub fn verify(arguments: &VerifyArguments) -> anyhow::Result<bool> {
    let path = &manifest_of(&arguments.image);
    let bytes = read_bounded(path, predict::limits::IMAGE_MANIFEST_BYTES_MAX)?;
    let manifest =
        ImageManifest::from_json(&bytes).with_context(|| format!("reading {}", path.display()))?;
    let report = checked(&manifest, path, &arguments.machine)?;
    let accepted = report.accepts(&arguments.allow_unchecked);
    match arguments.json {
        true => print_json(&json!({
            "verified": report.is_verified(),
            "accepted": accepted,
            "unchecked": report.unchecked(),
            "image_sha256": manifest.digest(),
            "checks": rows(&report)
                .map(|[what, outcome, detail]| json!({ "what": what, "outcome": outcome, "detail": detail }))
                .collect::<Vec<Value>>(),
        }))?,
        false => {
            let lines: String = rows(&report)
                .map(|[what, outcome, detail]| format!("{what:12}  {outcome:12}  {detail}\n"))
                .collect();
            print(lines.as_bytes())?;
        }
    }
    if report.is_verified() {
        let image = manifest.digest();
        eprintln!("image {image}: its files and registers are what the manifest says");
    } else if accepted {
        let (image, unchecked) = (manifest.digest(), report.unchecked().join(", "));
        eprintln!("image {image}: accepted, NOT VERIFIED: {unchecked} was not computed");
    } else {
        print_refusal(path, &report, &report.unchecked());
    }
    Ok(accepted)
}

/// What differs, or what was not computed and how to go on without.
pub fn print_refusal(path: &Path, report: &Report, unchecked: &[&str]) {
    if report.accepts(&report.unchecked()) {
        let (unchecked, options) = (unchecked.join(", "), unchecked.join(" --allow-unchecked "));
        eprintln!(
            "refused: {unchecked} was not computed, so nothing shows that the manifest is right about it; \
             to accept the image all the same: --allow-unchecked {options}"
        );
    } else {
        let path = path.display();
        eprintln!("refused: the files beside {path} are not its image");
    }
}

pub fn checked(
    manifest: &ImageManifest,
    path: &Path,
    machine: &MachineArguments,
) -> anyhow::Result<Report> {
    let at = |file: &ImageFile| path.with_file_name(&file.name);
    let read = |file: &ImageFile, max| read_bounded(&at(file), max);
    // A direct boot needs neither the unified kernel image nor the disk, so who makes one may have deleted them.
    let there = |file: &Option<ImageFile>| file.clone().filter(|file| at(file).exists());
    let listed = &manifest.files;
    let firmware = read(&listed.firmware, predict::limits::FIRMWARE_BYTES_MAX)?;
    let uki = there(&listed.uki).map(|file| read(&file, predict::limits::UKI_BYTES_MAX));
    let disk = there(&listed.disk).map(|file| {
        let path = at(&file);
        Disk::read(open(&path)?).with_context(|| format!("reading {}", path.display()))
    });
    let root = at(&listed.root);
    let collected = machine.acpi_tables.as_deref().map(acpi_files).transpose()?;
    if let Some(assumed) = FirmwareArguments::default().assumed(&firmware) {
        eprintln!("the firmware is {assumed}");
    }
    Ok(check(
        manifest,
        &Files {
            firmware: &firmware,
            kernel: &read(&listed.kernel, predict::limits::KERNEL_BYTES_MAX)?,
            initrd: &read(&listed.initrd, predict::limits::INITRD_BYTES_MAX)?,
            root: Root::read(open(&root)?, &manifest.root)
                .with_context(|| format!("reading {}", root.display()))?,
            uki: uki.transpose()?.as_deref(),
            disk: disk.transpose()?,
            acpi: collected.as_ref(),
            page_order: machine.page_order.into(),
        },
    ))
}

/// What was checked, what came of it, and its detail; then what only a rebuild shows.
fn rows(report: &Report) -> impl Iterator<Item = [&str; 3]> {
    let checks = report.checks.iter();
    checks
        .map(|check| [check.what, check.outcome.word(), check.outcome.detail()])
        .chain(STATED_ONLY)
}

const STATED_ONLY: [[&str; 3]; 2] = [
    [
        "agent",
        "not computed",
        "its SHA-384 is the builder's statement: no file system is read here",
    ],
    [
        "contents",
        "not computed",
        "the lists of files and packages are the builder's statement; rebuild the image from its lock",
    ],
];
