//! Points in time as Debian's archive writes them: `Sat, 12 Sep 2026 07:55:41 UTC`.

use std::fmt;

/// A point in time, in seconds since 1970-01-01 UTC. Whether it is past is for a caller with a clock to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Since 1970-01-01 00:00:00 UTC.
    pub unix_s: i64,
}

impl Date {
    /// Reads the form that `Date` and `Valid-Until` of a `Release` have, and no other. The day's name is not held against
    /// the day.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let weekday = words.next()?.strip_suffix(',')?;
        WEEKDAYS.contains(&weekday).then_some(())?;
        let day = number(words.next()?, 1..=2)?;
        let month = words.next()?;
        let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
        let year = number(words.next()?, 4..=4)?;
        let mut clock = words.next()?.split(':');
        let [hour, minute, second] =
            [(); 3].map(|()| clock.next().and_then(|part| number(part, 2..=2)));
        let (hour, minute, second) = (hour?, minute?, second?);
        let rest = (clock.next(), words.next(), words.next());
        let good = matches!(rest, (None, Some("UTC" | "GMT" | "+0000"), None))
            && (1970..=9999).contains(&year)
            && (1..=days_of(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        good.then_some(Self {
            unix_s: days_before(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second,
        })
    }

    /// The form in which an archive by time names it: `20260912T075541Z`.
    pub fn compact(self) -> String {
        self.rfc3339().replace(['-', ':'], "")
    }

    /// RFC 3339, to the second: `2026-09-12T07:55:41Z`.
    pub fn rfc3339(self) -> String {
        let (days, seconds) = (
            self.unix_s.div_euclid(86_400),
            self.unix_s.rem_euclid(86_400),
        );
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.rfc3339().replacen('T', " ", 1);
        f.write_str(&text.replacen('Z', " UTC", 1))
    }
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, years counted from March so that the leap day is the last.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719_468
}

/// The inverse of [`days_before`], for days from 1970 on.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);
    (year, (month + 2) % 12 + 1, day)
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

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
    fn every_day_of_four_centuries_is_one_more_than_the_day_before() {
        let mut expected = days_before(1970, 1, 1);
        for year in 1970..2370 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    assert_eq!(days_before(year, month, day), expected);
                    assert_eq!(civil(expected), (year, month, day));
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn another_form_is_no_date() {
        for text in [
            "",
            "today",
            "12 Sep 2026 07:55:41 UTC",
            "Sat 12 Sep 2026 07:55:41 UTC",
            "Sat, 12 Sep 2026 07:55:41",
            "Sat, 12 Sep 2026 07:55:41 CEST",
            "Sat, 12 Sep 2026 07:55:41 UTC ",
            "Sat, 31 Sep 2026 07:55:41 UTC",
            "Thu, 29 Feb 2026 07:55:41 UTC",
            "Sat, 0 Sep 2026 07:55:41 UTC",
            "Sat, 12 Sep 1969 07:55:41 UTC",
            "Sat, 12 Sep 20260 07:55:41 UTC",
            "Sat, 12 sep 2026 07:55:41 UTC",
            "Sat, 12 Sep 2026 24:55:41 UTC",
            "Sat, 12 Sep 2026 07:60:41 UTC",
            "Sat, 12 Sep 2026 07:55:60 UTC",
            "Sat, 12 Sep 2026 07:55 UTC",
            "Sat, 12 Sep 2026 +7:55:41 UTC",
            "Sat, 12  Sep 2026 07:55:41 UTC",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
