//! The second build's circumstances: a process that changes its own, and then becomes `image-builder build`.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, getgid, getuid, sethostname};
use serde::{Deserialize, Serialize};

use crate::error::{Error, error};
use crate::files;
use crate::limits::REPRO_SOURCES_BYTES_MAX;

/// What the process is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variation {
    /// The program that builds: this one.
    pub builder: PathBuf,
    /// The checkout to copy.
    pub workspace: PathBuf,
    /// An empty directory that becomes a file system in memory.
    pub place: PathBuf,
    /// The recipe, relative to the checkout.
    pub recipe: PathBuf,
    /// The image's directory.
    pub out: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// The calendar to preload.
    pub preload: Option<PathBuf>,
    /// More words for `build`.
    pub arguments: Vec<String>,
}

/// Goes there and builds; returns only when that failed. For a process with one thread that does nothing else.
pub fn go(plan: &Variation) -> Error {
    match prepare(plan) {
        Ok(mut command) => Error::disk("starting", &plan.builder)(command.exec()),
        Err(error) => error,
    }
}

fn prepare(plan: &Variation) -> Result<Command, Error> {
    let here = Error::disk("leaving", &plan.workspace);
    set_pdeathsig(Signal::SIGKILL).map_err(&here)?;
    become_another()?;
    let tmpfs = mount(
        Some("tmpfs"),
        &plan.place,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    );
    tmpfs.map_err(Error::disk("mounting", &plan.place))?;
    let sources = plan
        .place
        .join("quite another place")
        .join("for the same sources");
    copy_backwards(&plan.workspace, &sources, &mut 0)?;
    sethostname("elsewhere").map_err(&here)?;
    one_processor().map_err(&here)?;
    umask(Mode::from_bits_truncate(0o077));

    let mut command = Command::new(&plan.builder);
    command.arg("build").arg(sources.join(&plan.recipe));
    command
        .arg("--out")
        .arg(&plan.out)
        .arg("--store")
        .arg(&plan.store);
    command.args(&plan.arguments);
    command.envs([
        ("LC_ALL", "tr_TR.UTF-8"),
        ("LANG", "tr_TR.UTF-8"),
        ("TZ", "Pacific/Kiritimati"),
    ]);
    command.current_dir(&plan.place);
    if let Some(preload) = &plan.preload {
        command
            .arg("--preload")
            .arg(preload)
            .env("LD_PRELOAD", preload);
    }
    Ok(command)
}

/// User and group 1234 of new namespaces. user_namespaces(7), "Defining user and group ID mappings".
fn become_another() -> Result<(), Error> {
    let (user, group) = (getuid(), getgid());
    let apart = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
    unshare(apart).map_err(|error| {
        let why = crate::sandbox::refusal(error);
        error!(Host, "the second build needs a user namespace: {why}")
    })?;
    let write = |file: &str, text: String| files::write(&Path::new("/proc/self").join(file), text);
    write("setgroups", "deny".into())?;
    write("uid_map", format!("1234 {user} 1"))?;
    write("gid_map", format!("1234 {group} 1"))
}

/// The last of those that this process may use.
fn one_processor() -> nix::Result<()> {
    let may = sched_getaffinity(Pid::from_raw(0))?;
    let mut one = CpuSet::new();
    let last = (0..CpuSet::count())
        .rev()
        .find(|cpu| may.is_set(*cpu).unwrap_or(false));
    one.set(last.unwrap_or(0))?;
    sched_setaffinity(Pid::from_raw(0), &one)
}

/// In the reverse of the names' order: a file system in memory lists what came last first.
fn copy_backwards(from: &Path, to: &Path, copied: &mut u64) -> Result<(), Error> {
    files::create_directory(to)?;
    let mut entries = files::entries(from)?;
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(Error::disk("reading", &path))?;
        // Neither what cargo made nor what git keeps is a source.
        if name == "target" || name == "node_modules" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let place = to.join(name);
        let copying = Error::disk("copying", &path);
        if kind.is_dir() {
            copy_backwards(&path, &place, copied)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(&copying)?;
            symlink(target, &place).map_err(&copying)?;
        } else if kind.is_file() {
            *copied += entry.metadata().map_err(&copying)?.len();
            if *copied > REPRO_SOURCES_BYTES_MAX {
                return Err(error!(
                    Caller,
                    "the sources have more than {REPRO_SOURCES_BYTES_MAX} bytes; is there something beside them in the checkout?"
                ));
            }
            fs::copy(&path, &place).map_err(&copying)?;
        }
    }
    Ok(())
}
