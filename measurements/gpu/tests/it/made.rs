//! A made-up NVIDIA: roots, devices, RIMs and OCSP answers, signed with keys that guard nothing.

#![allow(dead_code, reason = "each test program uses its part")]

use base64::{Engine, engine::general_purpose::STANDARD};
use gpu::{GpuEvidence, GpuRoots, Rim};
use p384::ecdsa::{Signature, SigningKey, signature::Signer};
use registers::Digest48;
use sha2::{Digest, Sha384};

/// 2026-01-01.
pub const AT_UNIX_S: u64 = 1_767_225_600;

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&head[..], content].concat()
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn algorithm() -> Vec<u8> {
    sequence(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3])])
}

pub fn signed(body: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature: Signature = key.sign(body);
    let bits = [&[0], signature.to_der().as_bytes()].concat();
    sequence(&[body, &algorithm(), &tlv(3, &bits)])
}

pub fn name(common: &str) -> Vec<u8> {
    let pair = sequence(&[&tlv(6, &[0x55, 4, 3]), &tlv(0x0c, common.as_bytes())]);
    sequence(&[&tlv(0x31, &pair)])
}

pub fn key_bits(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

pub fn key_info(key: &SigningKey) -> Vec<u8> {
    let kind = [
        tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]),
        tlv(6, &[0x2b, 0x81, 4, 0, 0x22]),
    ];
    let bits = [&[0], &key_bits(key)[..]].concat();
    sequence(&[&sequence(&[&kind[0], &kind[1]]), &tlv(3, &bits)])
}

pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&tlv(6, oid), critical, &tlv(4, value)])
}

/// Who signs, and under which name.
#[derive(Clone)]
pub struct Party {
    pub name: String,
    pub key: SigningKey,
    pub serial: u8,
}

impl Party {
    pub fn new(name: &str, seed: u8) -> Party {
        let key = SigningKey::from_slice(&[seed; 48]).unwrap();
        Party {
            name: name.into(),
            key,
            serial: seed,
        }
    }
}

/// What goes into a certificate beside names and keys.
#[derive(Clone)]
pub struct Terms {
    pub not_before: &'static str,
    pub not_after: &'static str,
    pub extensions: Vec<Vec<u8>>,
}

impl Terms {
    pub fn authority(path_length: Option<u8>) -> Terms {
        let length = path_length.map_or(Vec::new(), |length| vec![2, 1, length]);
        Terms::with(vec![
            extension(
                &[0x55, 0x1d, 19],
                true,
                &sequence(&[&[1, 1, 0xff], &length]),
            ),
            extension(&[0x55, 0x1d, 15], true, &[3, 2, 1, 6]),
        ])
    }

    pub fn leaf() -> Terms {
        Terms::with(vec![extension(&[0x55, 0x1d, 15], true, &[3, 2, 7, 0x80])])
    }

    pub fn with(extensions: Vec<Vec<u8>>) -> Terms {
        Terms {
            not_before: "20200101000000Z",
            not_after: "20300101000000Z",
            extensions,
        }
    }

    pub fn and(mut self, extension: Vec<u8>) -> Terms {
        self.extensions.push(extension);
        self
    }
}

pub fn certificate(subject: &Party, issuer: &Party, terms: &Terms) -> Vec<u8> {
    let validity = [terms.not_before, terms.not_after].map(|time| tlv(0x18, time.as_bytes()));
    let body = sequence(&[
        &tlv(0xa0, &[2, 1, 2]),
        &[2, 1, subject.serial],
        &algorithm(),
        &name(&issuer.name),
        &sequence(&[&validity[0], &validity[1]]),
        &name(&subject.name),
        &key_info(&subject.key),
        &tlv(0xa3, &tlv(0x30, &terms.extensions.concat())),
    ]);
    signed(&body, &issuer.key)
}

/// A device and its authorities, leaf first, with what each certificate says.
#[derive(Clone)]
pub struct Device {
    pub parties: [Party; 5],
    pub terms: [Terms; 5],
    pub firmware: [u8; 48],
    pub report: Report,
}

