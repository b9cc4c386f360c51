//! Answers of a made-up OCSP responder: no answer of NVIDIA's was ever seen.

use crate::made::{
    AT_UNIX_S, Device, OcspMaker, Party, RimMaker, Terms, certificate, extension, tlv,
};
use gpu::{
    GpuNonce, GpuPolicy, GpuRefusal, OcspError, OcspNonce, OcspResponses, Revocation, inspect,
    verify,
};
use p384::ecdsa::SigningKey;

/// Answers about everything that is asked for, with the one about the device's provisioner changed.
fn with_ocsp(change: impl Fn(&mut OcspMaker), nonce: OcspNonce) -> Result<bool, GpuRefusal> {
    let (device, driver) = (Device::new(), RimMaker::driver());
    let mut answers = Vec::new();
    for (position, pair) in device.parties.windows(2).enumerate().skip(1) {
        let mut maker = OcspMaker::good(&pair[1].key);
        maker.nonce = Some(vec![7; 16]);
        if position == 2 {
            change(&mut maker);
        }
        answers.push(maker.answer(&pair[0], &pair[1]));
    }
    for pair in driver.parties.windows(2) {
        let mut maker = OcspMaker::good(&pair[1].key);
        maker.nonce = Some(vec![7; 16]);
        answers.push(maker.answer(&pair[0], &pair[1]));
    }
    let responses = OcspResponses::parse(&answers, nonce).map_err(GpuRefusal::Revocation)?;
    let roots = device.roots(&driver);
    let policy = GpuPolicy {
        roots: &roots,
        at_unix_s: AT_UNIX_S,
        nonce: GpuNonce::Expected([0x5a; 32]),
        revocation: Revocation::Ocsp(&responses),
    };
    verify(
        &device.evidence(),
        &[driver.rim(), RimMaker::vbios().rim()],
        &policy,
    )
    .map(|gpu| gpu.evidence.revocation_checked)
}

