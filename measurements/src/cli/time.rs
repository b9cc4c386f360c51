//! Moments on the command line: `--at 2025-06-19T12:00:00Z`, or seconds since 1970.

use std::{fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat, Utc};

/// A moment somebody wrote: RFC 3339 with any offset, or whole seconds since 1970 UTC. Fractions of a second are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) unix_s: u64,
}

/// Text that is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MomentError {
    #[error("write it as 2025-06-19T12:00:00Z, or in seconds since 1970")]
    Unreadable,
    #[error("it lies before 1970")]
    Before1970,
}

impl Moment {
    /// The moment named, or now.
    pub(crate) fn or_now(named: Option<Moment>) -> anyhow::Result<Moment> {
        match named {
            Some(moment) => Ok(moment),
            None => super::now_unix_s().map(|unix_s| Moment { unix_s }),
        }
    }
}

impl FromStr for Moment {
    type Err = MomentError;
    fn from_str(text: &str) -> Result<Moment, MomentError> {
        // Not `u64::from_str` alone: it also takes a plus sign.
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let unix_s = text.parse().map_err(|_| MomentError::Unreadable)?;
            return Ok(Moment { unix_s });
        }
        let read = DateTime::parse_from_rfc3339(text).map_err(|_| MomentError::Unreadable)?;
        let unix_s = u64::try_from(read.timestamp()).map_err(|_| MomentError::Before1970)?;
        Ok(Moment { unix_s })
    }
}

/// RFC 3339 in UTC; what no calendar of four-digit years has stays a number.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calendar = i64::try_from(self.unix_s)
            .ok()
            .filter(|unix_s| *unix_s <= YEAR_9999_END_UNIX_S)
            .and_then(|unix_s| DateTime::<Utc>::from_timestamp(unix_s, 0));
        match calendar {
            Some(at) => f.write_str(&at.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => write!(f, "{} s after 1970", self.unix_s),
        }
    }
}

const YEAR_9999_END_UNIX_S: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<u64, MomentError>) {
        let got = text.parse::<Moment>().map(|moment| moment.unix_s);
        assert_eq!(got, expected, "{text}");
    }

    // Expected values: GNU date -u -d TEXT +%s.
    #[test]
    fn moments_are_read_as_other_programs_read_them() {
        check("2025-06-19T12:00:00Z", Ok(1_750_334_400));
        check("2025-06-19T14:00:00+02:00", Ok(1_750_334_400));
        check("2025-06-19T12:00:00.999Z", Ok(1_750_334_400));
        check("2024-02-29T12:34:56Z", Ok(1_709_210_096));
        check("1970-01-01T00:00:00Z", Ok(0));
        check("1750334400", Ok(1_750_334_400));
        check("18446744073709551615", Ok(u64::MAX));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "+5",
            "-5",
            "2025-06-19",
            "2025-06-19T12:00:00",
            "2025-02-29T00:00:00Z",
            "2025-06-19T24:00:00Z",
            "2025-06-19T12:00:00Z ",
            "18446744073709551616",
            "0x10",
        ] {
            check(text, Err(MomentError::Unreadable));
        }
        check("1969-12-31T23:59:59Z", Err(MomentError::Before1970));
    }

    #[test]
    fn moments_are_written_as_other_programs_write_them() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (253_402_300_800, "253402300800 s after 1970"),
            (u64::MAX, "18446744073709551615 s after 1970"),
        ] {
            assert_eq!(Moment { unix_s }.to_string(), text);
        }
    }
}
