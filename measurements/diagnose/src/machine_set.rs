//! One image in many machines: what its guest measures to in each of those that a policy allows.
//!
//! Firmware, kernel, initrd and command line are the image's, so MRTD, RTMR1 and RTMR2 are the same in all of them; RTMR0 is each
//! machine's own. A set in a file is a claim, like every manifest: a reader believes it who computed it again.

mod devices;

pub use devices::{Devices, DevicesError};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::limits;
use attest::Policy;
use predict::acpi::{AcpiError, Qemu, acpi_files};
use predict::smbios::{ProcessorId, SmbiosMachine, SmbiosMachineError, q35_of, smbios_tables};
use predict::{Firmware, PageOrder, Platform, PredictError, mrtd, replay as replay_events, rtmr0};
use predict::{image::ImageManifest, qemu::MachineSize};
use registers::{Digest32, Digest48, Register, Registers};

/// An image and the machines that its guest may run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSet {
    /// The digest of the image's manifest.
    pub image_sha256: Digest32,
    /// The firmware, in all machines.
    pub mrtd: Digest48,
    /// The kernel, in all machines.
    pub rtmr1: Digest48,
    /// Command line and initrd, in all machines.
    pub rtmr2: Digest48,
    machines: Vec<(Machine, Digest48)>,
}

/// One machine, as this project's guests have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine {
    /// The program that makes it.
    pub qemu: Qemu,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// What is plugged in.
    pub devices: Devices,
}

/// A firmware, and what every machine of a set shows it alike.
#[derive(Clone, Copy, Debug)]
pub struct SetFirmware<'a> {
    /// The file, and how it was built.
    pub firmware: Firmware<'a>,
    /// The hosts' processor, if the firmware measures SMBIOS: a set is then for one model.
    pub processor: Option<ProcessorId>,
    /// As in [`Platform`].
    pub signer: Option<&'a [u8]>,
}

/// Why there is no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum MachineSetError {
    #[error("the firmware is not the one of the image: its sha256 is {got}, not {expected}")]
    Firmware { got: Digest32, expected: Digest32 },
    #[error("the image manifest's MRTD is not that of its firmware")]
    Mrtd,
    #[error("{machine}: {error}")]
    Acpi { machine: Machine, error: AcpiError },
    #[error("{machine}: {error}")]
    Smbios {
        machine: Machine,
        error: SmbiosMachineError,
    },
    #[error("{machine}: {error}")]
    Predict {
        machine: Machine,
        error: PredictError,
    },
    #[error("the set of machines has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error(
        "the set has {got} machines; it must have 1 to {}",
        limits::MACHINE_SET_MACHINES_MAX
    )]
    Count { got: usize },
    #[error("the set of machines is not valid: {0}")]
    Json(String),
    #[error("the set of machines has version {got}; this program reads version {VERSION}")]
    Version { got: u32 },
    #[error(transparent)]
    Qemu(#[from] AcpiError),
    #[error("the set has {machine} twice")]
    Twice { machine: Machine },
    #[error("the set must say of its machines {expected:?}, and says {got:?}")]
    NotCompared {
        got: Option<String>,
        expected: Option<&'static str>,
    },
    #[error("the set says that a register is zero, so that nothing was measured into it")]
    Zero,
}

impl MachineSet {
    /// Predicts the image's guest in each machine. One whose tables are not proven refuses the whole set, by its name.
    pub fn predict(
        image: &ImageManifest,
        firmware: &SetFirmware<'_>,
        machines: impl IntoIterator<Item = Machine>,
    ) -> Result<MachineSet, MachineSetError> {
        let bytes = firmware.firmware.bytes();
        let (got, expected) = (Digest32::of(bytes), image.files.firmware.sha256);
        if got != expected {
            return Err(MachineSetError::Firmware { got, expected });
        }
        let stated = image.registers.mrtd;
        let orders = [PageOrder::SinglePass, PageOrder::TwoPass];
        if !orders.iter().any(|order| mrtd(bytes, *order) == Ok(stated)) {
            return Err(MachineSetError::Mrtd);
        }
        let machines: BTreeSet<Machine> = machines
            .into_iter()
            .take(limits::MACHINE_SET_MACHINES_MAX + 1)
            .collect();
        let machines = machines.into_iter().map(|machine| {
            let predicted = machine.rtmr0(firmware)?;
            Ok((machine, predicted))
        });
        MachineSet {
            image_sha256: image.digest(),
            mrtd: stated,
            rtmr1: image.registers.rtmr1,
            rtmr2: image.registers.rtmr2,
            machines: machines.collect::<Result<_, MachineSetError>>()?,
        }
        .checked()
    }

