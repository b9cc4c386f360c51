//! The extension of a PCK certificate that names its platform.
//!
//! Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5: a sequence of (identifier, value) pairs.

/// What the extension says.
pub(crate) struct SgxExtension {
    /// Identity of the platform.
    pub ppid: [u8; 16],
    /// Security versions of CPU, microcode and firmware.
    pub cpu_svn: [u8; 16],
    /// Security version of the provisioning enclave.
    pub pce_svn: u16,
    /// Family of the platform.
    pub fmspc: [u8; 6],
}

/// 1.2.840.113741.1.13.1.
pub(crate) const SGX_EXTENSION_OID: [u64; 7] = [1, 2, 840, 113741, 1, 13, 1];

impl SgxExtension {
    pub(crate) fn der(&self) -> Vec<u8> {
        let components = self
            .cpu_svn
            .iter()
            .zip(1u8..)
            .map(|(svn, n)| pair(&[2, n], &integer((*svn).into())));
        let tcb: Vec<u8> = components
            .chain([
                pair(&[2, 17], &integer(self.pce_svn)),
                pair(&[2, 18], &tlv(OCTETS, &self.cpu_svn)),
            ])
            .flatten()
            .collect();
        let fields = [
            pair(&[1], &tlv(OCTETS, &self.ppid)),
            pair(&[2], &tlv(SEQUENCE, &tcb)),
            pair(&[3], &tlv(OCTETS, &[0, 0])),
            pair(&[4], &tlv(OCTETS, &self.fmspc)),
            pair(&[5], &tlv(ENUMERATED, &[0])),
        ];
        tlv(SEQUENCE, &fields.concat())
    }
}

fn pair(suffix: &[u8], value: &[u8]) -> Vec<u8> {
    let oid = tlv(OID, &[&SGX_OID_BYTES, suffix].concat());
    tlv(SEQUENCE, &[&oid, value].concat())
}

fn integer(value: u16) -> Vec<u8> {
    let [high, low] = value.to_be_bytes();
    // A leading zero keeps a number with its top bit set positive.
    match (high, low) {
        (0, 0..=0x7f) => tlv(INTEGER, &[low]),
        (0..=0x7f, _) => tlv(INTEGER, &[high, low]),
        _ => tlv(INTEGER, &[0, high, low]),
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("the extension is a few hundred bytes");
    let [high, low] = len.to_be_bytes();
    let header = match len {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&header[..], content].concat()
}

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const OID: u8 = 0x06;
/// 1.2.840.113741.1.13.1 in DER.
const SGX_OID_BYTES: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
