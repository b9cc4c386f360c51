//! This host's clock.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
