//! What a person sees of a long download or of unpacking.

use std::io::{self, IsTerminal};
use std::time::Duration;

use crate::store::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, lines elsewhere; both on stderr.
pub struct Screen {
    bar: Option<ProgressBar>,
    terminal: bool,
    tenth: u64,
}

impl Screen {
    /// Nothing shown yet.
    pub fn new() -> Self {
        Self {
            bar: None,
            terminal: io::stderr().is_terminal(),
            tenth: 0,
        }
    }

    /// Shows what is happening.
    pub fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Present { id } => self.say(&format!("{id}: present, digests right")),
            Progress::Starting { url, got, total } => self.start(url, got, total),
            Progress::Received { got, total } => self.receive(got, total),
            Progress::Resuming { reason } => {
                self.say(&format!("the connection broke ({reason}); resuming"))
            }
            Progress::Refused { reason } => {
                self.say(&format!("{reason}; asking the next"));
            }
            Progress::Restarting { reason } => self.say(&format!(
                "the partial download is no use (the mirror {reason}); starting again"
            )),
            Progress::Signed {
                suite,
                by,
                dated,
                valid_until,
            } => {
                let until = match valid_until {
                    Some(until) => format!("valid until {until}"),
                    None => "its archive gives it no end".into(),
                };
                self.say(&format!("{suite} of {dated}: signed by {by}; {until}"));
            }
            Progress::Working { what, total } => {
                self.end();
                self.say(what);
                self.begin(0, total);
            }
            Progress::Unpacking { id } => {
                self.end();
                self.say(&format!("{id}: archive whole, digest right; unpacking"));
            }
            Progress::Placed { id } => self.say(&format!("{id}: in place, digests right")),
        }
    }

    fn start(&mut self, url: &str, got: u64, total: u64) {
        self.say(&match got {
            0 => format!("fetching {total} bytes from {url}"),
            got => format!("fetching the rest after {got} of {total} bytes from {url}"),
        });
        self.begin(got, total);
    }

    fn begin(&mut self, got: u64, total: u64) {
        self.tenth = got.saturating_mul(10) / total.max(1);
        if self.terminal {
            let style = ProgressStyle::with_template(
                "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            let bar = ProgressBar::new(total)
                .with_style(style.expect("the template is a constant and parses"));
            bar.set_position(got);
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn receive(&mut self, got: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(got);
            return;
        }
        let tenth = got.saturating_mul(10) / total.max(1);
        if tenth > self.tenth {
            self.tenth = tenth;
            eprintln!("  {}0 %", tenth);
        }
    }

    /// One line, above the bar when there is one.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}
