//! Signatures of `InRelease`: what is accepted, and beside each the nearest thing that is refused.

use image_builder::lock::Fingerprint;
use image_builder::lock::debian::{
    Certificate, Date, KeyError, Release, ReleaseError, SignatureError, Signed, Unfit,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Notation, RevocationCode, SignatureType, Subpacket, SubpacketData};

use super::signer::{BORN_S, SIGNED_S, Says, Signer, message, regular};

/// Debian's own, of 2026-11-22, as it was served.
const REAL: &str = include_str!("trixie-security.InRelease");
const REAL_KEY: &str = include_str!("../../../recipes/keys/debian-security-13.asc");
/// When it was fetched.
const REAL_NOW: Date = Date {
    unix_s: 1_795_516_800,
};

const TEXT: &str = "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n- no dash at the beginning";

fn now() -> Date {
    Date {
        unix_s: i64::from(SIGNED_S) + 3600,
    }
}

fn real_key() -> Certificate {
    let print = "5E04A1E3223A19A20706E20F9904613D4CCE68C6".to_owned();
    let print = Fingerprint::try_from(print).expect("40 digits");
    Certificate::parse(REAL_KEY, print).expect("the committed key is the pinned one")
}

fn certificate(signer: &Signer) -> Certificate {
    Certificate::parse(&signer.certificate(), signer.fingerprint()).expect("its own fingerprint")
}

/// A message by `signer` that says this, verified with its own certificate.
fn verify(signer: &Signer, says: Says) -> Result<Signed, SignatureError> {
    let message = message(TEXT, &[signer.signature(TEXT, says)]);
    Signed::verify(message.as_bytes(), &[certificate(signer)], now())
}

#[test]
fn debians_own_signature_is_verified_with_debians_own_key() {
    let release = Release::read(REAL.as_bytes(), &[real_key()], REAL_NOW).expect("genuine");
    assert_eq!(release.date, "Sun, 22 Nov 2026 19:58:57 UTC");
    assert_eq!(release.refuse_other_suite("trixie-security"), Ok(()));
    assert!(release.index("main/binary-amd64/Packages.xz").is_some());
    let later = Date {
        unix_s: REAL_NOW.unix_s + 7 * 86_400,
    };
    assert!(matches!(
        Release::read(REAL.as_bytes(), &[real_key()], later),
        Err(ReleaseError::Expired { .. })
    ));
    // The keys of the archive are Debian's, and not those of its security team.
    let archive = include_str!("../../../recipes/keys/debian-archive-13.asc");
    let print = "04B54C3CDCA79751B16BC6B5225629DF75B188BD".to_owned();
    let print = Fingerprint::try_from(print).expect("40 digits");
    let archive = Certificate::parse(archive, print).expect("pinned");
    let error = Release::read(REAL.as_bytes(), &[archive], REAL_NOW).expect_err("another key");
    assert_eq!(
        error.to_string(),
        "is not signed by a key that the recipe pins; its signatures are by \
         B0CAB9266E8C3929798B3EEEBDE6D2B9216EC7A8, 89C87ACEA5DD6B8E6A7068808E9F831205B4BA95"
    );
}

#[test]
fn a_changed_byte_of_debians_own_file_changes_nothing_or_is_refused() {
    let key = [real_key()];
    let genuine = Release::read(REAL.as_bytes(), &key, REAL_NOW).expect("genuine");
    let signature = REAL.find("-----BEGIN PGP SIGNATURE").expect("there");
    // Each costs ten milliseconds, so these are places; the made file below has every byte changed.
    let places = (0..400)
        .step_by(7)
        .chain((400..signature).step_by(1511))
        .chain((signature..REAL.len()).step_by(17));
    let mut accepted = 0;
    for at in places {
        let mut bytes = REAL.as_bytes().to_vec();
        bytes[at] ^= 1;
        if let Ok(mut release) = Release::read(&bytes, &key, REAL_NOW) {
            release.sha256 = genuine.sha256;
            assert_eq!(release, genuine, "byte {at}");
            accepted += 1;
            let frame = at < 60 || at > signature;
            assert!(frame, "byte {at} is part of what was signed");
        }
    }
    // The signature of the other key, which is not pinned here, may change.
    assert!(accepted > 0);
}

