//! Why a quote's registers are not those of a manifest.
//!
//! **What it is.** A comparison register by register; where one differs, causes that were computed again and lead to exactly
//! the quote's value ([`Suspect`]), and the first event that differs, where an event log replays to that value
//! ([`Difference`]).
//!
//! **Trusts.** Nothing: quote, manifests and logs are claims, and the quote's signature is not checked here. The files of the
//! image are used only where they have the digests of the manifest.
//!
//! **Promises.** A suspect is named only if the register recomputed with it equals the quote's; everything else is said to be
//! not known. At most [`crate::limits::EXPLAIN_RECOMPUTATIONS_MAX`] registers are recomputed.

mod alignment;
mod application;
mod component;
mod suspects;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{EventLog, Replay};
use attest::{Manifest, ManifestError, Mode};
use predict::PredictedEvent;
use predict::image::{ImageError, ImageManifest};
use registers::{Digest32, Digest48, Register, Registers};

/// A manifest of either kind, under the name that people know it by.
#[derive(Clone, Debug)]
pub struct NamedManifest {
    /// For people: the name of its file.
    pub name: String,
    /// What it says.
    pub contents: Contents,
}

/// The two kinds of manifest.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Of an image: MRTD and RTMR0 to RTMR2, with the events that lead there.
    Image(Box<ImageManifest>),
    /// Of a guest: all registers, with the events of RTMR3.
    Guest(Box<Manifest>),
}

/// The files of an image, as they lie beside its manifest.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The firmware.
    pub firmware: &'a [u8],
    /// The kernel.
    pub kernel: &'a [u8],
    /// The initrd.
    pub initrd: &'a [u8],
}

/// A measured configuration of the agent, under the name that people know it by.
#[derive(Clone, Debug)]
pub struct NamedConfig {
    /// For people: the name of its file.
    pub name: String,
    /// Its bytes, as they are measured.
    pub bytes: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The manifests: what is expected, then others. An image manifest of the expected guest, and a guest manifest of the
    /// expected image, add to what is expected; the rest are suspects.
    pub manifests: &'a [NamedManifest],
    /// The registers of the quote.
    pub quoted: &'a Registers,
    /// Event logs of the guest, one after the other.
    pub logs: &'a [EventLog],
    /// Configurations of the agent to try. With the expected one among them, the fields that differ are named.
    pub configs: &'a [NamedConfig],
    /// The expected image's files. With them, other memory sizes, page orders and kernel headers can be tried.
    pub files: Option<Files<'a>>,
}

/// Why nothing is explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ExplainError {
    #[error("there is no manifest to compare with")]
    NoManifest,
    #[error("files of an image are of use only with its image manifest; give that as a manifest")]
    FilesWithoutImage,
    #[error("the {file} has SHA-256 {got}, and the image manifest says {expected}")]
    OtherFile {
        file: &'static str,
        got: Digest32,
        expected: Digest32,
    },
    #[error("it is neither an image manifest nor a guest manifest")]
    NoPaper,
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Guest(#[from] ManifestError),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether every register that the manifest predicts is the quote's.
    pub equal: bool,
    /// All five registers.
    pub registers: Vec<Finding>,
    /// How many registers were computed again.
    pub recomputations: u32,
}

/// One register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub register: Register,
    /// The manifest's value; none where it predicts none.
    pub expected: Option<Digest48>,
    /// The quote's value.
    pub got: Digest48,
    /// Whether they are equal; none where nothing is predicted.
    pub equal: Option<bool>,
    /// Whether the logs replay to the quote's value; none without logs. Only then are they used.
    pub log_replays: Option<bool>,
    /// What the register says: this is what differs where the cause is not known.
    pub decided_by: &'static str,
    /// Where log and manifest part.
    pub first_difference: Option<Difference>,
    /// What the manifest has at that place; none where the order is not known.
    pub component: Option<Component>,
    /// Causes with which the register is exactly the quote's.
    pub suspects: Vec<Suspect>,
    /// Whether the cause or the place is shown by computation. Otherwise it is not known.
    pub certain: bool,
}

/// A cause with which the recomputed register is exactly the quote's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// Of which kind.
    pub kind: SuspectKind,
    /// What is different, as the end of "it is exactly what it would be".
    pub what: String,
    /// Whose fault it is and what to do.
    pub advice: &'static str,
}

/// Kinds of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspectKind {
    /// The register is another manifest's.
    OtherManifest,
    /// Nothing, or only the first events, were measured.
    Incomplete,
    /// Another QEMU, other memory, vCPUs, or a TPM.
    Machine,
    /// The host adds pages in another order.
    PageOrder,
    /// QEMU changed the kernel's header, or did not.
    KernelHeader,
    /// Command line and initrd in another combination.
    BootFiles,
    /// The firmware is of another generation of edk2, which lays its events out otherwise.
    FirmwareGeneration,
    /// The firmware has no driver that measures.
    FirmwareMeasuresNothing,
    /// Another agent or another configuration of it.
    Application,
}

