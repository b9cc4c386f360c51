//! For tests: a child process that ends by SIGKILL at a chosen step. Every change of the state file and every call of a node has a
//! step before it and one after it, so a process can be ended between any two effects that it has on the world.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of the step that is not survived, for a child process.
pub(crate) const VARIABLE: &str = "CHRYSALIS_TEST_KILLED_AT";

static STEPS: AtomicU64 = AtomicU64::new(0);

/// One more step; the last one, if it is the chosen one.
pub(crate) fn step() {
    static CHOSEN: OnceLock<Option<u64>> = OnceLock::new();
    let read = || std::env::var(VARIABLE).ok()?.parse().ok();
    let number = STEPS.fetch_add(1, Ordering::SeqCst) + 1;
    if *CHOSEN.get_or_init(read) == Some(number) {
        kill(Pid::this(), Signal::SIGKILL).expect("a signal to this process");
        loop {
            std::thread::park();
        }
    }
}

/// Steps so far.
pub(crate) fn steps() -> u64 {
    STEPS.load(Ordering::SeqCst)
}
