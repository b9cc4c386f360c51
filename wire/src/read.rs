//! What only a payer may read at a proxy: the state of its channel, and answers that were kept for it. The request is signed, since
//! debts and vouchers are nobody else's business.
//!
//! A signature is good for some minutes and for one thing. Whoever listens can repeat it in that time, and has seen the answer anyway.

use crate::limits::{READ_AGE_MAX_S, READ_TEXT_BYTES};
use crate::{EnvelopeDigest, sha256};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use settlement::{Address, ChainId};

const DOMAIN: &str = "chrysalis/payer-read/v1";
const SCHEME: &str = "Chrysalis-Payer ";

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayerRead {
    /// The network.
    pub chain: ChainId,
    /// Whose payer asks.
    pub channel: Address,
    /// The envelope whose receipt is asked for; `None` for the channel itself.
    pub receipt: Option<EnvelopeDigest>,
}

/// Why a text is not the payer's leave to read. The sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ReadRefused {
    #[error(
        "the header `authorization` must be `Chrysalis-Payer`, 16 hex digits of Unix time and 128 of signature"
    )]
    Malformed,
    #[error(
        "the request was signed {off_s} s from now; at most {READ_AGE_MAX_S} are accepted: check the clock"
    )]
    Time { off_s: u64 },
    #[error("the request is not signed by the channel's payer key")]
    Signature,
}

impl PayerRead {
    /// The value of the header `authorization` for a request that is sent now.
    pub fn sign(&self, unix_s: u64, payer: &SigningKey) -> String {
        let signature = payer.sign(&self.message(unix_s)).to_bytes();
        format!("{SCHEME}{unix_s:016x}{}", hex::encode(signature))
    }

    /// Checks that the payer asked for this, not long ago.
    pub fn check(
        &self,
        authorization: &str,
        payer_key: &[u8; 32],
        now_unix_s: u64,
    ) -> Result<(), ReadRefused> {
        let text = authorization
            .strip_prefix(SCHEME)
            .ok_or(ReadRefused::Malformed)?;
        let mut bytes = [0; READ_TEXT_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ReadRefused::Malformed)?;
        let (unix_s, signature) = bytes
            .split_first_chunk::<8>()
            .ok_or(ReadRefused::Malformed)?;
        let unix_s = u64::from_be_bytes(*unix_s);
        let off_s = now_unix_s.abs_diff(unix_s);
        if off_s > READ_AGE_MAX_S {
            return Err(ReadRefused::Time { off_s });
        }
        let signature = Signature::from_slice(signature).map_err(|_| ReadRefused::Malformed)?;
        VerifyingKey::from_bytes(payer_key)
            .and_then(|key| key.verify_strict(&self.message(unix_s), &signature))
            .map_err(|_| ReadRefused::Signature)
    }

    fn message(&self, unix_s: u64) -> [u8; 32] {
        let parts = [
            &self.chain.0.to_be_bytes()[..],
            &[self.channel.workchain.cast_unsigned()],
            &self.channel.hash,
            self.receipt
                .as_ref()
                .map_or(&[], |envelope| &envelope.0[..]),
            &unix_s.to_be_bytes(),
        ];
        sha256(DOMAIN, &parts).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const READ: PayerRead = PayerRead {
        chain: ChainId::EMBEDDED,
        channel: Address {
            workchain: 0,
            hash: [7; 32],
        },
        receipt: Some(EnvelopeDigest([9; 32])),
    };

    fn payer() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    #[test]
    fn a_signature_is_for_one_thing_one_payer_and_some_minutes() {
        let text = READ.sign(NOW, &payer());
        let key = payer().verifying_key().to_bytes();
        // The message is what other implementations have to hash.
        let known = "Chrysalis-Payer 000000006b49d200";
        assert!(text.starts_with(known), "{text}");
        for now in [NOW - READ_AGE_MAX_S, NOW, NOW + READ_AGE_MAX_S] {
            assert_eq!(READ.check(&text, &key, now), Ok(()));
        }
        for now in [
            0,
            NOW - READ_AGE_MAX_S - 1,
            NOW + READ_AGE_MAX_S + 1,
            u64::MAX,
        ] {
            let off_s = NOW.abs_diff(now);
            assert_eq!(
                READ.check(&text, &key, now),
                Err(ReadRefused::Time { off_s })
            );
        }
        let other = SigningKey::from_bytes(&[4; 32]).verifying_key().to_bytes();
        let refused = Err(ReadRefused::Signature);
        assert_eq!(READ.check(&text, &other, NOW), refused);
        let channel = Address {
            workchain: -1,
            ..READ.channel
        };
        let (chain, receipt) = (ChainId::MAINNET, Some(EnvelopeDigest([8; 32])));
        for read in [
            PayerRead { chain, ..READ },
            PayerRead { channel, ..READ },
            PayerRead { receipt, ..READ },
            PayerRead {
                receipt: None,
                ..READ
            },
        ] {
            assert_eq!(read.check(&text, &key, NOW), refused, "{read:?}");
        }
    }

    #[test]
    fn every_changed_character_and_every_other_length_is_refused() {
        let text = READ.sign(NOW, &payer());
        let key = payer().verifying_key().to_bytes();
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= 1;
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(READ.check(&changed, &key, NOW).is_err(), "{changed}");
            assert!(READ.check(&text[..index], &key, NOW).is_err(), "{index}");
        }
        for text in [
            "",
            SCHEME,
            &format!("{text}0"),
            &format!("{text}00"),
            &text.repeat(2),
        ] {
            assert_eq!(READ.check(text, &key, NOW), Err(ReadRefused::Malformed));
        }
    }
}
