//! Lists that stop at their limit, and what else the derived encoding does not say.

use minicbor::{
    Decode, Decoder, Encoder,
    data::Type,
    decode::{self, Error},
    encode::{self, Write},
};

use super::Bundle;

/// Maps with integer keys in order, shortest integers, definite lengths: RFC 8949, section 4.2.1.
pub(super) fn encode(bundle: &Bundle) -> Vec<u8> {
    minicbor::to_vec(bundle).expect("a Vec takes every write, and no encoder here has other errors")
}

/// The value of key 0, which comes first in every version.
pub(super) fn version(bytes: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::new(bytes);
    decoder.map().ok()??;
    (decoder.u8().ok()? == 0).then(|| decoder.u64().ok())?
}

/// A list of at most `MAX`, of definite length: the limit holds before anything is kept.
pub(super) fn list<'b, const MAX: usize, T, C>(
    decoder: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Vec<T>, decode::Error>
where
    T: Decode<'b, C>,
{
    (0..length(decoder, MAX)?)
        .map(|_| decoder.decode_with(context))
        .collect()
}

fn length(decoder: &mut Decoder<'_>, max: usize) -> Result<u64, decode::Error> {
    match decoder.array()? {
        Some(length) if length <= max as u64 => Ok(length),
        Some(_) => Err(Error::message("a list over its limit")),
        None => Err(Error::type_mismatch(Type::ArrayIndef)),
    }
}

/// OCSP responses.
pub(super) mod byte_strings {
    use super::*;

    pub fn encode<C, W: Write>(
        strings: &[Vec<u8>],
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.array(strings.len() as u64)?;
        for string in strings {
            encoder.bytes(string)?;
        }
        Ok(())
    }

    pub fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Vec<u8>>, decode::Error> {
        (0..length(decoder, gpu::limits::GPU_OCSP_RESPONSES_MAX)?)
            .map(|_| decoder.bytes().map(<[u8]>::to_vec))
            .collect()
    }
}