#[test]
fn every_changed_byte_of_a_made_file_changes_nothing_or_is_refused() {
    let signer = Signer::with_subkey(7);
    let key = [certificate(&signer)];
    let good = signer.sign(TEXT);
    let genuine = Signed::verify(good.as_bytes(), &key, now()).expect("good");
    assert_eq!(genuine.text(), TEXT);
    assert_eq!(genuine.by(), signer.fingerprint());
    assert_eq!(genuine.at().unix_s, i64::from(SIGNED_S));
    for at in 0..good.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= bit;
            if let Ok(signed) = Signed::verify(&bytes, &key, now()) {
                assert_eq!(signed, genuine, "byte {at} of {good}");
            }
        }
        assert!(
            Signed::verify(&good.as_bytes()[..at], &key, now()).is_err() || at == good.len() - 1,
            "cut at {at}"
        );
    }
}

#[test]
fn spaces_that_no_signature_covers_are_not_handed_on() {
    let signer = Signer::new(1);
    let good = signer.sign(TEXT);
    let padded = good.replace("Codename: trixie\n", "Codename: trixie \t \n");
    let signed = Signed::verify(padded.as_bytes(), &[certificate(&signer)], now());
    assert_eq!(signed.expect("the same text to a signature").text(), TEXT);
}

#[test]
fn nothing_beside_the_message_is_taken() {
    let signer = Signer::new(1);
    let key = [certificate(&signer)];
    let good = signer.sign(TEXT);
    let check = |bytes: String, expected: SignatureError| {
        let got = Signed::verify(bytes.as_bytes(), &key, now());
        assert_eq!(got, Err(expected));
    };
    check(format!("Date: x\n{good}"), SignatureError::TextBefore);
    check(format!("{good}Date: x\n"), SignatureError::TextAfter);
    check(format!("{good}{good}"), SignatureError::SeveralMessages);
    let other = Signer::new(2).sign("Date: other");
    check(format!("{other}{good}"), SignatureError::SeveralMessages);
    check(TEXT.into(), SignatureError::NotSigned);
    // A second text hidden behind the first one's end.
    let hidden = good.replace("\n-----BEGIN PGP SIGNATURE", "\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\nDate: x\n-----BEGIN PGP SIGNATURE");
    check(hidden, SignatureError::TextAfter);
}

#[test]
fn only_a_pinned_key_counts_and_strangers_beside_it_do_no_harm() {
    let (ours, stranger) = (Signer::new(1), Signer::new(2));
    let key = [certificate(&ours)];
    let by = |signer: &Signer| signer.signature(TEXT, Says::default());
    let check = |signatures: &[Vec<u8>]| {
        let message = message(TEXT, signatures);
        Signed::verify(message.as_bytes(), &key, now())
    };
    assert!(check(&[by(&ours)]).is_ok());
    assert!(check(&[by(&stranger), by(&ours)]).is_ok());
    assert!(check(&[by(&ours), by(&stranger)]).is_ok());
    let (none, other) = (check(&[]), check(&[by(&stranger)]));
    let none = none.expect_err("unsigned").to_string();
    assert!(none.ends_with("signatures are by nobody"), "{none}");
    let other = other.expect_err("a stranger's").to_string();
    assert!(
        other.ends_with(&stranger.fingerprint().to_string()),
        "{other}"
    );
    // Over other bytes: named and wrong.
    let wrong = ours.signature("Date: x", Says::default());
    let by = ours.fingerprint();
    assert_eq!(check(&[wrong]), Err(SignatureError::Wrong { by }));
    let many = vec![ours.signature(TEXT, Says::default()); 17];
    assert_eq!(check(&many), Err(SignatureError::TooMany { max: 16 }));
    // A packet that is no signature: a marker (RFC 9580, section 5.8).
    let marker = vec![0xca, 3, b'P', b'G', b'P'];
    assert!(matches!(
        check(&[ours.signature(TEXT, Says::default()), marker]),
        Err(SignatureError::Packets(_))
    ));
}

