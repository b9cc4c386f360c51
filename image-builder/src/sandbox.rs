//! A sandbox in which one program sees a tree of packages and the files it was given, and nothing else of this machine.
//!
//! ```text
//!  outside   `image-builder run`: new namespaces, then waits, passes signals in and the exit code out
//!    └─ inside   process 1 of the new process namespace: builds the file system, then waits in the same way
//!         └─ the program, as process 2
//! ```
//! The sandbox has a tmpfs for a root, the tree's top-level entries read-only, what was listed as inputs (read-only) and outputs
//! (writable), a fresh `/proc`, a `/dev` of five harmless nodes and the listed devices, an empty `/tmp`, a fixed host name
//! and a fixed environment. It has no network interface that is up, none of the caller's open files but the standard
//! three, no terminal to control, and it ends when its starter ends.
//!
//! **Trusts** the kernel's namespaces and the tree. **Promises** that the host's own programs, libraries, settings and
//! variables do not show, so that what comes out depends on what was put in.
//!
//! **Lacks** root: it works for any user whom the kernel allows user namespaces, and says what to change where it does not.
//! It is a wall for honest programs with stray inputs and for clumsy ones; it filters no system calls, and does not hold
//! back `AF_VSOCK`, which no namespace covers. No `unsafe`: the second half is this program started again.

mod forbidden;
mod init;
mod launcher;
mod signals;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

pub(crate) use forbidden::refusal;
pub use init::inhabit;
pub use launcher::enter;

/// What is in the sandbox; the program is named when it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    launcher: PathBuf,
    tree: PathBuf,
    reads: Vec<Bind>,
    writes: Vec<Bind>,
    devices: Vec<PathBuf>,
    env: BTreeMap<String, String>,
    cwd: PathBuf,
}

/// A file or directory of the host, and where it is seen inside.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Where it lies.
    pub host: PathBuf,
    /// Where the program finds it.
    pub inside: PathBuf,
}

/// Why a program was not run. The program's own failure is its exit code and no error here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SandboxError {
    #[error("{0}")]
    Misuse(String),
    #[error("this system does not let this user make a sandbox: {0}")]
    Forbidden(String),
    #[error("the sandbox failed {doing}: {reason}")]
    Step { doing: String, reason: String },
    #[error("{program} cannot be started in the sandbox: {reason}")]
    Program {
        program: String,
        missing: bool,
        reason: String,
    },
}

impl SandboxError {
    /// The exit code that stands for it, as `env` and `timeout` have it: 125 for the sandbox's own failure, 126 for a
    /// program that does not run, 127 for one that is not there.
    pub fn code(&self) -> u8 {
        match self {
            Self::Misuse(_) => 2,
            Self::Forbidden(_) | Self::Step { .. } => 125,
            Self::Program { missing: false, .. } => 126,
            Self::Program { missing: true, .. } => 127,
        }
    }

    fn step<E: std::fmt::Display>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |error| Self::Step {
            doing,
            reason: error.to_string(),
        }
    }
}

impl Sandbox {
    /// A sandbox with nothing but `tree` and what every sandbox has.
    pub fn new(tree: impl Into<PathBuf>) -> Self {
        let fixed = ENVIRONMENT.iter();
        Self {
            launcher: THIS_PROGRAM.into(),
            tree: tree.into(),
            reads: Vec::new(),
            writes: Vec::new(),
            devices: Vec::new(),
            env: fixed
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            cwd: "/tmp".into(),
        }
    }

    /// Shows `host` at `inside`, read-only.
    pub fn read(mut self, host: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        self.reads.push(Bind {
            host: host.into(),
            inside: inside.into(),
        });
        self
    }

    /// Shows `host` at `inside` and lets the program write there.
    pub fn write(mut self, host: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        self.writes.push(Bind {
            host: host.into(),
            inside: inside.into(),
        });
        self
    }

    /// Lets the program use a device of the host, such as `/dev/kvm`.
    pub fn device(mut self, path: impl Into<PathBuf>) -> Self {
        self.devices.push(path.into());
        self
    }

    /// Sets a variable, or replaces one of the fixed ones.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Where the program starts; `/tmp` unless said otherwise.
    pub fn cwd(mut self, inside: impl Into<PathBuf>) -> Self {
        self.cwd = inside.into();
        self
    }

