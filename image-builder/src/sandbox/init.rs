//! The second half: process 1 of the sandbox. Builds its file system, starts the program, waits for it.

use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, close, pivot_root, sethostname, setsid};
use serde::{Deserialize, Serialize};

use super::launcher::become_root;
use super::{Bind, Sandbox, SandboxError, forbidden, is_inside, signals as relay};

mod mounts;

use mounts::{Access, bind, tmpfs};

/// A [`Sandbox`] with a program, its host paths resolved: what travels to the second half.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    tree: PathBuf,
    reads: Vec<Bind>,
    writes: Vec<Bind>,
    devices: Vec<PathBuf>,
    env: Vec<(String, String)>,
    cwd: PathBuf,
    program: String,
    arguments: Vec<String>,
}

impl Plan {
    /// Resolves every host path, because links among them would point elsewhere once the root has changed.
    pub fn of(
        sandbox: &Sandbox,
        program: &str,
        arguments: &[String],
    ) -> Result<Self, SandboxError> {
        let resolve = |path: &Path| {
            fs::canonicalize(path).map_err(SandboxError::step(format!(
                "looking for {}",
                path.display()
            )))
        };
        let binds = |binds: &[Bind]| -> Result<Vec<Bind>, SandboxError> {
            let mut resolved = Vec::new();
            for bind in binds {
                let inside = bind.inside.clone();
                if !is_inside(&inside) {
                    let sentence = format!("{} is no place inside", inside.display());
                    return Err(SandboxError::Misuse(sentence));
                }
                let host = resolve(&bind.host)?;
                resolved.push(Bind { host, inside });
            }
            Ok(resolved)
        };
        for device in &sandbox.devices {
            if !is_device_path(device) {
                let sentence = format!("{} is no path of a device", device.display());
                return Err(SandboxError::Misuse(sentence));
            }
            resolve(device)?;
        }
        Ok(Self {
            tree: resolve(&sandbox.tree)?,
            reads: binds(&sandbox.reads)?,
            writes: binds(&sandbox.writes)?,
            devices: sandbox.devices.clone(),
            env: sandbox.env.clone().into_iter().collect(),
            cwd: sandbox.cwd.clone(),
            program: program.to_owned(),
            arguments: arguments.to_vec(),
        })
    }
}

/// The second half's `main`: `parent` is the first half's number in the host's `/proc`, `ready` a descriptor to close when
/// signals can be passed, `plan` the JSON of a [`Plan`].
pub fn inhabit(parent: &str, ready: RawFd, plan: &str) -> Result<u8, SandboxError> {
    let plan: Plan =
        serde_json::from_str(plan).map_err(SandboxError::step("reading its own description"))?;
    set_pdeathsig(Signal::SIGKILL).map_err(SandboxError::step("tying itself to its parent"))?;
    if parent_number()? != parent {
        return Err(SandboxError::step("starting")("its first half has ended"));
    }
    let ready = File::options()
        .write(true)
        .open(format!("/proc/self/fd/{ready}"))
        .map_err(SandboxError::step("opening the pipe to its first half"))?;
    close_inherited(&ready)?;
    build_root(&plan)?;
    sethostname("chrysalis").map_err(SandboxError::step("setting the host name"))?;
    lock_mounts()?;
    setsid().map_err(SandboxError::step("leaving the terminal"))?;
    set_no_new_privs().map_err(SandboxError::step("giving up new privileges"))?;
    umask(Mode::from_bits_truncate(0o022));

    let child = spawn(&plan)?;
    drop(ready);
    relay::attend(child)
}

