//! Child processes. Each has its own process group, so that a ^C on the terminal reaches this program alone, which ends them
//! in order; the kernel kills each when this program dies, however it dies; their output goes to files in the run directory.

use crate::error::{Context, Error, Fault};
use crate::limits::{PROGRAM_OUTPUT_BYTES, PROGRAM_POLL, PROGRAM_START};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `words`. Call it on the thread that lives longest: the kernel kills the child when this *thread* ends
    /// (prctl(2), PR_SET_PDEATHSIG).
    pub(super) fn start(name: &'static str, words: &[String], log: PathBuf) -> Result<Self, Error> {
        tracing::debug!(name, ?words, "starting");
        let logged = File::create(&log).and_then(|out| Ok((out.try_clone()?, out)));
        let (err, out) = logged.context(Fault::Host, || log.display())?;
        // This program, even if its file has been replaced since it was started.
        let mut command = Command::new("/proc/self/exe");
        command
            .args([EXEC_TIED, "--parent", &std::process::id().to_string(), "--"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn();
        Ok(Program {
            name,
            child: child.context(Fault::Host, || format!("cannot start {name}"))?,
            log,
        })
    }

    /// Waits until it ends. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> Error {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.failed(&format!("has ended ({status})"))
    }

    fn failed(&self, how: &str) -> Error {
        let output = match self.last_output() {
            output if output.is_empty() => output,
            output => format!("; its last output: {output}"),
        };
        Error::new(Fault::Host, format!("{} {how}{output}", self.name))
    }

    /// Waits until it has opened `socket`.
    pub(super) async fn opens(&mut self, socket: &Path) -> Result<(), Error> {
        let until = Instant::now() + PROGRAM_START;
        loop {
            if socket
                .symlink_metadata()
                .is_ok_and(|found| found.file_type().is_socket())
            {
                return Ok(());
            }
            if Instant::now() > until {
                let (socket, seconds) = (socket.display(), PROGRAM_START.as_secs());
                return Err(self.failed(&format!("has not opened {socket} within {seconds} s")));
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

    /// The end of what it printed, without control characters.
    pub(super) fn last_output(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

/// Executes `words`, which the kernel then kills when `parent` dies. Returns only with an error.
///
/// This takes a process of its own, since a child sets the signal for itself; doing so between `fork` and `exec` would need
/// `unsafe`.
pub(crate) fn exec_tied(parent: u32, words: &[String]) -> io::Error {
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    // It may have died before the signal was set.
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return io::Error::other("the parent process has ended");
    }
    match words.split_first() {
        Some((program, arguments)) => std::process::Command::new(program).args(arguments).exec(),
        None => io::ErrorKind::InvalidInput.into(),
    }
}

/// The hidden command for [`exec_tied`].
pub(crate) const EXEC_TIED: &str = "exec-tied";

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(PROGRAM_OUTPUT_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(PROGRAM_OUTPUT_BYTES).read_to_end(&mut bytes)?;
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
