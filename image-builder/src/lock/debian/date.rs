//! Points in time as Debian's archive writes them, `Sat, 12 Sep 2026 07:55:41 UTC`, and as apt reads them (its `RFC1123StrToTime`).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chrono::{DateTime, Month, NaiveDate, SecondsFormat, Weekday};

/// A point in time, in seconds since 1970-01-01 UTC. Whether it is past is for a caller with a clock to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Since 1970-01-01 00:00:00 UTC.
    pub unix_s: i64,
}

impl Date {
    /// Reads the forms of RFC 1123 (`Sat, 12 Sep 2026 07:55:41 Z`), RFC 850 (`Saturday, 12-Sep-98 07:55:41 GMT`) and C's `asctime`
    /// (`Sat Sep 12 07:55:41 2026`), in UTC. Names are read without regard to case, and a month's may be written out. The day's name
    /// is not held against the day.
    pub fn parse(text: &str) -> Result<Self, NoDate> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (day, month, year, clock, zone) = match words[..] {
            [name, day, month, year, clock, zone] => {
                named::<Weekday>(name.strip_suffix(',').ok_or(NoDate::Form)?, 3..=3)?;
                (day, month, number(year, 4..=4)?, clock, zone)
            }
            [name, date, clock, zone] => {
                named::<Weekday>(name.strip_suffix(',').ok_or(NoDate::Form)?, 6..=9)?;
                let mut parts = date.splitn(3, '-');
                let mut part = || parts.next().ok_or(NoDate::Form);
                let (day, month) = (part()?, part()?);
                (day, month, 1900 + number(part()?, 2..=2)?, clock, zone)
            }
            [name, month, day, clock, year] if !name.ends_with(',') => {
                named::<Weekday>(name, 3..=3)?;
                (day, month, number(year, 4..=4)?, clock, "UTC")
            }
            // The form that most have in mind who forget it.
            [_, _, _, _, clock] if clock.contains(':') => return Err(NoDate::NoZone),
            _ => return Err(NoDate::Form),
        };
        let day = number(day, 1..=2)?;
        let month = named::<Month>(month, 3..=9)?.number_from_month();
        let mut parts = clock.split(':');
        let mut part = || number(parts.next().ok_or(NoDate::Form)?, 1..=2);
        let (hour, minute, second) = (part()?, part()?, part()?);
        if parts.next().is_some() {
            return Err(NoDate::Form);
        }
        // A leap second is the first of the next minute.
        let minute = NaiveDate::from_ymd_opt(year as i32, month, day)
            .filter(|_| (1970..=9999).contains(&year) && second <= 60)
            .and_then(|date| date.and_hms_opt(hour, minute, 0));
        let minute = minute.ok_or(NoDate::NoSuchTime)?.and_utc();
        let zero = |zone: &str| {
            let digits = zone.strip_prefix(['+', '-']).unwrap_or_default();
            (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit == b'0')
        };
        if !(matches!(zone, "UTC" | "GMT" | "Z") || zero(zone)) {
            return Err(NoDate::Zone);
        }
        Ok(Self {
            unix_s: minute.timestamp() + i64::from(second),
        })
    }

    /// The form in which an archive by time names it: `20260912T075541Z`.
    pub fn compact(self) -> String {
        self.rfc3339().replace(['-', ':'], "")
    }

    /// RFC 3339, to the second: `2026-09-12T07:55:41Z`.
    pub fn rfc3339(self) -> String {
        let at = DateTime::from_timestamp(self.unix_s, 0).unwrap_or_default();
        at.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.rfc3339().replacen('T', " ", 1);
        f.write_str(&text.replacen('Z', " UTC", 1))
    }
}

/// Why a text is no date. Read after the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum NoDate {
    #[error("which has not the form `Sat, 12 Sep 2026 07:55:41 UTC`")]
    Form,
    #[error("which has no time zone; UTC, GMT, Z or +0000 has to follow")]
    NoZone,
    #[error("whose time zone is not UTC, GMT, Z or +0000")]
    Zone,
    #[error("which no calendar or clock since 1970 shows")]
    NoSuchTime,
}

fn number(text: &str, digits: RangeInclusive<usize>) -> Result<u32, NoDate> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number = plain.then(|| text.parse().ok()).flatten();
    number.ok_or(NoDate::Form)
}