/// The first event at which the log parts from the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How the two lists differ.
    pub kind: DifferenceKind,
    /// Its place among the register's events, from 0.
    pub index: usize,
    /// Its type: the manifest's, or the log's for an event more, which no digest covers.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The manifest's digest there.
    pub expected: Option<Digest48>,
    /// The log's digest there.
    pub got: Option<Digest48>,
    /// What the log says of its event: worth what its mark says.
    pub log_says: Option<String>,
    /// How many events of the manifest differ or are missing.
    pub manifest_events: usize,
    /// How many events of the log differ or are more.
    pub log_events: usize,
    /// Words of the command line, where the log has the measured text.
    pub words: Option<Words>,
}

/// How two lists of events differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// As many events, with other digests.
    Changed,
    /// The log has events more.
    Extra,
    /// The log has events less.
    Missing,
    /// Both: which event of one belongs to which of the other is not known.
    Rearranged,
}

/// Words of two command lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Words {
    /// Only in the manifest's.
    pub missing: Vec<String>,
    /// Only in the measured one.
    pub added: Vec<String>,
}

/// What an event measures, as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Component {
    /// What it is.
    pub what: String,
    /// The file beside the image manifest.
    pub file: Option<String>,
    /// Packages it comes from, with their versions.
    pub packages: Vec<String>,
    /// Whose fault it is and what to do.
    pub advice: &'static str,
}

impl NamedManifest {
    /// Reads a manifest of either kind: a guest's has a `mode`, an image's has `files`.
    pub fn from_json(name: &str, bytes: &[u8]) -> Result<NamedManifest, ExplainError> {
        #[derive(Deserialize)]
        struct Probe {
            mode: Option<IgnoredAny>,
            files: Option<IgnoredAny>,
        }
        // Longer ones the two readers below refuse; the probe keeps nothing of what it reads.
        let bounded = bytes.get(..predict::limits::IMAGE_MANIFEST_BYTES_MAX + 1);
        let probe = serde_json::from_slice::<Probe>(bounded.unwrap_or(bytes));
        let contents = match probe.map_err(|_| ExplainError::NoPaper)? {
            Probe { mode: Some(_), .. } => Contents::Guest(Box::new(Manifest::from_json(bytes)?)),
            Probe { files: Some(_), .. } => {
                Contents::Image(Box::new(ImageManifest::from_json(bytes)?))
            }
            _ => return Err(ExplainError::NoPaper),
        };
        Ok(NamedManifest {
            name: name.into(),
            contents,
        })
    }

    fn register(&self, register: Register) -> Option<Digest48> {
        match (&self.contents, register) {
            (Contents::Guest(guest), _) => Some(register.of(guest.registers())),
            (Contents::Image(image), Register::Mrtd) => Some(image.registers.mrtd),
            (Contents::Image(image), Register::Rtmr0) => Some(image.registers.rtmr0),
            (Contents::Image(image), Register::Rtmr1) => Some(image.registers.rtmr1),
            (Contents::Image(image), Register::Rtmr2) => Some(image.registers.rtmr2),
            (Contents::Image(_), Register::Rtmr3) => None,
        }
    }

    fn image(&self) -> Option<&ImageManifest> {
        match &self.contents {
            Contents::Image(image) => Some(image),
            Contents::Guest(_) => None,
        }
    }

    fn guest(&self) -> Option<&Manifest> {
        match &self.contents {
            Contents::Guest(guest) => Some(guest),
            Contents::Image(_) => None,
        }
    }

    /// Whether one is the guest of the other.
    fn belongs_to(&self, other: &NamedManifest) -> bool {
        let of = |guest: &Manifest, image: &ImageManifest| matches!(guest.mode(), Mode::Vm { image: digest, .. } if digest == image.digest());
        match (&self.contents, &other.contents) {
            (Contents::Guest(guest), Contents::Image(image))
            | (Contents::Image(image), Contents::Guest(guest)) => of(guest, image),
            _ => false,
        }
    }
}

/// What is expected, out of one manifest or the two that belong together.
struct Expected<'a> {
    image: Option<&'a ImageManifest>,
    guest: Option<&'a Manifest>,
    others: Vec<&'a NamedManifest>,
}

