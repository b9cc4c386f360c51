//! Writing a TDX quote: what the TDX module reports and what the quoting enclave signs.
//!
//! The layout is the one `measurements` reads; see its `quote` module for the picture and Intel's appendix.

use registers::{Digest48, Registers};
use sha2::{Digest, Sha256};

use crate::{
    Flaws, Platform,
    collateral::{
        FMSPC, OLD_QE_ISV_SVN, QE_ISV_PROD_ID, QE_ISV_SVN, cpu_svn, current_tee_tcb_svn,
        launch_tee_tcb_svn,
    },
    key::Key,
    pki::Pki,
};

/// The quoting enclave of the run: its attestation key, and the platform's signature over it.
pub(crate) struct QuotingEnclave {
    attestation_key: Key,
    report: [u8; 384],
    report_signature: [u8; 64],
    auth_data: [u8; 32],
}

impl QuotingEnclave {
    pub(crate) fn certify(
        platform_key: &Key,
        signer: &[u8; 32],
        flaws: &Flaws,
        random: &mut impl FnMut(&mut [u8]),
    ) -> QuotingEnclave {
        let attestation_key = Key::generate(random);
        let mut auth_data = [0; 32];
        random(&mut auth_data);
        let bound = Sha256::new()
            .chain_update(attestation_key.public_raw())
            .chain_update(auth_data)
            .finalize();
        let signer = if flaws.quoting_enclave_unlisted {
            [0xee; 32]
        } else {
            *signer
        };

        let isv_svn = match flaws.quoting_enclave_out_of_date {
            true => OLD_QE_ISV_SVN,
            false => QE_ISV_SVN,
        };

        // SGX report body, Intel SDM volume 3D, table 38-21.
        let report: [u8; 384] = Layout::new()
            .put(&cpu_svn(flaws.platform))
            .put(&[0; 4 + 28])
            .put(&0x15u64.to_le_bytes())
            .put(&0xe7u64.to_le_bytes())
            .put(&Sha256::digest(QE_NAME))
            .put(&[0; 32])
            .put(&signer)
            .put(&[0; 96])
            .put(&QE_ISV_PROD_ID.to_le_bytes())
            .put(&isv_svn.to_le_bytes())
            .put(&[0; 60])
            .put(&bound)
            .put(&[0; 32])
            .fixed();
        let report_signature = platform_key.sign_raw(&report);
        QuotingEnclave {
            attestation_key,
            report,
            report_signature,
            auth_data,
        }
    }

    /// A signed quote over the guest's registers and its report data.
    pub(crate) fn quote(
        &self,
        registers: &Registers,
        report_data: &[u8; 64],
        pki: &Pki,
        flaws: &Flaws,
    ) -> Vec<u8> {
        let extended =
            flaws.quote_extended || flaws.current_service_td.is_some() || flaws.vm_id != 0;
        let version_5 = extended
            || flaws.quote_version_5
            || flaws.mr_service_td.is_some()
            || flaws.platform == Platform::TdRelaunchAdvised;
        let mut quote = Layout::new();
        quote = quote
            .put(&if version_5 { 5u16 } else { 4 }.to_le_bytes())
            .put(&2u16.to_le_bytes())
            .put(&0x81u32.to_le_bytes())
            .put(&[0; 4])
            .put(&INTEL_QE_VENDOR_ID)
            .put(USER_DATA);
        if version_5 {
            let (body_type, body_len) = match extended {
                true => (4u16, 885u32),
                false => (3, 648),
            };
            quote = quote
                .put(&body_type.to_le_bytes())
                .put(&body_len.to_le_bytes());
        }
        quote = td_report(quote, registers, report_data, flaws);
        if version_5 {
            quote = quote
                .put(&current_tee_tcb_svn(flaws.platform))
                .put(&flaws.mr_service_td.unwrap_or(Digest48::ZERO).0);
        }
        if extended {
            quote = extension(quote, flaws);
        }
        let signature = self.attestation_key.sign_raw(&quote.0);
        let certification = Layout::new()
            .put(&self.report)
            .put(&self.report_signature)
            .put(&32u16.to_le_bytes())
            .put(&self.auth_data)
            .put(&5u16.to_le_bytes())
            .put_with_length(pki.platform_chain.as_bytes());
        let signature_data = Layout::new()
            .put(&signature)
            .put(self.attestation_key.public_raw())
            .put(&6u16.to_le_bytes())
            .put_with_length(&certification.0);
        quote.put_with_length(&signature_data.0).0
    }
}

