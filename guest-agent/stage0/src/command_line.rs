//! The measured command line of the kernel.

use crate::VerityRoot;
use crate::limits::{COMMAND_LINE_BYTES_MAX, STREAM_BYTES_MAX};
use crate::verity::decimal;

/// The kernel command line, two of whose parameters are read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLine<'a>(&'a str);

/// A command line without one valid root. The builder of the image is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum CommandLineError {
    Text,
    Absent,
    Repeated,
    Value,
}

impl std::fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CommandLineError::Text => "the command line is too long or not printable ASCII",
            CommandLineError::Absent => "the command line lacks chrysalis.root",
            CommandLineError::Repeated => "the command line repeats a chrysalis parameter",
            CommandLineError::Value => "a chrysalis parameter on the command line is malformed",
        })
    }
}

impl std::error::Error for CommandLineError {}

impl<'a> CommandLine<'a> {
    /// The content of `/proc/cmdline`, which the kernel ends with a line feed.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CommandLineError> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let printable = line.iter().all(|byte| (b' '..=b'~').contains(byte));
        if line.len() > COMMAND_LINE_BYTES_MAX || !printable {
            return Err(CommandLineError::Text);
        }
        std::str::from_utf8(line)
            .map(CommandLine)
            .map_err(|_| CommandLineError::Text)
    }

    /// `chrysalis.root=<hash>,<salt>,<blocks>`, which is required.
    pub fn root(&self) -> Result<VerityRoot, CommandLineError> {
        let value = self
            .value("chrysalis.root")?
            .ok_or(CommandLineError::Absent)?;
        VerityRoot::parse(value).ok_or(CommandLineError::Value)
    }

    /// Whether the kernel was told to read time from the TSC.
    pub fn asks_for_tsc(&self) -> bool {
        self.0.split(' ').any(|word| word == "clocksource=tsc")
    }

    /// `chrysalis.stream=<bytes>` of the test guest, which is optional.
    pub fn stream_bytes(&self) -> Result<Option<u64>, CommandLineError> {
        let Some(value) = self.value("chrysalis.stream")? else {
            return Ok(None);
        };
        decimal(value, STREAM_BYTES_MAX)
            .map(Some)
            .ok_or(CommandLineError::Value)
    }

    /// The value of a parameter that occurs once. Every occurrence of the name counts, also in quotes or in another word, so
    /// that no other parser can find another value.
    fn value(&self, name: &str) -> Result<Option<&'a str>, CommandLineError> {
        match self.0.matches(name).count() {
            0 => return Ok(None),
            1 => {}
            _ => return Err(CommandLineError::Repeated),
        }
        let mut values = self
            .0
            .split(' ')
            .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        values.next().map(Some).ok_or(CommandLineError::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn check(line: &str) -> Result<u64, CommandLineError> {
        CommandLine::new(line.as_bytes())?
            .root()
            .map(|root| root.data_blocks())
    }

    #[test]
    fn exactly_one_root_is_taken() {
        let one = format!("chrysalis.root={A},{B},1000");
        assert_eq!(check(&one), Ok(1000));
        assert_eq!(
            check(&format!("console=ttyS0 {one} initrd=initrd\n")),
            Ok(1000)
        );
        for (line, expected) in [
            (String::new(), CommandLineError::Absent),
            ("console=ttyS0".into(), CommandLineError::Absent),
            (format!("{one} {one}"), CommandLineError::Repeated),
            (format!("\"x {one}\" {one}"), CommandLineError::Repeated),
            (format!("{one} chrysalis.root"), CommandLineError::Repeated),
            (format!("x{one}"), CommandLineError::Value),
            (format!("\"{one}\""), CommandLineError::Value),
            (format!("init=/a,{one}"), CommandLineError::Value),
            ("chrysalis.root".into(), CommandLineError::Value),
            ("chrysalis.root=".into(), CommandLineError::Value),
            ("chrysalis.roots=1".into(), CommandLineError::Value),
            (format!("{one}\n\n"), CommandLineError::Text),
            (format!("a\t{one}"), CommandLineError::Text),
            (format!("{one} \u{e9}"), CommandLineError::Text),
            (
                format!("{one} {}", "x".repeat(COMMAND_LINE_BYTES_MAX)),
                CommandLineError::Text,
            ),
        ] {
            assert_eq!(check(&line), Err(expected), "{line}");
        }
    }

    #[test]
    fn no_flipped_bit_leaves_the_same_root() {
        let line = format!("a chrysalis.root={A},{B},1000 b");
        let whole = CommandLine::new(line.as_bytes()).unwrap().root().unwrap();
        let value = line.find("chrysalis").unwrap()..line.len() - 2;
        for at in value {
            for bit in 0..8 {
                let mut bytes = line.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let root = CommandLine::new(&bytes).and_then(|line| line.root());
                assert_ne!(root, Ok(whole), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn the_tsc_is_asked_for_by_a_whole_word() {
        let check = |line: &str| CommandLine::new(line.as_bytes()).map(|line| line.asks_for_tsc());
        assert_eq!(check("a clocksource=tsc b"), Ok(true));
        for no in [
            "",
            "clocksource=hpet",
            "xclocksource=tsc",
            "clocksource=tsc2",
        ] {
            assert_eq!(check(no), Ok(false), "{no}");
        }
    }

    #[test]
    fn a_stream_has_a_size_or_none() {
        let check = |line: &str| CommandLine::new(line.as_bytes())?.stream_bytes();
        assert_eq!(check("quiet"), Ok(None));
        assert_eq!(check("quiet chrysalis.stream=65537"), Ok(Some(65537)));
        for bad in [
            "0",
            "",
            "-1",
            "1k",
            "01",
            "4294967297",
            "18446744073709551616",
        ] {
            let line = format!("chrysalis.stream={bad}");
            assert_eq!(check(&line), Err(CommandLineError::Value), "{bad}");
        }
        assert_eq!(
            check("chrysalis.stream=1 chrysalis.stream=1"),
            Err(CommandLineError::Repeated)
        );
    }
}
