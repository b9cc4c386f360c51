//! The registers of a launched machine at the moment when its kernel runs.
//!
//! ```text
//!  launched.json ─► firmware file ─► MRTD
//!                ├► firmware file, memory ─► the first two events of RTMR0
//!                ├► swtpm's log ─► PCRs 1 and 7 ─► the other events of RTMR0
//!                │                 PCRs 2-6     ─► RTMR1
//!                │                 PCRs 8-15    ─► RTMR2
//!                └► kernel, initrd, command line: their digests must be in the log
//! ```
//!
//! Under simulation the firmware measures into a software TPM what it would measure into the registers of a trust domain
//! (the map is that of the UEFI specification, section 38.4.1, and edk2's `TdTcg2Dxe`). Two things differ. A TPM gets a
//! separator in each of PCRs 0 to 7 where a trust domain gets one in RTMR0, after the variables, and one in RTMR1; PCR 7
//! and PCR 4 have them at those places. And what the kernel extends after it has left the firmware (IMA's PCR 10, for
//! instance) is ignored, since a trust domain has no TPM.
//!
//! **Trusts.** The description of the machine, for the firmware and the size of memory, which no log shows. Nothing that the
//! guest claims about itself is used.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use registers::{Digest48, Registers};
use sha2::{Digest, Sha384};

use crate::{
    Launched,
    firmware::{Firmware, FirmwareError},
    hand_off::hand_off_digest,
    kernel::{KernelError, authenticode},
    limits::{FIRMWARE_BYTES_MAX, INITRD_BYTES_MAX, KERNEL_BYTES_MAX},
    swtpm_log::{Extend, LogError, extends_until},
};

/// One thing that was measured into a run-time register before the kernel ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The run-time register: 0, 1 or 2.
    pub rtmr: usize,
    /// What extended it.
    pub digest: Digest48,
    /// How it is known.
    pub source: Source,
}

/// Where an event was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Computed from the firmware's metadata and the size of memory: the list of memory.
    HandOffBlocks,
    /// Computed from the firmware file: its variables.
    ConfigurationVolume,
    /// The TPM's log, this PCR.
    Pcr(u32),
}

