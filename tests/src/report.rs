//! What the demo tells: each step with its time for people, one object for machines.

use measurements::ImageManifest;
use serde_json::{Value, json};
use std::time::Instant;

/// The object on the last line of standard output.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Report {
    /// What the machine was, for a guest that was one.
    pub fn add_image(&mut self, image: &ImageManifest, build_s: f64, boot_s: f64) {
        let registers = &image.registers;
        self.0["image"] = json!({
            "mrtd": registers.mrtd,
            "rtmr0": registers.rtmr0,
            "rtmr1": registers.rtmr1,
            "rtmr2": registers.rtmr2,
            "rootfs_digest": image.files.root.sha256,
            "lock_digest": image.lock_sha256,
        });
        self.0["seconds"]["build"] = build_s.into();
        self.0["seconds"]["boot"] = boot_s.into();
    }
}

/// Prints steps to standard error as they are done.
pub struct Steps {
    quiet: bool,
    begun: Instant,
    last: Instant,
}

impl Steps {
    /// Prints nothing when `quiet`.
    pub fn new(quiet: bool) -> Self {
        Steps {
            quiet,
            begun: Instant::now(),
            last: Instant::now(),
        }
    }

    /// A step is done: its name, and what was found, by whom.
    pub fn done(&mut self, name: &str, what: String) {
        let took = self.last.elapsed();
        self.last = Instant::now();
        if !self.quiet {
            eprintln!("{:>7.2}s  {name:<11} {what}", took.as_secs_f64());
        }
    }

    /// Seconds since the first step began.
    pub fn total_s(&self) -> f64 {
        crate::stack::seconds(self.begun)
    }
}
