use predict::{FirmwareBuild, Platform};

/// A direct boot of a firmware of the older generation.
pub fn platform(firmware: &[u8], memory_mib: u64) -> Platform<'_> {
    Platform::new(firmware, FirmwareBuild::UP_TO_STABLE202502, memory_mib)
}
