//! The manifest of the registers that a guest should have.
//!
//! A builder writes it, a verifier reads it. It is a claim: nobody believes a manifest because it parses, but
//! because the reader made it, or rebuilt what it describes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;
use registers::{
    Digest32, Digest48, Register, Registers, RuntimeEvent, application_events, replay,
};

/// Registers a guest should have, how they come about, and for which kind of guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    mode: Mode,
    profile: String,
    registers: Registers,
    rtmr3_events: Vec<RuntimeEvent>,
    note: String,
}

/// What kind of guest a manifest is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Mode {
    /// The agent runs as an ordinary process and measures itself into a simulated module.
    Process {},
    /// The agent runs in a measured virtual machine.
    Vm {
        /// The digest of the image manifest.
        image: Digest32,
        /// The digest of the lock that the image was built from.
        lock: Digest32,
    },
}

/// What an image is for. Here it is a name; what makes it true is the programs inside, which are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Its module is simulated. Protects nothing.
    Sim,
    /// Runs models on the processor.
    Cpu,
    /// Runs models on an H100 and stops without one.
    H100,
    /// For developers, with doors that production does not have.
    Dev,
}

/// What a guest's manifest takes from its image. The manifest of an image (crate `predict`) makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestImage {
    /// The digest of the image manifest.
    pub digest: Digest32,
    /// The digest of the lock that the image was built from.
    pub lock: Digest32,
    /// What the image is for.
    pub profile: Profile,
    /// What its guest has measured to when the agent starts. RTMR3 is zero then.
    pub booted: Registers,
    /// The agent in the image.
    pub agent: Digest48,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ManifestError {
    #[error("the manifest has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("the manifest is not valid: {0}")]
    Json(String),
    #[error("the manifest has version {got}; this program reads version {VERSION}")]
    Version { got: u32 },
    #[error(
        "the manifest has profile {got:?}; a process-mode guest is always \"sim\", a virtual machine sim, cpu, h100 or dev"
    )]
    Profile { got: String },
    #[error("the manifest's {what} is over its limit of {max}")]
    OverLimit { what: &'static str, max: usize },
    #[error(
        "the manifest contradicts itself: its events lead to RTMR3 {replayed}, it says {stated}"
    )]
    Rtmr3 {
        stated: Digest48,
        replayed: Digest48,
    },
    #[error(
        "the manifest says process mode, where MRTD and RTMR0-2 are zero, but one of them is not"
    )]
    RegisterNotZero,
    #[error(
        "the manifest describes a virtual machine, and says that {register} is zero: nothing was measured into it"
    )]
    RegisterZero { register: Register },
}

impl Manifest {
    /// The manifest of an agent run as a process: RTMR3 holds the digest of the agent binary, then of its measured
    /// configuration; nothing measured the machine below, and the note says so.
    pub fn process(agent: Digest48, config: Digest48) -> Manifest {
        let rtmr3_events = application_events(agent, config).to_vec();
        Manifest {
            version: VERSION,
            mode: Mode::Process {},
            profile: Profile::Sim.as_str().into(),
            registers: process_registers(&rtmr3_events),
            rtmr3_events,
            note: PROCESS_NOTE.into(),
        }
    }

    /// The manifest of a guest that measures this into RTMR3, too, after everything that is there.
    pub fn then(mut self, event: RuntimeEvent) -> Manifest {
        self.rtmr3_events.push(event);
        self.registers.rtmr[3] = replay(&self.rtmr3_events);
        self
    }

    /// The manifest of an image's guest with a measured configuration: MRTD and RTMR0-2 are the image's, RTMR3 holds the
    /// digest of the image's agent, then of the configuration. Registers that were not computed from files, but only stated by
    /// the image's manifest, are named in the note.
    pub fn vm(image: &GuestImage, config: Digest48, not_computed: &[Register]) -> Manifest {
        let rtmr3_events = application_events(image.agent, config).to_vec();
        let mut registers = image.booted;
        registers.rtmr[3] = replay(&rtmr3_events);
        let mut note = match image.profile {
            Profile::Sim => VM_SIM_NOTE,
            Profile::Dev => VM_DEV_NOTE,
            Profile::Cpu | Profile::H100 => VM_NOTE,
        }
        .to_owned();
        for register in not_computed {
            note += &format!(
                " NOT COMPUTED: {register}. It is what the image's manifest states, and nothing here shows that it is right."
            );
        }
        Manifest {
            version: VERSION,
            mode: Mode::Vm {
                image: image.digest,
                lock: image.lock,
            },
            profile: image.profile.as_str().into(),
            registers,
            rtmr3_events,
            note,
        }
    }