    /// What was not compared of a machine of this set, if something was not. A set in a file says it too.
    pub fn not_compared(&self) -> Option<&'static str> {
        let mut machines = self.machines();
        machines.find_map(|(machine, _)| machine.devices.not_compared())
    }

    /// Each machine with its RTMR0, in order.
    pub fn machines(&self) -> impl ExactSizeIterator<Item = (Machine, Digest48)> {
        self.machines.iter().copied()
    }

    /// The registers of a guest in each machine when its application has measured itself, for [`Policy::registers`].
    pub fn registers(&self, rtmr3: Digest48) -> Vec<Registers> {
        let one = |(_, rtmr0): &(Machine, Digest48)| Registers {
            mrtd: self.mrtd,
            rtmr: [*rtmr0, self.rtmr1, self.rtmr2, rtmr3],
        };
        self.machines.iter().map(one).collect()
    }

    /// As strict as [`Policy::exact`], over these machines and this application.
    pub fn policy(&self, rtmr3: Digest48) -> Policy {
        Policy::with_registers(self.registers(rtmr3))
    }

    /// Which machine has such registers. RTMR3 is not looked at: the application is none of the set's.
    pub fn compare(&self, got: &Registers) -> Membership {
        let shared = [
            (Register::Mrtd, self.mrtd),
            (Register::Rtmr1, self.rtmr1),
            (Register::Rtmr2, self.rtmr2),
        ];
        let differing = shared
            .into_iter()
            .filter(|(register, value)| register.of(got) != *value);
        let of =
            |(machine, rtmr0): &(Machine, Digest48)| (*rtmr0 == got.rtmr[0]).then_some(*machine);
        Membership {
            machines: self.machines.iter().filter_map(of).collect(),
            differing: differing.map(|(register, _)| register).collect(),
        }
    }

    /// Reads a set and checks that it can be one.
    pub fn from_json(bytes: &[u8]) -> Result<MachineSet, MachineSetError> {
        let max = limits::MACHINE_SET_BYTES_MAX;
        if bytes.len() > max {
            let got = bytes.len();
            return Err(MachineSetError::TooLong { got, max });
        }
        let written: Written = serde_json::from_slice(bytes)
            .map_err(|error| MachineSetError::Json(error.to_string()))?;
        written.set()
    }

    /// The canonical bytes: one line a machine, in order, and a final newline.
    pub fn to_json(&self) -> Vec<u8> {
        let head = WrittenHead {
            version: VERSION,
            image_sha256: self.image_sha256,
            mrtd: self.mrtd,
            rtmr1: self.rtmr1,
            rtmr2: self.rtmr2,
            not_compared: self.not_compared(),
        };
        let text = |value: serde_json::Result<String>| {
            value.expect("digests, numbers and names always have a JSON form")
        };
        let head = text(serde_json::to_string(&head));
        let lines: Vec<String> = self
            .machines
            .iter()
            .map(|(machine, rtmr0)| {
                text(serde_json::to_string(&WrittenMachine::of(*machine, *rtmr0)))
            })
            .collect();
        let head = head.trim_end_matches('}');
        format!("{head},\"machines\":[\n{}\n]}}\n", lines.join(",\n")).into_bytes()
    }

    fn checked(self) -> Result<MachineSet, MachineSetError> {
        let got = self.machines.len();
        if !(1..=limits::MACHINE_SET_MACHINES_MAX).contains(&got) {
            return Err(MachineSetError::Count { got });
        }
        let rtmr0 = self.machines.iter().map(|(_, rtmr0)| *rtmr0);
        let mut all = rtmr0.chain([self.mrtd, self.rtmr1, self.rtmr2]);
        match all.any(|value| value == Digest48::ZERO) {
            true => Err(MachineSetError::Zero),
            false => Ok(self),
        }
    }
}

