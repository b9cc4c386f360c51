use predict::{Firmware, FirmwareBuild, Platform};

/// A direct boot of a firmware of stable202502.
pub fn platform(firmware: &[u8], memory_mib: u64) -> Platform<'_> {
    Platform::new(
        Firmware::new(firmware, FirmwareBuild::STABLE202502).expect("it measures"),
        memory_mib,
    )
}