impl<'a> Expected<'a> {
    fn of(manifests: &'a [NamedManifest]) -> Result<Expected<'a>, ExplainError> {
        let (first, rest) = manifests.split_first().ok_or(ExplainError::NoManifest)?;
        let partner = rest.iter().position(|manifest| manifest.belongs_to(first));
        let pair = [Some(first), partner.map(|at| &rest[at])];
        let others = rest.iter().enumerate();
        Ok(Expected {
            image: pair.into_iter().flatten().find_map(NamedManifest::image),
            guest: pair.into_iter().flatten().find_map(NamedManifest::guest),
            others: others
                .filter(|(at, _)| Some(*at) != partner)
                .map(|(_, manifest)| manifest)
                .collect(),
        })
    }

    fn register(&self, register: Register) -> Option<Digest48> {
        if let Some(guest) = self.guest {
            return Some(register.of(guest.registers()));
        }
        let booted = self.image?.registers;
        match register {
            Register::Mrtd => Some(booted.mrtd),
            Register::Rtmr0 => Some(booted.rtmr0),
            Register::Rtmr1 => Some(booted.rtmr1),
            Register::Rtmr2 => Some(booted.rtmr2),
            Register::Rtmr3 => None,
        }
    }

    /// The events of a register, where a manifest lists them.
    fn events(&self, register: Register) -> Option<Vec<Planned<'a>>> {
        match register {
            Register::Mrtd => None,
            Register::Rtmr3 => self.guest.map(|guest| {
                let events = guest.rtmr3_events().iter();
                let planned = events.map(|event| Planned {
                    digest: event.digest,
                    what: &event.name,
                    event: None,
                });
                planned.collect()
            }),
            _ => self.image.map(|image| {
                let events = image.events.iter();
                let planned = events.filter(|event| event.register == register);
                let planned = planned.map(|event| Planned {
                    digest: event.digest,
                    what: &event.from,
                    event: Some(event),
                });
                planned.collect()
            }),
        }
    }
}

/// One event that a manifest lists.
struct Planned<'a> {
    digest: Digest48,
    what: &'a str,
    event: Option<&'a PredictedEvent>,
}

/// Compares the quote with what is expected, and looks for causes.
pub fn explain(question: &Question<'_>) -> Result<Explanation, ExplainError> {
    let expected = Expected::of(question.manifests)?;
    if let Some(files) = &question.files {
        check_files(
            files,
            expected.image.ok_or(ExplainError::FilesWithoutImage)?,
        )?;
    }
    let replayed = question
        .logs
        .iter()
        .fold(Replay::START, |before, log| log.replay_after(before));
    let mut search = suspects::Search::new(&expected, question);
    let registers: Vec<Finding> = Register::ALL
        .into_iter()
        .map(|register| finding(register, &expected, question, &replayed, &mut search))
        .collect();
    Ok(Explanation {
        equal: registers.iter().all(|finding| finding.equal != Some(false)),
        registers,
        recomputations: search.recomputations(),
    })
}

fn finding(
    register: Register,
    expected: &Expected<'_>,
    question: &Question<'_>,
    replayed: &Replay,
    search: &mut suspects::Search<'_>,
) -> Finding {
    let got = register.of(question.quoted);
    let value = expected.register(register);
    let (number, decided_by) = match register {
        Register::Mrtd => (None, "the firmware"),
        Register::Rtmr0 => (Some(0), "the firmware's settings or the machine"),
        Register::Rtmr1 => (Some(1), "the kernel or how it was started"),
        Register::Rtmr2 => (Some(2), "the initrd or the command line"),
        Register::Rtmr3 => (Some(3), "the agent or its configuration"),
    };
    let log_replays = number
        .filter(|_| !question.logs.is_empty())
        .map(|number: usize| replayed.rtmr[number] == got);
    let mut finding = Finding {
        register,
        expected: value,
        got,
        equal: value.map(|value| value == got),
        log_replays,
        decided_by,
        first_difference: None,
        component: None,
        suspects: Vec::new(),
        certain: false,
    };
    if finding.equal != Some(false) {
        return finding;
    }
    let planned = expected.events(register);
    finding.suspects = search.of(register, got, planned.as_deref().unwrap_or_default());
    if let (Some(true), Some(planned)) = (log_replays, &planned) {
        let cmdline = expected.image.map(|image| image.cmdline.as_str());
        finding.first_difference = alignment::difference(register, planned, question.logs, cmdline);
    }
    let difference = finding.first_difference.as_ref();
    let at_index = difference
        .filter(|difference| {
            difference.expected.is_some() && difference.kind != DifferenceKind::Rearranged
        })
        .and_then(|difference| planned.as_ref()?.get(difference.index));
    finding.component = match at_index {
        Some(planned) => component::of(planned, expected.image, difference),
        None => None,
    };
    let placed = difference.is_some_and(|d| d.kind != DifferenceKind::Rearranged);
    finding.certain = placed || !finding.suspects.is_empty();
    finding
}

fn check_files(files: &Files<'_>, image: &ImageManifest) -> Result<(), ExplainError> {
    let pairs = [
        ("firmware", files.firmware, &image.files.firmware),
        ("kernel", files.kernel, &image.files.kernel),
        ("initrd", files.initrd, &image.files.initrd),
    ];
    for (file, bytes, stated) in pairs {
        let got = Digest32::of(bytes);
        if got != stated.sha256 {
            return Err(ExplainError::OtherFile {
                file,
                got,
                expected: stated.sha256,
            });
        }
    }
    Ok(())
}
