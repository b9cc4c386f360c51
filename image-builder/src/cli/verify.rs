//! `image-builder verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{Error, Fault};
use crate::release::{Check, Directory, Outcome, SIGNATURE, check};
use clap::Args;
use serde_json::{Value, json};

use super::print;
use super::sign::read_public;

pub const EXAMPLE: &str = "Example:
  image-builder verify image --public-key release.key.pub
  image-builder verify image --insecure-unsigned --json

Checks the signature over the provenance; every file by length and digest; that manifest, provenance and bill of materials describe
each other; the registers, recomputed from the files; and that initrd and root contain what the manifest lists. What could not be
computed is not verified, and the image is refused, unless --allow-unchecked names it. It does not check that the image was made from
the sources in the provenance; `reproduce` does.

A signature says who claims to have built the image. What a guest runs is shown by its registers, in a quote.

Exit code: 0 everything holds, 1 refused, 2 wrong arguments.";

/// Checks an image.
#[derive(Args)]
pub struct Verify {
    /// The image's directory
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The publisher's public key
    #[arg(
        long,
        value_name = "PUB",
        required_unless_present = "insecure_unsigned"
    )]
    public_key: Option<PathBuf>,
    /// Check everything except the signature: for an image of your own
    #[arg(long, conflicts_with = "public_key")]
    insecure_unsigned: bool,
    #[command(flatten)]
    unchecked: AllowUnchecked,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What is accepted although it could not be computed.
#[derive(Args)]
pub struct AllowUnchecked {
    /// Accept an image although this could not be computed: `rtmr0` of a machine whose ACPI tables this program does not know, or the
    /// `contents` of a root that it cannot read. Repeatable
    #[arg(long, value_name = "NAME", value_parser = ["rtmr0", "contents"])]
    allow_unchecked: Vec<String>,
}

impl AllowUnchecked {
    pub fn names(&self) -> Vec<&str> {
        let checks = |name: &String| match name.as_str() {
            "contents" => &["inside the initrd", "inside the root", "agent"][..],
            _ => &["rtmr0"],
        };
        { self.allow_unchecked.iter() }
            .flat_map(checks)
            .copied()
            .collect()
    }
}

impl Verify {
    pub fn run(self) -> Result<ExitCode, Error> {
        let key = self.public_key.as_deref().map(read_public).transpose()?;
        let directory = Directory::open(&self.image)?;
        let report = check(&directory, key.as_ref()).map_err(Error::of(Fault::Image, ""))?;
        let mut allowed = self.unchecked.names();
        if self.insecure_unsigned {
            allowed.push(SIGNATURE);
        }
        let refusal = report.refusal(&allowed);
        let (accepted, holds) = (refusal.is_none(), report.refusal(&[]).is_none());
        match self.json {
            true => {
                let signed_by = key.as_ref().map(|key| key.id());
                let image = directory.manifest.digest();
                let checks = describe(&report.checks);
                let report = json!({ "verified": holds, "accepted": accepted, "signed_by": signed_by, "image_sha256": image, "checks": checks });
                print(&format!("{report}\n"));
            }
            false => print(
                &report
                    .checks
                    .iter()
                    .map(|check| line(check) + "\n")
                    .collect::<String>(),
            ),
        }
        match refusal {
            None if holds => eprintln!("verified"),
            None if key.is_some() => {
                eprintln!("accepted, NOT VERIFIED: it was allowed that something is not computed")
            }
            None => eprintln!(
                "consistent; its signature was not asked for: NOBODY SIGNED it as far as this check goes"
            ),
            Some(check) => eprintln!("refused: {} {}", check.what, words(check).0),
        }
        Ok(ExitCode::from(u8::from(!accepted)))
    }
}

/// Checks as JSON.
pub fn describe(checks: &[Check]) -> Vec<Value> {
    let one = |check: &Check| {
        let (outcome, detail) = words(check);
        json!({ "what": check.what, "outcome": outcome, "detail": detail })
    };
    checks.iter().map(one).collect()
}

/// One check in a line.
pub fn line(check: &Check) -> String {
    let (outcome, detail) = words(check);
    format!("{:20} {outcome:12} {detail}", check.what)
}

fn words(check: &Check) -> (&'static str, &str) {
    match &check.outcome {
        Outcome::Same(text) => ("holds", text),
        Outcome::Differs(text) => ("DIFFERS", text),
        Outcome::NotComputed(text) => ("not computed", text),
    }
}
