//! The manifest of an image: its files, what is in them, and what a guest made of them measures to.
//!
//! It is a claim, like every manifest. A reader believes it who rebuilt the image, or who recomputed its registers from
//! the files (`measurements image verify`). Reading it checks that it does not contradict itself.

mod check;
mod content;
mod form;

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::qemu::MachineSize;
use crate::{PredictedEvent, Prediction, direct::check_cmdline, replay};
use attest::{GuestImage, Manifest, Profile};
pub use check::{Check, Disk, Files, Outcome, Report, Root, check};
pub use content::{Content, ContentKind, ImagePart};
use registers::{Digest32, Digest48, Register, Registers, VerityRoot};

/// An image manifest that agrees with itself. Its fields can be read, and nothing changes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest(ImageParts);

/// What an image manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageParts {
    /// The version of this format, [`ImageManifest::VERSION`].
    pub version: u32,
    /// What the image is for.
    pub profile: Profile,
    /// The lock that it was built from.
    pub lock_sha256: Digest32,
    /// The compiler of our programs in it, with its version.
    pub compiler: String,
    /// The files that QEMU is given, beside the manifest.
    pub files: ImageFiles,
    /// The command line as QEMU's `-append` takes it.
    pub cmdline: String,
    /// The root file system, as the command line names it.
    pub root: VerityRoot,
    /// The agent in the root: what it measures of itself into RTMR3.
    pub agent_sha384: Digest48,
    /// Everything in the initrd, then everything in the root, each by path.
    pub contents: Vec<Content>,
    /// Packages that went into the image or made it.
    pub packages: Vec<Package>,
    /// The machine that the registers are for.
    pub machine: MachineSize,
    /// What a guest measures to when it has booted from firmware, kernel, initrd and command line.
    pub registers: BootRegisters,
    /// What leads to RTMR0 to RTMR2.
    pub events: Vec<PredictedEvent>,
    /// What it measures to when it has booted from the unified kernel image, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<UkiRegisters>,
}

/// The files of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFiles {
    /// OVMF, for `-bios`.
    pub firmware: ImageFile,
    /// The kernel, for `-kernel`.
    pub kernel: ImageFile,
    /// The initrd, for `-initrd`.
    pub initrd: ImageFile,
    /// The root file system with its hash tree, for a virtio disk.
    pub root: ImageFile,
    /// Kernel, initrd and command line as one program, for `-kernel` in the place of the three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<ImageFile>,
    /// That program and the root on one disk, which firmware starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ImageFile>,
}

/// One file beside the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Its name: one component of letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// One package of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of the package file.
    pub sha256: Digest32,
    /// What it was for.
    pub role: Role,
}

/// What a package was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The kernel and its modules come from it.
    Kernel,
    /// The firmware comes from it.
    Firmware,
    /// The first program of the unified kernel image comes from it.
    Stub,
    /// Files of the root come from it.
    Root,
    /// A tool that made the image.
    Build,
}

/// The registers of a guest that has booted and not yet measured its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootRegisters {
    /// The firmware.
    pub mrtd: Digest48,
    /// The firmware's configuration.
    pub rtmr0: Digest48,
    /// The kernel.
    pub rtmr1: Digest48,
    /// Command line and initrd.
    pub rtmr2: Digest48,
}

/// RTMR1 and RTMR2 of a guest that was started from its unified kernel image.
///
/// MRTD is the direct boot's with both methods. So is RTMR0 over `-kernel`. From a disk, RTMR0 has boot options that
/// the firmware makes for the disks that it finds, and nobody has predicted it ([`PredictError::BootOptions`]).
///
/// [`PredictError::BootOptions`]: crate::PredictError::BootOptions
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UkiRegisters {
    /// Over `-kernel`.
    pub kernel: MethodRegisters,
    /// What leads there.
    pub kernel_events: Vec<PredictedEvent>,
    /// From the disk, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<MethodRegisters>,
    /// What leads there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk_events: Vec<PredictedEvent>,
}

/// The registers that are known of a boot, whatever the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodRegisters {
    /// What was started.
    pub rtmr1: Digest48,
    /// What it started with.
    pub rtmr2: Digest48,
}

/// Why bytes or parts are not an image manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ImageError {
    #[error("the image manifest has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("the image manifest is not valid: {0}")]
    Json(String),
    #[error(
        "the image manifest has version {got}; this program reads version {}",
        ImageManifest::VERSION
    )]
    Version { got: u32 },
    #[error("the image manifest lists {got} {what}, more than the {max} allowed")]
    OverLimit {
        what: &'static str,
        got: usize,
        max: usize,
    },
    #[error("the image manifest's {what} is not plain text of the allowed length: {got:?}")]
    Text { what: &'static str, got: String },
    #[error("the image manifest names the file {name:?} twice")]
    SameFile { name: String },
    #[error("the image manifest lists {path:?} in the wrong place, or twice")]
    Order { path: String },
    #[error(
        "the image manifest has a file `{0}` without its registers, or the registers without it"
    )]
    BootMethod(&'static str),
    #[error(
        "the image manifest is for {} processors and {} MiB, which no guest has",
        .0.vcpus,
        .0.memory_mib
    )]
    Machine(MachineSize),
    #[error(
        "the command line of the image manifest must have the word {expected:?} once, and no other beginning with {:?}",
        VerityRoot::KEY
    )]
    Root { expected: String },
    #[error(
        "the image manifest has a boot event of {got}, which is not among that boot's registers"
    )]
    EventRegister { got: Register },
    #[error(
        "the image manifest contradicts itself: its events lead to {register} {replayed}, it says {stated}"
    )]
    Contradiction {
        register: Register,
        stated: Digest48,
        replayed: Digest48,
    },
    #[error(
        "the image manifest says that {register} is zero, so that nothing was measured into it"
    )]
    Zero { register: Register },
}

