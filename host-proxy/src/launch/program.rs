//! Child processes. Each has its own process group, so that a ^C on the terminal reaches us alone and we end them in
//! order; each is killed by the kernel when we die, however we die; what it prints goes to a file in the run directory.

use crate::limits::{PROGRAM_POLL, PROGRAM_START, PROGRAM_WORDS_BYTES};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// A program that runs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    child: Child,
    log: PathBuf,
}

/// What went wrong with a program of the launch.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It did not even start.
    #[error("cannot start {name}: {source}")]
    Start {
        /// Which.
        name: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It is gone.
    #[error("{name} has ended ({status}){}", said(words))]
    Ended {
        /// Which.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// The end of what it printed.
        words: String,
    },
    /// It opened no socket.
    #[error("{name} has not opened {} within {} s{}", socket.display(), PROGRAM_START.as_secs(), said(words))]
    NoSocket {
        /// Which.
        name: &'static str,
        /// What was waited for.
        socket: PathBuf,
        /// The end of what it printed.
        words: String,
    },
}

impl Program {
    /// Starts `words`. Call it on the thread that lives longest: the kernel kills the child when this *thread* ends
    /// (prctl(2), PR_SET_PDEATHSIG).
    pub(super) fn start(
        name: &'static str,
        words: &[String],
        log: PathBuf,
    ) -> Result<Self, ProgramError> {
        let refuse = |source| ProgramError::Start { name, source };
        tracing::debug!(name, ?words, "starting");
        let out = File::create(&log).map_err(refuse)?;
        let err = out.try_clone().map_err(refuse)?;
        // This program, even if its file has been replaced since it was started.
        let mut command = Command::new("/proc/self/exe");
        command
            .args([HELD, "--by", &std::process::id().to_string(), "--"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(refuse)?;
        Ok(Program { name, child, log })
    }

    /// Waits until it ends. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> ProgramError {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(source) => {
                return ProgramError::Start {
                    name: self.name,
                    source,
                };
            }
        };
        ProgramError::Ended {
            name: self.name,
            status,
            words: self.last_words(),
        }
    }

    /// Waits until it has opened `socket`.
    pub(super) async fn opens(&mut self, socket: &Path) -> Result<(), ProgramError> {
        let until = Instant::now() + PROGRAM_START;
        loop {
            if socket
                .symlink_metadata()
                .is_ok_and(|found| found.file_type().is_socket())
            {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(ProgramError::NoSocket {
                    name: self.name,
                    socket: socket.to_owned(),
                    words: self.last_words(),
                });
            }
            tokio::select! {
                error = self.ended() => return Err(error),
                () = sleep(PROGRAM_POLL) => {}
            }
        }
    }

    /// Kills it and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(name = self.name, %error, "cannot be killed");
        }
    }

    /// The end of what it printed, fit to be shown.
    pub(super) fn last_words(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

/// Becomes the program `words`, which the kernel kills when `parent` dies. Returns only with an error.
///
/// The step between is a process of ours because the signal is set by the child for itself; setting it between `fork` and
/// `exec` would need `unsafe`.
pub(crate) fn become_held(parent: u32, words: &[String]) -> io::Error {
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    // It may have died before the signal was set.
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return io::Error::other("whoever started this is gone");
    }
    match words.split_first() {
        Some((program, arguments)) => std::process::Command::new(program).args(arguments).exec(),
        None => io::ErrorKind::InvalidInput.into(),
    }
}

/// The hidden command that [`become_held`] is behind.
pub(crate) const HELD: &str = "held";

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(PROGRAM_WORDS_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(PROGRAM_WORDS_BYTES).read_to_end(&mut bytes)?;
    let text: String = bytes.iter().map(|&byte| printable(byte)).collect();
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// ASCII that moves no cursor; anything else is a space or a question mark.
pub(super) fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        b'\t' | b'\n' | b'\r' => ' ',
        _ => '?',
    }
}

fn said(words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!("; it said: {words}"),
    }
}
