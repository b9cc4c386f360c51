//! `repro-check`: the same recipe built twice in circumstances that should not matter, and every byte compared.
//!
//! | what | first build | second build |
//! |---|---|---|
//! | sources | where they lie | a copy under a longer path, in a file system that lists directories in another order |
//! | store | the user's | another, with the same downloads and nothing else |
//! | user, umask, host name | the caller's | 1234, 077, another |
//! | language, time zone | the caller's | Turkish, fourteen hours ahead |
//! | calendar | the machine's | four years ahead, for every tool that asks the C library |
//! | processors | all | one |
//!
//! **Trusts** that the two builds do not know of each other: they share downloads, which are checked by digest, and the Rust
//! toolchain. **Lacks** another kernel and another processor: those need another machine.

mod compare;
mod variation;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

pub(crate) use compare::first_byte;
pub use compare::{Difference, compare};
pub use variation::{Variation, go};

use crate::formats::file_error::FileError;
use crate::sandbox::Sandbox;
use crate::store::Store;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Check<'a> {
    /// The recipe, in a checkout.
    pub recipe: &'a Path,
    /// The checkout.
    pub workspace: &'a Path,
    /// Words for both builds, such as `--mirror` with its URL.
    pub arguments: &'a [String],
    /// Whether the second build takes compiled programs from the first one's store.
    pub share_programs: bool,
    /// The user's store.
    pub store: &'a Store,
    /// The tree that has a C compiler, for the calendar; without one the calendar is the machine's.
    pub tools: Option<&'a Path>,
}

/// What differs between the two builds.
pub const VARIED: [&str; 9] = [
    "path",
    "user",
    "umask",
    "host name",
    "locale",
    "time zone",
    "clock",
    "core count",
    "directory order",
];

/// Why there was nothing to compare.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ReproError {
    #[error("another repro-check is using {path}")]
    Busy { path: String },
    #[error("the {which} build failed ({status})")]
    Build { which: &'static str, status: String },
    #[error("the second build's clock was not compiled ({0})")]
    Clock(String),
    #[error("the second build needs a user namespace: {0}")]
    Forbidden(String),
    #[error(
        "the sources have more than {max} bytes; is there something beside them in the checkout?"
    )]
    Sources { max: u64 },
    #[error(transparent)]
    Disk(#[from] FileError),
}

impl ReproError {
    fn disk<E: std::fmt::Display>(doing: &'static str, path: &Path) -> impl Fn(E) -> Self + use<E> {
        let path = path.to_owned();
        move |error| FileError::new(doing, &path, &error).into()
    }
}

/// The directory of a check, empty, and nobody else's as long as this lives.
pub struct WorkDir {
    directory: PathBuf,
    _claim: fs::File,
}