impl ImageManifest {
    /// The version of the format that this program reads and writes.
    pub const VERSION: u32 = 2;

    /// A manifest of these parts, if they agree with each other.
    pub fn new(parts: ImageParts) -> Result<ImageManifest, ImageError> {
        parts.check()?;
        Ok(ImageManifest(parts))
    }

    /// Reads a manifest and checks that it agrees with itself.
    pub fn from_json(bytes: &[u8]) -> Result<ImageManifest, ImageError> {
        if bytes.len() > limits::IMAGE_MANIFEST_BYTES_MAX {
            return Err(ImageError::TooLong {
                got: bytes.len(),
                max: limits::IMAGE_MANIFEST_BYTES_MAX,
            });
        }
        let parts = serde_json::from_slice(bytes).map_err(|e| ImageError::Json(e.to_string()))?;
        ImageManifest::new(parts)
    }

    /// The canonical bytes: fixed field order, two-space indentation, what is listed on one line each, one final newline.
    pub fn to_json(&self) -> Vec<u8> {
        form::written(&self.0)
    }

    /// SHA-256 of the canonical bytes: the name of this image, whatever whitespace its manifest was read with.
    pub fn digest(&self) -> Digest32 {
        Digest32::of(&self.to_json())
    }

    /// The manifest of this image's guest with a measured configuration. What the caller did not compute from the image's
    /// files, it names: the manifest then says so.
    pub fn guest(&self, config: Digest48, not_computed: &[Register]) -> Manifest {
        let image = GuestImage {
            digest: self.digest(),
            lock: self.lock_sha256,
            profile: self.profile,
            booted: self.registers.into(),
            agent: self.agent_sha384,
        };
        Manifest::vm(&image, config, not_computed)
    }
}

impl Deref for ImageManifest {
    type Target = ImageParts;
    fn deref(&self) -> &ImageParts {
        &self.0
    }
}

impl ImageParts {
    fn check(&self) -> Result<(), ImageError> {
        if self.version != ImageManifest::VERSION {
            return Err(ImageError::Version { got: self.version });
        }
        check_count(
            "files inside",
            self.contents.len(),
            limits::IMAGE_CONTENTS_MAX,
        )?;
        check_count("packages", self.packages.len(), limits::IMAGE_PACKAGES_MAX)?;
        check_count("events", self.events.len(), limits::IMAGE_EVENTS_MAX)?;
        self.check_texts()?;
        content::check(&self.contents)?;
        self.files.check()?;
        self.check_root()?;
        let MachineSize { vcpus, memory_mib } = self.machine;
        if !(1..=limits::VCPUS_MAX).contains(&vcpus)
            || !(1..=limits::MEMORY_MIB_MAX).contains(&memory_mib)
        {
            return Err(ImageError::Machine(self.machine));
        }
        self.check_registers()
    }

    fn check_texts(&self) -> Result<(), ImageError> {
        check_text("compiler", &self.compiler)?;
        for package in &self.packages {
            check_text("name of a package", &package.name)?;
            check_text("version of a package", &package.version)?;
        }
        for event in &self.events {
            check_text("description of an event", &event.from)?;
        }
        Ok(())
    }

    /// Words of a command line end at spaces, unless quotes join them; so there may be no quotes.
    fn check_root(&self) -> Result<(), ImageError> {
        if check_cmdline(&self.cmdline).is_err() || self.cmdline.contains('"') {
            return Err(text_error("command line", &self.cmdline));
        }
        let expected = self.root.argument();
        let words = self.cmdline.split(' ');
        let roots: Vec<_> = words
            .filter(|word| word.starts_with(VerityRoot::KEY))
            .collect();
        if roots != [expected.as_str()] {
            return Err(ImageError::Root { expected });
        }
        Ok(())
    }

    fn check_registers(&self) -> Result<(), ImageError> {
        let BootRegisters {
            mrtd,
            rtmr0,
            rtmr1,
            rtmr2,
        } = self.registers;
        if mrtd == Digest48::ZERO {
            let register = Register::Mrtd;
            return Err(ImageError::Zero { register });
        }
        let method = MethodRegisters { rtmr1, rtmr2 };
        check_events(&method.with(Some(rtmr0)), &self.events)?;
        let uki = self.uki.as_ref();
        let disk = uki.and_then(|uki| uki.disk);
        for (name, file, registers) in [
            ("uki", self.files.uki.is_some(), uki.is_some()),
            ("disk", self.files.disk.is_some(), disk.is_some()),
        ] {
            if file != registers {
                return Err(ImageError::BootMethod(name));
            }
        }
        uki.map_or(Ok(()), UkiRegisters::check)
    }
}

