//! What a guest prints on its serial port. It is untrusted: shown within limits and without control characters, and believed
//! only where a lie costs nothing but a wrong line of progress.

use super::program::printable;
use crate::limits::{
    SERIAL_CHUNK_BYTES, SERIAL_FILE_BYTES_MAX, SERIAL_LINE_CHARS_MAX, SERIAL_LINES_SHOWN,
};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How far a boot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// QEMU runs.
    Started,
    /// The firmware has printed something.
    Firmware,
    /// The kernel has been handed the machine.
    Kernel,
    /// The first program of the initrd has printed something.
    Stage0,
    /// The agent was started.
    Agent,
    /// The guest answers.
    Ready,
}

/// The file that QEMU writes what the guest prints into.
#[derive(Debug)]
pub(super) struct Serial {
    file: File,
    read_to: u64,
    transcript: Transcript,
}

#[derive(Debug)]
struct Transcript {
    escape: Escape,
    line: String,
    lines: VecDeque<String>,
    panicked: bool,
    stage: Stage,
}

/// Where in a terminal's control sequence the text is (ECMA-48, 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    Control,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Started => "qemu",
            Stage::Firmware => "firmware",
            Stage::Kernel => "kernel",
            Stage::Stage0 => "stage0",
            Stage::Agent => "agent",
            Stage::Ready => "ready",
        }
    }
}

impl Serial {
    /// Makes the file, empty, for QEMU to open.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Serial {
            file,
            read_to: 0,
            transcript: Transcript::new(),
        })
    }

    /// Reads a bounded part of what is new, and returns the stage that the text has reached.
    pub(super) fn look(&mut self) -> io::Result<Stage> {
        let mut chunk = Vec::new();
        self.file.seek(SeekFrom::Start(self.read_to))?;
        let got = (&self.file)
            .take(SERIAL_CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)?;
        self.read_to += got as u64;
        self.transcript.take(&chunk);
        // QEMU goes on writing where it was; what lies before is a hole then, and occupies nothing.
        if self.file.metadata()?.blocks() * 512 > SERIAL_FILE_BYTES_MAX {
            self.file.set_len(0)?;
        }
        Ok(self.transcript.stage)
    }

    pub(super) fn last_lines(&self) -> Vec<String> {
        let unfinished = Some(&self.transcript.line)
            .filter(|line| !line.trim().is_empty() && !self.transcript.panicked);
        let lines = self.transcript.lines.iter().chain(unfinished);
        let lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
        lines[lines.len().saturating_sub(SERIAL_LINES_SHOWN)..].to_vec()
    }
}