#[test]
fn weak_hashes_and_other_kinds_of_signatures_are_refused_by_name() {
    let signer = Signer::new(1);
    let by = signer.fingerprint();
    let hash = |hash| {
        let says = Says {
            hash,
            ..Says::default()
        };
        verify(&signer, says)
    };
    for strong in [
        HashAlgorithm::Sha256,
        HashAlgorithm::Sha384,
        HashAlgorithm::Sha512,
        HashAlgorithm::Sha3_256,
    ] {
        assert!(hash(strong).is_ok(), "{strong}");
    }
    let weak = |name: &str| {
        let hash = name.to_owned();
        Err(SignatureError::WeakHash { by, hash })
    };
    // The library does not make those below with such a key, so a good signature is relabelled: the name alone is enough.
    for (name, number) in [("MD5", 1), ("SHA1", 2), ("RIPEMD160", 3), ("SHA224", 11)] {
        let mut packet = signer.signature(TEXT, Says::default());
        // A new-format header of two bytes, then version, kind, key algorithm and hash (RFC 9580, section 5.2.3).
        let at = if packet[1] < 192 { 5 } else { 6 };
        assert_eq!(packet[at], 10, "SHA-512");
        packet[at] = number;
        let message = message(TEXT, &[packet]);
        let got = Signed::verify(message.as_bytes(), &[certificate(&signer)], now());
        assert_eq!(got, weak(name));
    }
    let says = Says {
        kind: SignatureType::Binary,
        ..Says::default()
    };
    assert_eq!(verify(&signer, says), Err(SignatureError::Kind { by }));
}

#[test]
fn a_signature_counts_at_its_time_and_says_nothing_unknown() {
    let signer = Signer::new(1);
    let by = signer.fingerprint();
    let at = |at_s, expires_s| {
        let says = Says {
            at_s,
            expires_s,
            ..Says::default()
        };
        verify(&signer, says)
    };
    let now_s = SIGNED_S + 3600;
    assert!(at(now_s, None).is_ok());
    assert!(at(now_s + 60, None).is_ok(), "clocks differ");
    let future = at(now_s + 61, None);
    assert!(matches!(future, Err(SignatureError::Future { .. })));
    assert!(at(SIGNED_S, Some(3601)).is_ok());
    let over = at(SIGNED_S, Some(3600));
    assert!(matches!(over, Err(SignatureError::Expired { .. })));
    let says = |is_critical, data| {
        let subpacket = Subpacket {
            is_critical,
            ..regular(data)
        };
        let more = vec![subpacket];
        let says = Says {
            more,
            ..Says::default()
        };
        verify(&signer, says)
    };
    let unknown = || SubpacketData::Experimental(100, b"x"[..].into());
    assert!(says(false, unknown()).is_ok());
    assert_eq!(says(true, unknown()), Err(SignatureError::Terms { by }));
    let notation = Notation {
        readable: true,
        name: b"a@b"[..].into(),
        value: b"c"[..].into(),
    };
    let notation = says(true, SubpacketData::Notation(notation));
    assert_eq!(notation, Err(SignatureError::Terms { by }));
}