/// A day or a month by its name, written out or, where that many letters are allowed, as its first three.
fn named<T: FromStr>(text: &str, letters: RangeInclusive<usize>) -> Result<T, NoDate> {
    let named = letters.contains(&text.len()).then(|| text.parse().ok());
    named.flatten().ok_or(NoDate::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_debian_writes_them() {
        for (text, unix_s, compact) in [
            // From `date -u -d … +%s`.
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0, "19700101T000000Z"),
            (
                "Sat, 12 Sep 2026 07:55:41 UTC",
                1_789_199_741,
                "20260912T075541Z",
            ),
            (
                "Thu, 29 Feb 2024 23:59:59 GMT",
                1_709_251_199,
                "20240229T235959Z",
            ),
            (
                "Tue, 1 Mar 2022 00:00:00 +0000",
                1_646_092_800,
                "20220301T000000Z",
            ),
            (
                "Wed, 31 Dec 2098 12:00:00 UTC",
                4_070_865_600,
                "20981231T120000Z",
            ),
        ] {
            let date = Date::parse(text).expect(text);
            assert_eq!((date.unix_s, &*date.compact()), (unix_s, compact), "{text}");
        }
    }

    #[test]
    fn dates_are_read_as_apt_reads_them() {
        // The answers of `RFC1123StrToTime` of apt 2.6.1.
        let same = 1_789_199_741;
        for (text, unix_s) in [
            ("Sat, 12 Sep 2026 07:55:41 Z", same),
            ("Sat, 12 Sep 2026 07:55:41 -0000", same),
            ("Sat, 12 Sep 2026 07:55:41 +000", same),
            ("Sat, 12 Sep 2026 07:55:41 +0", same),
            ("sat, 12 sEP 2026 07:55:41 UTC", same),
            ("Mon, 12 September 2026 07:55:41 UTC", same),
            ("  Sat,  12  Sep  2026  07:55:41  UTC", same),
            ("Sat, 2 Sep 2026 7:5:1 UTC", 1_788_332_701),
            ("Sat, 12 Sep 2026 07:55:60 UTC", 1_789_199_760),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Sun Nov 06 08:49:37 1994", 784_111_777),
        ] {
            assert_eq!(Date::parse(text), Ok(Date { unix_s }), "{text}");
        }
    }

    #[test]
    fn another_form_is_no_date() {
        for (text, why) in [
            ("", NoDate::Form),
            ("today", NoDate::Form),
            ("12 Sep 2026 07:55:41 UTC", NoDate::Form),
            ("Sat 12 Sep 2026 07:55:41 UTC", NoDate::Form),
            ("Sat,12 Sep 2026 07:55:41 UTC", NoDate::Form),
            ("Xyz, 12 Sep 2026 07:55:41 UTC", NoDate::Form),
            ("Saturday, 12 Sep 2026 07:55:41 UTC", NoDate::Form),
            ("Sat, 12-Sep-98 07:55:41 UTC", NoDate::Form),
            ("Sat, 12 Septem 2026 07:55:41 UTC", NoDate::Form),
            ("Mon, Jan 08 2024 15:24:22 +0000", NoDate::Form),
            ("2026-09-12T07:55:41Z", NoDate::Form),
            ("Sat, 12 Sep 26 07:55:41 UTC", NoDate::Form),
            ("Sat, 12 Sep 20260 07:55:41 UTC", NoDate::Form),
            ("Sat, 12 Sep 2026 07:55 UTC", NoDate::Form),
            ("Sat, 12 Sep 2026 07:55:41:00 UTC", NoDate::Form),
            ("Sat, 12 Sep 2026 +7:55:41 UTC", NoDate::Form),
            ("Sat, 12 Sep 2026 07:55:41 UTC x", NoDate::Form),
            ("Sun Nov  6 08:49:37 UTC 1994", NoDate::Form),
            ("Sat, \u{fc}1 Sep 2026 07:55:41 UTC", NoDate::Form),
            ("Sat, 12 \u{fc}\u{fc}p 2026 07:55:41 UTC", NoDate::Form),
            ("Sat, 12 Sep 2026 07:55:41", NoDate::NoZone),
            ("Sat, 12 Sep 2026 07:55:41 CEST", NoDate::Zone),
            ("Sat, 12 Sep 2026 07:55:41 JST", NoDate::Zone),
            ("Sat, 12 Sep 2026 07:55:41 z", NoDate::Zone),
            ("Sat, 12 Sep 2026 07:55:41 utc", NoDate::Zone),
            ("Sat, 12 Sep 2026 07:55:41 UT", NoDate::Zone),
            ("Sat, 12 Sep 2026 07:55:41 +0100", NoDate::Zone),
            ("Sat, 12 Sep 2026 07:55:41 +00:00", NoDate::Zone),
            ("Sat, 12 Sep 2026 07:55:41 +", NoDate::Zone),
            ("Sat, 31 Sep 2026 07:55:41 UTC", NoDate::NoSuchTime),
            ("Thu, 29 Feb 2026 07:55:41 UTC", NoDate::NoSuchTime),
            ("Sat, 0 Sep 2026 07:55:41 UTC", NoDate::NoSuchTime),
            ("Sat, 12 Sep 1969 07:55:41 UTC", NoDate::NoSuchTime),
            ("Sat, 12 Sep 2026 24:55:41 UTC", NoDate::NoSuchTime),
            ("Sat, 12 Sep 2026 07:60:41 UTC", NoDate::NoSuchTime),
            ("Sat, 12 Sep 2026 07:55:61 UTC", NoDate::NoSuchTime),
        ] {
            assert_eq!(Date::parse(text), Err(why), "{text}");
        }
    }
}
