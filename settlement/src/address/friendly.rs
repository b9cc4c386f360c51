//! The 48-character form of addresses that people see (feature `wallet`).

use super::{Address, AddressError};
use base64::{Engine, engine::general_purpose};

const BOUNCEABLE: u8 = 0x11;
const NON_BOUNCEABLE: u8 = 0x51;
const TEST_ONLY: u8 = 0x80;

impl Address {
    /// The 48-character form that wallets and toncenter show. The flags in it are advice to wallets; here they are dropped.
    pub fn from_friendly(text: &str) -> Result<Address, AddressError> {
        if text.len() != 48 {
            return Err(AddressError::Form);
        }
        let url_safe = text.replace('+', "-").replace('/', "_");
        let bytes = general_purpose::URL_SAFE_NO_PAD
            .decode(url_safe)
            .map_err(|_| AddressError::Form)?;
        let Ok([tag, workchain, rest @ ..]) = <[u8; 36]>::try_from(bytes.as_slice()) else {
            return Err(AddressError::Form);
        };
        if !matches!(tag & !TEST_ONLY, BOUNCEABLE | NON_BOUNCEABLE) {
            return Err(AddressError::Form);
        }
        if crc16(&bytes[..34]).to_be_bytes() != [rest[32], rest[33]] {
            return Err(AddressError::Checksum);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(&rest[..32]);
        Address::checked(workchain as i8, hash)
    }

    /// The bounceable 48-character form, without the test-only flag.
    pub fn friendly(&self) -> String {
        self.written(BOUNCEABLE)
    }

    /// The non-bounceable form: what is sent to an account that does not exist yet stays there.
    pub fn friendly_unbounceable(&self) -> String {
        self.written(NON_BOUNCEABLE)
    }

    fn written(&self, tag: u8) -> String {
        let mut bytes = vec![tag, self.workchain as u8];
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&crc16(&bytes).to_be_bytes());
        general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Either form, as toncenter takes and gives both.
    pub fn from_any(text: &str) -> Result<Address, AddressError> {
        if text.contains(':') {
            text.parse()
        } else {
            Address::from_friendly(text)
        }
    }
}

// CRC-16/XMODEM, as TON's user-friendly addresses use it (TEP-2).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |c, _| {
            if c & 0x8000 != 0 {
                (c << 1) ^ 0x1021
            } else {
                c << 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // What @ton/core 0.63.1 makes of it.
    const RAW: &str = "-1:fcb91a3a3816d0f7b8c2c76108b8a9bc5a6b7a55bd79f8ab101c52db29232260";
    const FRIENDLY: &str = "Ef_8uRo6OBbQ97jCx2EIuKm8Wmt6Vb15-KsQHFLbKSMiYDJ4";

    #[test]
    fn both_forms_name_the_same_account() {
        let address: Address = RAW.parse().expect("raw");
        assert_eq!(address.to_string(), RAW);
        assert_eq!(address.friendly(), FRIENDLY);
        assert_eq!(Address::from_friendly(FRIENDLY), Ok(address));
        let unbounceable = address.friendly_unbounceable();
        assert!(unbounceable.starts_with('U'), "{unbounceable}");
        assert_eq!(Address::from_friendly(&unbounceable), Ok(address));
        assert_eq!(Address::from_any(FRIENDLY), Address::from_any(RAW));
    }

    #[test]
    fn nearby_texts_are_refused() {
        let cases = [
            (RAW.replace("-1:", "1:"), AddressError::Workchain),
            (RAW.replace("-1:", "x:"), AddressError::Form),
            (RAW[..RAW.len() - 1].to_owned(), AddressError::Form),
            (format!("{RAW}00"), AddressError::Form),
            (FRIENDLY.replace("DJ4", "DJ5"), AddressError::Checksum),
            (FRIENDLY.replace("Ef_", "Xf_"), AddressError::Form),
            (String::new(), AddressError::Form),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::from_any(&text), Err(expected), "{text}");
        }
    }
}
