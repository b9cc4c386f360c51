//! The progress of a boot on stderr: a line for each stage with the host's seconds, and on a terminal a spinner with what
//! is being waited for.

use super::serial::Stage;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    shown: Option<Stage>,
    spinner: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>5} {msg}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.expect("the template is a constant and parses"));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Progress {
            begun: Instant::now(),
            shown: None,
            spinner,
        }
    }

    /// Counts from zero again.
    pub(super) fn restart(&mut self) {
        self.begun = Instant::now();
        self.shown = None;
        if let Some(spinner) = &self.spinner {
            spinner.reset_elapsed();
        }
    }

    /// Host seconds since the count began.
    pub(super) fn seconds(&self) -> f64 {
        (self.begun.elapsed().as_secs_f64() * 10.0).round() / 10.0
    }

    /// The boot has reached `stage`. Stages that went by unseen are not printed.
    pub(super) fn reached(&mut self, stage: Stage) {
        if self.shown >= Some(stage) {
            return;
        }
        self.shown = Some(stage);
        self.print(&format!("{:6.1} s  {}", self.seconds(), described(stage)));
        match (&self.spinner, stage) {
            (Some(spinner), Stage::Ready) => spinner.finish_and_clear(),
            (Some(spinner), _) => spinner.set_message(awaited(stage)),
            (None, _) => {}
        }
    }

    /// One line, above the spinner when there is one.
    pub(super) fn print(&self, line: &str) {
        match &self.spinner {
            Some(spinner) if !spinner.is_finished() => spinner.suspend(|| eprintln!("{line}")),
            _ => eprintln!("{line}"),
        }
    }

    /// What is being done before there is a machine.
    pub(super) fn doing(&self, what: &'static str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(what),
            None => eprintln!("{what}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn described(stage: Stage) -> &'static str {
    match stage {
        Stage::Started => "qemu      started",
        Stage::Firmware => "firmware  started",
        Stage::Kernel => "kernel    started",
        Stage::Stage0 => "stage0    opening the verified root",
        Stage::Agent => "agent     started",
        Stage::Ready => "ready     the guest answers",
    }
}

fn awaited(stage: Stage) -> &'static str {
    match stage {
        Stage::Started => "waiting for the firmware",
        Stage::Firmware => "waiting for the kernel",
        Stage::Kernel => "waiting for stage0",
        Stage::Stage0 => "waiting for the agent to be started",
        Stage::Agent | Stage::Ready => "waiting for the agent to answer",
    }
}