/// Why a machine's registers cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum BootError {
    #[error(
        "the boot is not over: the TPM's log does not show yet that the kernel has left the firmware"
    )]
    NotOver,
    #[error("PCR {pcr} has {got} separators; a boot has one")]
    Separators { pcr: u32, got: usize },
    #[error("TPM log: {0}")]
    Log(#[from] LogError),
    #[error("firmware: {0}")]
    Firmware(#[from] FirmwareError),
    #[error("kernel: {0}")]
    Kernel(#[from] KernelError),
    #[error("the machine booted another {what} than described: the TPM's log has no {digest}")]
    OtherFile {
        what: &'static str,
        digest: Digest48,
    },
    #[error("cannot read {}: {kind}", path.display())]
    Read { path: PathBuf, kind: ErrorKind },
}

/// The registers of a machine whose boot is over; RTMR3 is zero.
pub fn registers_of(launched: &Launched) -> Result<Registers, BootError> {
    let (mrtd, events) = boot_of(launched)?;
    let mut rtmr = [Digest48::ZERO; 4];
    for event in events {
        rtmr[event.rtmr] = rtmr[event.rtmr].extended_by(&event.digest);
    }
    Ok(Registers { mrtd, rtmr })
}

/// The events behind RTMR0, RTMR1 and RTMR2 of such a machine, in the order of time.
pub fn events_of(launched: &Launched) -> Result<Vec<Event>, BootError> {
    boot_of(launched).map(|(_, events)| events)
}

/// Those of RTMR0 (without the first two), RTMR1 and RTMR2 that swtpm's log of one boot has, in the order of time.
pub fn events_in_log(log: impl BufRead) -> Result<Vec<Event>, BootError> {
    measured(&extends_until(log, action(LEFT))?)
}

/// MRTD and the events. The log comes first, so that asking before the boot is over costs little.
fn boot_of(launched: &Launched) -> Result<(Digest48, Vec<Event>), BootError> {
    let log = File::open(&launched.tpm_log).map_err(read_error(&launched.tpm_log))?;
    let measured = events_in_log(BufReader::new(log))?;

    let image = read(&launched.firmware, FIRMWARE_BYTES_MAX)?;
    let firmware = Firmware::parse(&image)?;
    let of_firmware = |digest, source| Event {
        rtmr: 0,
        digest,
        source,
    };
    let hand_off = hand_off_digest(firmware.sections(), launched.memory_mib)?;
    let volume = firmware.configuration_volume()?;
    let mut events = vec![
        of_firmware(hand_off, Source::HandOffBlocks),
        of_firmware(volume, Source::ConfigurationVolume),
    ];
    events.extend(measured);
    compare_files(launched, &events)?;
    Ok((firmware.mrtd(), events))
}

/// What a log's extends are to a trust domain, until the kernel has left the firmware.
fn measured(extends: &[Extend]) -> Result<Vec<Event>, BootError> {
    let at = |wanted: Extend| extends.iter().position(|extend| *extend == wanted);
    let (Some(leaving), Some(left)) = (at(action(LEAVING)), at(action(LEFT))) else {
        return Err(BootError::NotOver);
    };
    if left < leaving {
        return Err(BootError::NotOver);
    }
    let boot = &extends[..=left];
    let separator = Digest48::of(&[0; 4]);
    for pcr in 0..=7 {
        let of_pcr = boot.iter().filter(|extend| {
            **extend
                == Extend {
                    pcr,
                    digest: separator,
                }
        });
        let got = of_pcr.count();
        if got != 1 {
            return Err(BootError::Separators { pcr, got });
        }
    }
    let counts =
        |extend: &&Extend| extend.digest != separator || !matches!(extend.pcr, 1 | 2 | 3 | 5 | 6);
    Ok(boot
        .iter()
        .filter(counts)
        .filter_map(|extend| {
            Some(Event {
                rtmr: rtmr_of(extend.pcr)?,
                digest: extend.digest,
                source: Source::Pcr(extend.pcr),
            })
        })
        .collect())
}

/// What the firmware extends when it reports an action: the digest of the text, in PCR 5.
fn action(text: &str) -> Extend {
    Extend {
        pcr: 5,
        digest: Digest48::of(text.as_bytes()),
    }
}

/// The run-time register that stands for a PCR. PCR 0 is the firmware, which MRTD holds; above 15 nothing is measured.
fn rtmr_of(pcr: u32) -> Option<usize> {
    match pcr {
        1 | 7 => Some(0),
        2..=6 => Some(1),
        8..=15 => Some(2),
        _ => None,
    }
}

/// Holds the files of the description against what the machine measured of them.
fn compare_files(launched: &Launched, events: &[Event]) -> Result<(), BootError> {
    let kernel = authenticode(&read(&launched.kernel, KERNEL_BYTES_MAX)?)?;
    let initrd = digest_of(&launched.initrd)?;
    // The firmware adds the words by which the kernel's EFI stub finds the initrd.
    let cmdline: Vec<u8> = format!("{} initrd=initrd\0", launched.cmdline)
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (what, pcr, digest) in [
        ("kernel", 4, kernel),
        ("command line", 9, Digest48::of(&cmdline)),
        ("initrd", 9, initrd),
    ] {
        let same = |event: &Event| event.source == Source::Pcr(pcr) && event.digest == digest;
        if !events.iter().any(same) {
            return Err(BootError::OtherFile { what, digest });
        }
    }
    Ok(())
}

/// A whole file of at most `max` bytes, or its first `max + 1`, which its reader refuses.
fn read(path: &Path, max: usize) -> Result<Vec<u8>, BootError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max as u64 + 1).read_to_end(&mut bytes))
        .map_err(read_error(path))?;
    Ok(bytes)
}

/// SHA-384 of a file, as a stream.
fn digest_of(path: &Path) -> Result<Digest48, BootError> {
    let mut file = File::open(path)
        .map_err(read_error(path))?
        .take(INITRD_BYTES_MAX + 1);
    let mut hash = Sha384::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut buffer).map_err(read_error(path))?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
    }
    if file.limit() == 0 {
        return Err(read_error(path)(ErrorKind::FileTooLarge.into()));
    }
    Ok(Digest48(hash.finalize().into()))
}

fn read_error(path: &Path) -> impl Fn(std::io::Error) -> BootError {
    move |error| BootError::Read {
        path: path.into(),
        kind: error.kind(),
    }
}