#[derive(Clone)]
pub struct Report {
    pub nonce: [u8; 32],
    pub fields: Vec<(u16, Vec<u8>)>,
    pub blocks: u8,
}

pub fn tcb_info(device: &Party, firmware: &[u8; 48]) -> Vec<u8> {
    let sha384 = tlv(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2]);
    let digest = sequence(&[&sha384, &tlv(4, firmware)]);
    let value = sequence(&[&[2, 1, 1], &key_info(&device.key), &digest]);
    extension(&[0x67, 0x81, 5, 5, 4, 1], false, &value)
}

impl Device {
    pub fn new() -> Device {
        let parties = [
            Party::new("GH100 A01 GSP FMC LF", 11),
            Party::new("GH100 A01 GSP BROM", 12),
            Party::new("NVIDIA GH100 Provisioner ICA 1", 13),
            Party::new("NVIDIA GH100 Identity", 14),
            Party::new("Test Device Root", 15),
        ];
        let firmware = [0xf1; 48];
        let leaf = Terms::leaf().and(tcb_info(&parties[1], &firmware));
        let authority = || Terms::authority(None);
        Device {
            terms: [leaf, authority(), authority(), authority(), authority()],
            parties,
            firmware,
            report: Report {
                nonce: [0x5a; 32],
                fields: vec![
                    (3, b"550.90.07\0".to_vec()),
                    (6, vec![0, 0x9f, 0, 0x96, 1, 0, 0, 0]),
                    (11, vec![0xaa]),
                    (15, b"882\0".to_vec()),
                    (17, b"1010\0".to_vec()),
                    (18, b"0200\0".to_vec()),
                    (20, firmware.to_vec()),
                ],
                blocks: 64,
            },
        }
    }

    /// Leaf first.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let issuer = |position: usize| &self.parties[(position + 1).min(4)];
        let one = |position: usize| {
            certificate(
                &self.parties[position],
                issuer(position),
                &self.terms[position],
            )
        };
        (0..5).map(one).collect()
    }

    pub fn signed_report(&self) -> Vec<u8> {
        let Report {
            nonce,
            fields,
            blocks,
        } = &self.report;
        let mut bytes = [&[0x11, 0xe0, 1, 0xff][..], nonce, &[0]].concat();
        let length = u32::from(*blocks) * 55;
        bytes.extend([0x11, 0x60, 0, 0, *blocks]);
        bytes.extend(&length.to_le_bytes()[..3]);
        for index in 0..*blocks {
            bytes.extend([index + 1, 1, 51, 0, 1, 48, 0]);
            bytes.extend(measurement(index).0);
        }
        bytes.extend([0x77; 32]);
        let mut opaque = Vec::new();
        for (number, value) in fields {
            opaque.extend(number.to_le_bytes());
            opaque.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            opaque.extend(value);
        }
        bytes.extend(u16::try_from(opaque.len()).unwrap().to_le_bytes());
        bytes.extend(opaque);
        let signature: Signature = self.parties[0].key.sign(&bytes);
        bytes.extend(&signature.to_bytes()[..]);
        bytes
    }

    pub fn evidence(&self) -> GpuEvidence {
        let report = self.signed_report();
        GpuEvidence::from_report(&report, &pem(&self.certificates())).unwrap()
    }

    pub fn roots(&self, rims: &RimMaker) -> GpuRoots {
        let root = &self.certificates()[4];
        let rims = rims.certificates();
        GpuRoots::insecure_test(root, rims.last().unwrap()).unwrap()
    }
}

/// What measurement `index` of a made-up device is.
pub fn measurement(index: u8) -> Digest48 {
    Digest48::of(&[index])
}

