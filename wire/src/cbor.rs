//! Deterministic CBOR (RFC 8949 §4.2): integer keys in order, shortest integers, definite lengths.
//!
//! The encoder is `minicbor`'s derive, which writes exactly that for maps with integer keys. The decoder accepts what
//! the encoder would have written and nothing else: it encodes the decoded value again and compares, so one value has
//! one encoding and a signature over bytes is a signature over a value.

use minicbor::{Decode, Encode};
use settlement::{Address, ChainId, ChannelTerms, Nano};

/// Bytes from a peer that are not what they should be. The peer, or the proxy between, is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum Malformed {
    #[error("{what}: {got} bytes; at most {max} are accepted")]
    TooLong {
        what: &'static str,
        got: usize,
        max: usize,
    },
    #[error("{what}: not a well-formed encoding")]
    NotDecodable { what: &'static str },
    #[error("{what}: not the canonical encoding of its value")]
    NotCanonical { what: &'static str },
    #[error("{what}: version {got}; this program speaks version 1")]
    Version { what: &'static str, got: u64 },
    #[error("{what}: {field} is out of range")]
    Field {
        what: &'static str,
        field: &'static str,
    },
}

/// Refuses every version but 1, then the first field that is not within its range.
pub(crate) fn check(
    what: &'static str,
    version: u64,
    fields: &[(&'static str, bool)],
) -> Result<(), Malformed> {
    if version != 1 {
        return Err(Malformed::Version { what, got: version });
    }
    match fields.iter().find(|(_, within)| !within) {
        Some((field, _)) => Err(Malformed::Field { what, field }),
        None => Ok(()),
    }
}

/// Encodes `value`. Writing to memory cannot fail.
pub(crate) fn to_vec<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("a Vec takes every write, and our encoders have no other error")
}

/// Decodes at most `max` bytes, all of them, and only the canonical encoding.
pub(crate) fn from_slice<'b, T>(
    what: &'static str,
    bytes: &'b [u8],
    max: usize,
) -> Result<T, Malformed>
where
    T: Encode<()> + Decode<'b, ()>,
{
    if bytes.len() > max {
        return Err(Malformed::TooLong {
            what,
            got: bytes.len(),
            max,
        });
    }
    let value: T = minicbor::decode(bytes).map_err(|_| Malformed::NotDecodable { what })?;
    if to_vec(&value) != bytes {
        return Err(Malformed::NotCanonical { what });
    }
    Ok(value)
}

/// Money travels as an unsigned integer of nanoTON.
pub(crate) mod nano {
    use super::*;
    pub fn encode<C, W: minicbor::encode::Write>(
        v: &Nano,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u64(v.0)?.ok()
    }
    pub fn decode<C>(
        d: &mut minicbor::Decoder<'_>,
        _: &mut C,
    ) -> Result<Nano, minicbor::decode::Error> {
        d.u64().map(Nano)
    }
}

/// A chain id travels as a signed integer.
pub(crate) mod chain {
    use super::*;
    pub fn encode<C, W: minicbor::encode::Write>(
        v: &ChainId,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.i32(v.0)?.ok()
    }
    pub fn decode<C>(
        d: &mut minicbor::Decoder<'_>,
        _: &mut C,
    ) -> Result<ChainId, minicbor::decode::Error> {
        d.i32().map(ChainId)
    }
}

/// A channel's terms travel as `ChannelTerms::encode` writes them.
pub(crate) mod terms {
    use super::*;
    pub fn encode<C, W: minicbor::encode::Write>(
        v: &ChannelTerms,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&v.encode())?.ok()
    }
    pub fn decode<C>(
        d: &mut minicbor::Decoder<'_>,
        _: &mut C,
    ) -> Result<ChannelTerms, minicbor::decode::Error> {
        let at = d.position();
        ChannelTerms::decode(d.bytes()?)
            .map_err(|_| minicbor::decode::Error::message("channel terms").at(at))
    }
}

/// An address travels as 33 bytes: workchain, then account id.
pub(crate) mod address {
    use super::*;
    pub fn encode<C, W: minicbor::encode::Write>(
        v: &Address,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let mut raw = [0; 33];
        raw[0] = v.workchain.to_be_bytes()[0];
        raw[1..].copy_from_slice(&v.hash);
        e.bytes(&raw)?.ok()
    }
    pub fn decode<C>(
        d: &mut minicbor::Decoder<'_>,
        _: &mut C,
    ) -> Result<Address, minicbor::decode::Error> {
        let at = d.position();
        match d.bytes()?.split_first() {
            Some((wc, rest)) => {
                let hash = rest
                    .try_into()
                    .map_err(|_| minicbor::decode::Error::message("address length").at(at))?;
                Ok(Address {
                    workchain: i8::from_be_bytes([*wc]),
                    hash,
                })
            }
            None => Err(minicbor::decode::Error::message("address length").at(at)),
        }
    }
}
