//! Linux: quotes through configfs-tsm (Documentation/ABI/testing/configfs-tsm-report), registers through the measurement
//! attributes of `tdx_guest` (Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest, kernel 6.16 and later).
//!
//! Not yet run on TDX hardware: the tests hold it against the documented file layout in a directory of their own.

use super::{Platform, PlatformError};
use registers::{Digest48, Registers, ReportData};
use std::io::Read;
use std::path::{Path, PathBuf};

const QUOTE_BYTES_MAX: u64 = wire::limits::QUOTE_BYTES_MAX as u64;

/// The kernel's interfaces, under roots that a test may move.
#[derive(Debug, Clone)]
pub struct Tsm {
    reports: PathBuf,
    registers: PathBuf,
}

impl Default for Tsm {
    fn default() -> Self {
        Tsm {
            reports: "/sys/kernel/config/tsm/report".into(),
            registers: "/sys/devices/virtual/misc/tdx_guest/measurements".into(),
        }
    }
}

impl Tsm {
    /// The same interfaces elsewhere, for tests.
    pub fn at(reports: &Path, registers: &Path) -> Self {
        Tsm {
            reports: reports.into(),
            registers: registers.into(),
        }
    }

    fn register(&self, name: &str) -> Result<Digest48, PlatformError> {
        let doing = "reading a measurement register";
        let bytes = std::fs::read(self.registers.join(name))
            .map_err(|source| PlatformError::Io { doing, source })?;
        let digest = <[u8; 48]>::try_from(&bytes[..]).map_err(|_| PlatformError::Answer {
            doing,
            got: bytes.len(),
        })?;
        Ok(Digest48(digest))
    }
}

impl Platform for Tsm {
    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError> {
        let doing = "extending RTMR3";
        std::fs::write(self.registers.join("rtmr3:sha384"), digest.0)
            .map_err(|source| PlatformError::Io { doing, source })
    }

    fn registers(&mut self) -> Result<Registers, PlatformError> {
        Ok(Registers {
            mrtd: self.register("mrtd:sha384")?,
            rtmr: [
                self.register("rtmr0:sha384")?,
                self.register("rtmr1:sha384")?,
                self.register("rtmr2:sha384")?,
                self.register("rtmr3:sha384")?,
            ],
        })
    }

    fn quote(&mut self, report_data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        let doing = "asking configfs-tsm for a quote";
        let io = |source| PlatformError::Io { doing, source };
        let entry = self.reports.join("chrysalis");
        // A crash may have left the entry; making it anew also resets its generation.
        let _ = std::fs::remove_dir(&entry);
        std::fs::create_dir(&entry).map_err(io)?;
        let quote = std::fs::write(entry.join("inblob"), report_data.0).and_then(|()| {
            let mut quote = Vec::new();
            std::fs::File::open(entry.join("outblob"))?
                .take(QUOTE_BYTES_MAX + 1)
                .read_to_end(&mut quote)?;
            Ok(quote)
        });
        let _ = std::fs::remove_dir(&entry);
        let quote = quote.map_err(io)?;
        if quote.is_empty() || quote.len() as u64 > QUOTE_BYTES_MAX {
            return Err(PlatformError::Answer {
                doing,
                got: quote.len(),
            });
        }
        Ok(quote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_from_the_documented_attributes() {
        let dir = tempfile::tempdir().unwrap();
        for (index, name) in ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"]
            .iter()
            .enumerate()
        {
            std::fs::write(dir.path().join(format!("{name}:sha384")), [index as u8; 48]).unwrap();
        }
        let mut tsm = Tsm::at(dir.path(), dir.path());
        let registers = tsm.registers().unwrap();
        assert_eq!((registers.mrtd.0, registers.rtmr[3].0), ([0; 48], [4; 48]));
        tsm.extend(&Digest48([9; 48])).unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("rtmr3:sha384")).unwrap(),
            [9; 48]
        );
        std::fs::write(dir.path().join("rtmr3:sha384"), [9; 47]).unwrap();
        assert!(matches!(
            tsm.registers(),
            Err(PlatformError::Answer { got: 47, .. })
        ));
    }

    #[test]
    fn a_machine_without_tdx_is_a_typed_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut tsm = Tsm::at(&dir.path().join("absent"), dir.path());
        assert!(matches!(
            tsm.quote(&ReportData([0; 64])),
            Err(PlatformError::Io { .. })
        ));
    }
}
