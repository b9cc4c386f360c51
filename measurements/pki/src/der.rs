//! A reader of DER (X.690) that knows one encoding of each value and refuses every other.
//!
//! Certificates and OCSP responses are hashed as they lie, so a value with a second encoding would be bytes that nobody checks.
//! Tags of one byte, definite lengths up to 16 MiB. Anything else is `None`: whoever sent it is at fault, and the caller says
//! with what.

/// Universal tags, X.690 8.1.2 and X.680 8.4.
#[allow(missing_docs, reason = "the standard's names")]
pub mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const ENUMERATED: u8 = 0x0a;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;

    /// `[number]` around a whole value.
    pub const fn constructed(number: u8) -> u8 {
        0xa0 | number
    }

    /// `[number]` in place of a primitive value's own tag.
    pub const fn primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// Values one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Der<'a> {
    rest: &'a [u8],
}

/// One value.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// Its tag, see [`tag`].
    pub tag: u8,
    /// What is inside.
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

impl<'a> Der<'a> {
    /// The values that these bytes are.
    pub fn new(bytes: &'a [u8]) -> Der<'a> {
        Der { rest: bytes }
    }

    /// The next value, whatever its tag.
    pub fn any(&mut self) -> Option<Value<'a>> {
        let (&[tag, first], after) = self.rest.split_first_chunk()?;
        // Tags of more than one byte occur in none of our formats.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, after) = match first {
            0..=0x7f => (usize::from(first), after),
            // X.690 10.1: the shortest length. 0x80 is the indefinite form, which is BER only.
            0x81 => {
                let (&[length], after) = after.split_first_chunk()?;
                (length >= 0x80).then_some((usize::from(length), after))?
            }
            0x82 => {
                let (length, after) = after.split_first_chunk()?;
                let length = u16::from_be_bytes(*length);
                (length >= 0x100).then_some((usize::from(length), after))?
            }
            0x83 => {
                let (&[high, middle, low], after) = after.split_first_chunk()?;
                let length = u32::from_be_bytes([0, high, middle, low]);
                let length = usize::try_from(length).ok()?;
                (length >= 0x1_0000).then_some((length, after))?
            }
            _ => return None,
        };
        let (content, rest) = after.split_at_checked(length)?;
        let whole = self.rest.get(..self.rest.len() - rest.len())?;
        self.rest = rest;
        Some(Value {
            tag,
            content,
            whole,
        })
    }

    /// The next value, which has this tag.
    pub fn value(&mut self, tag: u8) -> Option<Value<'a>> {
        self.any().filter(|value| value.tag == tag)
    }

    /// The content of the next value, which has this tag.
    pub fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.value(tag).map(|value| value.content)
    }

    /// The values inside the next one, which has this tag.
    pub fn inside(&mut self, tag: u8) -> Option<Der<'a>> {
        self.content(tag).map(Der::new)
    }

    /// The next value if it has this tag. The outer `None` is a fault, the inner one an absence.
    pub fn optional(&mut self, tag: u8) -> Option<Option<Value<'a>>> {
        match self.peek_tag() {
            Some(next) if next == tag => self.value(tag).map(Some),
            _ => Some(None),
        }
    }

    /// The tag of the next value, which stays.
    pub fn peek_tag(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The end: nothing may be left.
    pub fn end(self) -> Option<()> {
        self.is_empty().then_some(())
    }

    /// A small number that is not negative.
    pub fn small(&mut self, tag: u8) -> Option<u8> {
        match self.content(tag)? {
            &[value] if value < 0x80 => Some(value),
            _ => None,
        }
    }

    /// A BOOLEAN that is not its default: DER leaves a FALSE by default out (X.690 11.5).
    pub fn optional_true(&mut self) -> Option<bool> {
        match self.optional(tag::BOOLEAN)? {
            None => Some(false),
            Some(value) => (value.content == [0xff]).then_some(true),
        }
    }

    /// The bytes of an INTEGER, shortest form.
    pub fn integer(&mut self) -> Option<&'a [u8]> {
        let content = self.content(tag::INTEGER)?;
        let shortest = match content {
            [] => false,
            [0x00, second, ..] => *second >= 0x80,
            [0xff, second, ..] => *second < 0x80,
            _ => true,
        };
        shortest.then_some(content)
    }

    /// A BIT STRING of whole bytes.
    pub fn bytes_of_bits(&mut self) -> Option<&'a [u8]> {
        match self.content(tag::BIT_STRING)? {
            [0, bytes @ ..] => Some(bytes),
            _ => None,
        }
    }

    /// A Time of RFC 5280 4.1.2.5 in Unix seconds. NVIDIA's certificates write years before 2050 in either form.
    pub fn time_unix_s(&mut self) -> Option<u64> {
        let value = self.any()?;
        match value.tag {
            tag::UTC_TIME => {
                let (years, rest) = value.content.split_at_checked(2)?;
                let years = digits(years)?;
                let century = if years < 50 { 2000 } else { 1900 };
                unix_s(century + years, rest)
            }
            tag::GENERALIZED_TIME => generalized_unix_s(value.content),
            _ => None,
        }
    }

    /// A GeneralizedTime in Unix seconds, without fractions.
    pub fn generalized_unix_s(&mut self) -> Option<u64> {
        self.content(tag::GENERALIZED_TIME)
            .and_then(generalized_unix_s)
    }
}