/// Why the key was unfit, if it was.
fn unfit(signer: &Signer, at_s: u32) -> Option<Unfit> {
    let says = Says {
        at_s,
        ..Says::default()
    };
    match verify(signer, says) {
        Ok(_) => None,
        Err(SignatureError::Key { why, .. }) => Some(why),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_key_that_was_expired_or_not_made_yet_did_not_sign() {
    for mut signer in [Signer::new(1), Signer::with_subkey(1)] {
        assert_eq!(unfit(&signer, BORN_S), None);
        assert_eq!(unfit(&signer, BORN_S - 1), Some(Unfit::NotForSigning));
        signer.expires_s = Some(SIGNED_S - BORN_S);
        let end = Date {
            unix_s: SIGNED_S.into(),
        };
        assert_eq!(unfit(&signer, SIGNED_S), Some(Unfit::Expired(end)));
        assert_eq!(unfit(&signer, SIGNED_S - 1), None);
        // What it said of itself only later does not count before.
        signer.own.at_s = SIGNED_S;
        assert_eq!(unfit(&signer, SIGNED_S - 1), Some(Unfit::NotForSigning));
        signer.own.at_s = BORN_S - 10;
        signer.expires_s = None;
        assert_eq!(unfit(&signer, BORN_S - 1), Some(Unfit::NotYet));
    }
}

fn revocation(kind: SignatureType, code: RevocationCode, at_s: u32) -> Says {
    let reason = SubpacketData::RevocationReason(code, b""[..].into());
    Says {
        kind,
        at_s,
        more: vec![regular(reason)],
        ..Says::default()
    }
}

#[test]
fn a_key_that_was_revoked_did_not_sign() {
    use RevocationCode::{KeyCompromised, KeyRetired};
    let check = |revoke: &dyn Fn(&mut Signer, RevocationCode, u32)| {
        let revoked = |code, at_s| {
            let mut signer = Signer::with_subkey(1);
            revoke(&mut signer, code, at_s);
            unfit(&signer, SIGNED_S)
        };
        // Whoever has a compromised key can date its signatures at will.
        let later = SIGNED_S + 1;
        assert_eq!(revoked(KeyCompromised, later), Some(Unfit::Revoked));
        assert_eq!(revoked(KeyRetired, SIGNED_S), Some(Unfit::Revoked));
        assert_eq!(revoked(KeyRetired, later), None);
    };
    check(&|signer, code, at_s| {
        let says = revocation(SignatureType::KeyRevocation, code, at_s);
        signer.revocations.push(says);
    });
    check(&|signer, code, at_s| {
        let says = revocation(SignatureType::SubkeyRevocation, code, at_s);
        signer.subkey_revocations.push(says);
    });
}

#[test]
fn a_key_signs_what_its_owner_made_it_for() {
    let mut signer = Signer::new(1);
    signer.signs = false;
    assert_eq!(unfit(&signer, SIGNED_S), Some(Unfit::NotForSigning));
    let mut signer = Signer::with_subkey(1);
    signer.signs = false;
    assert_eq!(unfit(&signer, SIGNED_S), None, "the subkey signs");
    signer.subkey_signs = false;
    assert_eq!(unfit(&signer, SIGNED_S), Some(Unfit::NotForSigning));
    signer.subkey_signs = true;
    signer.subkey_agrees = false;
    assert_eq!(unfit(&signer, SIGNED_S), Some(Unfit::NotForSigning));
}

#[test]
fn a_file_that_is_not_the_pinned_key_is_refused() {
    let (one, other) = (Signer::new(1), Signer::new(2));
    let text = one.certificate();
    let error = Certificate::parse(&text, other.fingerprint()).expect_err("another key");
    let got = one.fingerprint().to_string();
    let expected = other.fingerprint();
    assert_eq!(error, KeyError::Other { got, expected });
    let print = one.fingerprint();
    for bad in [
        String::new(),
        text.replace("PUBLIC KEY", "PRIVATE KEY"),
        text.replacen("\n\n", "\n\nAAAA", 1),
        format!("{text}x"),
        format!("x{text}"),
        one.sign("x"),
    ] {
        let error = Certificate::parse(&bad, print).expect_err(&bad);
        assert!(matches!(error, KeyError::Broken(_)), "{error}");
    }
    let long = format!("{text}{}", "\n".repeat(256 << 10));
    let long = Certificate::parse(&long, print).expect_err("too long");
    assert!(matches!(long, KeyError::TooLong { .. }));
}

#[test]
fn every_changed_byte_of_a_key_is_refused_or_gives_no_other_signer() {
    let signer = Signer::with_subkey(1);
    let (text, print) = (signer.certificate(), signer.fingerprint());
    let (good, stranger) = (signer.sign(TEXT), Signer::new(2).sign(TEXT));
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        if let Ok(key) = Certificate::parse(&changed, print) {
            assert_eq!(key.fingerprint(), print);
            let _ = Signed::verify(good.as_bytes(), std::slice::from_ref(&key), now());
            assert!(Signed::verify(stranger.as_bytes(), &[key], now()).is_err());
        }
    }
}
