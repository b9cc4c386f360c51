//! What any certificate or revocation list says of itself, whatever its algorithms: who issued it, and when it holds.

use crate::der::{Der, tag};

/// Issuer and dates of a certificate of version 3 (RFC 5280, section 4.1). Nothing else of it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct CertificateOutline {
    /// The common name of the issuer.
    pub issuer_name: String,
    pub not_before_unix_s: u64,
    pub not_after_unix_s: u64,
}

/// Issuer and dates of a revocation list of version 2 (RFC 5280, section 5.1). What it revokes is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct RevocationListOutline {
    /// The common name of the issuer.
    pub issuer_name: String,
    pub this_update_unix_s: u64,
    pub next_update_unix_s: Option<u64>,
}

impl CertificateOutline {
    /// Reads a certificate; `None` is no certificate.
    pub fn parse(der: &[u8]) -> Option<CertificateOutline> {
        let (mut body, algorithm) = signed(der)?;
        let mut version = body.inside(tag::constructed(0))?;
        // Version 3 is the number 2.
        (version.small(tag::INTEGER)? == 2).then_some(())?;
        version.end()?;
        body.integer()?;
        (body.content(tag::SEQUENCE)? == algorithm).then_some(())?;
        let issuer = body.value(tag::SEQUENCE)?.whole;
        let mut validity = body.inside(tag::SEQUENCE)?;
        let not_before_unix_s = validity.time_unix_s()?;
        let not_after_unix_s = validity.time_unix_s()?;
        validity.end()?;
        // Subject, key and extensions.
        body.content(tag::SEQUENCE)?;
        body.content(tag::SEQUENCE)?;
        body.content(tag::constructed(3))?;
        body.end()?;
        Some(CertificateOutline {
            issuer_name: attribute(issuer, COMMON_NAME)?.unwrap_or_default().into(),
            not_before_unix_s,
            not_after_unix_s,
        })
    }
}

impl RevocationListOutline {
    /// Reads a revocation list; `None` is no such list.
    pub fn parse(der: &[u8]) -> Option<RevocationListOutline> {
        let (mut body, algorithm) = signed(der)?;
        // Version 2 is the number 1.
        (body.small(tag::INTEGER)? == 1).then_some(())?;
        (body.content(tag::SEQUENCE)? == algorithm).then_some(())?;
        let issuer = body.value(tag::SEQUENCE)?.whole;
        let this_update_unix_s = body.time_unix_s()?;
        let next_update_unix_s = match body.peek_tag() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => Some(body.time_unix_s()?),
            _ => None,
        };
        // What is revoked, and extensions.
        body.optional(tag::SEQUENCE)?;
        body.optional(tag::constructed(0))?;
        body.end()?;
        Some(RevocationListOutline {
            issuer_name: attribute(issuer, COMMON_NAME)?.unwrap_or_default().into(),
            this_update_unix_s,
            next_update_unix_s,
        })
    }
}

/// What is signed, and the content of the algorithm's name outside of it: RFC 5280, sections 4.1.1 and 5.1.1.
fn signed(der: &[u8]) -> Option<(Der<'_>, &[u8])> {
    let mut outer = Der::new(der);
    let mut parts = outer.inside(tag::SEQUENCE)?;
    outer.end()?;
    let body = parts.inside(tag::SEQUENCE)?;
    let algorithm = parts.content(tag::SEQUENCE)?;
    parts.bytes_of_bits()?;
    parts.end()?;
    Some((body, algorithm))
}

/// The one attribute of this kind in a name. The outer `None` is a name that is malformed or has it twice.
pub(crate) fn attribute<'a>(name: &'a [u8], kind: &[u8]) -> Option<Option<&'a str>> {
    let mut outer = Der::new(name);
    let mut sets = outer.inside(tag::SEQUENCE)?;
    let mut found = None;
    while !sets.is_empty() {
        let mut set = sets.inside(tag::SET)?;
        while !set.is_empty() {
            let mut pair = set.inside(tag::SEQUENCE)?;
            let its_kind = pair.content(tag::OID)?;
            let value = pair.any()?;
            pair.end()?;
            if its_kind != kind {
                continue;
            }
            let text = std::str::from_utf8(value.content).ok()?;
            let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            let first = found.replace(text).is_none();
            (printable && first).then_some(())?;
        }
    }
    Some(found)
}

/// 2.5.4.3.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.5.4.5.
pub(crate) const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("short");
        let long: &[u8] = if length < 0x80 { &[] } else { &[0x81] };
        [&[tag], long, &[length], &content[..]].concat()
    }

    fn name(names: &[&str]) -> Vec<u8> {
        let sets = names.iter().map(|text| {
            let pair = [tlv(6, &[COMMON_NAME]), tlv(0x0c, &[text.as_bytes()])].concat();
            tlv(tag::SET, &[&tlv(tag::SEQUENCE, &[&pair])])
        });
        tlv(tag::SEQUENCE, &[&sets.collect::<Vec<_>>().concat()])
    }

    fn time(text: &str) -> Vec<u8> {
        tlv(tag::UTC_TIME, &[text.as_bytes()])
    }

    /// A revocation list with these parts before what is revoked.
    fn list(version: &[u8], names: &[&str], dates: &[&str], tail: &[u8]) -> Vec<u8> {
        let algorithm = tlv(tag::SEQUENCE, &[&[6, 1, 42]]);
        let dates: Vec<u8> = dates.iter().flat_map(|date| time(date)).collect();
        let body = [version, &algorithm, &name(names), &dates, tail];
        let body = tlv(tag::SEQUENCE, &body);
        tlv(tag::SEQUENCE, &[&body, &algorithm, &[3, 2, 0, 1]])
    }

    const V2: &[u8] = &[2, 1, 1];
    const DATES: &[&str] = &["700101000000Z", "700101000010Z"];

    #[test]
    fn a_revocation_list_has_an_issuer_and_dates() {
        let good = list(V2, &["CA"], DATES, &[]);
        let expected = RevocationListOutline {
            issuer_name: "CA".into(),
            this_update_unix_s: 0,
            next_update_unix_s: Some(10),
        };
        assert_eq!(RevocationListOutline::parse(&good), Some(expected));
        // Something revoked and an extension, which are passed over.
        let more = list(V2, &["CA"], DATES, &[0x30, 0, 0xa0, 2, 0x30, 0]);
        assert!(RevocationListOutline::parse(&more).is_some());
        let without_end = RevocationListOutline::parse(&list(V2, &[], &DATES[..1], &[])).unwrap();
        assert_eq!(without_end.next_update_unix_s, None);
        assert_eq!(without_end.issuer_name, "");
        for wrong in [
            list(&[2, 1, 0], &["CA"], DATES, &[]),
            list(&[], &["CA"], DATES, &[]),
            list(V2, &["CA", "CA"], DATES, &[]),
            list(V2, &["C\nA"], DATES, &[]),
            list(V2, &["CA"], &[], &[]),
            list(V2, &["CA"], &["700230000000Z"], &[]),
            list(V2, &["CA"], DATES, &[5, 0]),
            [good.clone(), vec![0]].concat(),
        ] {
            assert_eq!(RevocationListOutline::parse(&wrong), None, "{wrong:02x?}");
        }
        for at in 0..good.len() {
            assert_eq!(RevocationListOutline::parse(&good[..at]), None);
        }
    }
}