pub fn pem(certificates: &[Vec<u8>]) -> Vec<u8> {
    let one = |der: &Vec<u8>| {
        let body = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    certificates
        .iter()
        .map(one)
        .collect::<String>()
        .into_bytes()
}

/// Makes RIMs of chosen measurements.
#[derive(Clone)]
pub struct RimMaker {
    pub version: String,
    pub active: Vec<u8>,
    /// Leaf first, with what each certificate says.
    pub parties: Vec<Party>,
    pub terms: Vec<Terms>,
}

impl RimMaker {
    pub fn driver() -> RimMaker {
        RimMaker {
            version: "550.90.07".into(),
            active: [7].into_iter().chain(21..=40).collect(),
            parties: vec![
                Party::new("RIM Signer", 21),
                Party::new("RIM CA", 22),
                Party::new("Test RIM Root", 23),
            ],
            terms: vec![
                Terms::leaf(),
                Terms::authority(Some(0)),
                Terms::authority(None),
            ],
        }
    }

    pub fn vbios() -> RimMaker {
        RimMaker {
            version: "96.00.9F.00.01".into(),
            active: (0..=6).chain(8..=12).collect(),
            ..RimMaker::driver()
        }
    }

    /// The same with four certificates, as NVIDIA's are, and a signer of its own.
    pub fn of_four(self, signer: u8) -> RimMaker {
        let mut maker = self;
        maker.parties[0] = Party::new("RIM Signer", signer);
        maker.parties.insert(1, Party::new("RIM GH100", 24));
        maker.terms.insert(2, Terms::authority(Some(1)));
        maker
    }

    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let root = self.parties.len() - 1;
        let issuer = |position: usize| &self.parties[(position + 1).min(root)];
        let one = |position: usize| {
            certificate(
                &self.parties[position],
                issuer(position),
                &self.terms[position],
            )
        };
        (0..=root).map(one).collect()
    }

    /// The document without its signature, in canonical form, cut where the signature goes.
    pub fn content(&self) -> [String; 2] {
        let mut text = format!(
            "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:h=\"{HASH}\" tagId=\"t\"><Meta colloquialVersion=\"{}\" product=\"GH100\"></Meta><Payload>",
            self.version
        );
        for index in 0..64u8 {
            let active = if self.active.contains(&index) {
                "True"
            } else {
                "False"
            };
            text += &format!(
                "<Resource active=\"{active}\" alternatives=\"1\" index=\"{index}\" name=\"M{index}\" size=\"48\" type=\"Measurement\" h:Hash0=\"{}\"></Resource>",
                measurement(index)
            );
        }
        [text + "</Payload>", "</SoftwareIdentity>".into()]
    }

    pub fn signed_info(digest: &str) -> String {
        let namespaces = format!(" xmlns=\"{SWID}\" xmlns:ds=\"{DSIG}\" xmlns:h=\"{HASH}\"");
        format!(
            "<ds:SignedInfo{namespaces}><ds:CanonicalizationMethod Algorithm=\"{C14N}\"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"></ds:SignatureMethod><ds:Reference URI=\"\"><ds:Transforms><ds:Transform Algorithm=\"{DSIG}enveloped-signature\"></ds:Transform><ds:Transform Algorithm=\"{C14N}\"></ds:Transform></ds:Transforms><ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"></ds:DigestMethod><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
        )
    }

    /// A signature over a document with this content.
    pub fn signature(&self, content: &[String; 2]) -> String {
        let digest = STANDARD.encode(Sha384::digest(content.concat()));
        let info = RimMaker::signed_info(&digest);
        let value: Signature = self.parties[0].key.sign(info.as_bytes());
        let value = STANDARD.encode(value.to_bytes());
        let certificates: String = self
            .certificates()
            .iter()
            .map(|der| {
                format!(
                    "<ds:X509Certificate>{}</ds:X509Certificate>",
                    STANDARD.encode(der)
                )
            })
            .collect();
        // As a file would have it: the namespaces are those from above.
        let info = info.replace(
            &format!(" xmlns=\"{SWID}\" xmlns:ds=\"{DSIG}\" xmlns:h=\"{HASH}\""),
            "",
        );
        format!(
            "<ds:Signature xmlns:ds=\"{DSIG}\">{info}<ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
        )
    }

    pub fn file(&self) -> String {
        let content = self.content();
        let [before, after] = &content;
        format!("{before}{}{after}", self.signature(&content))
    }

    pub fn rim(&self) -> Rim {
        Rim::parse("made", self.file().as_bytes()).unwrap()
    }
}

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const HASH: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const C14N: &str = "http://www.w3.org/2006/12/xml-c14n11";