impl Machine {
    fn rtmr0(self, firmware: &SetFirmware<'_>) -> Result<Digest48, MachineSetError> {
        let size = MachineSize {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
        };
        let shape = self.devices.shape(size, self.qemu);
        let tables = acpi_files(&shape).map_err(|error| MachineSetError::Acpi {
            machine: self,
            error,
        })?;
        let smbios = |processor| {
            smbios_tables(&SmbiosMachine {
                machine_type: q35_of(self.qemu),
                processor,
                vcpus_max: shape.vcpus_max,
                memory_mib: self.memory_mib,
            })
        };
        let smbios = firmware.processor.map(smbios).transpose();
        let smbios = smbios.map_err(|error| MachineSetError::Smbios {
            machine: self,
            error,
        })?;
        let platform = Platform {
            smbios: smbios.as_deref(),
            signer: firmware.signer,
            ..Platform::new(firmware.firmware, self.memory_mib)
        };
        match rtmr0(&platform, &tables) {
            Ok(events) => Ok(replay_events(Register::Rtmr0, &events)),
            Err(error) => Err(MachineSetError::Predict {
                machine: self,
                error,
            }),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Machine {
            vcpus, memory_mib, ..
        } = self;
        let with = match self.devices {
            Devices::Guest => "",
            Devices::GuestWithTpm => ", a TPM",
            Devices::GuestWithH100 => ", 1 H100",
        };
        let qemu = self.qemu.as_str();
        write!(f, "{vcpus} vCPUs, {memory_mib} MiB{with}, QEMU {qemu}")
    }
}

/// What a guest's registers have in common with a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Machines with this RTMR0.
    pub machines: Vec<Machine>,
    /// Those of MRTD, RTMR1 and RTMR2 that are not the image's.
    pub differing: Vec<Register>,
}

impl Membership {
    /// Whether it is the image's guest in one of the machines.
    pub fn belongs(&self) -> bool {
        self.differing.is_empty() && !self.machines.is_empty()
    }
}

#[derive(Serialize)]
struct WrittenHead {
    version: u32,
    image_sha256: Digest32,
    mrtd: Digest48,
    rtmr1: Digest48,
    rtmr2: Digest48,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_compared: Option<&'static str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    image_sha256: Digest32,
    mrtd: Digest48,
    rtmr1: Digest48,
    rtmr2: Digest48,
    not_compared: Option<String>,
    machines: Vec<WrittenMachine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMachine {
    qemu: String,
    vcpus: u32,
    memory_mib: u64,
    devices: Devices,
    rtmr0: Digest48,
}

impl WrittenMachine {
    fn of(machine: Machine, rtmr0: Digest48) -> WrittenMachine {
        WrittenMachine {
            qemu: machine.qemu.as_str().into(),
            vcpus: machine.vcpus,
            memory_mib: machine.memory_mib,
            devices: machine.devices,
            rtmr0,
        }
    }
}

impl Written {
    fn set(self) -> Result<MachineSet, MachineSetError> {
        if self.version != VERSION {
            return Err(MachineSetError::Version { got: self.version });
        }
        let mut seen = BTreeSet::new();
        let mut machines = Vec::new();
        for written in self.machines {
            let machine = Machine {
                qemu: Qemu::parse(&written.qemu)?,
                vcpus: written.vcpus,
                memory_mib: written.memory_mib,
                devices: written.devices,
            };
            if !seen.insert(machine) {
                return Err(MachineSetError::Twice { machine });
            }
            machines.push((machine, written.rtmr0));
        }
        machines.sort_unstable();
        let set = MachineSet {
            image_sha256: self.image_sha256,
            mrtd: self.mrtd,
            rtmr1: self.rtmr1,
            rtmr2: self.rtmr2,
            machines,
        };
        let (got, expected) = (self.not_compared, set.not_compared());
        match got.as_deref() == expected {
            true => set.checked(),
            false => Err(MachineSetError::NotCompared { got, expected }),
        }
    }
}

const VERSION: u32 = 1;