    /// The canonical bytes: fixed field order, two-space indentation, one final newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .expect("a manifest has only strings, numbers and lists, which always serialise");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a manifest and checks that it agrees with itself.
    pub fn from_json(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() > limits::MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong {
                got: bytes.len(),
                max: limits::MANIFEST_BYTES_MAX,
            });
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| ManifestError::Json(e.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// SHA-256 of the canonical bytes: the name of this manifest, whatever whitespace it was read with.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_json()).into()
    }

    /// What the guest should measure to.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// What kind of guest this is about.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The image profile, `sim` for everything simulated.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// The events that lead to RTMR3, in order.
    pub fn rtmr3_events(&self) -> &[RuntimeEvent] {
        &self.rtmr3_events
    }

    /// What a reader should know before believing this.
    pub fn note(&self) -> &str {
        &self.note
    }

    fn check(&self) -> Result<(), ManifestError> {
        let over = |what, max| Err(ManifestError::OverLimit { what, max });
        if self.version != VERSION {
            return Err(ManifestError::Version { got: self.version });
        }
        let profile = Profile::parse(&self.profile);
        if profile.is_none() || (self.mode == Mode::Process {} && profile != Some(Profile::Sim)) {
            return Err(ManifestError::Profile {
                got: self.profile.clone(),
            });
        }
        if self.note.len() > limits::MANIFEST_NOTE_BYTES_MAX {
            return over("note", limits::MANIFEST_NOTE_BYTES_MAX);
        }
        if self.rtmr3_events.len() > limits::MANIFEST_EVENTS_MAX {
            return over("list of events", limits::MANIFEST_EVENTS_MAX);
        }
        if self
            .rtmr3_events
            .iter()
            .any(|event| event.name.len() > limits::EVENT_NAME_BYTES_MAX)
        {
            return over("name of an event", limits::EVENT_NAME_BYTES_MAX);
        }
        self.check_registers()
    }

