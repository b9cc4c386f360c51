//! Just enough DER to find a certificate's name and two dates in an OCSP message.
//!
//! X.690: one-byte tags, definite lengths in their shortest form. Anything else is `None`: whoever sent it is at fault,
//! and the caller says with what.

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[n]`, constructed.
pub(super) const fn context(n: u8) -> u8 {
    0xa0 | n
}

impl<'a> Der<'a> {
    /// Takes the next value whatever its tag: tag, content, and the whole with its head.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let whole = self.0;
        let [tag, first, rest @ ..] = whole else {
            return None;
        };
        // X.690 8.1.2.4: a tag of more bytes. OCSP has none.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81 => {
                let [length @ (0x80..), rest @ ..] = rest else {
                    return None;
                };
                (usize::from(*length), rest)
            }
            0x82 => {
                let [high @ (1..), low, rest @ ..] = rest else {
                    return None;
                };
                (usize::from(u16::from_be_bytes([*high, *low])), rest)
            }
            // Our messages are shorter than 64 KiB.
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((*tag, content, &whole[..whole.len() - after.len()]))
    }

    /// Takes the next value, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Der<'a>> {
        let mut ahead = *self;
        let (got, content, _) = ahead.any()?;
        (got == tag).then(|| {
            *self = ahead;
            Der(content)
        })
    }

    /// Takes the next value if it has this tag. `None` inside is absent; outside, broken.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Option<Der<'a>>> {
        match self.0.first() {
            Some(got) if *got == tag => self.take(tag).map(Some),
            _ => Some(None),
        }
    }

    /// Nothing is left.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5.2) in seconds since 1970.
pub(super) fn generalized_time(content: Der<'_>) -> Option<u64> {
    let digits: &[u8; 14] = content.0.strip_suffix(b"Z")?.try_into().ok()?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| {
        digits[from..to]
            .iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    if day == 0 || day > *months.get(month)? {
        return None;
    }
    let years: u64 = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let days = years + months[..month].iter().sum::<u64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form() {
        let check = |bytes: &[u8], expected: Option<usize>| {
            let got = Der(bytes).any().map(|(_, content, _)| content.len());
            assert_eq!(got, expected, "{bytes:x?}");
        };
        check(&[0x04, 0], Some(0));
        check(&[0x04, 1, 7], Some(1));
        check(&[0x04, 1], None);
        check(&[0x04], None);
        check(&[], None);
        check(&[&[0x04, 0x81, 0x80][..], &[0; 128]].concat(), Some(128));
        check(&[&[0x04, 0x81, 0x7f][..], &[0; 127]].concat(), None);
        check(&[&[0x04, 0x82, 1, 0][..], &[0; 256]].concat(), Some(256));
        check(&[&[0x04, 0x82, 0, 0xff][..], &[0; 255]].concat(), None);
        check(&[0x04, 0x80, 0, 0], None);
        check(&[0x04, 0x83, 0, 0, 1, 7], None);
        check(&[0x1f, 1, 7], None);
    }

    #[test]
    fn times_are_days_that_exist() {
        for (text, expected) in [
            ("19700101000000Z", Some(0)),
            ("20240229235959Z", Some(1_709_251_199)),
            ("20260403112157Z", Some(1_775_215_317)),
            ("99991231235959Z", Some(253_402_300_799)),
            ("20230229000000Z", None),
            ("20260400000000Z", None),
            ("20261301000000Z", None),
            ("20260001000000Z", None),
            ("20260101240000Z", None),
            ("19691231235959Z", None),
            ("20260101000000", None),
            ("20260101000000.5Z", None),
            ("2026010100000xZ", None),
        ] {
            assert_eq!(generalized_time(Der(text.as_bytes())), expected, "{text}");
        }
    }
}