fn td_report(
    quote: Layout,
    registers: &Registers,
    report_data: &[u8; 64],
    flaws: &Flaws,
) -> Layout {
    let zero = Digest48::ZERO;
    let attributes = (SEPT_VE_DISABLE | flaws.td_attributes_set) & !flaws.td_attributes_clear;
    let seam_signer = flaws
        .seam_signer_unlisted
        .or(flaws.seam_signer)
        .unwrap_or(zero);
    let quote = quote
        .put(&launch_tee_tcb_svn(flaws.platform))
        .put(&Digest48::of(MODULE_NAME).0)
        .put(&seam_signer.0)
        .put(&flaws.seam_attributes.to_le_bytes())
        .put(&attributes.to_le_bytes())
        .put(&flaws.xfam.unwrap_or(XFAM).to_le_bytes())
        .put(&registers.mrtd.0)
        .put(&flaws.mr_config_id.unwrap_or(zero).0)
        .put(&flaws.mr_owner.unwrap_or(zero).0)
        .put(&flaws.mr_owner_config.unwrap_or(zero).0);
    registers
        .rtmr
        .iter()
        .fold(quote, |quote, register| quote.put(&register.0))
        .put(report_data)
}

/// What the extended report adds; `sgx_quote_5.h`, `sgx_report2_body_v1_5_ex_t`.
fn extension(quote: Layout, flaws: &Flaws) -> Layout {
    quote
        .put(&[flaws.vm_id])
        .put(&Sha256::digest(INSTANCE_NAME))
        .put(&[0; 48])
        .put(&flaws.mr_service_td.unwrap_or(Digest48::ZERO).0)
        .put(&[0; 8])
        .put(&cpu_svn(flaws.platform))
        .put(&launch_tee_tcb_svn(flaws.platform))
        .put(&FMSPC)
        .put(&[0; 6])
        .put(&flaws.current_service_td.unwrap_or(Digest48::ZERO).0)
        .put(&[0; 8])
}

/// Bytes put one after the other.
struct Layout(Vec<u8>);

impl Layout {
    fn new() -> Layout {
        Layout(Vec::new())
    }

    fn put(mut self, bytes: &[u8]) -> Layout {
        self.0.extend_from_slice(bytes);
        self
    }

    fn put_with_length(self, bytes: &[u8]) -> Layout {
        let len = u32::try_from(bytes.len()).expect("a quote is a few KiB");
        self.put(&len.to_le_bytes()).put(bytes)
    }

    fn fixed<const N: usize>(self) -> [u8; N] {
        self.0
            .try_into()
            .expect("the fields above add up to the structure's size")
    }
}

const SEPT_VE_DISABLE: u64 = 1 << 28;
/// x87, SSE, AVX, AVX-512, PKRU, AMX: as on the real machines in the test vectors.
const XFAM: u64 = 0x6_02e7;
/// The one quoting enclave vendor that verifiers know; the root above says that this is not Intel's.
const INTEL_QE_VENDOR_ID: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];
const USER_DATA: &[u8; 20] = b"chrysalis simulated\0";
const QE_NAME: &[u8] = b"Chrysalis simulated TD quoting enclave (not Intel)";
const INSTANCE_NAME: &[u8] = b"Chrysalis simulated start of a guest (not Intel)";
const MODULE_NAME: &[u8] = b"Chrysalis simulated TDX module (not Intel)";
