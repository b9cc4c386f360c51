//! A key that signs suites in tests, made here and never kept.

use pgp::composed::{ArmorOptions, SignedKeyDetails, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::ed25519::{Mode, SecretKey as Ed25519};
use pgp::crypto::eddsa_legacy;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PacketTrait, PubKeyInner, PublicKey, PublicSubkey, SecretKey, SecretSubkey,
    Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::types::{
    Duration, KeyDetails, KeyVersion, PacketHeaderVersion, Password, PlainSecretParams,
    PublicParams, SecretParams, SignedUser, SigningKey, Tag, Timestamp,
};

use image_builder::lock::Fingerprint;

/// When the keys of tests are made, in Unix seconds: 2026-01-01.
pub const BORN_S: u32 = 1_767_225_600;
/// When they sign, if nothing else is asked for: 2026-09-12 07:55:41 UTC.
pub const SIGNED_S: u32 = 1_789_199_741;

/// What a signature says; one that is good unless it is changed.
#[derive(Clone)]
pub struct Says {
    pub kind: SignatureType,
    pub hash: HashAlgorithm,
    pub at_s: u32,
    pub expires_s: Option<u32>,
    pub more: Vec<Subpacket>,
}

impl Default for Says {
    fn default() -> Self {
        Self {
            kind: SignatureType::Text,
            hash: HashAlgorithm::Sha512,
            at_s: SIGNED_S,
            expires_s: None,
            more: Vec::new(),
        }
    }
}

impl Says {
    fn config(self, by: &impl KeyDetails) -> SignatureConfig {
        let mut config = SignatureConfig::v4(self.kind, by.algorithm(), self.hash);
        let mut said = vec![
            SubpacketData::IssuerFingerprint(by.fingerprint()),
            SubpacketData::SignatureCreationTime(Timestamp::from_secs(self.at_s)),
        ];
        if let Some(seconds) = self.expires_s {
            said.push(SubpacketData::SignatureExpirationTime(Duration::from_secs(
                seconds,
            )));
        }
        let said = said.into_iter().map(regular);
        config.hashed_subpackets = said.chain(self.more).collect();
        config
    }
}

pub fn regular(data: SubpacketData) -> Subpacket {
    Subpacket::regular(data).expect("a short subpacket")
}

fn flags(sign: bool) -> Subpacket {
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(sign);
    regular(SubpacketData::KeyFlags(flags))
}

/// What a key says of itself, and what is made of it.
#[derive(Clone)]
pub struct Signer {
    secret: SecretKey,
    public: PublicKey,
    subkey: Option<(SecretSubkey, PublicSubkey)>,
    /// Signatures of the key over itself and its name.
    pub own: Says,
    pub expires_s: Option<u32>,
    pub signs: bool,
    /// Of the subkey.
    pub subkey_signs: bool,
    pub subkey_agrees: bool,
    pub revocations: Vec<Says>,
    pub subkey_revocations: Vec<Says>,
}

impl Signer {
    /// The key that this seed gives.
    pub fn new(seed: u8) -> Self {
        let (inner, params) = made(seed);
        let public = PublicKey::from_inner(inner).expect("a key");
        Self {
            secret: SecretKey::new(public.clone(), params).expect("a key"),
            public,
            subkey: None,
            own: Says {
                kind: SignatureType::CertPositive,
                at_s: BORN_S,
                ..Says::default()
            },
            expires_s: None,
            signs: true,
            subkey_signs: true,
            subkey_agrees: true,
            revocations: Vec::new(),
            subkey_revocations: Vec::new(),
        }
    }

    /// The same with a subkey, which does the signing then.
    pub fn with_subkey(seed: u8) -> Self {
        let (inner, params) = made(seed ^ 0x80);
        let public = PublicSubkey::from_inner(inner).expect("a key");
        let secret = SecretSubkey::new(public.clone(), params).expect("a key");
        Self {
            subkey: Some((secret, public)),
            ..Self::new(seed)
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let print = self.public.fingerprint();
        Fingerprint(print.as_bytes().try_into().expect("of version 4"))
    }

    /// The certificate in armour.
    pub fn certificate(&self) -> String {
        let expires = self.expires_s.map(|seconds| {
            regular(SubpacketData::KeyExpirationTime(Duration::from_secs(
                seconds,
            )))
        });
        let says = |signs: bool| Says {
            more: [vec![flags(signs)], expires.clone().into_iter().collect()].concat(),
            ..self.own.clone()
        };
        let name = UserId::from_str(PacketHeaderVersion::New, "made by a test").expect("a name");
        let config = says(self.signs).config(&self.public);
        let certified = config
            .sign_certification(&self.secret, &self.public, &none(), Tag::UserId, &name)
            .expect("an algorithm for signing");
        let revoke = |says: &Says| {
            let config = says.clone().config(&self.public);
            config.sign_key(&self.secret, &none(), &self.public)
        };
        let revocations = self.revocations.iter().map(revoke);
        let revocations = revocations.collect::<Result<_, _>>().expect("revocations");
        let users = vec![SignedUser::new(name, vec![certified])];
        let details = SignedKeyDetails::new(revocations, Vec::new(), users, Vec::new());
        let subkeys = self.subkey.iter().map(|(secret, public)| {
            let says = says(self.subkey_signs);
            SignedPublicSubKey::new(public.clone(), self.bind(secret, public, says))
        });
        SignedPublicKey::new(self.public.clone(), details, subkeys.collect())
            .to_armored_string(ArmorOptions::default())
            .expect("armour")
    }

    /// What binds the subkey, and what revokes it.
    fn bind(&self, secret: &SecretSubkey, public: &PublicSubkey, mut says: Says) -> Vec<Signature> {
        if self.subkey_agrees {
            let back = Says {
                kind: SignatureType::KeyBinding,
                more: Vec::new(),
                ..says.clone()
            };
            let config = back.config(public);
            let back = config
                .sign_primary_key_binding(secret, public, &none(), &self.public)
                .expect("a signature");
            says.more
                .push(regular(SubpacketData::EmbeddedSignature(Box::new(back))));
        }
        says.kind = SignatureType::SubkeyBinding;
        let over = |says: Says| {
            let config = says.config(&self.public);
            config
                .sign_subkey_binding(&self.secret, &self.public, &none(), public)
                .expect("a signature")
        };
        let revoked = self.subkey_revocations.iter().cloned().map(over);
        std::iter::once(over(says)).chain(revoked).collect()
    }

    /// A good signature over a text, as a cleartext-signed message.
    pub fn sign(&self, text: &str) -> String {
        message(text, &[self.signature(text, Says::default())])
    }

    /// A signature over a text, in OpenPGP's packets.
    pub fn signature(&self, text: &str, says: Says) -> Vec<u8> {
        let lines: Vec<_> = text
            .split('\n')
            .map(|line| line.trim_end_matches([' ', '\t']))
            .collect();
        let hashed = lines.join("\r\n");
        let signature = match &self.subkey {
            Some((secret, public)) => signed(says, secret, public, &hashed),
            None => signed(says, &self.secret, &self.public, &hashed),
        };
        let mut packets = Vec::new();
        signature
            .to_writer_with_header(&mut packets)
            .expect("memory");
        packets
    }
}

fn signed(
    says: Says,
    secret: &impl SigningKey,
    public: &impl KeyDetails,
    hashed: &str,
) -> Signature {
    let config = says.config(public);
    config
        .sign(secret, &none(), hashed.as_bytes())
        .expect("a signature")
}

/// A cleartext-signed message with these signature packets.
pub fn message(text: &str, signatures: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let dash = if line.starts_with('-') { "- " } else { "" };
        lines.push(format!("{dash}{line}"));
    }
    let packets = base64::engine::general_purpose::STANDARD.encode(signatures.concat());
    let packets: Vec<_> = packets.as_bytes().chunks(64).collect();
    let packets = packets.join(&b'\n');
    format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{}\n-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
        lines.join("\n"),
        String::from_utf8(packets).expect("base64")
    )
}

fn made(seed: u8) -> (PubKeyInner, SecretParams) {
    let secret = Ed25519::try_from_bytes([seed; 32], Mode::EdDSALegacy).expect("32 bytes");
    let params = PublicParams::EdDSALegacy((&secret).into());
    let inner = PubKeyInner::new(
        KeyVersion::V4,
        PublicKeyAlgorithm::EdDSALegacy,
        Timestamp::from_secs(BORN_S),
        None,
        params,
    );
    let plain = PlainSecretParams::EdDSALegacy(eddsa_legacy::SecretKey::Ed25519(secret));
    (inner.expect("a key"), SecretParams::Plain(plain))
}

fn none() -> Password {
    Password::empty()
}
