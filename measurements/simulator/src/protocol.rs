//! The protocol on the socket.
//!
//! Request: `op u8 | length u16 | payload`. Answer: `status u8 | length u32 | payload`, status 0 and the result, or 1 and
//! an error message. Numbers are big endian. Requests are answered in order.

use registers::Digest48;

use crate::{SimulatedModule, limits::REQUEST_BYTES_MAX};

/// What a guest may ask of a TDX module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Op 1, payload `index u8 | digest 48`, answered with nothing.
    Extend {
        /// 2 or 3.
        index: u8,
        /// What extends it.
        digest: Digest48,
    },
    /// Op 2, empty payload, answered with MRTD and RTMR0-3, 48 bytes each.
    Registers,
    /// Op 3, payload report data, answered with a quote.
    Quote {
        /// What the quote binds.
        report_data: [u8; 64],
    },
    /// Op 4, empty payload, answered with nothing: the registers of a process are zero again, as those of a machine that starts anew. A
    /// host asks it.
    Reset,
}

/// Why a request is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum RequestError {
    #[error("the request has {got} bytes of payload, more than the {REQUEST_BYTES_MAX} allowed")]
    TooLong { got: usize },
    #[error("unknown op {0}; 1 to 4 are known")]
    Op(u8),
    #[error("op {op} does not take a payload of {got} bytes")]
    Length { op: u8, got: usize },
}

/// Reads the three bytes before a payload; the length is checked before the payload is allocated.
pub fn decode_header(header: [u8; 3]) -> Result<(u8, usize), RequestError> {
    let [op, high, low] = header;
    let got = usize::from(u16::from_be_bytes([high, low]));
    if got > REQUEST_BYTES_MAX {
        Err(RequestError::TooLong { got })
    } else {
        Ok((op, got))
    }
}

/// Reads a payload.
pub fn decode(op: u8, payload: &[u8]) -> Result<Request, RequestError> {
    let length = RequestError::Length {
        op,
        got: payload.len(),
    };
    match op {
        1 => {
            let (index, digest) = payload.split_first().ok_or(length)?;
            let digest = Digest48(digest.try_into().map_err(|_| length)?);
            Ok(Request::Extend {
                index: *index,
                digest,
            })
        }
        2 if payload.is_empty() => Ok(Request::Registers),
        4 if payload.is_empty() => Ok(Request::Reset),
        3 => Ok(Request::Quote {
            report_data: payload.try_into().map_err(|_| length)?,
        }),
        2 | 4 => Err(length),
        other => Err(RequestError::Op(other)),
    }
}

/// Writes a request, header and all.
pub fn encode(request: &Request) -> Vec<u8> {
    let (op, payload) = match request {
        Request::Extend { index, digest } => (1, [&[*index], &digest.0[..]].concat()),
        Request::Registers => (2, Vec::new()),
        Request::Quote { report_data } => (3, report_data.to_vec()),
        Request::Reset => (4, Vec::new()),
    };
    let len = u16::try_from(payload.len()).expect("a request has at most 64 bytes");
    [&[op], &len.to_be_bytes()[..], &payload].concat()
}

/// Does what a request asks and writes the answer, header and all.
pub fn answer(module: &mut SimulatedModule, request: Result<Request, RequestError>) -> Vec<u8> {
    let done = match request {
        Err(error) => Err(error.to_string()),
        Ok(Request::Extend { index, digest }) => module
            .extend(index, &digest)
            .map(|()| Vec::new())
            .map_err(|error| error.to_string()),
        Ok(Request::Registers) => {
            let registers = module.registers();
            let rtmrs = registers.rtmr.iter().flat_map(|register| register.0);
            Ok(registers.mrtd.0.into_iter().chain(rtmrs).collect())
        }
        Ok(Request::Quote { report_data }) => Ok(module.quote(&report_data)),
        Ok(Request::Reset) => module
            .reset()
            .map(|()| Vec::new())
            .map_err(|error| error.to_string()),
    };
    written(done)
}

/// Writes an answer that is a sentence, header and all.
pub fn refusal(sentence: String) -> Vec<u8> {
    written(Err(sentence))
}

fn written(done: Result<Vec<u8>, String>) -> Vec<u8> {
    let (status, payload) = match done {
        Ok(payload) => (0, payload),
        Err(sentence) => (1, sentence.into_bytes()),
    };
    let len = u32::try_from(payload.len()).expect("an answer is a few KiB");
    [&[status], &len.to_be_bytes()[..], &payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> [Request; 4] {
        let digest = Digest48::of(b"x");
        [
            Request::Extend { index: 3, digest },
            Request::Registers,
            Request::Quote {
                report_data: [7; 64],
            },
            Request::Reset,
        ]
    }

    fn read(bytes: &[u8]) -> Result<Request, RequestError> {
        let (header, payload) = bytes.split_first_chunk::<3>().expect("whole header");
        let (op, len) = decode_header(*header)?;
        decode(op, payload.get(..len).unwrap_or(payload))
    }

    #[test]
    fn requests_survive_the_round_trip() {
        for request in samples() {
            assert_eq!(read(&encode(&request)), Ok(request));
        }
    }

    #[test]
    fn cut_or_flipped_requests_are_refused_or_valid_and_never_panic() {
        for request in samples() {
            let bytes = encode(&request);
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x80;
                assert_ne!(read(&flipped), Ok(request.clone()));
                if at >= 3 {
                    assert!(read(&bytes[..at]).is_err());
                }
            }
        }
    }

    #[test]
    fn a_long_payload_is_refused_by_its_header() {
        assert_eq!(
            decode_header([3, 0, 65]),
            Err(RequestError::TooLong { got: 65 })
        );
        assert_eq!(
            decode_header([3, 0xff, 0xff]),
            Err(RequestError::TooLong { got: 65_535 })
        );
        assert_eq!(decode(5, &[]), Err(RequestError::Op(5)));
    }
}