impl UkiRegisters {
    fn check(&self) -> Result<(), ImageError> {
        for events in [&self.kernel_events, &self.disk_events] {
            check_count("events", events.len(), limits::IMAGE_EVENTS_MAX)?;
            for event in events {
                check_text("description of an event", &event.from)?;
            }
        }
        check_events(&self.kernel.with(None), &self.kernel_events)?;
        match self.disk {
            Some(disk) => check_events(&disk.with(None), &self.disk_events),
            None if self.disk_events.is_empty() => Ok(()),
            None => Err(ImageError::BootMethod("disk")),
        }
    }
}

impl MethodRegisters {
    /// Of a boot's events, if they are all of RTMR1 and RTMR2 or the others do not matter.
    pub fn of(events: &[PredictedEvent]) -> MethodRegisters {
        MethodRegisters {
            rtmr1: replay(Register::Rtmr1, events),
            rtmr2: replay(Register::Rtmr2, events),
        }
    }

    fn with(self, rtmr0: Option<Digest48>) -> Vec<(Register, Digest48)> {
        let rtmr0 = rtmr0.map(|value| (Register::Rtmr0, value));
        let method = [(Register::Rtmr1, self.rtmr1), (Register::Rtmr2, self.rtmr2)];
        rtmr0.into_iter().chain(method).collect()
    }
}

/// The events are of these registers and lead to them, and none was left alone.
fn check_events(
    booted: &[(Register, Digest48)],
    events: &[PredictedEvent],
) -> Result<(), ImageError> {
    let foreign = |event: &&PredictedEvent| !booted.iter().any(|(r, _)| *r == event.register);
    if let Some(event) = events.iter().find(foreign) {
        return Err(ImageError::EventRegister {
            got: event.register,
        });
    }
    for (register, stated) in booted.iter().copied() {
        let replayed = replay(register, events);
        if stated != replayed {
            return Err(ImageError::Contradiction {
                register,
                stated,
                replayed,
            });
        }
        if stated == Digest48::ZERO {
            return Err(ImageError::Zero { register });
        }
    }
    Ok(())
}

impl ImageFiles {
    /// All files, with what they are.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &ImageFile)> {
        let uki = self.uki.as_ref().map(|file| ("uki", file));
        let disk = self.disk.as_ref().map(|file| ("disk", file));
        self.each().into_iter().chain(uki).chain(disk)
    }

    /// The files that a direct boot needs, in a fixed order, with what they are.
    pub fn each(&self) -> [(&'static str, &ImageFile); 4] {
        [
            ("firmware", &self.firmware),
            ("kernel", &self.kernel),
            ("initrd", &self.initrd),
            ("root", &self.root),
        ]
    }

    /// A reader opens these beside the manifest, so a name must not lead elsewhere.
    fn check(&self) -> Result<(), ImageError> {
        let mut seen: Vec<&str> = Vec::new();
        for (_, file) in self.all() {
            let name = file.name.as_str();
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            let length = 1..=limits::IMAGE_FILE_NAME_BYTES_MAX;
            if name.starts_with('.') || !length.contains(&name.len()) || !name.bytes().all(plain) {
                return Err(text_error("name of a file", name));
            }
            if seen.contains(&name) {
                return Err(ImageError::SameFile { name: name.into() });
            }
            seen.push(name);
        }
        Ok(())
    }
}

/// RTMR3 is zero: what extends it runs after the boot.
impl From<BootRegisters> for Registers {
    fn from(booted: BootRegisters) -> Self {
        Registers {
            mrtd: booted.mrtd,
            rtmr: [booted.rtmr0, booted.rtmr1, booted.rtmr2, Digest48::ZERO],
        }
    }
}

impl From<&Prediction> for BootRegisters {
    fn from(prediction: &Prediction) -> Self {
        let [rtmr0, rtmr1, rtmr2, _] = prediction.registers().rtmr;
        BootRegisters {
            mrtd: prediction.mrtd,
            rtmr0,
            rtmr1,
            rtmr2,
        }
    }
}

fn check_count(what: &'static str, got: usize, max: usize) -> Result<(), ImageError> {
    if got > max {
        return Err(ImageError::OverLimit { what, got, max });
    }
    Ok(())
}

/// Text that a terminal shows as it is.
fn check_text(what: &'static str, text: &str) -> Result<(), ImageError> {
    let length = 1..=limits::IMAGE_TEXT_BYTES_MAX;
    if !length.contains(&text.len()) || text.chars().any(char::is_control) {
        return Err(text_error(what, text));
    }
    Ok(())
}

fn text_error(what: &'static str, text: &str) -> ImageError {
    let got = text.chars().take(80).collect();
    ImageError::Text { what, got }
}

#[cfg(test)]
mod tests;
