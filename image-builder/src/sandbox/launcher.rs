//! The first half: leaves the host's namespaces, starts the second half as process 1 of the new ones, waits for it.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, dup, getgid, getppid, getuid};

use super::init::Plan;
use super::{INSIDE, Sandbox, SandboxError, THIS_PROGRAM, forbidden, signals as relay};

/// Runs `program` in `sandbox` and returns its exit code, or 128 and a signal's number. For a process with one thread that
/// does nothing else: afterwards it is in other namespaces, with signals blocked.
pub fn enter(sandbox: &Sandbox, program: &str, arguments: &[String]) -> Result<u8, SandboxError> {
    let plan = serde_json::to_string(&Plan::of(sandbox, program, arguments)?)
        .map_err(SandboxError::step("describing itself"))?;
    relay::signals()
        .thread_block()
        .map_err(SandboxError::step("blocking signals"))?;
    let parent = getppid();
    separate()?;
    set_pdeathsig(Signal::SIGKILL).map_err(SandboxError::step("tying itself to its parent"))?;
    if getppid() != parent {
        return Err(SandboxError::step("starting")("its parent has ended"));
    }

    // Closed by the second half once it passes signals on itself: until then one that it was sent would be lost.
    let (mut ready, inherited) = io::pipe().map_err(SandboxError::step("making a pipe"))?;
    let open = dup(&inherited).map_err(SandboxError::step("making a pipe"))?;
    drop(inherited);
    let mut command = Command::new(THIS_PROGRAM);
    command
        .arg(INSIDE)
        .arg(own_process_number()?)
        .arg(open.as_raw_fd().to_string())
        .arg(plan);
    let child = command
        .env_clear()
        .spawn()
        .map_err(SandboxError::step("starting its second half"))?;
    drop((command, open));
    let mut nothing = [0];
    drop(ready.read(&mut nothing));
    relay::attend(Pid::from_raw(child.id() as i32))
}

/// New namespaces of every kind that could show something of the host, owned by a new user namespace in which the caller is
/// root.
fn separate() -> Result<(), SandboxError> {
    let (user, group) = (getuid(), getgid());
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(all).map_err(forbidden::refused)?;
    become_root(user.as_raw(), group.as_raw())
}

/// Maps the one user and the one group that there are to root. user_namespaces(7), "Defining user and group ID mappings":
/// groups can be mapped only after `setgroups` is given up.
pub(super) fn become_root(user: u32, group: u32) -> Result<(), SandboxError> {
    let write = |file: &str, text: String| {
        let path = Path::new("/proc/self").join(file);
        fs::write(&path, text).map_err(SandboxError::step(format!("writing {}", path.display())))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

/// This process's number as the mounted `/proc` counts, which is what the second half compares with.
fn own_process_number() -> Result<String, SandboxError> {
    let link = fs::read_link("/proc/self").map_err(SandboxError::step("reading /proc/self"))?;
    Ok(link.display().to_string())
}