/// Starts the program with no signal blocked, which it would inherit.
fn spawn(plan: &Plan) -> Result<Pid, SandboxError> {
    let mut command = Command::new(&plan.program);
    command
        .args(&plan.arguments)
        .env_clear()
        .envs(plan.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&plan.cwd);
    SigSet::empty()
        .thread_set_mask()
        .map_err(SandboxError::step("unblocking signals"))?;
    let child = command.spawn();
    relay::signals()
        .thread_block()
        .map_err(SandboxError::step("blocking signals"))?;
    match child {
        Ok(child) => Ok(Pid::from_raw(child.id() as i32)),
        Err(_) if !plan.cwd.is_dir() => {
            let sentence = format!("{} is no directory inside", plan.cwd.display());
            Err(SandboxError::Misuse(sentence))
        }
        Err(error) => Err(SandboxError::Program {
            program: plan.program.clone(),
            missing: error.kind() == io::ErrorKind::NotFound,
            reason: match error.kind() {
                io::ErrorKind::NotFound => "it, or the loader that it names, is not there".into(),
                _ => error.to_string(),
            },
        }),
    }
}

/// The number of the parent as the host's `/proc` counts: field 4 of proc_pid_stat(5), the second after the name in brackets.
/// `getppid` would say 0, because the parent is outside of this process namespace.
fn parent_number() -> Result<String, SandboxError> {
    let stat = fs::read_to_string("/proc/self/stat")
        .map_err(SandboxError::step("reading /proc/self/stat"))?;
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_whitespace().nth(1).unwrap_or("").to_owned())
}

/// Closes what the caller left open, other than the standard three: an open directory of the host would be a way out.
/// What this program opens itself closes when the next one starts.
fn close_inherited(keep: &File) -> Result<(), SandboxError> {
    use std::os::fd::AsRawFd;
    let list = || fs::read_dir("/proc/self/fd").map_err(SandboxError::step("listing open files"));
    let mut numbers = Vec::new();
    for entry in list()? {
        let entry = entry.map_err(SandboxError::step("listing open files"))?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        numbers.extend(number.filter(|number: &RawFd| *number > 2 && *number != keep.as_raw_fd()));
    }
    for number in numbers {
        // One of them was the list itself, which is closed.
        let _ = close(number);
    }
    Ok(())
}

/// Makes the new root and moves into it.
///
/// 1. An empty file system becomes the root, with the host's at `/old`. It is mounted over the tree, which is a directory that
///    surely exists; the move takes it off again.
/// 2. The sandbox is built in `/new`.
/// 3. `/new` becomes the root and all else goes.
fn build_root(plan: &Plan) -> Result<(), SandboxError> {
    let nowhere = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nowhere, "/", nowhere, private, nowhere).map_err(first_mount)?;
    tmpfs(&plan.tree, "0700").map_err(first_mount)?;
    change_root(&plan.tree)?;

    let new = Path::new("/new");
    tmpfs(new, "0755").map_err(SandboxError::step("mounting the root"))?;
    show_tree(&Path::new("/old").join(relative(&plan.tree)), new)?;
    add_system(&plan.devices, new)?;
    let reads = plan.reads.iter().map(|bind| (bind, Access::Read));
    let writes = plan.writes.iter().map(|bind| (bind, Access::Write));
    let mut binds: Vec<_> = reads.chain(writes).collect();
    // Outer ones first, so that none covers another that is to be seen in it.
    binds.sort_by_key(|(bind, _)| bind.inside.components().count());
    for (Bind { host, inside }, access) in binds {
        let source = Path::new("/old").join(relative(host));
        let target = place(new, inside, source.is_dir())?;
        bind(&source, &target, access)?;
    }
    mounts::seal(new)?;

    let leaving = |step| SandboxError::step(format!("leaving the host's file system ({step})"));
    chdir(new).map_err(leaving("chdir"))?;
    pivot_root(".", ".").map_err(leaving("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(leaving("umount"))?;
    chdir("/").map_err(leaving("chdir"))
}

/// Where AppArmor takes the rights out of a user namespace, making it succeeds and the first mount fails.
fn first_mount(error: Errno) -> SandboxError {
    match error {
        Errno::EPERM | Errno::EACCES => forbidden::refused(error),
        error => SandboxError::step("mounting")(error),
    }
}

fn change_root(base: &Path) -> Result<(), SandboxError> {
    let step = |doing: &str| format!("{doing} for its root");
    for name in ["old", "new"] {
        fs::create_dir(base.join(name)).map_err(SandboxError::step(step("making directories")))?;
    }
    pivot_root(base, &base.join("old")).map_err(SandboxError::step(step("pivot_root")))?;
    chdir("/").map_err(SandboxError::step(step("chdir")))
}

/// Binds the top-level entries of the tree; links among them (`bin -> usr/bin`) are made again.
fn show_tree(tree: &Path, new: &Path) -> Result<(), SandboxError> {
    let doing = || format!("showing the tree {}", tree.display());
    for entry in fs::read_dir(tree).map_err(SandboxError::step(doing()))? {
        let entry = entry.map_err(SandboxError::step(doing()))?;
        let name = entry.file_name();
        if OURS.iter().any(|ours| name == *ours) {
            continue;
        }
        let (source, target) = (entry.path(), new.join(&name));
        let kind = entry.file_type().map_err(SandboxError::step(doing()))?;
        if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(SandboxError::step(doing()))?;
            symlink(link, &target).map_err(SandboxError::step(doing()))?;
            continue;
        }
        make(&target, kind.is_dir()).map_err(SandboxError::step(doing()))?;
        bind(&source, &target, Access::Read)?;
    }
    Ok(())
}