/// An answer of an OCSP responder.
#[derive(Clone)]
pub struct OcspMaker {
    /// Who signs, and the certificate that comes along.
    pub signer: SigningKey,
    pub delegate: Option<Vec<u8>>,
    pub nonce: Option<Vec<u8>>,
    /// CertStatus in DER.
    pub status: Vec<u8>,
    pub produced: &'static str,
    pub this_update: &'static str,
    pub next_update: Option<&'static str>,
}

impl OcspMaker {
    pub fn good(signer: &SigningKey) -> OcspMaker {
        OcspMaker {
            signer: signer.clone(),
            delegate: None,
            nonce: None,
            status: vec![0x80, 0],
            produced: "20251231000000Z",
            this_update: "20251231000000Z",
            next_update: Some("20260102000000Z"),
        }
    }

    /// Good answers about every certificate of a device but its leaf, and of the RIMs, for the years 2026 to 2028.
    pub fn all_good(device: &Device, rims: &RimMaker) -> Vec<Vec<u8>> {
        OcspMaker::good_about(
            device.parties[1..]
                .windows(2)
                .chain(rims.parties.windows(2)),
        )
    }

    /// Good answers about each subject and its issuer, for these years.
    pub fn good_about<'a>(pairs: impl Iterator<Item = &'a [Party]>) -> Vec<Vec<u8>> {
        let answer = |pair: &[Party]| {
            let maker = OcspMaker {
                produced: "20260101000000Z",
                this_update: "20260101000000Z",
                next_update: Some("20290101000000Z"),
                ..OcspMaker::good(&pair[1].key)
            };
            maker.answer(&pair[0], &pair[1])
        };
        pairs.map(answer).collect()
    }

    /// The answer about a certificate of this subject and issuer.
    pub fn answer(&self, subject: &Party, issuer: &Party) -> Vec<u8> {
        let time = |text: &str| tlv(0x18, text.as_bytes());
        let digest = |bytes: &[u8]| tlv(4, &Sha384::digest(bytes));
        let sha384 = sequence(&[&tlv(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2])]);
        let id = sequence(&[
            &sha384,
            &digest(&name(&issuer.name)),
            &digest(&key_bits(&issuer.key)),
            &[2, 1, subject.serial],
        ]);
        let next = self
            .next_update
            .map_or(Vec::new(), |next| tlv(0xa0, &time(next)));
        let single = sequence(&[&id, &self.status, &time(self.this_update), &next]);
        let nonce = self.nonce.as_ref().map_or(Vec::new(), |nonce| {
            let oid = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
            tlv(0xa1, &sequence(&[&extension(&oid, false, &tlv(4, nonce))]))
        });
        let data = sequence(&[
            &tlv(0xa1, &name("Test responder")),
            &time(self.produced),
            &sequence(&[&single]),
            &nonce,
        ]);
        let signature: Signature = self.signer.sign(&data);
        let bits = [&[0], signature.to_der().as_bytes()].concat();
        let delegate = self
            .delegate
            .as_ref()
            .map_or(Vec::new(), |der| tlv(0xa0, &sequence(&[der])));
        let basic = sequence(&[&data, &algorithm(), &tlv(3, &bits), &delegate]);
        let kind = tlv(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
        sequence(&[
            &[0x0a, 1, 0],
            &tlv(0xa0, &sequence(&[&kind, &tlv(4, &basic)])),
        ])
    }
}
