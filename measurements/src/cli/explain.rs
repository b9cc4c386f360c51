//! `measurements explain`: why a quote's registers are not a manifest's.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use diagnose::{
    EventLog,
    explain::{
        Contents, Difference, DifferenceKind, Explanation, Files, Finding, NamedConfig,
        NamedManifest, Question, explain,
    },
};
use predict::image::ImageManifest;

use super::quote_file::parse_quote;
use super::{Misuse, print, print_json, read_bounded, replay};

/// Explain why a quote's registers differ from a manifest's.
///
/// Names the register that differs, the event if an event log replays to the quote, and the component behind it. The usual
/// causes are tried: another QEMU, other vCPUs or memory, firmware of another generation of edk2, another order of pages, a
/// patched kernel header, another combination of command line and initrd, another agent or configuration, another
/// manifest. A cause is named only if it gives exactly the quote's
/// register. The quote's signature is not checked; use `quote verify` for that.
///
/// Exit code 0: every register that the manifest predicts is equal. 1: one differs, explained or not. 2: wrong arguments.
///
/// Example, with everything: the guest's manifest, its image's manifest and files, and the guest's log:
///   measurements explain --manifest guest.json --manifest image/manifest.json --image image \
///     --quote quote.bin --event-log ccel.bin
/// Example, whether it is another release's quote:
///   measurements explain --manifest new.json --manifest old.json --quote quote.bin
/// Example, which field of the guest's configuration is not the expected one's:
///   measurements explain --manifest guest.json --config expected-config.json --config found-config.json --quote quote.bin
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ExplainArguments {
    /// A manifest of an image or a guest. Repeatable: the first is the expected one, the manifest of its image or guest
    /// completes it, others are tried as causes.
    #[arg(long, value_name = "FILE", required = true)]
    manifest: Vec<PathBuf>,
    /// The quote: binary, hexadecimal, base64, or the JSON of a tool with it.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// An event log of the guest, as for `replay`. Repeatable; replayed in this order.
    #[arg(long, value_name = "FILE")]
    event_log: Vec<PathBuf>,
    /// A measured configuration of the agent to try. Repeatable: with the one that the manifest was written from and the
    /// guest's, the fields that differ are named.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// The directory with the expected image's firmware, kernel and initrd.
    #[arg(long, value_name = "DIRECTORY")]
    image: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Whether nothing differs.
pub fn run(arguments: &ExplainArguments) -> anyhow::Result<bool> {
    if arguments.manifest.len() > diagnose::limits::EXPLAIN_MANIFESTS_MAX {
        let (got, max) = (
            arguments.manifest.len(),
            diagnose::limits::EXPLAIN_MANIFESTS_MAX,
        );
        return Err(Misuse(format!("{got} manifests are more than the {max} allowed")).into());
    }
    let manifests = arguments.manifest.iter().map(|path| manifest(path));
    let manifests = manifests.collect::<anyhow::Result<Vec<_>>>()?;
    let quote = parse_quote(&arguments.quote)?;
    let logs = arguments.event_log.iter();
    let logs: Vec<EventLog> = logs
        .map(|path| replay::read(path, None))
        .collect::<anyhow::Result<_>>()?;
    let held = match &arguments.image {
        Some(directory) => Some(image_files(directory, &manifests)?),
        None => None,
    };
    let files = held.as_ref().map(|[firmware, kernel, initrd]| Files {
        firmware,
        kernel,
        initrd,
    });
    let configs = arguments.config.iter().map(|path| {
        let name = path.display().to_string();
        let bytes = read_bounded(path, diagnose::limits::EXPLAIN_CONFIG_BYTES_MAX)?;
        Ok(NamedConfig { name, bytes })
    });
    let configs = configs.collect::<anyhow::Result<Vec<_>>>()?;
    let explanation = explain(&Question {
        manifests: &manifests,
        quoted: &quote.td.registers,
        logs: &logs,
        configs: &configs,
        files,
    })?;
    match arguments.json {
        true => print_json(&serde_json::to_value(&explanation)?)?,
        false => print(text(&explanation).as_bytes())?,
    }
    remarks(&explanation, arguments);
    Ok(explanation.equal)
}

fn manifest(path: &Path) -> anyhow::Result<NamedManifest> {
    let bytes = read_bounded(path, predict::limits::IMAGE_MANIFEST_BYTES_MAX)?;
    let name = path.display().to_string();
    NamedManifest::from_json(&name, &bytes).with_context(|| format!("reading {name}"))
}

/// Firmware, kernel and initrd, by the names of the first image manifest.
fn image_files(directory: &Path, manifests: &[NamedManifest]) -> anyhow::Result<[Vec<u8>; 3]> {
    let image = manifests
        .iter()
        .find_map(|manifest| match &manifest.contents {
            Contents::Image(image) => Some(image),
            Contents::Guest(_) => None,
        });
    let Some(image) = image else {
        let what = "--image needs the image's manifest: add --manifest for it";
        return Err(Misuse(what.into()).into());
    };
    let image: &ImageManifest = image;
    let read = |name: &str, max| read_bounded(&directory.join(name), max);
    Ok([
        read(
            &image.files.firmware.name,
            predict::limits::FIRMWARE_BYTES_MAX,
        )?,
        read(&image.files.kernel.name, predict::limits::KERNEL_BYTES_MAX)?,
        read(&image.files.initrd.name, predict::limits::INITRD_BYTES_MAX)?,
    ])
}

fn text(explanation: &Explanation) -> String {
    let mut text: String = explanation.registers.iter().map(register).collect();
    let differs = |finding: &&Finding| finding.equal == Some(false);
    let mut differing = explanation.registers.iter().filter(differs);
    if let (Some(only), None) = (differing.next(), differing.next()) {
        text += &format!("Only {} differs: {}.\n", only.register, only.decided_by);
    }
    text
}

fn register(finding: &Finding) -> String {
    let name = finding.register;
    let expected = match (finding.equal, finding.expected) {
        (Some(true), _) => return format!("{name} is equal.\n"),
        (_, None) => {
            return format!(
                "{name} is not compared: an image manifest does not predict it. Add the guest's manifest.\n"
            );
        }
        (_, Some(expected)) => expected,
    };
    let mut text = format!(
        "{name} differs.\n  expected  {expected}\n  quote     {}\n",
        finding.got
    );
    for suspect in &finding.suspects {
        text += &format!(
            "  It is exactly what it would be {}.\n  {}\n",
            suspect.what, suspect.advice
        );
    }
    if finding.log_replays == Some(false) {
        text += "  The log does not lead to the quote's value and is not used.\n";
    }
    if let Some(difference) = &finding.first_difference {
        text += &place(difference);
    }
    if let Some(component) = &finding.component {
        text += &format!("  The manifest has there: {}", component.what);
        if let Some(file) = &component.file {
            text += &format!(", file {file}");
        }
        if !component.packages.is_empty() {
            text += &format!(", from {}", component.packages.join(", "));
        }
        text += &format!(".\n  {}\n", component.advice);
    }
    if !finding.certain {
        text += &format!(
            "  The cause is not known; what differs is {}.\n",
            finding.decided_by
        );
    }
    text
}

fn place(difference: &Difference) -> String {
    let Difference {
        index,
        manifest_events,
        log_events,
        ..
    } = difference;
    let mut text = match difference.kind {
        DifferenceKind::Changed => {
            format!("  {log_events} of its events differ, the first is number {index}")
        }
        DifferenceKind::Extra => {
            format!("  The log has {log_events} events more, the first is number {index}")
        }
        DifferenceKind::Missing => format!(
            "  {manifest_events} events of the manifest were not measured, the first is number {index}"
        ),
        DifferenceKind::Rearranged => format!(
            "  From number {index} on, {manifest_events} events of the manifest stand against {log_events} others in the log"
        ),
    };
    if let Some(kind) = &difference.event_type {
        text += &format!(", {kind}");
    }
    text += ".\n";
    if let Some(expected) = difference.expected {
        text += &format!("    expected  {expected}\n");
    }
    if let Some(got) = difference.got {
        text += &format!("    log       {got}\n");
    }
    if let Some(says) = &difference.log_says {
        text += &format!("    the log says: {says}\n");
    }
    if let Some(words) = &difference.words {
        text += &format!(
            "    words of the command line that are missing: {:?}; that are new: {:?}\n",
            words.missing, words.added
        );
    }
    text
}

fn remarks(explanation: &Explanation, arguments: &ExplainArguments) {
    eprintln!("the quote's signature was not checked (`measurements quote verify` does)");
    let open = |finding: &Finding| finding.equal == Some(false) && !finding.certain;
    if !explanation.registers.iter().any(open) {
        return;
    }
    if arguments.event_log.is_empty() {
        eprintln!("with the guest's event log (--event-log), the event that differs can be named");
    }
    if arguments.image.is_none() {
        eprintln!(
            "with the image's files (--image), other memory sizes, page orders and kernel headers can be tried"
        );
    }
}
