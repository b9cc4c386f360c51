//! The 64 bytes a guest puts into its quote, and what they bind.

use sha2::{Digest, Sha512};

use crate::digest_type;

/// The GPU evidence a guest stands behind, or the explicit statement that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBinding {
    /// The guest has no confidential GPU.
    None,
    /// A digest of the GPU evidence that was made for the subject.
    Evidence([u8; 32]),
}

digest_type!(
    /// The 64 bytes that a TDX module copies from the guest into the quote. Written as 128 lower-case hex digits.
    ReportData,
    64
);

impl ReportData {
    /// Binds a subject (the digest of a keyset), the verifier's nonce and the GPU.
    ///
    /// SHA-512 over a domain string and fields of fixed width, so that no two inputs share an encoding and no
    /// other protocol's hash can stand in for ours. "No GPU" is a tag of its own, not an absent field: evidence
    /// that happens to be zero is something else.
    pub fn bind(subject: &[u8; 32], nonce: &[u8; 32], gpu: GpuBinding) -> ReportData {
        let (tag, evidence) = match gpu {
            GpuBinding::None => (0u8, [0; 32]),
            GpuBinding::Evidence(digest) => (1u8, digest),
        };
        let hash = Sha512::new()
            .chain_update(DOMAIN)
            .chain_update(subject)
            .chain_update(nonce)
            .chain_update([tag])
            .chain_update(evidence)
            .finalize();
        ReportData(hash.into())
    }
}

const DOMAIN: &[u8] = b"chrysalis/td/v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> [u8; 32] {
        std::array::from_fn(|i| 32 + i as u8)
    }

    fn nonce() -> [u8; 32] {
        std::array::from_fn(|i| i as u8)
    }

    // Expected values: python3, hashlib.sha512 over the concatenation.
    #[test]
    fn bind_matches_another_implementation() {
        assert_eq!(
            ReportData::bind(&subject(), &nonce(), GpuBinding::None).to_string(),
            NO_GPU
        );
        let gpu = GpuBinding::Evidence([7; 32]);
        assert_eq!(
            ReportData::bind(&subject(), &nonce(), gpu).to_string(),
            WITH_GPU
        );
    }

    #[test]
    fn every_field_changes_the_result() {
        let base = ReportData::bind(&subject(), &nonce(), GpuBinding::None);
        let mut other = subject();
        other[31] ^= 1;
        assert_ne!(ReportData::bind(&other, &nonce(), GpuBinding::None), base);
        let mut other = nonce();
        other[0] ^= 1;
        assert_ne!(ReportData::bind(&subject(), &other, GpuBinding::None), base);
        assert_ne!(
            ReportData::bind(&nonce(), &subject(), GpuBinding::None),
            base
        );
    }

    #[test]
    fn no_gpu_is_not_evidence_of_zeros() {
        let none = ReportData::bind(&subject(), &nonce(), GpuBinding::None);
        assert_ne!(
            ReportData::bind(&subject(), &nonce(), GpuBinding::Evidence([0; 32])),
            none
        );
    }

    const NO_GPU: &str = "bdf39e0f152f9622440a8e3ef5f554f43580277aa3a0954f20e8b3abeab1ec34b0f4c363202d2f32f0213bfdca8f1d60fd3668bbd58d09f007154810e7678956";
    const WITH_GPU: &str = "818c1a74d2f163f0d0ef3c28d1d4b25103adb49fb2bb0da993cbd0fcf17597b2b90057fc6d1f52bd8384e9d645a5e613f9749eac536ecf4954edb63f4d9f2187";
}
