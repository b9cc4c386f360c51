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

use crate::error::{Error, error};
use crate::files;
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

/// The directory of a check, empty, and nobody else's as long as this lives.
pub struct WorkDir {
    directory: PathBuf,
    _claim: fs::File,
}

impl WorkDir {
    /// Claims it. What an earlier check left that was killed is removed.
    pub fn claim(store: &Store) -> Result<Self, Error> {
        let directory = store.root().join("repro");
        files::create_directory(store.root())?;
        let lock = store.root().join("repro.lock");
        let claim = fs::File::create(&lock).map_err(Error::disk("creating", &lock))?;
        if claim.try_lock().is_err() {
            let directory = directory.display();
            return Err(error!(Caller, "another repro-check is using {directory}"));
        }
        files::remove(&directory)?;
        files::create_directory(&directory)?;
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
    pub fn first(&self, work: &WorkDir) -> Result<(), Error> {
        let [out, _] = work.images();
        let mut command = Command::new(THIS_PROGRAM);
        command.arg("build").arg(self.recipe).arg("--out").arg(out);
        command.arg("--store").arg(self.store.root());
        command.args(self.arguments);
        ended("first", run(&mut command)?)
    }

    /// Makes it in other circumstances.
    pub fn second(&self, work: &WorkDir) -> Result<(), Error> {
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
        files::create_directory(&plan.place)?;
        let words = serde_json::to_string(&plan).expect("paths and words have a JSON form");
        let mut command = Command::new(THIS_PROGRAM);
        command.arg(VARIATION).arg(words);
        ended("second", run(&mut command)?)
    }

    /// Downloads, and nothing that was made of them. With shared programs, those too.
    fn furnish(&self, store: &Path) -> Result<(), Error> {
        for name in ["sha256", "models"] {
            link_all(&self.store.root().join(name), &store.join(name))?;
        }
        if self.share_programs {
            for name in ["target", "programs", "sources"] {
                let (from, to) = (self.store.root().join(name), store.join(name));
                files::create_directory(&from)?;
                let linked = std::os::unix::fs::symlink(&from, &to);
                linked.map_err(Error::disk("linking", &to))?;
            }
        }
        Ok(())
    }
}

/// Every file below `from` at the same place below `to`, without its bytes where the file system can.
fn link_all(from: &Path, to: &Path) -> Result<(), Error> {
    files::create_directory(to)?;
    if !from.is_dir() {
        return Ok(());
    }
    for entry in files::entries(from)? {
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let place = to.join(name);
        if path.is_dir() {
            link_all(&path, &place)?;
        } else if fs::hard_link(&path, &place).is_err() {
            fs::copy(&path, &place).map_err(Error::disk("copying", &path))?;
        }
    }
    Ok(())
}

/// Compiles the calendar with the locked compiler.
fn clock(tools: &Path, directory: &Path) -> Result<PathBuf, Error> {
    let source = directory.join("clock.c");
    files::write(&source, CLOCK)?;
    let out = directory.join("clock");
    files::create_directory(&out)?;
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
        false => Err(error!(
            Host,
            "the second build's clock was not compiled ({status})"
        )),
    }
}

fn run(command: &mut Command) -> Result<ExitStatus, Error> {
    // What the builds print goes to stderr: stdout is for the comparison.
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    quiet
        .status()
        .map_err(Error::disk("starting", Path::new(THIS_PROGRAM)))
}

fn ended(which: &'static str, status: ExitStatus) -> Result<(), Error> {
    let status = match status.code() {
        Some(0) => return Ok(()),
        Some(code) => format!("exit code {code}"),
        None => format!("signal {}", status.signal().unwrap_or_default()),
    };
    Err(error!(Build, "the {which} build failed ({status})"))
}

const CLOCK: &str = include_str!("repro/clock.c");
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The hidden command that [`go`] is behind.
pub const VARIATION: &str = "repro-variation";
