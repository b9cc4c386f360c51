//! What a TPM did, read from swtpm's log of its commands (`--log file=…,level=20`).
//!
//! A block of the log is a line ` SWTPM_IO_Read: length N` (a command) or ` SWTPM_IO_Write: length N` (its answer), then N
//! bytes in hex. ` Ctrl Cmd` and ` Ctrl Rsp` are the same for orders of the machine to the TPM. All that comes from the
//! guest is inside the hex. A command counts when the TPM answered with success, so that what a guest asks for in
//! vain changes nothing.
//!
//! The log may still be growing: a line without its end, a block without all its bytes and a command without an answer
//! are ignored.
//!
//! Numbers and layouts: TPM 2.0 Library, part 2 (6.5.2 command codes, 6.3 algorithms) and part 3 (9.3 TPM2_Startup,
//! 22.2 TPM2_PCR_Extend); orders: swtpm's `tpm_ioctl.h`.

use std::io::{BufRead, Read};

use registers::Digest48;

use crate::limits::{
    TPM_COMMAND_BYTES_MAX, TPM_EXTENDS_MAX, TPM_LOG_BYTES_MAX, TPM_LOG_LINE_BYTES_MAX,
};

/// One extend of a PCR, in its SHA-384 bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extend {
    /// The number of the PCR.
    pub pcr: u32,
    /// What extended it.
    pub digest: Digest48,
}

/// Why the PCRs cannot be computed from a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
// Not `expect`: a fuzz target compiles this file by its path, where nothing is public.
#[allow(missing_docs)]
pub enum LogError {
    #[error("cannot be read: {0}")]
    Read(std::io::ErrorKind),
    #[error("it has more than {TPM_LOG_BYTES_MAX} bytes")]
    TooLong,
    #[error("line {line} has more than {TPM_LOG_LINE_BYTES_MAX} bytes")]
    LineTooLong { line: usize },
    #[error("it has more than {TPM_EXTENDS_MAX} extends")]
    TooManyExtends,
    #[error("line {line} is unexpected: {why}")]
    Line { line: usize, why: &'static str },
    #[error("the block that ends on line {line} is malformed: {why}")]
    Command { line: usize, why: &'static str },
    #[error(
        "line {line}: the TPM executed {what}, after which its PCRs do not follow from the extends"
    )]
    NotFollowed { line: usize, what: &'static str },
    #[error("line {line}: the TPM was started a second time")]
    StartedTwice { line: usize },
    #[error("line {line}: PCR {pcr} was extended before the TPM was started")]
    NotStarted { line: usize, pcr: u32 },
    #[error("line {line}: PCR {pcr} was extended without one SHA-384 digest")]
    NoSha384 { line: usize, pcr: u32 },
}

/// The extends since the TPM was started, in order, up to `last`, or all that are there if it is not. What follows it is not
/// looked at: it is the affair of a kernel that runs, and may be anything.
pub fn extends_until(log: impl BufRead, last: Extend) -> Result<Vec<Extend>, LogError> {
    let mut log = log.take(TPM_LOG_BYTES_MAX + 1);
    let mut reader = Reader::default();
    let mut line = Vec::new();
    loop {
        reader.line += 1;
        line.clear();
        let limit = TPM_LOG_LINE_BYTES_MAX as u64 + 1;
        log.by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(|error| LogError::Read(error.kind()))?;
        if log.limit() == 0 {
            return Err(LogError::TooLong);
        }
        let Some(text) = line.strip_suffix(b"\n") else {
            if line.len() > TPM_LOG_LINE_BYTES_MAX {
                return Err(LogError::LineTooLong { line: reader.line });
            }
            // The end, or a line that is still being written.
            return Ok(reader.extends);
        };
        reader.take(text)?;
        if reader.extends.last() == Some(&last) {
            return Ok(reader.extends);
        }
    }
}

#[derive(Default)]
struct Reader {
    line: usize,
    block: Option<Block>,
    /// A command that has no answer yet.
    command: Option<Vec<u8>>,
    started: bool,
    extends: Vec<Extend>,
}

struct Block {
    kind: Kind,
    length: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Kind {
    Command,
    Answer,
    Order,
    OrderAnswer,
}

impl Reader {
    fn take(&mut self, text: &[u8]) -> Result<(), LogError> {
        let line = self.line;
        let out_of_place = |why| LogError::Line { line, why };
        let Some(mut block) = self.block.take() else {
            return match header(text) {
                None => Ok(()),
                Some((kind, Some(length))) => self.advance(Block {
                    kind,
                    length,
                    bytes: Vec::new(),
                }),
                Some((_, None)) => Err(out_of_place("a length of at most 4096 was expected")),
            };
        };
        for pair in text.split(|byte| *byte == b' ').filter(|p| !p.is_empty()) {
            let mut byte = [0];
            hex::decode_to_slice(pair, &mut byte)
                .map_err(|_| out_of_place("more bytes in hex were expected"))?;
            if block.bytes.len() == block.length {
                return Err(out_of_place("it has more bytes than its block"));
            }
            block.bytes.push(byte[0]);
        }
        self.advance(block)
    }

    /// Keeps a block until it is whole, then does what it says.
    fn advance(&mut self, block: Block) -> Result<(), LogError> {
        if block.bytes.len() < block.length {
            self.block = Some(block);
            return Ok(());
        }
        let line = self.line;
        match block.kind {
            Kind::Command => match self.command.replace(block.bytes) {
                None => Ok(()),
                Some(_) => Err(LogError::Line {
                    line,
                    why: "the command before has no answer",
                }),
            },
            Kind::Answer => match self.command.take() {
                Some(command) => self.executed(&command, &block.bytes),
                None => Err(LogError::Line {
                    line,
                    why: "there is no command that it answers",
                }),
            },
            Kind::Order => order(&block.bytes, line),
            Kind::OrderAnswer => Ok(()),
        }
    }

