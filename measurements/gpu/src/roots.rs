//! The certificates at the top: NVIDIA's two, or two that a person named for a test.

use std::fmt;

use registers::Digest32;

/// The roots that GPU evidence must lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GpuRoots {
    device: Digest32,
    rim: Digest32,
    class: GpuRootClass,
}

/// Whose signature stands behind a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GpuRootClass {
    /// NVIDIA's: real devices.
    Nvidia,
    /// Roots named for a test: nothing behind them is confidential.
    InsecureTest,
}

/// NVIDIA's own root under the name of a test root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is NVIDIA's root, not a test root; leave the option out to trust NVIDIA")]
pub struct IsNvidia;

impl GpuRoots {
    /// `NVIDIA Device Identity CA` and `NVIDIA CoRIM signing Root CA`, whole certificates by SHA-256. A chain brings its root's
    /// bytes with it, so the digest is all there is to keep.
    pub const NVIDIA: GpuRoots = GpuRoots {
        device: Digest32(DEVICE_SHA256),
        rim: Digest32(RIM_SHA256),
        class: GpuRootClass::Nvidia,
    };

    /// Test roots (DER), which replace NVIDIA's and never join them.
    pub fn insecure_test(device_der: &[u8], rim_der: &[u8]) -> Result<GpuRoots, IsNvidia> {
        let (device, rim) = (Digest32::of(device_der), Digest32::of(rim_der));
        let nvidias = [GpuRoots::NVIDIA.device, GpuRoots::NVIDIA.rim];
        // Otherwise a real device would carry the class of a simulated one, and a simulated one stand beside a real one.
        if nvidias.contains(&device) || nvidias.contains(&rim) {
            return Err(IsNvidia);
        }
        Ok(GpuRoots {
            device,
            rim,
            class: GpuRootClass::InsecureTest,
        })
    }

    /// Whose roots these are.
    pub fn class(&self) -> GpuRootClass {
        self.class
    }

    pub(super) fn device(&self) -> &Digest32 {
        &self.device
    }

    #[cfg(feature = "appraisal")]
    pub(super) fn rim(&self) -> &Digest32 {
        &self.rim
    }
}

impl fmt::Display for GpuRootClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GpuRootClass::Nvidia => "nvidia",
            GpuRootClass::InsecureTest => "insecure-test",
        })
    }
}

impl fmt::Debug for GpuRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuRoots({})", self.class)
    }
}

/// The root of every chain of a GPU that was seen; NVIDIA's verifier carries the same certificate.
const DEVICE_SHA256: [u8; 32] = [
    0x10, 0x2b, 0xf6, 0x59, 0xd5, 0x41, 0x96, 0x14, 0xc9, 0xd8, 0xe6, 0xae, 0xce, 0xbc, 0x80, 0x45,
    0x4e, 0xb2, 0x6b, 0x1d, 0xf6, 0xa7, 0x69, 0xac, 0x72, 0x0b, 0x9a, 0x69, 0x0b, 0x16, 0x7b, 0x48,
];
/// The root of every RIM that was seen; NVIDIA's verifier carries the same certificate.
const RIM_SHA256: [u8; 32] = [
    0x12, 0x97, 0x7b, 0x51, 0x15, 0xac, 0xb0, 0x38, 0x11, 0x79, 0x27, 0x9f, 0xff, 0xeb, 0x5a, 0x8c,
    0x4d, 0x26, 0x49, 0x71, 0xeb, 0xb3, 0x22, 0x98, 0x02, 0x3a, 0x46, 0x5f, 0xa4, 0x1d, 0xf5, 0xd1,
];
