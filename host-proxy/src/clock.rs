//! This host's clock, and waiting on it. Tests of the payout engine put a clock of their own in its place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn now_unix_s() -> u64 {
    now().as_secs()
}

/// Time since 1970.
pub(crate) fn now() -> Duration {
    #[cfg(test)]
    if let Some(clock) = virtual_clock::of_this_process() {
        return clock.now();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Lets time pass.
pub(crate) async fn pause(time: Duration) {
    #[cfg(test)]
    if let Some(clock) = virtual_clock::of_this_process() {
        clock.advance(time);
        return tokio::task::yield_now().await;
    }
    tokio::time::sleep(time).await;
}

#[cfg(test)]
pub(crate) mod virtual_clock {
    //! Time that passes only when somebody waits: milliseconds since 1970 in a file, which several processes share.

    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::time::Duration;

    /// Names the file, for a child process.
    pub(crate) const VARIABLE: &str = "CHRYSALIS_TEST_CLOCK";

    pub(crate) struct VirtualClock(File);

    impl VirtualClock {
        pub(crate) fn create(path: &Path, at: Duration) -> Self {
            let clock = Self::open(path);
            clock.write(at.as_millis() as u64);
            clock
        }

        pub(crate) fn open(path: &Path) -> Self {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            VirtualClock(options.open(path).expect("the clock's file"))
        }

        pub(crate) fn now(&self) -> Duration {
            let mut bytes = [0; 8];
            self.0.read_exact_at(&mut bytes, 0).expect("the time");
            Duration::from_millis(u64::from_le_bytes(bytes))
        }

        /// A process that is killed within this loses its lock, and eight bytes are written whole or not at all.
        pub(crate) fn advance(&self, by: Duration) {
            self.0.lock().expect("locked");
            self.write((self.now() + by).as_millis() as u64);
            self.0.unlock().expect("unlocked");
        }

        fn write(&self, unix_ms: u64) {
            let written = self.0.write_all_at(&unix_ms.to_le_bytes(), 0);
            written.expect("written");
        }
    }

    /// Of a child process that was given one.
    pub(crate) fn of_this_process() -> Option<&'static VirtualClock> {
        static CLOCK: OnceLock<Option<VirtualClock>> = OnceLock::new();
        let open = || {
            let path = std::env::var_os(VARIABLE)?;
            Some(VirtualClock::open(&PathBuf::from(path)))
        };
        CLOCK.get_or_init(open).as_ref()
    }
}