    fn executed(&mut self, command: &[u8], answer: &[u8]) -> Result<(), LogError> {
        let line = self.line;
        let wrong = |why| LogError::Command { line, why };
        let (_, code, _) = message(answer).ok_or(wrong("not an answer"))?;
        let (tag, command_code, body) = message(command).ok_or(wrong("not a command"))?;
        if code != SUCCESS {
            return Ok(());
        }
        match command_code {
            STARTUP if body != STARTUP_CLEAR => Err(LogError::NotFollowed {
                line,
                what: "TPM2_Startup with a saved state",
            }),
            STARTUP if self.started => Err(LogError::StartedTwice { line }),
            STARTUP => {
                self.started = true;
                Ok(())
            }
            PCR_EXTEND => {
                let (pcr, digests) =
                    extend(tag, body).ok_or(wrong("not the parts of TPM2_PCR_Extend"))?;
                let digest = sha384(digests)
                    .ok_or(wrong("not a list of digests"))?
                    .ok_or(LogError::NoSha384 { line, pcr })?;
                self.extended(Extend { pcr, digest })
            }
            other => match NOT_FOLLOWED.iter().find(|(code, _)| *code == other) {
                Some((_, what)) => Err(LogError::NotFollowed { line, what }),
                None => Ok(()),
            },
        }
    }

    fn extended(&mut self, extend: Extend) -> Result<(), LogError> {
        if !self.started {
            return Err(LogError::NotStarted {
                line: self.line,
                pcr: extend.pcr,
            });
        }
        if self.extends.len() == TPM_EXTENDS_MAX {
            return Err(LogError::TooManyExtends);
        }
        self.extends.push(extend);
        Ok(())
    }
}

/// What block a line opens, and its length if that can be believed.
fn header(text: &[u8]) -> Option<(Kind, Option<usize>)> {
    let (kind, length) = HEADERS
        .iter()
        .find_map(|(start, kind)| Some((*kind, text.strip_prefix(start.as_bytes())?)))?;
    let length = std::str::from_utf8(length).ok().and_then(|digits| {
        let length = digits.trim_end().parse::<usize>().ok()?;
        (length <= TPM_COMMAND_BYTES_MAX).then_some(length)
    });
    Some((kind, length))
}

/// Orders that change PCRs without a command.
fn order(bytes: &[u8], line: usize) -> Result<(), LogError> {
    let what = match bytes.first_chunk().map(|code| u32::from_be_bytes(*code)) {
        Some(6..=8) => "a measured start (_TPM_Hash)",
        Some(13) => "the loading of a saved state",
        _ => return Ok(()),
    };
    Err(LogError::NotFollowed { line, what })
}

/// Tag, code and what follows, if the size is the one written inside (part 1, 18.2 and 18.3).
fn message(bytes: &[u8]) -> Option<(u16, u32, &[u8])> {
    let (tag, rest) = bytes.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (code, body) = rest.split_first_chunk()?;
    let whole = usize::try_from(u32::from_be_bytes(*size)) == Ok(bytes.len());
    whole.then_some((u16::from_be_bytes(*tag), u32::from_be_bytes(*code), body))
}

/// The PCR and the bytes of TPML_DIGEST_VALUES, behind the authorizations.
fn extend(tag: u16, body: &[u8]) -> Option<(u32, &[u8])> {
    let (pcr, rest) = body.split_first_chunk()?;
    let (authorizations, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*authorizations)).ok()?;
    let (_, digests) = rest.split_at_checked(length)?;
    (tag == WITH_SESSIONS).then_some((u32::from_be_bytes(*pcr), digests))
}

/// The SHA-384 digest of a TPML_DIGEST_VALUES: `None` if that is no such list, `Some(None)` if not exactly one is in it.
fn sha384(list: &[u8]) -> Option<Option<Digest48>> {
    let (count, mut rest) = list.split_first_chunk()?;
    let mut found = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        // At least two bytes are taken in each turn, so the list bounds the loop and not the count.
        let (algorithm, after) = rest.split_first_chunk()?;
        let length = match u16::from_be_bytes(*algorithm) {
            SHA1 => 20,
            SHA256 | SM3_256 => 32,
            SHA384 => 48,
            SHA512 => 64,
            _ => return None,
        };
        let (digest, after) = after.split_at_checked(length)?;
        if u16::from_be_bytes(*algorithm) == SHA384 {
            found.push(Digest48(digest.try_into().ok()?));
        }
        rest = after;
    }
    let only = match found[..] {
        [digest] => Some(digest),
        _ => None,
    };
    rest.is_empty().then_some(only)
}

const HEADERS: [(&str, Kind); 4] = [
    (" SWTPM_IO_Read: length ", Kind::Command),
    (" SWTPM_IO_Write: length ", Kind::Answer),
    (" Ctrl Cmd: length ", Kind::Order),
    (" Ctrl Rsp: length ", Kind::OrderAnswer),
];
const SUCCESS: u32 = 0;
const WITH_SESSIONS: u16 = 0x8002;
const STARTUP: u32 = 0x144;
const STARTUP_CLEAR: [u8; 2] = [0, 0];
const PCR_EXTEND: u32 = 0x182;
const NOT_FOLLOWED: [(u32, &str); 3] = [
    (0x13c, "TPM2_PCR_Event"),
    (0x13d, "TPM2_PCR_Reset"),
    (0x185, "TPM2_EventSequenceComplete"),
];
const SHA1: u16 = 0x4;
const SHA256: u16 = 0xb;
const SHA384: u16 = 0xc;
const SHA512: u16 = 0xd;
const SM3_256: u16 = 0x12;

#[cfg(test)]
mod tests;
