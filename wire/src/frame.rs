//! Frames on the stream between proxy and guest (trust boundary B1): one byte of kind, four of length (big endian),
//! the payload. One stream carries one exchange: the proxy opens, sends data, ends; the guest answers and ends.
//!
//! ```text
//!  proxy:  Voucher? OpenJob Data* End      guest:  Data* Receipt Charge End, or Refused End, or Data* End (the engine failed)
//!          OpenAttest End                          Data* End
//!          OpenCancel End                          End
//!          OpenReceipt End                         Receipt Charge End, or End
//!          OpenStatus End                          Data* End
//! ```
//!
//! The decoder is sans-IO: push what was read, take whole frames. It never holds more than one frame and its header
//! beyond what the caller pushed, and it refuses a length before it asks for the memory.

use crate::limits::FRAME_BYTES_MAX;

const HEADER_BYTES: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Proxy to guest: 32 bytes of nonce; the answer is evidence.
    OpenAttest = 1,
    /// Proxy to guest: a signed envelope; sealed data follows.
    OpenJob = 2,
    /// Either way: the next bytes of the body.
    Data = 3,
    /// Either way: the body is complete.
    End = 4,
    /// Guest to proxy: a signed charge, in the clear.
    Charge = 5,
    /// Guest to proxy: a signed refusal; nothing was executed.
    Refused = 6,
    /// Guest to proxy, before the charge: the job's sealed receipt, for the client and for whoever keeps it until the client asks.
    Receipt = 7,
    /// Proxy to guest: a [`crate::Cancel`]; the answer is an end, whatever became of it.
    OpenCancel = 8,
    /// Proxy to guest: an envelope's digest; the answer is its sealed receipt and charge, if the guest has them.
    OpenReceipt = 9,
    /// Proxy to guest, before [`FrameKind::OpenJob`]: the highest voucher that the payee holds of the channel, empty if it holds none.
    Voucher = 10,
    /// Proxy to guest: empty; the answer is a [`crate::Status`] in `Data`.
    OpenStatus = 11,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// At most [`FRAME_BYTES_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// Bytes that are not frames. The other end of the stream is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum FrameError {
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    #[error("a frame of {0} bytes; at most {FRAME_BYTES_MAX} are accepted")]
    TooLong(u32),
    #[error("the stream ended within a frame")]
    Truncated,
    #[error("a {0:?} frame is out of place")]
    OutOfPlace(FrameKind),
}

impl FrameKind {
    fn from_byte(byte: u8) -> Result<Self, FrameError> {
        Ok(match byte {
            1 => FrameKind::OpenAttest,
            2 => FrameKind::OpenJob,
            3 => FrameKind::Data,
            4 => FrameKind::End,
            5 => FrameKind::Charge,
            6 => FrameKind::Refused,
            7 => FrameKind::Receipt,
            8 => FrameKind::OpenCancel,
            9 => FrameKind::OpenReceipt,
            10 => FrameKind::Voucher,
            11 => FrameKind::OpenStatus,
            other => return Err(FrameError::Kind(other)),
        })
    }
}

impl Frame {
    /// One frame's bytes.
    ///
    /// # Panics
    /// When `payload` is longer than [`FRAME_BYTES_MAX`]; use [`Frame::data`] for bodies.
    pub fn encode(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
        assert!(
            payload.len() <= FRAME_BYTES_MAX,
            "callers split bodies with Frame::data"
        );
        let length = (payload.len() as u32).to_be_bytes();
        [&[kind as u8][..], &length, payload].concat()
    }

    /// A body of any length as `Data` frames.
    pub fn data(body: &[u8]) -> Vec<u8> {
        body.chunks(FRAME_BYTES_MAX)
            .flat_map(|chunk| Frame::encode(FrameKind::Data, chunk))
            .collect()
    }
}

/// A record of an answer with its chunk's header fits.
const SPACE_BYTES_MIN: usize = 1024;

/// Takes bytes, gives frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    pending: Vec<u8>,
    taken: usize,
}

impl FrameDecoder {
    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..std::mem::take(&mut self.taken));
        self.pending.extend_from_slice(bytes);
    }

    /// Where to append bytes as they are read, with room for the rest of a frame that has begun.
    pub fn space(&mut self) -> &mut Vec<u8> {
        self.pending.drain(..std::mem::take(&mut self.taken));
        let missing = match self.pending.first_chunk::<HEADER_BYTES>() {
            Some([_, length @ ..]) => {
                let length = (u32::from_be_bytes(*length) as usize).min(FRAME_BYTES_MAX);
                (HEADER_BYTES + length).saturating_sub(self.pending.len())
            }
            None => 0,
        };
        self.pending.reserve(missing.max(SPACE_BYTES_MIN));
        &mut self.pending
    }

    /// The next whole frame, or `None` when more bytes are needed. After an error the stream is to be closed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = self.pending.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let kind = FrameKind::from_byte(kind)?;
        let length = u32::from_be_bytes(length);
        if length as usize > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some(payload) = rest.get(..length as usize) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.taken += HEADER_BYTES + payload.len();
        Ok(Some(Frame { kind, payload }))
    }

    /// To be called at the end of the stream: leftover bytes are half a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.pending.len() == self.taken {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split_of_the_stream() {
        let body = vec![7; FRAME_BYTES_MAX + 100];
        let stream = [
            Frame::encode(FrameKind::OpenJob, b"envelope"),
            Frame::data(&body),
            Frame::encode(FrameKind::End, b""),
        ];
        let stream = stream.concat();
        for step in [1, 2, 3, 4096, stream.len()] {
            let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
            for (at, chunk) in stream.chunks(step).enumerate() {
                match at % 2 {
                    0 => decoder.push(chunk),
                    _ => decoder.space().extend_from_slice(chunk),
                }
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            decoder.finish().unwrap();
            let kinds: Vec<FrameKind> = frames.iter().map(|f| f.kind).collect();
            assert_eq!(
                kinds,
                [
                    FrameKind::OpenJob,
                    FrameKind::Data,
                    FrameKind::Data,
                    FrameKind::End
                ]
            );
            assert_eq!([&frames[1].payload[..], &frames[2].payload].concat(), body);
        }
    }

    #[test]
    fn there_is_room_for_a_frame_and_not_for_what_its_length_says_beyond() {
        let mut decoder = FrameDecoder::default();
        assert!(decoder.space().capacity() < 2 * SPACE_BYTES_MIN);
        decoder.push(&[3, 0, 0, 0x40, 0]);
        assert!(decoder.space().capacity() >= HEADER_BYTES + FRAME_BYTES_MAX);
        let mut decoder = FrameDecoder::default();
        decoder.push(&[3, 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.space().capacity() < 2 * FRAME_BYTES_MAX);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_payload_arrives() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[3, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong(u32::MAX)));
    }

    #[test]
    fn an_unknown_kind_and_half_a_frame_are_refused() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[12, 0, 0, 0, 0]);
        assert_eq!(decoder.next_frame(), Err(FrameError::Kind(12)));
        let mut decoder = FrameDecoder::default();
        decoder.push(&[3, 0, 0, 0, 9, 1]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
}
