//! A firmware that measures, and what its file does not say of itself: which edk2 it was built from, and how.
//!
//! The code in the file is compressed, and nothing outside of it names its version. So whoever predicts must know it,
//! unless the file is one of those that this module knows by digest. That it measures at all is looked up in the code.

use registers::Digest32;

use super::Edk2Release;
use super::tdvf::volumes::{self, VolumeError};
use super::tdvf::{Tdvf, TdvfError};

/// A firmware whose guests have RTMR0 to RTMR2: its code has the driver that extends them.
#[derive(Clone, Copy, Debug)]
pub struct Firmware<'a> {
    bytes: &'a [u8],
    build: FirmwareBuild<'a>,
}

/// How a firmware was built, as far as registers depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareBuild<'a> {
    release: Edk2Release,
    bios: Option<BiosInformation<'a>>,
    secure_boot: bool,
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

/// Why a firmware cannot have been built so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum BuildError {
    #[error(
        "firmware of edk2 {release} measures SMBIOS, and what it says of itself there is missing"
    )]
    BiosMissing { release: Edk2Release },
    #[error("firmware of edk2 {release} measures no SMBIOS, and is said to say something there")]
    BiosUnused { release: Edk2Release },
}

/// Why a guest of a firmware has no RTMR0 to RTMR2 that could be predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum FirmwareError {
    #[error(transparent)]
    Tdvf(#[from] TdvfError),
    #[error(
        "the firmware is known by its SHA-256: it is of edk2 {release}, {}, and is described otherwise",
        secure_boot_in_words(*.secure_boot)
    )]
    Known {
        release: Edk2Release,
        secure_boot: bool,
    },
    #[error(
        "the firmware has no driver that measures (TdTcg2Dxe), so RTMR0 to RTMR2 of its guests stay zero: edk2 is built with it only by -D CC_MEASUREMENT_ENABLE, which Debian does from 13 on"
    )]
    MeasuresNothing,
    #[error("whether the firmware measures is not known: {0}")]
    Volume(#[from] VolumeError),
}

impl<'a> Firmware<'a> {
    /// A file that measures. If it is known by its digest, it was built as it was; otherwise the caller's word holds.
    pub fn new(bytes: &'a [u8], build: FirmwareBuild<'a>) -> Result<Firmware<'a>, FirmwareError> {
        match FirmwareBuild::known(bytes) {
            Some(known) if known != build => Err(FirmwareError::Known {
                release: known.release,
                secure_boot: known.secure_boot,
            }),
            Some(_) => Ok(Firmware { bytes, build }),
            None => match volumes::measures(&Tdvf::parse(bytes)?)? {
                true => Ok(Firmware { bytes, build }),
                false => Err(FirmwareError::MeasuresNothing),
            },
        }
    }

    /// The file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How it was built.
    pub fn build(&self) -> FirmwareBuild<'a> {
        self.build
    }
}

impl<'a> FirmwareBuild<'a> {
    /// As Debian 13 has it.
    pub const STABLE202502: FirmwareBuild<'static> = FirmwareBuild {
        release: Edk2Release::STABLE202502,
        bios: None,
        secure_boot: false,
    };

    /// A build of this release. Secure Boot: only where it was built in does a firmware that is no flash, as in a trust domain,
    /// read its variable store, and only then is there a variable `SecureBoot`.
    pub fn new(
        release: Edk2Release,
        bios: Option<BiosInformation<'a>>,
        secure_boot: bool,
    ) -> Result<FirmwareBuild<'a>, BuildError> {
        match (release.layout().settings, bios) {
            (true, None) => Err(BuildError::BiosMissing { release }),
            (false, Some(_)) => Err(BuildError::BiosUnused { release }),
            _ => Ok(FirmwareBuild {
                release,
                bios,
                secure_boot,
            }),
        }
    }

    /// The build of a file that is known by its SHA-256. `None` says nothing about a file.
    pub fn known(firmware: &[u8]) -> Option<FirmwareBuild<'static>> {
        let digest = Digest32::of(firmware).to_string();
        let mut known = KNOWN.iter();
        known
            .find(|(sha256, _)| *sha256 == digest)
            .map(|(_, build)| *build)
    }

    /// Of which release it is.
    pub fn release(&self) -> Edk2Release {
        self.release
    }

    /// What it says in SMBIOS. Releases that measure none have none here.
    pub fn bios(&self) -> Option<BiosInformation<'a>> {
        self.bios
    }

    /// Whether Secure Boot was built in.
    pub fn secure_boot(&self) -> bool {
        self.secure_boot
    }
}

fn secure_boot_in_words(built_in: bool) -> &'static str {
    match built_in {
        true => "with Secure Boot",
        false => "without Secure Boot",
    }
}

const DEBIAN_2026_08: FirmwareBuild<'static> = FirmwareBuild {
    release: Edk2Release::of(2026, 8),
    bios: Some(BiosInformation {
        vendor: "Debian distribution of EDK II",
        version: "2026.08+ds-2",
        date: "09/26/2026",
    }),
    secure_boot: false,
};

/// All of them measure.
const KNOWN: [(&str, FirmwareBuild<'static>); 4] = [
    // Debian 13, ovmf 2025.02-8+deb13u1, OVMF.fd.
    (
        "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db",
        FirmwareBuild::STABLE202502,
    ),
    // Ubuntu, ovmf 2025.02-3ubuntu2, OVMF.fd.
    (
        "9e807cb2cd4313406a3aa4becc0836671a5c64ca7bdc08a45e15260184b446bf",
        FirmwareBuild::STABLE202502,
    ),
    // Debian unstable, ovmf-generic 2026.08+ds-2, OVMF.fd.
    (
        "6a3e8f438ad7269f5dfd884647587b88391fb23965bb3aa7902b519438dba129",
        DEBIAN_2026_08,
    ),
    // Debian unstable, ovmf-inteltdx 2026.08+ds-2, OVMF.inteltdx.ms.fd, with Microsoft's keys.
    (
        "a265075b4147a096109e501e76196df1ec8a18659c26f7401492c597ec88f312",
        FirmwareBuild {
            secure_boot: true,
            ..DEBIAN_2026_08
        },
    ),
];
