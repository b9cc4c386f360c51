//! The file `/start` of the verified root: the arguments of the agent, one a line, without the program's own name.

use crate::limits::{START_ARGUMENTS_MAX, START_BYTES_MAX};
use std::ffi::CString;

/// The agent's path in the verified root, and its first argument.
pub(crate) const AGENT: &std::ffi::CStr = c"/agent";

/// An unusable list of arguments. The builder of the image is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum StartError {
    TooLong,
    TooMany,
    Line,
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StartError::TooLong => "/start has more than 4096 bytes",
            StartError::TooMany => "/start has more than 32 lines",
            StartError::Line => {
                "/start has a line that is empty, unterminated or not printable ASCII"
            }
        })
    }
}

impl std::error::Error for StartError {}

/// The whole argument vector: `/agent`, then one argument for each line.
pub fn arguments(bytes: &[u8]) -> Result<Vec<CString>, StartError> {
    if bytes.len() > START_BYTES_MAX {
        return Err(StartError::TooLong);
    }
    let mut arguments = vec![AGENT.to_owned()];
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(StartError::Line)?;
        let (line, tail) = (&rest[..end], &rest[end + 1..]);
        if line.is_empty() || !line.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(StartError::Line);
        }
        if arguments.len() > START_ARGUMENTS_MAX {
            return Err(StartError::TooMany);
        }
        arguments.push(CString::new(line).map_err(|_| StartError::Line)?);
        rest = tail;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<Vec<String>, StartError> {
        let words = arguments(bytes)?;
        Ok(words
            .iter()
            .map(|word| word.to_str().unwrap().to_owned())
            .collect())
    }

    #[test]
    fn each_line_is_an_argument_and_nothing_splits_it() {
        assert_eq!(check(b"").unwrap(), ["/agent"]);
        assert_eq!(
            check(b"--listen\nvsock:9000\n--name\na b \"c\" $d\n").unwrap(),
            ["/agent", "--listen", "vsock:9000", "--name", "a b \"c\" $d"]
        );
        let many = |count| "x\n".repeat(count).into_bytes();
        assert_eq!(
            check(&many(START_ARGUMENTS_MAX)).unwrap().len(),
            START_ARGUMENTS_MAX + 1
        );
        assert_eq!(
            check(&many(START_ARGUMENTS_MAX + 1)),
            Err(StartError::TooMany)
        );
        let long = [vec![b'x'; START_BYTES_MAX], b"\n".to_vec()].concat();
        assert_eq!(check(&long), Err(StartError::TooLong));
        for bad in [
            &b"a"[..],
            b"\n",
            b"a\n\n",
            b"a\nb",
            b"a\r\n",
            b"a\0b\n",
            b"a\tb\n",
            b"\xc3\xa9\n",
            b"\x7f\n",
        ] {
            assert_eq!(check(bad), Err(StartError::Line), "{bad:?}");
        }
    }

    #[test]
    fn no_flipped_bit_leaves_the_same_arguments() {
        let file = b"--listen\nvsock:9000\n--models\n/models\n";
        let whole = arguments(file);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bytes = file.to_vec();
                bytes[at] ^= 1 << bit;
                assert_ne!(arguments(&bytes), whole, "byte {at} bit {bit}");
            }
        }
    }
}
