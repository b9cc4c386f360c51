//! What a firmware file does not say of itself, as options.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use predict::{
    BiosInformation, BuildError, Edk2Release, Firmware, FirmwareBuild, FirmwareError, FwCfg,
    Platform,
    acpi::Shape,
    smbios::{ProcessorId, SmbiosMachine, q35_of, smbios_tables},
};

use super::read_bounded;

/// How the firmware was built and what it finds beside the ACPI tables. A file that is known by its SHA-256 needs none of
/// the first five.
#[derive(Args, Default)]
#[command(next_help_heading = "Firmware")]
pub struct FirmwareArguments {
    /// The edk2 release that the firmware was built from, like 202402, 2024.02 or edk2-stable202402; 202502 if left out. It
    /// decides what RTMR0 and RTMR1 have: from 202505 on SMBIOS, for which the three --bios options say what the firmware
    /// writes there; before 202411 the separators elsewhere. Before 202502, QEMU changes the kernel's header.
    #[arg(long, value_name = "RELEASE")]
    edk2: Option<Edk2Release>,
    /// The firmware was built with Secure Boot, so it reads its variable store.
    #[arg(long)]
    secure_boot: bool,
    /// The firmware's /sys/class/dmi/id/bios_vendor.
    #[arg(long, value_name = "TEXT", requires_all = ["bios_version", "bios_date"])]
    bios_vendor: Option<String>,
    /// The firmware's /sys/class/dmi/id/bios_version.
    #[arg(long, value_name = "TEXT", requires = "bios_vendor")]
    bios_version: Option<String>,
    /// The firmware's /sys/class/dmi/id/bios_date, like 09/26/2026.
    #[arg(long, value_name = "DATE", requires = "bios_vendor")]
    bios_date: Option<String>,
    /// The processor's CPUID leaf 1, EAX and EDX in hexadecimal, like 000c06f2:078bfbff. SMBIOS contains it; with -cpu host
    /// it is the host's.
    #[arg(long, value_name = "EAX:EDX", value_parser = processor_id)]
    processor: Option<ProcessorId>,
    /// The certificate of db under which the kernel is signed, as DER, if Secure Boot is on. The signature itself is not
    /// checked.
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// The value of QEMU's -fw_cfg name=opt/ovmf/X-PciMmio64Mb,string=MIB, which machines with large BARs have.
    #[arg(long, value_name = "MIB")]
    pci_mmio64_mib: Option<u64>,
}

/// The machine's part of what is measured beside ACPI: files to lend to a [`Platform`].
pub struct Surroundings {
    smbios: Option<Vec<u8>>,
    signer: Option<Vec<u8>>,
    pci_mmio64_mib: Option<String>,
}

impl FirmwareArguments {
    /// A firmware that measures, built as its digest says, as the options say, or else as Debian 13's; then people are told so.
    pub fn firmware<'a>(&'a self, bytes: &'a [u8]) -> anyhow::Result<Firmware<'a>> {
        if let Some(assumed) = self.assumed(bytes) {
            eprintln!("the firmware is {assumed}");
        }
        Ok(Firmware::new(bytes, self.build(bytes)?)?)
    }

