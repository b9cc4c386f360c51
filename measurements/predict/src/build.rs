//! What a firmware file does not say of itself: which edk2 it was built from, and how.
//!
//! The code in the file is compressed, and nothing outside of it names its version. So whoever predicts must know it,
//! unless the file is one of those that this module knows by digest.

use registers::Digest32;

/// How a firmware was built, as far as RTMR0 depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareBuild<'a> {
    /// Which versions of edk2 it belongs to.
    pub generation: FirmwareGeneration<'a>,
    /// Whether Secure Boot was built in. Only then does a firmware that is no flash, as in a trust domain, read its
    /// variable store, and only then is there a variable `SecureBoot`.
    pub secure_boot: bool,
}

/// Versions of edk2 that measure the same things into RTMR0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareGeneration<'a> {
    /// Up to edk2-stable202502.
    UpToStable202502,
    /// From edk2-stable202505 on: it measures settings of fw_cfg and SMBIOS too, and lists other boot options.
    FromStable202505(BiosInformation<'a>),
}

/// What the firmware says about itself in SMBIOS, where it adds a structure of type 0. Linux shows these three as
/// `bios_vendor`, `bios_version` and `bios_date` in `/sys/class/dmi/id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BiosInformation<'a> {
    /// For example `EDK II`.
    pub vendor: &'a str,
    /// For example `2026.08`.
    pub version: &'a str,
    /// Month, day and year, for example `09/26/2026`.
    pub date: &'a str,
}

impl FirmwareBuild<'_> {
    /// The older generation without Secure Boot, as Debian 13 has it.
    pub const UP_TO_STABLE202502: FirmwareBuild<'static> = FirmwareBuild {
        generation: FirmwareGeneration::UpToStable202502,
        secure_boot: false,
    };

    /// The build of a file that is known by its SHA-256. `None` says nothing about a file.
    pub fn known(firmware: &[u8]) -> Option<FirmwareBuild<'static>> {
        let digest = Digest32::of(firmware).to_string();
        KNOWN
            .iter()
            .find(|(sha256, _)| *sha256 == digest)
            .map(|(_, build)| *build)
    }
}

const DEBIAN_2026_08: FirmwareGeneration<'static> =
    FirmwareGeneration::FromStable202505(BiosInformation {
        vendor: "Debian distribution of EDK II",
        version: "2026.08+ds-2",
        date: "09/26/2026",
    });

const KNOWN: [(&str, FirmwareBuild<'static>); 4] = [
    // Debian 13, ovmf 2025.02-8+deb13u1, OVMF.fd.
    (
        "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db",
        FirmwareBuild::UP_TO_STABLE202502,
    ),
    // Ubuntu, ovmf 2025.02-3ubuntu2, OVMF.fd.
    (
        "9e807cb2cd4313406a3aa4becc0836671a5c64ca7bdc08a45e15260184b446bf",
        FirmwareBuild::UP_TO_STABLE202502,
    ),
    // Debian unstable, ovmf-generic 2026.08+ds-2, OVMF.fd.
    (
        "6a3e8f438ad7269f5dfd884647587b88391fb23965bb3aa7902b519438dba129",
        FirmwareBuild {
            generation: DEBIAN_2026_08,
            secure_boot: false,
        },
    ),
    // Debian unstable, ovmf-inteltdx 2026.08+ds-2, OVMF.inteltdx.ms.fd, with Microsoft's keys.
    (
        "a265075b4147a096109e501e76196df1ec8a18659c26f7401492c597ec88f312",
        FirmwareBuild {
            generation: DEBIAN_2026_08,
            secure_boot: true,
        },
    ),
];