impl Transcript {
    fn new() -> Self {
        Transcript {
            escape: Escape::None,
            line: String::new(),
            lines: VecDeque::new(),
            panicked: false,
            stage: Stage::Started,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        // OVMF is the first to use the port: it clears the screen, and says nothing when it is given a kernel.
        if !bytes.is_empty() {
            self.stage = self.stage.max(Stage::Firmware);
        }
        for &byte in bytes {
            self.escape = match (self.escape, byte) {
                (_, 0x1b) => Escape::Begun,
                (Escape::Begun, b'[') => Escape::Control,
                (Escape::Begun, _) => Escape::None,
                (Escape::Control, 0x40..=0x7e) => Escape::None,
                (Escape::Control, 0x20..=0x3f) => Escape::Control,
                (Escape::Control | Escape::None, b'\n') => {
                    self.end_line();
                    Escape::None
                }
                (Escape::Control | Escape::None, _) => {
                    if byte != b'\r' && self.line.len() < SERIAL_LINE_CHARS_MAX {
                        self.line.push(printable(byte));
                    }
                    Escape::None
                }
            };
        }
        self.recognise();
    }

    fn end_line(&mut self) {
        self.recognise();
        let line = std::mem::take(&mut self.line);
        // After a panic the kernel prints registers and stacks, and would push out the line that says why.
        if line.trim().is_empty() || self.panicked {
            return;
        }
        self.panicked = line.contains("Kernel panic - ");
        if self.lines.len() == SERIAL_LINES_SHOWN {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn recognise(&mut self) {
        for (text, stage) in SIGNS {
            if *stage > self.stage && self.line.contains(text) {
                self.stage = *stage;
            }
        }
    }
}

/// The kernel's EFI stub, and our own first program.
const SIGNS: &[(&str, Stage)] = &[
    ("EFI stub: ", Stage::Kernel),
    ("stage0: ", Stage::Stage0),
    ("stage0: starting the agent", Stage::Agent),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn transcript(text: &[u8]) -> Transcript {
        let mut transcript = Transcript::new();
        transcript.take(text);
        transcript
    }

    #[test]
    fn a_boot_is_recognised_stage_by_stage() {
        let check =
            |text: &str, stage| assert_eq!(transcript(text.as_bytes()).stage, stage, "{text}");
        check("", Stage::Started);
        check("\x1b[2J\x1b[01;01H", Stage::Firmware);
        check(
            "BdsDxe: starting\r\nEFI stub: Loaded initrd\r\n",
            Stage::Kernel,
        );
        check("[    1.2] x\r\nstage0: modules loaded\r\n", Stage::Stage0);
        check("stage0: starting the agent\r\n", Stage::Agent);
        // What comes later in the text moves nothing back.
        check("stage0: starting the agent\nBdsDxe: again\n", Stage::Agent);
        check("stage0", Stage::Firmware);
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let every: Vec<u8> = (0..=255)
            .filter(|&byte| byte != 0x1b && byte != b'\n')
            .collect();
        let text = [
            b"\x1b[31;1mred\x1b[0m \x1b]0;title\x07",
            every.as_slice(),
            b"\n\x1b[2Jx\n",
        ]
        .concat();
        let lines = transcript(&text).lines;
        assert!(lines[0].starts_with("red "), "{lines:?}");
        assert_eq!(lines[1], "x");
        assert!(
            lines
                .iter()
                .flat_map(|line| line.chars())
                .all(|c| matches!(c, ' '..='~'))
        );
    }

    #[test]
    fn a_panic_does_not_push_out_why() {
        let dump = "[    4.85]  ? do_exit+0x16/0xa0\r\n".repeat(100);
        let transcript = transcript(
            format!("agent: no models\n[    4.84] Kernel panic - not syncing: Attempted\r\n{dump}")
                .as_bytes(),
        );
        assert_eq!(
            transcript.lines,
            [
                "agent: no models",
                "[    4.84] Kernel panic - not syncing: Attempted"
            ]
        );
    }

    #[test]
    fn lines_are_bounded_in_length_and_number() {
        let transcript = transcript(
            &[
                "x".repeat(100_000).as_bytes(),
                b"\n",
                &b"y\n".repeat(10_000),
            ]
            .concat(),
        );
        assert_eq!(transcript.lines.len(), SERIAL_LINES_SHOWN);
        let long = super::tests::transcript("x".repeat(100_000).as_bytes());
        assert_eq!(long.line.len(), SERIAL_LINE_CHARS_MAX);
    }

    #[test]
    fn the_file_is_read_once_and_chunk_by_chunk() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("serial.log");
        let mut serial = Serial::create(&path).expect("made");
        let mut qemu = OpenOptions::new().write(true).open(&path).expect("opened");
        qemu.write_all(b"BdsDxe: a\nEFI st").expect("written");
        assert_eq!(serial.look().expect("read"), Stage::Firmware);
        qemu.write_all(b"ub: b\nend").expect("written");
        assert_eq!(serial.look().expect("read"), Stage::Kernel);
        assert_eq!(serial.last_lines(), ["BdsDxe: a", "EFI stub: b", "end"]);
        assert_eq!(serial.look().expect("read"), Stage::Kernel);
        assert_eq!(serial.last_lines().len(), 3);
    }
}