    fn check_registers(&self) -> Result<(), ManifestError> {
        let (stated, replayed) = (self.registers.rtmr[3], replay(&self.rtmr3_events));
        if stated != replayed {
            return Err(ManifestError::Rtmr3 { stated, replayed });
        }
        match self.mode {
            Mode::Process {} if self.registers != process_registers(&self.rtmr3_events) => {
                Err(ManifestError::RegisterNotZero)
            }
            Mode::Process {} => Ok(()),
            Mode::Vm { .. } => {
                let zero = |register: &Register| register.of(&self.registers) == Digest48::ZERO;
                match Register::ALL.into_iter().find(zero) {
                    Some(register) => Err(ManifestError::RegisterZero { register }),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Profile {
    /// As files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Sim => "sim",
            Profile::Cpu => "cpu",
            Profile::H100 => "h100",
            Profile::Dev => "dev",
        }
    }

    /// The profile that files write so.
    pub fn parse(text: &str) -> Option<Profile> {
        [Profile::Sim, Profile::Cpu, Profile::H100, Profile::Dev]
            .into_iter()
            .find(|profile| profile.as_str() == text)
    }
}

fn process_registers(events: &[RuntimeEvent]) -> Registers {
    let zero = Digest48::ZERO;
    Registers {
        mrtd: zero,
        rtmr: [zero, zero, zero, replay(events)],
    }
}

const VERSION: u32 = 1;
const PROCESS_NOTE: &str = "Process mode: MRTD and RTMR0-2 are zero because no firmware, kernel or image was measured. \
The agent measures itself into RTMR3 of a simulated module, so these registers say what an honest agent claims to be \
and prove nothing about the machine it runs on.";
const VM_SIM_NOTE: &str = "The TDX module is simulated. MRTD and RTMR0-2 were predicted from the files of the image, RTMR3 \
from its agent and the configuration. A guest with these registers proves plumbing and prediction, not isolation.";
const VM_NOTE: &str = "MRTD and RTMR0-2 were predicted from the files of the image, RTMR3 from its agent and the \
configuration. Rebuild the image from the lock, and the same registers must follow.";

const VM_DEV_NOTE: &str = "INSECURE: a guest for developers. Whoever holds its console is root in it, so it protects nothing, \
whatever its registers say. No policy is made of this manifest.";

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest::process(Digest48::of(b"agent"), Digest48::of(b"config"))
    }

    #[test]
    fn a_manifest_survives_the_round_trip_and_keeps_its_name() {
        let manifest = sample();
        assert_eq!(
            Manifest::from_json(&manifest.to_json()),
            Ok(manifest.clone())
        );
        let compact = serde_json::to_vec(&manifest).unwrap();
        assert_ne!(compact, manifest.to_json());
        assert_eq!(
            Manifest::from_json(&compact).unwrap().digest(),
            manifest.digest()
        );
    }

    #[test]
    fn a_process_manifest_says_what_nothing_measured() {
        let manifest = sample();
        assert!(manifest.note().contains("MRTD and RTMR0-2 are zero"));
        assert_eq!(manifest.registers().mrtd, Digest48::ZERO);
        assert_eq!(
            manifest.registers().rtmr[3],
            replay(manifest.rtmr3_events())
        );
    }

    fn check(
        edit: impl FnOnce(&mut serde_json::Value),
        expected: impl FnOnce(&ManifestError) -> bool,
    ) {
        let mut json: serde_json::Value = serde_json::from_slice(&sample().to_json()).unwrap();
        edit(&mut json);
        let refusal =
            Manifest::from_json(&serde_json::to_vec(&json).unwrap()).expect_err("must be refused");
        assert!(expected(&refusal), "{refusal:?}");
    }

    #[test]
    fn nearby_manifests_are_refused() {
        let hex = "11".repeat(48);
        check(
            |j| j["extra"] = 1.into(),
            |e| matches!(e, ManifestError::Json(_)),
        );
        check(
            |j| j["mode"]["extra"] = 1.into(),
            |e| matches!(e, ManifestError::Json(_)),
        );
        check(
            |j| j["version"] = 2.into(),
            |e| *e == ManifestError::Version { got: 2 },
        );
        check(
            |j| j["mode"]["kind"] = "vm".into(),
            |e| matches!(e, ManifestError::Json(_)),
        );
        check(
            |j| j["profile"] = "production".into(),
            |e| matches!(e, ManifestError::Profile { .. }),
        );
        check(
            |j| j["registers"]["rtmr3"] = hex.clone().into(),
            |e| matches!(e, ManifestError::Rtmr3 { .. }),
        );
        check(
            |j| j["registers"]["mrtd"] = hex.clone().into(),
            |e| *e == ManifestError::RegisterNotZero,
        );
        check(
            |j| j["registers"]["rtmr4"] = hex.clone().into(),
            |e| matches!(e, ManifestError::Json(_)),
        );
        check(
            |j| j["rtmr3_events"][0]["digest"] = hex.clone().into(),
            |e| matches!(e, ManifestError::Rtmr3 { .. }),
        );
        check(
            |j| j["note"] = "x".repeat(1025).into(),
            |e| matches!(e, ManifestError::OverLimit { .. }),
        );
        check(
            |j| j["rtmr3_events"] = vec![j["rtmr3_events"][0].clone(); 65].into(),
            |e| matches!(e, ManifestError::OverLimit { .. }),
        );
    }

    fn image() -> GuestImage {
        let [mrtd, rtmr0, rtmr1, rtmr2] =
            ["firmware", "settings", "kernel", "initrd"].map(|name| Digest48::of(name.as_bytes()));
        GuestImage {
            digest: Digest32([1; 32]),
            lock: Digest32([2; 32]),
            profile: Profile::Sim,
            booted: Registers {
                mrtd,
                rtmr: [rtmr0, rtmr1, rtmr2, Digest48::ZERO],
            },
            agent: Digest48::of(b"agent"),
        }
    }

    fn vm_sample() -> Manifest {
        Manifest::vm(&image(), Digest48::of(b"config"), &[])
    }

    #[test]
    fn a_vm_manifest_has_the_images_registers_and_the_configurations() {
        let (image, manifest) = (image(), vm_sample());
        assert_eq!(
            Manifest::from_json(&manifest.to_json()),
            Ok(manifest.clone())
        );
        let mut expected = image.booted;
        expected.rtmr[3] = sample().registers().rtmr[3];
        assert_eq!(manifest.registers(), &expected);
        assert_eq!(
            manifest.mode(),
            Mode::Vm {
                image: image.digest,
                lock: image.lock
            }
        );
        assert_eq!(manifest.profile(), "sim");
        assert!(manifest.note().contains("simulated"));
        let other = Manifest::vm(&image, Digest48::of(b"other config"), &[]);
        assert_ne!(other.registers().rtmr[3], expected.rtmr[3]);
    }

    #[test]
    fn nearby_vm_manifests_are_refused() {
        let check = |edit: &dyn Fn(&mut serde_json::Value),
                     expected: &dyn Fn(&ManifestError) -> bool| {
            let mut json: serde_json::Value =
                serde_json::from_slice(&vm_sample().to_json()).unwrap();
            edit(&mut json);
            let refusal = Manifest::from_json(json.to_string().as_bytes()).expect_err("refused");
            assert!(expected(&refusal), "{refusal:?}");
        };
        let zero = "00".repeat(48);
        for (name, expected) in [
            ("mrtd", Register::Mrtd),
            ("rtmr0", Register::Rtmr0),
            ("rtmr1", Register::Rtmr1),
            ("rtmr2", Register::Rtmr2),
        ] {
            check(
                &|j| j["registers"][name] = zero.clone().into(),
                &|e| matches!(e, ManifestError::RegisterZero { register } if *register == expected),
            );
        }
        check(
            &|j| {
                j["registers"]["rtmr3"] = zero.clone().into();
                j["rtmr3_events"] = serde_json::json!([]);
            },
            &|e| {
                matches!(
                    e,
                    ManifestError::RegisterZero {
                        register: Register::Rtmr3
                    }
                )
            },
        );
        check(
            &|j| j["registers"]["rtmr3"] = "11".repeat(48).into(),
            &|e| matches!(e, ManifestError::Rtmr3 { .. }),
        );
        check(&|j| j["profile"] = "production".into(), &|e| {
            matches!(e, ManifestError::Profile { .. })
        });
        let is_json: &dyn Fn(&ManifestError) -> bool = &|e| matches!(e, ManifestError::Json(_));
        check(&|j| j["mode"]["kind"] = "process".into(), is_json);
        check(&|j| j["mode"]["image"] = "11".into(), is_json);
        check(&|j| j["mode"]["lock"] = serde_json::Value::Null, is_json);
    }

    #[test]
    fn a_process_is_never_anything_but_simulated() {
        for profile in ["cpu", "h100", "dev"] {
            check(
                |j| j["profile"] = profile.into(),
                |e| matches!(e, ManifestError::Profile { .. }),
            );
        }
    }

    #[test]
    fn a_long_manifest_is_refused_unread() {
        let max = limits::MANIFEST_BYTES_MAX;
        assert_eq!(
            Manifest::from_json(&vec![b' '; max + 1]),
            Err(ManifestError::TooLong { got: max + 1, max })
        );
    }

    #[test]
    fn no_flipped_byte_or_cut_makes_it_panic_or_contradict_itself() {
        let bytes = sample().to_json();
        for at in 0..bytes.len() {
            for mask in [0x01, 0x20, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= mask;
                if let Ok(manifest) = Manifest::from_json(&flipped) {
                    assert_eq!(
                        manifest.registers().rtmr[3],
                        replay(manifest.rtmr3_events())
                    );
                }
            }
            let cut = Manifest::from_json(&bytes[..at]);
            assert!(cut.is_err() || at == bytes.len() - 1, "cut at {at}");
        }
    }
}
