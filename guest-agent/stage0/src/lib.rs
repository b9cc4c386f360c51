//! The first program of a guest.
//!
//! **What it is.** PID 1 of the initrd: it loads the listed kernel modules, opens the root through dm-verity and becomes
//! the agent.
//!
//! **Trusts.** The measured kernel, initrd and command line that it was started with; no byte of the disk.
//!
//! **Promises.** What the agent reads from its root has the hash that the command line names, or the machine stops.
//!
//! **Lacks.** A shell, a network, a way to start anything else.
