//! The first program of a guest.
//!
//! **What it is.** PID 1 of the initrd: it loads the listed kernel modules, opens the root through dm-verity and becomes
//! the agent.
//!
//! The agent links this library for one thing: to open a model's disk in the same way as the root's ([`Mounted`]).
//!
//! **Trusts.** The measured kernel, initrd and command line that it was started with; no byte of the disk.
//!
//! **Promises.** What the agent reads from its root has the hash on the command line, or the machine stops: when the first
//! program ends the kernel panics, and nothing else is running. It prints fixed text, names of measured files and error
//! numbers only.
//!
//! **Lacks.** A shell, a network, child processes, and a way to start anything but `/agent`. (`bin/` has programs for test and
//! developers' guests.)
//!
//! ```text
//!  prepare ──────────────► open ─────────────────────► hand_over
//!  /dev /proc /sys,        dm-verity over /dev/vda,    /run /tmp, switch root,
//!  /modules, side by side  or over its partitions 2    arguments from /start, exec /agent
//!                          and 3; EROFS on /newroot
//! ```

mod boot;
mod command_line;
mod device_mapper;
mod devices;
mod disk;
mod failure;
pub mod limits;
mod modules;
mod mounts;
mod start;
pub mod stream;
mod verity;

// The public interface is:
pub use boot::{boot, enter, prepare};
pub use command_line::{CommandLine, CommandLineError};
pub use devices::{Driver, list};
pub use disk::{Mounted, wait_for};
pub use failure::{Failure, stop};
pub use start::{StartError, arguments};
pub use verity::{DiskLayout, VerityRoot};