fn ocsp_error(change: impl Fn(&mut OcspMaker)) -> OcspError {
    match with_ocsp(change, OcspNonce::Any) {
        Err(GpuRefusal::Revocation(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn provisioner() -> String {
    "NVIDIA GH100 Provisioner ICA 1".into()
}

#[test]
fn good_answers_about_every_certificate_are_needed() {
    assert_eq!(with_ocsp(|_| {}, OcspNonce::Any), Ok(true));
    let (device, driver) = (Device::new(), RimMaker::driver());
    let none = OcspResponses::parse(&[], OcspNonce::Any).unwrap();
    let roots = device.roots(&driver);
    let policy = GpuPolicy {
        roots: &roots,
        at_unix_s: AT_UNIX_S,
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::Ocsp(&none),
    };
    let refused = inspect(&device.evidence(), &policy);
    let name = "GH100 A01 GSP BROM".into();
    assert_eq!(
        refused,
        Err(GpuRefusal::Revocation(OcspError::Absent { name }))
    );
}

#[test]
fn a_certificate_on_hold_is_told_from_one_that_is_revoked() {
    let since = tlv(0x18, b"20250601000000Z");
    let revoked = |reason: Option<u8>| {
        let reason = reason.map_or(Vec::new(), |reason| tlv(0xa0, &[0x0a, 1, reason]));
        ocsp_error(|maker| maker.status = tlv(0xa1, &[&since[..], &reason].concat()))
    };
    let (name, since_unix_s) = (provisioner(), 1_748_736_000);
    assert_eq!(revoked(Some(6)), OcspError::OnHold { name, since_unix_s });
    for reason in [None, Some(1), Some(8)] {
        let name = provisioner();
        assert_eq!(
            revoked(reason),
            OcspError::Revoked {
                name,
                since_unix_s,
                reason
            }
        );
    }
    let unknown = ocsp_error(|maker| maker.status = vec![0x82, 0]);
    assert_eq!(
        unknown,
        OcspError::Unknown {
            name: provisioner()
        }
    );
}

#[test]
fn answers_too_old_or_too_new_are_refused() {
    // The first second after, and one that says no end.
    let stale = ocsp_error(|maker| maker.next_update = Some("20251231235959Z"));
    assert!(
        matches!(
            stale,
            OcspError::Stale {
                until_unix_s: Some(_),
                ..
            }
        ),
        "{stale:?}"
    );
    let endless = ocsp_error(|maker| maker.next_update = None);
    assert!(
        matches!(
            endless,
            OcspError::Stale {
                until_unix_s: None,
                ..
            }
        ),
        "{endless:?}"
    );
    let future = ocsp_error(|maker| maker.this_update = "20260101000001Z");
    assert!(
        matches!(future, OcspError::NotYetValid { .. }),
        "{future:?}"
    );
    let future = ocsp_error(|maker| maker.produced = "20260101000001Z");
    assert!(
        matches!(future, OcspError::NotYetValid { .. }),
        "{future:?}"
    );
    let edge = |maker: &mut OcspMaker| maker.next_update = Some("20260101000000Z");
    assert_eq!(with_ocsp(edge, OcspNonce::Any), Ok(true));
}

#[test]
fn answers_carry_the_nonce_that_was_sent() {
    let sent = || OcspNonce::Expected(vec![7; 16]);
    assert_eq!(with_ocsp(|_| {}, sent()), Ok(true));
    for nonce in [None, Some(vec![8; 16])] {
        let refused = with_ocsp(|maker| maker.nonce = nonce.clone(), sent());
        let name = provisioner();
        assert_eq!(
            refused,
            Err(GpuRefusal::Revocation(OcspError::Nonce { name }))
        );
    }
}

#[test]
fn only_the_issuer_and_whom_it_names_may_answer() {
    let stranger = SigningKey::from_slice(&[88; 48]).unwrap();
    let unsigned = ocsp_error(|maker| maker.signer = stranger.clone());
    let name = provisioner();
    assert_eq!(
        unsigned,
        OcspError::Signer {
            name,
            delegate: None
        }
    );

    let responder = Party::new("Responder", 88);
    let issuer = Device::new().parties[3].clone();
    // 1.3.6.1.5.5.7.3.9 is OCSPSigning, .1 a web server's.
    let usage = |last| {
        extension(
            &[0x55, 0x1d, 37],
            true,
            &tlv(0x30, &tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, last])),
        )
    };
    let delegated = |by: &Party, terms: Terms| {
        let der = certificate(&responder, by, &terms);
        let change = |maker: &mut OcspMaker| {
            maker.signer = responder.key.clone();
            maker.delegate = Some(der.clone());
        };
        with_ocsp(change, OcspNonce::Any)
    };
    assert_eq!(delegated(&issuer, Terms::leaf().and(usage(9))), Ok(true));
    let refused = |result: Result<bool, GpuRefusal>| {
        let signer = matches!(
            result,
            Err(GpuRefusal::Revocation(OcspError::Signer {
                delegate: Some(_),
                ..
            }))
        );
        assert!(signer, "{result:?}");
    };
    refused(delegated(&issuer, Terms::leaf()));
    refused(delegated(
        &Party::new(&issuer.name, 44),
        Terms::leaf().and(usage(9)),
    ));
    refused(delegated(
        &Party::new("Another CA", 14),
        Terms::leaf().and(usage(9)),
    ));
    let mut expired = Terms::leaf().and(usage(9));
    expired.not_after = "20251231235959Z";
    refused(delegated(&issuer, expired));
    // A critical purpose that is not ours makes the response unreadable.
    let web = delegated(&issuer, Terms::leaf().and(usage(1)));
    assert_eq!(web, Err(GpuRefusal::Revocation(OcspError::Malformed)));
    // The issuer's own certificate beside its signature is no delegate's, and takes nothing from the signature.
    let root = &Device::new().parties[4];
    let own = certificate(&issuer, root, &Terms::authority(None));
    let own = with_ocsp(|maker| maker.delegate = Some(own.clone()), OcspNonce::Any);
    assert_eq!(own, Ok(true));
}

#[test]
fn no_flipped_or_cut_byte_of_an_answer_is_believed() {
    let device = Device::new();
    let issuer = &device.parties[2];
    let maker = OcspMaker::good(&issuer.key);
    let good = maker.answer(&device.parties[1], issuer);
    let roots = device.roots(&RimMaker::driver());
    let others: Vec<_> = [2, 3]
        .map(|at| {
            OcspMaker::good(&device.parties[at + 1].key)
                .answer(&device.parties[at], &device.parties[at + 1])
        })
        .into();
    let evidence = device.evidence();
    let believed = |answer: &[u8]| {
        let mut answers = others.clone();
        answers.push(answer.to_vec());
        let Ok(responses) = OcspResponses::parse(&answers, OcspNonce::Any) else {
            return false;
        };
        let policy = GpuPolicy {
            roots: &roots,
            at_unix_s: AT_UNIX_S,
            nonce: GpuNonce::InsecureAny,
            revocation: Revocation::Ocsp(&responses),
        };
        inspect(&evidence, &policy).is_ok()
    };
    assert!(believed(&good));
    for at in (0..good.len()).step_by(23) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(!believed(&flipped), "byte {at}");
        assert!(
            OcspResponses::parse(&[good[..at].to_vec()], OcspNonce::Any).is_err(),
            "cut at {at}"
        );
    }
    assert!(OcspResponses::parse(&[[&good[..], &[0]].concat()], OcspNonce::Any).is_err());
}
