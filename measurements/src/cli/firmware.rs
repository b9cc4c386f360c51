//! What a firmware file does not say of itself, as options.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use predict::{
    BiosInformation, FirmwareBuild, FirmwareGeneration, FwCfg, Platform,
    acpi::Shape,
    smbios::{ProcessorId, SmbiosMachine, q35_of, smbios_tables},
};

use super::read_bounded;

/// How the firmware was built and what it finds beside the ACPI tables. A file that is known by its SHA-256 needs none of
/// the first five.
#[derive(Args, Default)]
#[command(next_help_heading = "Firmware")]
pub struct FirmwareArguments {
    /// The edk2 release that the firmware was built from, like 202402; 202502 if left out. From 202505 on firmware measures
    /// SMBIOS, and the three --bios options say what it writes there. Before 202502, QEMU changes the kernel's header.
    #[arg(long, value_name = "RELEASE")]
    edk2: Option<String>,
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
    /// How this file was built: as its digest says, as the options say, or else as Debian 13's, and then people are told so.
    pub fn build(&self, firmware: &[u8]) -> anyhow::Result<FirmwareBuild<'_>> {
        let Some(known) = FirmwareBuild::known(firmware) else {
            if let Some(assumed) = self.assumed(firmware) {
                eprintln!("the firmware is {assumed}");
            }
            return self.stated();
        };
        if self.is_stated() && self.stated()? != known {
            bail!(
                "the firmware is known by its SHA-256, and was built otherwise; leave --edk2, --secure-boot and --bios-… out"
            );
        }
        Ok(known)
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

    /// The release, for what depends on it beside RTMR0.
    pub fn release(&self, firmware: &[u8]) -> anyhow::Result<&str> {
        let build = match FirmwareBuild::known(firmware) {
            Some(known) => known,
            None => self.stated()?,
        };
        Ok(match (&self.edk2, build.generation) {
            (Some(release), _) => release,
            (None, FirmwareGeneration::UpToStable202502) => OLDER_LAST,
            (None, FirmwareGeneration::FromStable202505(_)) => NEWER_FIRST,
        })
    }

    fn is_stated(&self) -> bool {
        self.edk2.is_some() || self.secure_boot || self.bios_vendor.is_some()
    }

    fn stated(&self) -> anyhow::Result<FirmwareBuild<'_>> {
        let release = self.edk2.as_deref().unwrap_or(OLDER_LAST);
        let bios = [&self.bios_vendor, &self.bios_version, &self.bios_date].map(Option::as_deref);
        // Releases are years and months of six digits, so that text sorts as they do; `KernelHeader` refuses other words.
        let generation = match (release >= NEWER_FIRST, bios) {
            (true, [Some(vendor), Some(version), Some(date)]) => {
                FirmwareGeneration::FromStable202505(BiosInformation {
                    vendor,
                    version,
                    date,
                })
            }
            (true, _) => bail!(
                "firmware of edk2 {release} measures SMBIOS; add --bios-vendor, --bios-version and --bios-date"
            ),
            (false, [None, None, None]) => FirmwareGeneration::UpToStable202502,
            (false, _) => bail!(
                "firmware of edk2 {release} measures no SMBIOS; leave --bios-vendor and its like out, or name a release from {NEWER_FIRST} on"
            ),
        };
        Ok(FirmwareBuild {
            generation,
            secure_boot: self.secure_boot,
        })
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
        match (build.generation, self.processor) {
            (FirmwareGeneration::UpToStable202502, Some(_)) => {
                bail!("this firmware measures no SMBIOS; leave --processor out")
            }
            (FirmwareGeneration::FromStable202505(_), None) => bail!(
                "this firmware measures SMBIOS, which names the processor: add --processor, EAX and EDX of the host's CPUID leaf 1"
            ),
            _ => Ok(()),
        }
    }
}

impl Surroundings {
    /// All of it, for one machine.
    pub fn platform<'a>(
        &'a self,
        firmware: &'a [u8],
        build: FirmwareBuild<'a>,
        memory_mib: u64,
    ) -> Platform<'a> {
        Platform {
            smbios: self.smbios.as_deref(),
            signer: self.signer.as_deref(),
            fw_cfg: FwCfg {
                pci_mmio64_mib: self.pci_mmio64_mib.as_deref(),
                ..FwCfg::DIRECT_BOOT
            },
            ..Platform::new(firmware, build, memory_mib)
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

const OLDER_LAST: &str = "202502";
const NEWER_FIRST: &str = "202505";
const ASSUMED: &str = "not known by its digest: RTMR0 is for a build up to edk2-stable202502 without Secure Boot, which is an assumption";
const ASSUMED_RELEASE: &str =
    "not known by its digest: RTMR0 is for a build up to edk2-stable202502, which is an assumption";
