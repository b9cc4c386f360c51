//! A bar on standard error while weights are read, where a person looks at it.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How far the reading of files is.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar, or none where standard error is no terminal.
    pub fn new(what: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::none();
        }
        let bar = ProgressBar::new(0);
        let style =
            ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    /// Nothing is shown.
    pub fn none() -> Self {
        Progress(ProgressBar::hidden())
    }

    /// A file of `bytes` bytes whose reading moves the bar.
    pub fn of<R: Read>(&self, bytes: u64, content: R) -> Watched<R> {
        self.0.inc_length(bytes);
        Watched {
            content,
            bar: self.0.clone(),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A file that is being read.
pub struct Watched<R> {
    content: R,
    bar: ProgressBar,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, place: &mut [u8]) -> std::io::Result<usize> {
        let read = self.content.read(place)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}
