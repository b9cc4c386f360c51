//! Ctrl-C and its kin end a command in order: what it was writing goes, and what was there before stays.

use std::process;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// From now on a signal that asks this program to end runs `clean` first, in a thread of its own, and ends it with 128 and the
/// signal's number as shells count. To be called before any other thread starts, which then do not get such signals.
pub fn clean_with(clean: fn()) {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Without it a signal ends the program as ever, and the next run clears what is left.
    if signals.thread_block().is_err() {
        return;
    }
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            clean();
            eprintln!("image-builder: ended by {signal}; the output directory is as it was");
            process::exit(128 + signal as i32);
        }
    });
}