/// Two positive INTEGERs of an ECDSA signature as 48 bytes each (RFC 3279 2.2.3).
pub fn p384_signature(der: &[u8]) -> Option<[u8; 96]> {
    let mut outer = Der::new(der);
    let mut inside = outer.inside(tag::SEQUENCE)?;
    outer.end()?;
    let mut raw = [0; 96];
    let (r, s) = raw.split_at_mut(48);
    for half in [r, s] {
        let digits = match inside.integer()? {
            [0, digits @ ..] => digits,
            digits if digits.first()? & 0x80 == 0 => digits,
            _ => return None,
        };
        let start = half.len().checked_sub(digits.len())?;
        half.get_mut(start..)?.copy_from_slice(digits);
    }
    inside.end()?;
    Some(raw)
}

fn generalized_unix_s(content: &[u8]) -> Option<u64> {
    let (year, rest) = content.split_at_checked(4)?;
    unix_s(digits(year)?, rest)
}

/// `MMDDHHMMSSZ` of a year from 1970 on.
fn unix_s(year: u64, rest: &[u8]) -> Option<u64> {
    let [rest @ .., b'Z'] = rest else { return None };
    if rest.len() != 10 || year < 1970 {
        return None;
    }
    let mut pairs = rest.chunks(2).map(digits);
    let mut next = || pairs.next().flatten();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [
        31,
        28 + u64::from(leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = *lengths.get(before)?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let past = year - 1;
    // Days from 1970 to the year before; 477 leap days came before 1970.
    let days = (year - 1970) * 365 + (past / 4 - past / 100 + past / 400) - 477
        + lengths.iter().take(before).sum::<u64>()
        + day
        - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_encoding_of_a_length_is_refused() {
        let read = |bytes: &[u8]| Der::new(bytes).any().map(|value| value.content.len());
        assert_eq!(read(&[4, 1, 7]), Some(1));
        assert_eq!(read(&[4, 0x81, 1, 7]), None);
        assert_eq!(read(&[4, 0x82, 0, 1, 7]), None);
        assert_eq!(read(&[4, 0x80, 7, 0, 0]), None);
        assert_eq!(read(&[4, 2, 7]), None);
        assert_eq!(read(&[0x1f, 1, 7]), None);
        let long = [&[4, 0x81, 0x80][..], &[0; 0x80]].concat();
        assert_eq!(read(&long), Some(0x80));
        // A revocation list may be longer than 64 KiB.
        let length = |n: usize, form: &[u8]| read(&[&[4][..], form, &vec![0; n]].concat());
        assert_eq!(length(0x1_0000, &[0x83, 1, 0, 0]), Some(0x1_0000));
        assert_eq!(length(0xffff, &[0x83, 0, 0xff, 0xff]), None);
        assert_eq!(length(0x1_0000, &[0x84, 0, 1, 0, 0]), None);
    }

    #[test]
    fn numbers_have_no_needless_bytes() {
        let read = |bytes: &[u8]| Der::new(bytes).integer().map(<[u8]>::to_vec);
        assert_eq!(read(&[2, 1, 0]), Some(vec![0]));
        assert_eq!(read(&[2, 2, 0, 0x80]), Some(vec![0, 0x80]));
        for wrong in [&[2, 0][..], &[2, 2, 0, 1], &[2, 2, 0xff, 0x80]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        let boolean = |bytes: &[u8]| Der::new(bytes).optional_true();
        assert_eq!(boolean(&[1, 1, 0xff]), Some(true));
        assert_eq!(boolean(&[]), Some(false));
        assert_eq!(boolean(&[1, 1, 0]), None);
        assert_eq!(boolean(&[1, 1, 1]), None);
    }

    #[test]
    fn times_of_both_forms_and_no_impossible_day() {
        let utc = |text: &str| {
            let der = [&[tag::UTC_TIME, text.len() as u8][..], text.as_bytes()].concat();
            Der::new(&der).time_unix_s()
        };
        let general = |text: &str| {
            let der = [
                &[tag::GENERALIZED_TIME, text.len() as u8][..],
                text.as_bytes(),
            ]
            .concat();
            Der::new(&der).time_unix_s()
        };
        assert_eq!(general("19700101000000Z"), Some(0));
        assert_eq!(general("20231114221320Z"), Some(1_700_000_000));
        assert_eq!(utc("231114221320Z"), Some(1_700_000_000));
        assert_eq!(general("20240229000000Z"), Some(1_709_164_800));
        assert_eq!(general("99991231235959Z"), Some(253_402_300_799));
        assert_eq!(utc("991231235959Z"), Some(946_684_799));
        for wrong in [
            "20230229000000Z",
            "20231301000000Z",
            "20230001000000Z",
            "20230100000000Z",
            "20230101240000Z",
            "20230101000000",
            "2023010100000Z",
            "20230101000000.5Z",
            "19691231235959Z",
        ] {
            assert_eq!(general(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_two_positive_numbers() {
        let one = [0x30, 6, 2, 1, 5, 2, 1, 9];
        let raw = p384_signature(&one).unwrap();
        assert_eq!((raw[47], raw[95]), (5, 9));
        assert_eq!(p384_signature(&[0x30, 6, 2, 1, 0x85, 2, 1, 9]), None);
        assert_eq!(p384_signature(&[0x30, 6, 2, 1, 5, 2, 1, 9, 0]), None);
        assert_eq!(p384_signature(&[0x30, 9, 2, 1, 5, 2, 1, 9, 2, 1, 1]), None);
    }
}