    fn build(&self, bytes: &[u8]) -> anyhow::Result<FirmwareBuild<'_>> {
        let Some(known) = FirmwareBuild::known(bytes) else {
            return self.stated();
        };
        let otherwise = self.edk2.is_some_and(|release| release != known.release())
            || (self.secure_boot && !known.secure_boot())
            || (self.bios_vendor.is_some() && self.bios() != known.bios());
        match otherwise {
            true => Err(FirmwareError::Known {
                release: known.release(),
                secure_boot: known.secure_boot(),
            }
            .into()),
            false => Ok(known),
        }
    }

    /// What nobody said of a file that is not known.
    pub fn assumed(&self, firmware: &[u8]) -> Option<&'static str> {
        (self.edk2.is_none() && FirmwareBuild::known(firmware).is_none()).then_some(
            if self.secure_boot {
                ASSUMED_RELEASE
            } else {
                ASSUMED
            },
        )
    }

    fn bios(&self) -> Option<BiosInformation<'_>> {
        let texts = [&self.bios_vendor, &self.bios_version, &self.bios_date];
        match texts.map(Option::as_deref) {
            [Some(vendor), Some(version), Some(date)] => Some(BiosInformation {
                vendor,
                version,
                date,
            }),
            _ => None,
        }
    }

    fn stated(&self) -> anyhow::Result<FirmwareBuild<'_>> {
        let release = self.edk2.unwrap_or(Edk2Release::STABLE202502);
        match FirmwareBuild::new(release, self.bios(), self.secure_boot) {
            Ok(build) => Ok(build),
            Err(error @ BuildError::BiosMissing { .. }) => {
                bail!("{error}; add --bios-vendor, --bios-version and --bios-date")
            }
            Err(error @ BuildError::BiosUnused { .. }) => {
                bail!(
                    "{error}; leave --bios-vendor and its like out, or name a release from 202505 on"
                )
            }
        }
    }

    /// What the machine of this shape shows the firmware.
    pub fn surroundings(
        &self,
        build: &FirmwareBuild<'_>,
        shape: Option<&Shape>,
    ) -> anyhow::Result<Surroundings> {
        self.check_processor(build)?;
        let smbios = match (self.processor, shape) {
            (None, _) => None,
            (Some(_), None) => bail!(
                "this firmware measures SMBIOS, which follows from the machine: add --vcpus and --memory, or --shape"
            ),
            (Some(processor), Some(shape)) => Some(smbios_tables(&SmbiosMachine {
                machine_type: q35_of(shape.qemu),
                processor,
                vcpus_max: shape.vcpus_max,
                memory_mib: shape.memory_mib,
            })?),
        };
        Ok(Surroundings {
            smbios,
            signer: self.signer.as_deref().map(certificate).transpose()?,
            pci_mmio64_mib: self.pci_mmio64_mib.map(|mib| mib.to_string()),
        })
    }

    /// The same for a set of machines, each of which has SMBIOS of its own.
    pub fn of_set(
        &self,
        build: &FirmwareBuild<'_>,
    ) -> anyhow::Result<(Option<ProcessorId>, Option<Vec<u8>>)> {
        self.check_processor(build)?;
        if self.pci_mmio64_mib.is_some() {
            bail!("no machine of a set has X-PciMmio64Mb; leave --pci-mmio64-mib out");
        }
        Ok((
            self.processor,
            self.signer.as_deref().map(certificate).transpose()?,
        ))
    }

    fn check_processor(&self, build: &FirmwareBuild<'_>) -> anyhow::Result<()> {
        match (build.bios(), self.processor) {
            (None, Some(_)) => bail!("this firmware measures no SMBIOS; leave --processor out"),
            (Some(_), None) => bail!(
                "this firmware measures SMBIOS, which names the processor: add --processor, EAX and EDX of the host's CPUID leaf 1"
            ),
            _ => Ok(()),
        }
    }
}

impl Surroundings {
    /// All of it, for one machine.
    pub fn platform<'a>(&'a self, firmware: Firmware<'a>, memory_mib: u64) -> Platform<'a> {
        Platform {
            smbios: self.smbios.as_deref(),
            signer: self.signer.as_deref(),
            fw_cfg: FwCfg {
                pci_mmio64_mib: self.pci_mmio64_mib.as_deref(),
                ..FwCfg::DIRECT_BOOT
            },
            ..Platform::new(firmware, memory_mib)
        }
    }
}

/// In PEM it would be no entry of db, and the refusal would blame the wrong thing.
fn certificate(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = read_bounded(path, attest::limits::ROOT_BYTES_MAX)?;
    if bytes.starts_with(b"-----BEGIN") {
        let path = path.display();
        bail!("{path} is PEM, and db has DER: openssl x509 -in {path} -outform DER");
    }
    Ok(bytes)
}

/// Two words of eight hexadecimal digits at most.
fn processor_id(text: &str) -> Result<ProcessorId, String> {
    let word = |word: &str| match word.len() {
        1..=8 if word.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            u32::from_str_radix(word, 16).ok()
        }
        _ => None,
    };
    text.split_once(':')
        .and_then(|(eax, edx)| {
            Some(ProcessorId {
                signature: word(eax)?,
                features: word(edx)?,
            })
        })
        .ok_or_else(|| format!("{text:?} is not EAX:EDX in hexadecimal, like 000c06f2:078bfbff"))
}

const ASSUMED: &str = "not known by its digest: RTMR0 and RTMR1 are for a build of edk2 stable202411 or stable202502 without Secure Boot, which is an assumption";
const ASSUMED_RELEASE: &str = "not known by its digest: RTMR0 and RTMR1 are for a build of edk2 stable202411 or stable202502, which is an assumption";