/// `/proc`, `/dev` and `/tmp`.
fn add_system(devices: &[PathBuf], new: &Path) -> Result<(), SandboxError> {
    let doing = "making /proc, /dev and /tmp";
    for name in OURS {
        make(&new.join(name), true).map_err(SandboxError::step(doing))?;
    }
    tmpfs(&new.join("tmp"), "1777").map_err(SandboxError::step(doing))?;
    mounts::proc(&new.join("proc"))?;

    let dev = new.join("dev");
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name)).map_err(SandboxError::step(doing))?;
    }
    make(&dev.join("shm"), true).map_err(SandboxError::step(doing))?;
    tmpfs(&dev.join("shm"), "1777").map_err(SandboxError::step(doing))?;
    let every = DEVICES.iter().map(Path::new);
    for device in every.chain(devices.iter().map(PathBuf::as_path)) {
        let target = place(new, device, false)?;
        bind(
            &Path::new("/old").join(relative(device)),
            &target,
            Access::Device,
        )?;
    }
    Ok(())
}

/// Makes the place for a bind at `inside`, and returns where it is as long as the new root is not yet the root. A link on the
/// way is refused: it would lead elsewhere now than later.
fn place(new: &Path, inside: &Path, directory: bool) -> Result<PathBuf, SandboxError> {
    let refuse = |why: String| {
        SandboxError::Misuse(format!(
            "nothing can be shown at {}: {why}",
            inside.display()
        ))
    };
    let parts: Vec<&Path> = relative(inside).iter().map(Path::new).collect();
    let mut path = new.to_owned();
    for (index, part) in parts.iter().enumerate() {
        path.push(part);
        let directory = directory || index + 1 < parts.len();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                return Err(refuse(format!("{} is a link", part.display())));
            }
            Ok(found) if found.is_dir() != directory => {
                let other = if directory { "a file" } else { "a directory" };
                return Err(refuse(format!("{} is {other}", part.display())));
            }
            Ok(_) => {}
            Err(_) => make(&path, directory).map_err(|error| refuse(error.to_string()))?,
        }
    }
    Ok(path)
}

fn make(path: &Path, directory: bool) -> io::Result<()> {
    if directory {
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    } else {
        File::create_new(path).map(drop)
    }
}

/// Enters a second user namespace. Mounts that come along from the first are locked there: the program, which is root in its
/// own namespace, can no longer make a read-only one writable or take one away (mount_namespaces(7)).
fn lock_mounts() -> Result<(), SandboxError> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(forbidden::refused)?;
    become_root(0, 0)
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Whether `path` is `/dev/…` without `..`.
fn is_device_path(path: &Path) -> bool {
    path.starts_with("/dev")
        && path.components().count() > 2
        && !path.components().any(|part| part == Component::ParentDir)
}

/// Directories that every sandbox has of its own, whatever the tree has there.
const OURS: [&str; 3] = ["proc", "dev", "tmp"];
/// Nodes that tell nothing and change nothing.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