impl WorkDir {
    /// Claims it. What an earlier check left that was killed is removed.
    pub fn claim(store: &Store) -> Result<Self, ReproError> {
        let directory = store.root().join("repro");
        let disk = ReproError::disk("preparing", &directory);
        fs::create_dir_all(store.root()).map_err(&disk)?;
        let lock = store.root().join("repro.lock");
        let claim = fs::File::create(&lock).map_err(ReproError::disk("creating", &lock))?;
        if claim.try_lock().is_err() {
            let path = directory.display().to_string();
            return Err(ReproError::Busy { path });
        }
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(&disk)?;
        }
        fs::create_dir_all(&directory).map_err(&disk)?;
        Ok(Self {
            directory,
            _claim: claim,
        })
    }

    /// Where the first image is written, then the second.
    pub fn images(&self) -> [PathBuf; 2] {
        ["first", "second"].map(|name| self.directory.join(name))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // When it cannot be removed now, the next check tries again.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Check<'_> {
    /// Makes the image as it is always made.
    pub fn first(&self, work: &WorkDir) -> Result<(), ReproError> {
        let [out, _] = work.images();
        let mut command = Command::new(THIS_PROGRAM);
        command.arg("build").arg(self.recipe).arg("--out").arg(out);
        command.arg("--store").arg(self.store.root());
        command.args(self.arguments);
        ended("first", run(&mut command)?)
    }

    /// Makes it in other circumstances.
    pub fn second(&self, work: &WorkDir) -> Result<(), ReproError> {
        let store = work.directory.join("another store");
        self.furnish(&store)?;
        let inside = self.recipe.strip_prefix(self.workspace);
        let plan = Variation {
            builder: THIS_PROGRAM.into(),
            workspace: self.workspace.to_owned(),
            place: work.directory.join("elsewhere"),
            recipe: inside.unwrap_or(self.recipe).to_owned(),
            out: work.images()[1].clone(),
            store,
            preload: self
                .tools
                .map(|tools| clock(tools, &work.directory))
                .transpose()?,
            arguments: self.arguments.to_vec(),
        };
        fs::create_dir_all(&plan.place).map_err(ReproError::disk("creating", &plan.place))?;
        let words = serde_json::to_string(&plan).expect("paths and words have a JSON form");
        let mut command = Command::new(THIS_PROGRAM);
        command.arg(VARIATION).arg(words);
        ended("second", run(&mut command)?)
    }

    /// Downloads, and nothing that was made of them. With shared programs, those too.
    fn furnish(&self, store: &Path) -> Result<(), ReproError> {
        for name in ["sha256", "models"] {
            link_all(&self.store.root().join(name), &store.join(name))?;
        }
        if self.share_programs {
            for name in ["target", "programs", "sources"] {
                let (from, to) = (self.store.root().join(name), store.join(name));
                fs::create_dir_all(&from).map_err(ReproError::disk("creating", &from))?;
                let linked = std::os::unix::fs::symlink(&from, &to);
                linked.map_err(ReproError::disk("linking", &to))?;
            }
        }
        Ok(())
    }
}

/// Every file below `from` at the same place below `to`, without its bytes where the file system can.
fn link_all(from: &Path, to: &Path) -> Result<(), ReproError> {
    fs::create_dir_all(to).map_err(ReproError::disk("creating", to))?;
    if !from.is_dir() {
        return Ok(());
    }
    let reading = ReproError::disk("reading", from);
    for entry in fs::read_dir(from).map_err(&reading)? {
        let (path, name) = match entry {
            Ok(entry) => (entry.path(), entry.file_name()),
            Err(error) => return Err(reading(error)),
        };
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let place = to.join(name);
        if path.is_dir() {
            link_all(&path, &place)?;
        } else if fs::hard_link(&path, &place).is_err() {
            fs::copy(&path, &place).map_err(ReproError::disk("copying", &path))?;
        }
    }
    Ok(())
}

/// Compiles the calendar with the locked compiler.
fn clock(tools: &Path, directory: &Path) -> Result<PathBuf, ReproError> {
    let source = directory.join("clock.c");
    fs::write(&source, CLOCK).map_err(ReproError::disk("writing", &source))?;
    let out = directory.join("clock");
    fs::create_dir_all(&out).map_err(ReproError::disk("creating", &out))?;
    let sandbox = Sandbox::new(tools)
        .read(&source, "/clock.c")
        .write(&out, "/out");
    let flags = [
        "-O2",
        "-fPIC",
        "-shared",
        "-nostdlib",
        "-fno-builtin",
        "-o",
        "/out/clock.so",
        "/clock.c",
    ];
    let status = run(&mut sandbox.command("/usr/bin/gcc", flags))?;
    match status.success() {
        true => Ok(out.join("clock.so")),
        false => Err(ReproError::Clock(status.to_string())),
    }
}

fn run(command: &mut Command) -> Result<ExitStatus, ReproError> {
    // What the builds print goes to stderr: stdout is for the comparison.
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    quiet
        .status()
        .map_err(ReproError::disk("starting", Path::new(THIS_PROGRAM)))
}

fn ended(which: &'static str, status: ExitStatus) -> Result<(), ReproError> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(ReproError::Build {
            which,
            status: format!("exit code {code}"),
        }),
        None => {
            let status = format!("signal {}", status.signal().unwrap_or_default());
            Err(ReproError::Build { which, status })
        }
    }
}

const CLOCK: &str = include_str!("repro/clock.c");
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The hidden command that [`go`] is behind.
pub const VARIATION: &str = "repro-variation";
