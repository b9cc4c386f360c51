//! What a command cost: seconds of each stage, and memory at its highest.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// Stages one after another, each from its name to the next one's.
pub struct Stages {
    done: Vec<(String, f64)>,
    current: Option<(String, Instant)>,
}

impl Stages {
    /// None yet.
    pub fn new() -> Self {
        Self {
            done: Vec::new(),
            current: None,
        }
    }

    /// The stage called `name` begins, and the one before it ends. A stage that comes again goes on.
    pub fn begin(&mut self, name: &str) {
        if self
            .current
            .as_ref()
            .is_some_and(|(current, _)| current == name)
        {
            return;
        }
        self.end();
        self.current = Some((name.to_owned(), Instant::now()));
    }

    /// The last stage ends.
    pub fn end(&mut self) {
        let Some((name, begun)) = self.current.take() else {
            return;
        };
        let seconds = begun.elapsed().as_secs_f64();
        match self.done.iter_mut().find(|(done, _)| *done == name) {
            Some((_, all)) => *all += seconds,
            None => self.done.push((name, seconds)),
        }
    }

    /// Names and seconds, in order.
    pub fn report(&self) -> Value {
        let stage = |(name, seconds): &(String, f64)| json!({ "stage": name, "seconds": seconds });
        self.done.iter().map(stage).collect()
    }
}

/// The most memory that this program held at a time, in bytes, and the most that any one program that it started and waited for
/// did. getrusage(2): `ru_maxrss`, in KiB.
pub fn peak_memory_bytes() -> Option<(u64, u64)> {
    let peak = |who| {
        let kibibytes = getrusage(who).ok()?.max_rss();
        u64::try_from(kibibytes).ok()?.checked_mul(1024)
    };
    Some((
        peak(UsageWho::RUSAGE_SELF)?,
        peak(UsageWho::RUSAGE_CHILDREN)?,
    ))
}
