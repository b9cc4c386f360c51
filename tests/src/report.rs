//! What the demo tells: each step with its time for people, one object for machines.

use demo::{Plan, Step};
use predict::image::ImageManifest;
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

/// Prints to standard error what is about to be done, and what was.
pub struct Steps {
    plan: Option<Plan>,
    begun: Instant,
    last: Instant,
}

impl Steps {
    /// Prints the steps of a plan.
    pub fn of(plan: Plan) -> Self {
        Steps {
            plan: Some(plan),
            ..Steps::quiet()
        }
    }

    /// Prints nothing.
    pub fn quiet() -> Self {
        Steps {
            plan: None,
            begun: Instant::now(),
            last: Instant::now(),
        }
    }

    /// A step of the plan begins: what it is, and how long it and the rest will take.
    pub fn begin(&self, step: Step) {
        if let Some(plan) = &self.plan {
            eprintln!("{}", plan.announce(step));
        }
    }

    /// Something is done: its name, and what was found, by whom.
    pub fn done(&mut self, name: &str, what: String) {
        let took = self.last.elapsed();
        self.last = Instant::now();
        if self.plan.is_some() {
            eprintln!("{:>7.2}s  {name:<11} {what}", took.as_secs_f64());
        }
    }

    /// The last line.
    pub fn end(&self) {
        if self.plan.is_some() {
            let total_s = self.begun.elapsed().as_secs_f64();
            eprintln!(
                "{total_s:>7.2}s  in all. Simulated: TDX module, coins. Real: everything else."
            );
        }
    }
}
