//! A made-up NVIDIA that lies: certificates, reports and RIMs that are well signed and wrong.

use crate::made::{
    AT_UNIX_S, Device, Party, RimMaker, Terms, certificate, extension, measurement, pem, tcb_info,
};
use gpu::{
    CertificateError, ChainError, EvidenceError, GpuBundle, GpuEvidence, GpuNonce, GpuPolicy,
    GpuRefusal, GpuRootClass, ReportError, Revocation, Rim, RimError, RimKind, inspect, verify,
    verify_bundle,
};
use registers::Digest48;

fn judge(device: &Device, rims: &[Rim]) -> Result<Vec<u8>, GpuRefusal> {
    let roots = device.roots(&RimMaker::driver());
    let policy = GpuPolicy {
        roots: &roots,
        at_unix_s: AT_UNIX_S,
        nonce: GpuNonce::Expected([0x5a; 32]),
        revocation: Revocation::InsecureUnchecked,
    };
    verify(&device.evidence(), rims, &policy).map(|gpu| gpu.matched.clone())
}

fn rims() -> [Rim; 2] {
    [RimMaker::driver().rim(), RimMaker::vbios().rim()]
}

fn chain_error(device: &Device) -> ChainError {
    match judge(device, &rims()) {
        Err(GpuRefusal::Chain(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_made_up_device_is_verified_under_its_own_roots_only() {
    let device = Device::new();
    assert_eq!(judge(&device, &rims()).unwrap().len(), 33);
    let roots = device.roots(&RimMaker::driver());
    assert_eq!(roots.class(), GpuRootClass::InsecureTest);
    let nvidias = GpuPolicy {
        roots: &gpu::GpuRoots::NVIDIA,
        at_unix_s: AT_UNIX_S,
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    };
    let refused = verify(&device.evidence(), &rims(), &nvidias);
    assert!(
        matches!(refused, Err(GpuRefusal::Chain(ChainError::Root { .. }))),
        "{refused:?}"
    );
    let twice = GpuBundle::from(device.evidence());
    let policy = GpuPolicy {
        roots: &roots,
        ..nvidias
    };
    assert_eq!(verify_bundle(&twice, &rims(), &policy).unwrap().len(), 1);
}

#[test]
fn certificates_that_may_not_issue_or_sign_are_refused() {
    let not_authority = |position, change: &dyn Fn(&mut Device)| {
        let mut device = Device::new();
        change(&mut device);
        let error = chain_error(&device);
        let at =
            matches!(&error, ChainError::NotAuthority { position: got, .. } if *got == position);
        assert!(at, "{error:?}");
    };
    not_authority(2, &|device| device.terms[2] = Terms::leaf());
    not_authority(1, &|device| device.terms[1].extensions.truncate(1));
    not_authority(1, &|device| drop(device.terms[1].extensions.remove(0)));
    not_authority(3, &|device| device.terms[3] = Terms::authority(Some(1)));
    not_authority(4, &|device| device.terms[4] = Terms::authority(Some(2)));
    let mut deep_enough = Device::new();
    deep_enough.terms[4] = Terms::authority(Some(3));
    deep_enough.terms[1] = Terms::authority(Some(0));
    assert!(judge(&deep_enough, &rims()).is_ok());

    let mut device = Device::new();
    let info = tcb_info(&device.parties[1], &device.firmware);
    device.terms[0] = Terms::authority(None).and(info);
    assert!(matches!(chain_error(&device), ChainError::Leaf { .. }));
}

#[test]
fn times_names_and_keys_of_a_chain_are_checked() {
    let mut device = Device::new();
    device.terms[2].not_after = "20251231235959Z";
    let expired = chain_error(&device);
    assert!(
        matches!(expired, ChainError::Expired { position: 2, .. }),
        "{expired:?}"
    );
    let mut device = Device::new();
    device.terms[0].not_before = "20260101000001Z";
    let early = chain_error(&device);
    assert!(
        matches!(early, ChainError::NotYetValid { position: 0, .. }),
        "{early:?}"
    );

    // The right name over another key, and the right key under another name.
    let mut certificates = Device::new().certificates();
    let device = Device::new();
    let impostor = Party::new(&device.parties[1].name, 99);
    certificates[0] = certificate(&device.parties[0], &impostor, &device.terms[0]);
    let mut renamed = device.parties[1].clone();
    renamed.name = "GH100 A01 GSP BRON".into();
    let other_name = certificate(&device.parties[0], &renamed, &device.terms[0]);
    let roots = device.roots(&RimMaker::driver());
    let policy = GpuPolicy {
        roots: &roots,
        at_unix_s: AT_UNIX_S,
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    };
    let check = |certificates: &[Vec<u8>]| {
        let pem = crate::made::pem(certificates);
        let evidence = GpuEvidence::from_report(&device.signed_report(), &pem).unwrap();
        inspect(&evidence, &policy).unwrap_err()
    };
    let refused = check(&certificates);
    assert!(
        matches!(
            refused,
            GpuRefusal::Chain(ChainError::Signature { position: 0, .. })
        ),
        "{refused:?}"
    );
    certificates[0] = other_name;
    let refused = check(&certificates);
    assert!(
        matches!(
            refused,
            GpuRefusal::Chain(ChainError::Issuer { position: 0, .. })
        ),
        "{refused:?}"
    );
}

#[test]
fn extensions_that_nobody_knows_or_that_stand_twice_are_refused() {
    let refused = |extra: Vec<Vec<u8>>| {
        let mut device = Device::new();
        device.terms[2].extensions.extend(extra);
        let pem = crate::made::pem(&device.certificates());
        let evidence = GpuEvidence::from_report(&device.signed_report(), &pem);
        match evidence {
            Err(EvidenceError::Chain(ChainError::Certificate { position: 2, error })) => {
                Some(error)
            }
            Ok(_) => None,
            other => panic!("{other:?}"),
        }
    };
    // 2.5.29.30 are name constraints.
    let constraints = |critical| extension(&[0x55, 0x1d, 30], critical, &[0x30, 0]);
    assert_eq!(refused(vec![constraints(false)]), None);
    assert_eq!(
        refused(vec![constraints(true)]),
        Some(CertificateError::CriticalExtension)
    );
    let twice = vec![constraints(false), constraints(false)];
    assert_eq!(refused(twice), Some(CertificateError::ExtensionTwice));
}

#[test]
fn devices_of_another_kind_are_called_by_their_name() {
    let mut device = Device::new();
    device.parties[0].name = "GB100 A01 GSP FMC LF".into();
    let read = |device: &Device| {
        let pem = crate::made::pem(&device.certificates());
        GpuEvidence::from_report(&device.signed_report(), &pem).unwrap_err()
    };
    let got = "GB100 A01 GSP FMC LF".into();
    assert_eq!(read(&device), EvidenceError::Architecture { got });
    // 2.23.133.5.4.1.1, which Blackwell's leaves have.
    let mut device = Device::new();
    let later = extension(&[0x67, 0x81, 5, 5, 4, 1, 1], false, &[0x30, 0]);
    device.terms[0].extensions.push(later);
    let got = "GH100 A01 GSP FMC LF".into();
    assert_eq!(read(&device), EvidenceError::Architecture { got });
    let mut device = Device::new();
    device.parties[3].name = "NVIDIA LS10 Identity".into();
    let got = "NVIDIA LS10 Identity".into();
    assert_eq!(
        judge(&device, &rims()),
        Err(GpuRefusal::Architecture { got })
    );
}

#[test]
fn firmware_that_the_certificate_does_not_name_is_refused() {
    let mut device = Device::new();
    device.report.fields[6].1 = vec![0xf2; 48];
    let (got, certified) = (Some(Digest48([0xf2; 48])), Some(Digest48([0xf1; 48])));
    assert_eq!(
        judge(&device, &rims()),
        Err(GpuRefusal::Firmware { got, certified })
    );
    let mut device = Device::new();
    device.terms[0] = Terms::leaf();
    let (got, certified) = (Some(Digest48([0xf1; 48])), None);
    assert_eq!(
        judge(&device, &rims()),
        Err(GpuRefusal::Firmware { got, certified })
    );
    let mut device = Device::new();
    let info = tcb_info(&Party::new("another", 77), &device.firmware);
    device.terms[0] = Terms::leaf().and(info);
    assert_eq!(
        judge(&device, &rims()),
        Err(GpuRefusal::FirmwareOfAnotherDevice)
    );
}

#[test]
fn fields_that_stand_twice_or_say_something_new_are_refused() {
    type Fields = Vec<(u16, Vec<u8>)>;
    let refused = |change: &dyn Fn(&mut Fields)| {
        let mut device = Device::new();
        change(&mut device.report.fields);
        let pem = crate::made::pem(&device.certificates());
        match GpuEvidence::from_report(&device.signed_report(), &pem) {
            Err(EvidenceError::Report(error)) => Some(error),
            Ok(_) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|fields| fields.push((999, vec![1, 2, 3]))), None);
    let twice = refused(&|fields| fields.push((3, b"1\0".to_vec())));
    assert_eq!(twice, Some(ReportError::FieldTwice { number: 3 }));
    let absent = refused(&|fields| drop(fields.remove(0)));
    assert_eq!(absent, Some(ReportError::FieldAbsent { number: 3 }));
    for (number, value) in [(36, vec![3, 0]), (21, vec![0]), (34, vec![1])] {
        let new = refused(&|fields| fields.push((number, value.clone())));
        assert_eq!(new, Some(ReportError::Field { number }));
    }
    for (place, value) in [
        (0, b"1/2".to_vec()),
        (1, vec![0; 7]),
        (1, vec![0, 0, 0, 0, 0, 1, 0, 0]),
        (2, vec![1]),
    ] {
        let wrong = refused(&|fields| fields[place].1 = value.clone());
        assert!(
            matches!(wrong, Some(ReportError::Field { .. })),
            "{place} {value:?}"
        );
    }
}

#[test]
fn a_report_that_ends_before_a_measurement_differs_there() {
    let mut device = Device::new();
    device.report.blocks = 39;
    let Err(GpuRefusal::Measurements(mismatches)) = judge(&device, &rims()) else {
        panic!("accepted");
    };
    let missing: Vec<_> = mismatches.iter().map(|m| (m.index, m.got)).collect();
    assert_eq!(missing, [(39, None), (40, None)]);
    assert_eq!(mismatches[0].accepted, [measurement(39)]);
}

#[test]
fn rims_that_claim_one_measurement_twice_do_not_belong_together() {
    let mut vbios = RimMaker::vbios();
    vbios.active.push(21);
    let rims = [RimMaker::driver().rim(), vbios.rim()];
    let overlap = GpuRefusal::Overlap { indexes: vec![21] };
    assert_eq!(judge(&Device::new(), &rims), Err(overlap));
}

fn rim_error(file: &str) -> Option<RimError> {
    let roots = Device::new().roots(&RimMaker::driver());
    let parsed = Rim::parse("made", file.as_bytes());
    parsed.and_then(|rim| rim.check(&roots, AT_UNIX_S)).err()
}

#[test]
fn a_rim_has_one_signature_in_one_place() {
    let maker = RimMaker::driver();
    let content = maker.content();
    let [before, after] = &content;
    let signature = maker.signature(&content);
    assert_eq!(rim_error(&format!("{before}{signature}{after}")), None);
    let layout = |file: &str| {
        let error = rim_error(file);
        assert!(
            matches!(error, Some(RimError::Signature { .. })),
            "{error:?}"
        );
    };
    layout(&format!("{before}{after}"));
    layout(&format!("{before}{signature}{signature}{after}"));
    layout(&format!("{before}{signature}<Extra></Extra>{after}"));
    // Deeper than the root's children, as in wrapping attacks.
    layout(
        &before
            .replace("<Payload>", &format!("<Payload>{signature}"))
            .replace("</Payload>", &format!("</Payload>{after}")),
    );
    layout(&format!("{before}<Wrapper>{signature}</Wrapper>{after}"));
    // A second SignedInfo, an object, a key of another kind, an identifier.
    let twice = signature.replace(
        "<ds:SignatureValue>",
        "<ds:SignedInfo></ds:SignedInfo><ds:SignatureValue>",
    );
    layout(&format!("{before}{twice}{after}"));
    let object = signature.replace("</ds:Signature>", "<ds:Object></ds:Object></ds:Signature>");
    layout(&format!("{before}{object}{after}"));
    let key = signature.replace("<ds:X509Data>", "<ds:KeyName>a</ds:KeyName><ds:X509Data>");
    layout(&format!("{before}{key}{after}"));
    let id = signature.replace("<ds:Signature ", "<ds:Signature Id=\"a\" ");
    layout(&format!("{before}{id}{after}"));
}

#[test]
fn a_rim_does_not_choose_what_is_signed_or_how() {
    let maker = RimMaker::driver();
    let file = maker.file();
    for (from, to) in [
        ("URI=\"\"", "URI=\"#a\""),
        (" URI=\"\"", ""),
        (
            "2006/12/xml-c14n11\"></ds:Canon",
            "2001/10/xml-exc-c14n#\"></ds:Canon",
        ),
        ("xmldsig-more#ecdsa-sha384", "xmldsig-more#ecdsa-sha256"),
        ("xmldsig-more#sha384", "xmldsig-more#sha256"),
        ("#enveloped-signature", "#base64"),
        (
            "<ds:Reference URI=\"\">",
            "<ds:Reference URI=\"\" Type=\"t\">",
        ),
    ] {
        assert!(file.contains(from), "{from}");
        let error = rim_error(&file.replacen(from, to, 1));
        assert!(
            matches!(error, Some(RimError::Signature { .. })),
            "{from}: {error:?}"
        );
    }
}

#[test]
fn a_changed_rim_is_refused_for_its_digest_and_a_resigned_one_for_its_chain() {
    let file = RimMaker::driver().file();
    let changed = file.replacen("active=\"False\"", "active=\"True\"", 1);
    assert_eq!(rim_error(&changed), Some(RimError::Digest));
    let changed = file.replacen("Payload>", "Payload> ", 1);
    assert_eq!(rim_error(&changed), Some(RimError::Digest));
    // The digest is made to fit, the signature is the old one.
    let mut other = RimMaker::driver();
    other.active.push(50);
    let value = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("<ds:{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let forged = other.file();
    let forged = forged.replace(
        &value(&forged, "SignatureValue"),
        &value(&file, "SignatureValue"),
    );
    assert_eq!(rim_error(&forged), Some(RimError::BadSignature));
    let mut stranger = RimMaker::driver();
    stranger.parties[2] = Party::new("Test RIM Root", 66);
    let error = rim_error(&stranger.file());
    assert!(
        matches!(error, Some(RimError::Chain(ChainError::Root { .. }))),
        "{error:?}"
    );
}

#[test]
fn the_canonical_form_levels_what_means_the_same() {
    let file = RimMaker::driver().file();
    let written_otherwise = file
        .replace("product=\"GH100\"></Meta>", "product='GH1&#48;0' />")
        .replace(
            "active=\"True\" alternatives=\"1\"",
            "alternatives = \"1\"\n  active=\"True\"",
        );
    assert_ne!(file, written_otherwise);
    assert_eq!(
        rim_error(&format!("<?xml version=\"1.0\"?>\n{written_otherwise}\n")),
        None
    );
}

#[test]
fn a_payload_that_is_not_a_list_of_digests_is_refused() {
    let file = RimMaker::driver().file();
    let first = format!("Hash0=\"{}\"", measurement(7));
    let short = first.replacen("Hash0=\"", "Hash0=\"0", 1);
    let second = format!("Hash1=\"{}\"", measurement(7));
    for (from, to) in [
        ("index=\"3\"", "index=\"4\""),
        ("index=\"3\"", "index=\"03\""),
        ("index=\"3\"", "index=\"256\""),
        ("active=\"True\"", "active=\"true\""),
        ("alternatives=\"1\"", "alternatives=\"2\""),
        ("alternatives=\"1\"", "alternatives=\"0\""),
        ("size=\"48\"", "size=\"32\""),
        ("type=\"Measurement\"", "type=\"File\""),
        ("<Payload>", "<Payload></Payload><Payload>"),
        ("<Meta ", "<Meta></Meta><Meta "),
        ("colloquialVersion=\"550.90.07\"", "colloquialVersion=\"\""),
        (first.as_str(), short.as_str()),
        (first.as_str(), second.as_str()),
    ] {
        assert!(file.contains(from), "{from}");
        let error = rim_error(&file.replacen(from, to, 1));
        assert!(
            matches!(error, Some(RimError::Payload { .. })),
            "{from} {to}: {error:?}"
        );
    }
    let mut empty = RimMaker::driver();
    empty.active.clear();
    let error = rim_error(&empty.file());
    assert!(matches!(error, Some(RimError::Payload { .. })), "{error:?}");
}

#[test]
fn a_rim_of_a_kind_is_named_in_its_refusal() {
    let mut vbios = RimMaker::vbios();
    vbios.terms[0].not_after = "20251231235959Z";
    let refused = judge(&Device::new(), &[RimMaker::driver().rim(), vbios.rim()]);
    let Err(GpuRefusal::Rim {
        kind: RimKind::Vbios,
        label,
        error: RimError::Chain(ChainError::Expired { name, .. }),
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!((label.as_str(), name.as_str()), ("made", "RIM Signer"));
}

#[test]
fn bytes_behind_a_signature_are_counted_and_called_zeros_if_they_are() {
    let device = Device::new();
    let (report, chain) = (device.signed_report(), pem(&device.certificates()));
    let read = |report: &[u8]| GpuEvidence::from_report(report, &chain).err();
    assert_eq!(read(&report), None);
    for (behind, zeros, words) in [
        (
            &[0][..],
            true,
            "1 byte behind its signature, which nobody signed: zeros",
        ),
        (
            &[0; 3918],
            true,
            "3918 bytes behind its signature, which nobody signed: zeros",
        ),
        (
            &[0, 7],
            false,
            "2 bytes behind its signature, which nobody signed: not zeros",
        ),
    ] {
        let longer = [&report[..], behind].concat();
        let got = behind.len();
        let error = EvidenceError::Report(ReportError::Behind { got, zeros });
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(read(&longer), Some(error.clone()));
        assert_eq!(read(hex::encode(&longer).as_bytes()), Some(error));
    }
    let cut = report.get(..report.len() - 1).unwrap();
    assert_eq!(read(cut), Some(EvidenceError::Report(ReportError::End)));
}