    /// Another `image-builder` than the running program, for callers that are not one themselves.
    pub fn launcher(mut self, image_builder: impl Into<PathBuf>) -> Self {
        self.launcher = image_builder.into();
        self
    }

    /// The name of the tree, which stands for what is in it when it lies in a store.
    pub(crate) fn tree_name(&self) -> String {
        let name = self.tree.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The command that runs `program` in this sandbox: `image-builder run …`.
    ///
    /// The program is killed when the *thread* that spawns the command ends, so do that on one that lives as long as the
    /// program should.
    pub fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(&self.launcher);
        command.arg("run").arg("--tree").arg(&self.tree);
        for bind in &self.reads {
            command.arg("--read").arg(bind.word());
        }
        for bind in &self.writes {
            command.arg("--write").arg(bind.word());
        }
        for device in &self.devices {
            command.arg("--device").arg(device);
        }
        for (key, value) in &self.env {
            command.arg("--env").arg(format!("{key}={value}"));
        }
        command.arg("--cwd").arg(&self.cwd).arg("--");
        command.arg(program).args(arguments);
        command
    }
}

impl Bind {
    /// Parses `HOST=INSIDE`. The last `=` divides, so that the host's path may have one.
    pub fn parse(word: &str) -> Result<Self, String> {
        let (host, inside) = word
            .rsplit_once('=')
            .ok_or_else(|| format!("`{word}` is not HOST=INSIDE"))?;
        if host.is_empty() {
            return Err(format!("`{word}` names nothing of the host"));
        }
        let bind = Self {
            host: host.into(),
            inside: inside.into(),
        };
        match is_inside(&bind.inside) {
            true => Ok(bind),
            false => Err(format!(
                "`{inside}` is no place inside: an absolute path without `..`, not `/` and not in /proc or /dev"
            )),
        }
    }

    fn word(&self) -> OsString {
        let mut word = self.host.clone().into_os_string();
        word.push("=");
        word.push(&self.inside);
        word
    }
}

/// Whether a bind may be put at `path`.
fn is_inside(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && path.components().count() > 1
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !path.starts_with("/proc")
        && !path.starts_with("/dev")
}

/// What every program finds in its environment, and all of it unless more is set.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("HOME", "/tmp"),
    ("LC_ALL", "C"),
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    // 1980-01-01, the earliest moment that every archive format can express.
    ("SOURCE_DATE_EPOCH", "315532800"),
    ("TZ", "UTC"),
];

/// The running program, even when its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The hidden command of the second half.
const INSIDE: &str = "sandbox-inside";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_a_host_path_and_a_place_inside() {
        let check = |word: &str, expected: Option<(&str, &str)>| {
            let got = Bind::parse(word).ok();
            let expected = expected.map(|(host, inside)| Bind {
                host: host.into(),
                inside: inside.into(),
            });
            assert_eq!(got, expected, "{word}");
        };
        check("a=/b", Some(("a", "/b")));
        check("/a=b=/c/d", Some(("/a=b", "/c/d")));
        for bad in ["", "a", "=/b", "a=", "a=b", "a=/", "a=/../b", "a=/b/../c"] {
            check(bad, None);
        }
        for taken in ["a=/proc", "a=/proc/x", "a=/dev/null"] {
            check(taken, None);
        }
        check("a=/process", Some(("a", "/process")));
    }

    #[test]
    fn the_command_says_everything_that_is_in_the_room() {
        let sandbox = Sandbox::new("/t")
            .launcher("ib")
            .read("/in", "/i")
            .write("/out", "/o")
            .device("/dev/kvm")
            .env("LC_ALL", "C.UTF-8")
            .cwd("/o");
        let command = sandbox.command("ls", ["-l"]);
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_str().expect("UTF-8"))
            .collect();
        assert_eq!(command.get_program(), "ib");
        let expected = "run --tree /t --read /in=/i --write /out=/o --device /dev/kvm --env HOME=/tmp --env LC_ALL=C.UTF-8 \
                        --env PATH=/usr/sbin:/usr/bin:/sbin:/bin --env SOURCE_DATE_EPOCH=315532800 --env TZ=UTC --cwd /o -- ls -l";
        assert_eq!(words.join(" "), expected);
    }
}