/// Measured before and after ExitBootServices (TCG PC Client Platform Firmware Profile, section 8.2.4).
const LEAVING: &str = "Exit Boot Services Invocation";
const LEFT: &str = "Exit Boot Services Returned with Success";

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &[u8] = include_bytes!("../tests/data/boot.log");

    fn real() -> Vec<Extend> {
        extends_until(REAL, action(LEFT)).unwrap()
    }

    fn separator(pcr: u32) -> Extend {
        let digest = Digest48::of(&[0; 4]);
        Extend { pcr, digest }
    }

    fn register(events: &[Event], rtmr: usize) -> String {
        let of_register = events.iter().filter(|event| event.rtmr == rtmr);
        of_register
            .fold(Digest48::ZERO, |value, e| value.extended_by(&e.digest))
            .to_string()
    }

    // RTMR1: two other tools and the TPM's event log of another boot agree on it for this kernel. RTMR2: hashlib over the
    // UTF-16 command line and the initrd of this boot.
    #[test]
    fn a_real_boot_gives_the_registers_that_others_computed() {
        let events = measured(&real()).unwrap();
        assert_eq!(register(&events, 1), RTMR1);
        assert_eq!(register(&events, 2), RTMR2);
        let of = |rtmr| events.iter().filter(|event| event.rtmr == rtmr).count();
        assert_eq!([of(0), of(1), of(2)], [12, 5, 2]);
        // Variables and their separator come before the tables.
        let sources: Vec<_> = events.iter().map(|event| event.source).collect();
        assert_eq!(
            sources[..7],
            [[Source::Pcr(7); 6].as_slice(), &[Source::Pcr(1)]].concat()
        );
    }

    #[test]
    fn what_comes_after_the_firmware_changes_nothing() {
        let events = measured(&real());
        for pcr in [1, 4, 9, 10, 15] {
            let mut longer = real();
            longer.push(Extend {
                pcr,
                digest: Digest48::of(b"the kernel's, or the guest's"),
            });
            assert_eq!(measured(&longer), events, "PCR {pcr}");
        }
    }

    #[test]
    fn every_measurement_before_counts_in_its_register() {
        let before = real();
        let plain = measured(&before).unwrap();
        let expected = [
            None,
            Some(0),
            Some(1),
            Some(1),
            Some(1),
            Some(1),
            Some(1),
            Some(0),
        ];
        for pcr in 0..24u32 {
            let mut more = before.clone();
            let digest = Digest48::of(b"more");
            more.insert(0, Extend { pcr, digest });
            let events = measured(&more).unwrap();
            let changed: Vec<_> = (0..3)
                .filter(|rtmr| register(&events, *rtmr) != register(&plain, *rtmr))
                .collect();
            let expected = match pcr {
                0..=7 => expected[pcr as usize],
                8..=15 => Some(2),
                _ => None,
            };
            assert_eq!(changed, Vec::from_iter(expected), "PCR {pcr}");
        }
    }

    #[test]
    fn a_boot_is_over_when_the_kernel_has_left_the_firmware() {
        let whole = real();
        let left = whole.iter().rposition(|extend| extend.pcr == 5).unwrap();
        for end in 0..=left {
            assert_eq!(measured(&whole[..end]), Err(BootError::NotOver), "{end}");
        }
        assert_eq!(measured(&whole[..=left]), measured(&whole));
        let mut without_leaving = whole.clone();
        without_leaving.remove(left - 1);
        assert_eq!(measured(&without_leaving), Err(BootError::NotOver));
        let mut swapped = whole;
        swapped.swap(left, left - 1);
        assert_eq!(measured(&swapped), Err(BootError::NotOver));
    }

    #[test]
    fn each_of_the_first_eight_pcrs_has_one_separator() {
        for pcr in 0..8 {
            let mut missing = real();
            missing.retain(|extend| *extend != separator(pcr));
            let expected = Err(BootError::Separators { pcr, got: 0 });
            assert_eq!(measured(&missing), expected);
            let mut twice = real();
            twice.insert(3, separator(pcr));
            let expected = Err(BootError::Separators { pcr, got: 2 });
            assert_eq!(measured(&twice), expected);
        }
    }

    const RTMR1: &str = "77ec4f2c75e1f25365ff6400aa6f599736cc0f6ab85b1379bbb4cd34cad28b716b0805750258d471b132abb2ea76450d";
    const RTMR2: &str = "9077a210641145e4406a72c2479c84fe278df0d328d8daba554a3cf11f061cabdb5210189fdd8bb7022d7b8269249374";
}
