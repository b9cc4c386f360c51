//! The simulator's socket as a platform: one request per connection, `op, u16 length, payload` out, `status, u32 length,
//! payload` back.

use guest_agent::Source;
use guest_agent::platform::{Platform, PlatformError};
use registers::{Digest48, Registers, ReportData};
use std::io::{Read, Write};

const EXTEND: u8 = 1;
const REGISTERS: u8 = 2;
const QUOTE: u8 = 3;
const RTMR3: u8 = 3;

/// A simulated TDX module, reached over a Unix socket or vsock.
pub struct Simulated {
    source: Source,
}

impl Simulated {
    pub fn new(source: Source) -> Self {
        Simulated { source }
    }

    fn call(&self, doing: &'static str, op: u8, payload: &[u8]) -> Result<Vec<u8>, PlatformError> {
        let (status, answer) = self
            .exchange(op, payload)
            .map_err(|source| PlatformError::Io { doing, source })?;
        match status {
            0 => Ok(answer),
            _ => Err(PlatformError::Refused {
                doing,
                why: String::from_utf8_lossy(&answer).into_owned(),
            }),
        }
    }

    fn exchange(&self, op: u8, payload: &[u8]) -> std::io::Result<(u8, Vec<u8>)> {
        let mut stream = self.source.connect()?;
        let length = u16::try_from(payload.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        stream.write_all(&[&[op][..], &length.to_be_bytes(), payload].concat())?;
        let mut header = [0; 5];
        stream.read_exact(&mut header)?;
        let [status, length @ ..] = header;
        let length = u32::from_be_bytes(length) as usize;
        if length > wire::limits::QUOTE_BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok((status, answer))
    }
}

impl Platform for Simulated {
    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError> {
        self.call(
            "extending the simulated RTMR3",
            EXTEND,
            &[&[RTMR3][..], &digest.0].concat(),
        )
        .map(|_| ())
    }

    fn registers(&mut self) -> Result<Registers, PlatformError> {
        let doing = "reading the simulated registers";
        let bytes = self.call(doing, REGISTERS, &[])?;
        let (registers, []) = bytes.as_chunks::<48>() else {
            return Err(PlatformError::Answer {
                doing,
                got: bytes.len(),
            });
        };
        let [mrtd, rtmr0, rtmr1, rtmr2, rtmr3] = registers else {
            return Err(PlatformError::Answer {
                doing,
                got: bytes.len(),
            });
        };
        Ok(Registers {
            mrtd: Digest48(*mrtd),
            rtmr: [*rtmr0, *rtmr1, *rtmr2, *rtmr3].map(Digest48),
        })
    }

    fn quote(&mut self, report_data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        self.call(
            "asking the simulated module for a quote",
            QUOTE,
            &report_data.0,
        )
    }
}
