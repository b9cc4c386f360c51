//! A reference integrity manifest: what NVIDIA signed that a driver or a VBIOS measures to.
//!
//! An ISO 19770-2 software identity in XML with one enveloped XML signature. The signature's own structure is fixed here element by
//! element: whatever may vary in XML signatures in general (which part is signed, by which algorithms, where the key comes from) is not
//! taken from the file.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use roxmltree::Node;

use super::{
    GpuRoots, RimError, XmlError, chain::Chain, ocsp::request, signatures::Signatures, xml,
};
use crate::limits;
use registers::{Digest32, Digest48};

/// A RIM that was read. Nothing in it is believed before [`Rim::check`].
#[derive(Clone, Debug)]
pub struct Rim {
    label: String,
    version: String,
    product: String,
    tag_id: String,
    digest: Digest32,
    pub(super) active: BTreeMap<u8, Golden>,
    chain: Chain,
    signature: [u8; 96],
    /// SHA-384 over the canonical form of all but the signature.
    content: Digest48,
    /// What the signature says that digest is.
    stated: Digest48,
    /// The canonical form of what is signed.
    signed_info: String,
}

/// What one measurement may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Golden {
    pub name: String,
    pub accepted: Vec<Digest48>,
}

impl Rim {
    /// Reads a RIM. `label` is what the caller calls it, such as the name of its file: it stands in errors, and where it names
    /// a board as NVIDIA's ids do (`NV_GPU_VBIOS_1010_0200_882_96009F0001`), the RIM is used for no other board.
    pub fn parse(label: &str, bytes: &[u8]) -> Result<Rim, RimError> {
        let text = xml::text(bytes)?;
        let document = xml::parse(text)?;
        let root = document.root_element();
        if !root.has_tag_name((SWID, "SoftwareIdentity")) {
            let what = "the root is no SoftwareIdentity";
            return Err(RimError::Payload { what });
        }
        let signature = signature_of(root)?;
        let deep = XmlError::Forbidden {
            what: "very deep nesting",
        };
        let content =
            xml::canonical(root, Some(signature.node.id())).ok_or_else(|| deep.clone())?;
        let signed_info = xml::canonical(signature.signed_info, None).ok_or(deep)?;
        let meta = only_child(root, "Meta")?;
        let attribute = |node: Node<'_, '_>, name| plain(node.attribute(name).unwrap_or(""));
        let label = label.chars().filter(|c| !c.is_control());
        Ok(Rim {
            label: label.take(limits::GPU_TEXT_BYTES_MAX).collect(),
            version: attribute(meta, "colloquialVersion")?,
            product: attribute(meta, "product")?,
            tag_id: attribute(root, "tagId")?,
            digest: Digest32::of(bytes),
            active: active(only_child(root, "Payload")?)?,
            chain: Chain::parse(&signature.certificates, RIM_CHAIN)?,
            signature: signature.value,
            content: Digest48::of(content.as_bytes()),
            stated: signature.digest,
            signed_info,
        })
    }

    /// Whether it was signed under the root for RIMs, at this time. [`verify`](super::verify) asks of every RIM that it uses.
    pub fn check(&self, roots: &GpuRoots, at_unix_s: u64) -> Result<(), RimError> {
        self.check_with(roots, at_unix_s, &Signatures::default())
    }

    /// The same, with what was checked already.
    pub(super) fn check_with(
        &self,
        roots: &GpuRoots,
        at_unix_s: u64,
        signatures: &Signatures,
    ) -> Result<(), RimError> {
        self.chain.verify(roots.rim(), at_unix_s, signatures)?;
        if self.content != self.stated {
            return Err(RimError::Digest);
        }
        let signed = self.signed_info.as_bytes();
        match signatures.signed(self.chain.leaf(), signed, &self.signature) {
            true => Ok(()),
            false => Err(RimError::BadSignature),
        }
    }

    /// Whether it may be the RIM of this version and board: by its own version, which is signed, and by the label if that names a
    /// board.
    pub(super) fn fits(&self, version: &str, board: Option<&[String; 3]>) -> bool {
        let same_board = match (board, board_of(&self.label)) {
            (Some(board), Some(labelled)) => labelled.iter().eq(board.iter()),
            _ => true,
        };
        self.version == version && self.product == HOPPER && same_board
    }

    /// OCSP requests about its certificates: for whoever fetches what a verifier will ask for.
    pub fn ocsp_requests(&self) -> Vec<Vec<u8>> {
        let below_root = self.chain.with_issuers();
        below_root.map(|(one, by)| request(one, by)).collect()
    }

    /// What the caller calls it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The version of the driver or VBIOS, such as `550.90.07` or `96.00.9F.00.01`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The product, `GH100` for Hopper.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// NVIDIA's identifier of it.
    pub fn tag_id(&self) -> &str {
        &self.tag_id
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> Digest32 {
        self.digest
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }
}

/// Project, SKU and chip SKU in a label, if it is built like one of NVIDIA's ids.
fn board_of(label: &str) -> Option<[String; 3]> {
    let label = label.to_ascii_uppercase();
    let parts = label.strip_prefix("NV_GPU_VBIOS_").unwrap_or(&label);
    let mut parts = parts.split(['_', '.']);
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let board = [next()?, next()?, next()?].map(str::to_owned);
    let version = next()?;
    let hex = version.len() == 10 && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then_some(board)
}

struct Signature<'a, 'input> {
    node: Node<'a, 'input>,
    signed_info: Node<'a, 'input>,
    digest: Digest48,
    value: [u8; 96],
    certificates: Vec<Vec<u8>>,
}

/// The one signature, checked element by element and attribute by attribute: no part of it is left for a second reading.
fn signature_of<'a, 'input>(root: Node<'a, 'input>) -> Result<Signature<'a, 'input>, RimError> {
    let wrong = |what| RimError::Signature { what };
    let of_dsig = |node: &Node<'_, '_>| node.tag_name().namespace() == Some(DSIG);
    let mut outermost = root.descendants().filter(|node| {
        node.is_element() && of_dsig(node) && !node.parent().is_some_and(|parent| of_dsig(&parent))
    });
    let node = outermost.next().ok_or(wrong("there is none"))?;
    if outermost.next().is_some()
        || node.parent() != Some(root)
        || node.next_sibling_element().is_some()
    {
        return Err(wrong(
            "there is more than one, or it is not the root's last child",
        ));
    }
    expect(node, "Signature", &[])?;
    let [signed_info, value, key_info] = children(node)?;
    expect(signed_info, "SignedInfo", &[])?;
    let [canonicalization, method, reference] = children(signed_info)?;
    expect(
        canonicalization,
        "CanonicalizationMethod",
        &[("Algorithm", C14N)],
    )?;
    expect(method, "SignatureMethod", &[("Algorithm", ECDSA_SHA384)])?;
    // The empty URI is the whole document (XML-DSig 4.4.3.1).
    expect(reference, "Reference", &[("URI", "")])?;
    let [transforms, digest_method, digest] = children(reference)?;
    expect(transforms, "Transforms", &[])?;
    let [first, second] = children(transforms)?;
    expect(first, "Transform", &[("Algorithm", ENVELOPED)])?;
    expect(second, "Transform", &[("Algorithm", C14N)])?;
    expect(digest_method, "DigestMethod", &[("Algorithm", SHA384)])?;
    for empty in [canonicalization, method, first, second, digest_method] {
        let [] = children(empty)?;
    }
    expect(digest, "DigestValue", &[])?;
    expect(value, "SignatureValue", &[])?;
    expect(key_info, "KeyInfo", &[])?;
    let [data] = children(key_info)?;
    expect(data, "X509Data", &[])?;
    let mut certificates = Vec::new();
    for certificate in elements(data)? {
        if certificates.len() >= limits::GPU_RIM_CERTIFICATES_MAX {
            return Err(wrong("too many certificates"));
        }
        expect(certificate, "X509Certificate", &[])?;
        certificates.push(base64_text(certificate)?);
    }
    let digest = base64_text(digest)?.try_into();
    let value = base64_text(value)?.try_into();
    Ok(Signature {
        node,
        signed_info,
        digest: Digest48(digest.map_err(|_| wrong("a digest of another length"))?),
        // XML-DSig 1.1, 6.4.3: r and s, 48 bytes each.
        value: value.map_err(|_| wrong("a signature of another length"))?,
        certificates,
    })
}

/// That an element of the signature has this name and exactly these attributes.
fn expect(
    node: Node<'_, '_>,
    name: &'static str,
    attributes: &[(&str, &str)],
) -> Result<(), RimError> {
    let given = node.attributes();
    let same = given.len() == attributes.len()
        && given.zip(attributes).all(|(given, (name, value))| {
            given.namespace().is_none() && given.name() == *name && given.value() == *value
        });
    match same && node.has_tag_name((DSIG, name)) {
        true => Ok(()),
        false => Err(RimError::Signature { what: name }),
    }
}

/// The elements in an element that holds nothing else but white space.
fn elements<'a, 'input>(node: Node<'a, 'input>) -> Result<Vec<Node<'a, 'input>>, RimError> {
    let blank = |text: &str| text.bytes().all(|byte| byte.is_ascii_whitespace());
    let mut found = Vec::new();
    for child in node.children() {
        match child.text() {
            _ if child.is_element() => found.push(child),
            Some(text) if child.is_text() && blank(text) => {}
            _ => {
                let what = "text where there should be none";
                return Err(RimError::Signature { what });
            }
        }
    }
    Ok(found)
}

fn children<'a, 'input, const N: usize>(
    node: Node<'a, 'input>,
) -> Result<[Node<'a, 'input>; N], RimError> {
    elements(node)?.try_into().map_err(|_| RimError::Signature {
        what: "an element with other children than expected",
    })
}

/// The base64 in an element that holds one text and nothing else.
fn base64_text(node: Node<'_, '_>) -> Result<Vec<u8>, RimError> {
    let wrong = RimError::Signature {
        what: "a value that is not base64",
    };
    let mut children = node.children();
    let (Some(text), None) = (children.next(), children.next()) else {
        return Err(wrong);
    };
    let text = text
        .text()
        .filter(|_| text.is_text())
        .ok_or(wrong.clone())?;
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).map_err(|_| wrong)
}

/// The one child of the root with this name.
fn only_child<'a, 'input>(
    root: Node<'a, 'input>,
    name: &'static str,
) -> Result<Node<'a, 'input>, RimError> {
    let mut named = root
        .children()
        .filter(|child| child.has_tag_name((SWID, name)));
    match (named.next(), named.next()) {
        (Some(child), None) => Ok(child),
        _ => Err(RimError::Payload { what: name }),
    }
}

/// What each active measurement may be. Inactive entries are read as strictly and left out.
fn active(payload: Node<'_, '_>) -> Result<BTreeMap<u8, Golden>, RimError> {
    let wrong = |what| RimError::Payload { what };
    let (mut seen, mut active) = ([false; 256], BTreeMap::new());
    for resource in payload.children().filter(Node::is_element) {
        let attribute = |name| resource.attribute(name).unwrap_or("");
        if !resource.has_tag_name((SWID, "Resource"))
            || attribute("type") != "Measurement"
            || attribute("size") != "48"
        {
            return Err(wrong("an entry that is no measurement of 48 bytes"));
        }
        let index: u8 = number(attribute("index")).ok_or(wrong("an index that is no number"))?;
        if std::mem::replace(&mut seen[usize::from(index)], true) {
            return Err(wrong("an index twice"));
        }
        let alternatives =
            number(attribute("alternatives")).ok_or(wrong("no number of alternatives"))?;
        let hashes = resource
            .attributes()
            .filter(|a| a.namespace() == Some(SHA384_HASH));
        if hashes.count() != usize::from(alternatives) || alternatives == 0 {
            return Err(wrong("another number of digests than stated"));
        }
        let accepted = (0..alternatives).map(|alternative| {
            let digest = resource.attribute((SHA384_HASH, &*format!("Hash{alternative}")))?;
            let mut bytes = [0; 48];
            hex::decode_to_slice(digest, &mut bytes).ok()?;
            Some(Digest48(bytes))
        });
        let accepted: Option<Vec<_>> = accepted.collect();
        let golden = Golden {
            name: plain(attribute("name"))?,
            accepted: accepted.ok_or(wrong("a digest that is not 96 hex digits"))?,
        };
        match attribute("active") {
            "True" => drop(active.insert(index, golden)),
            "False" => {}
            _ => return Err(wrong("an entry neither active nor inactive")),
        }
    }
    // A list of nothing would agree with every GPU.
    match active.is_empty() {
        true => Err(wrong("no active measurement")),
        false => Ok(active),
    }
}

/// Decimal digits, written one way.
fn number(text: &str) -> Option<u8> {
    text.parse()
        .ok()
        .filter(|number: &u8| number.to_string() == text)
}

/// Text for people and comparisons: short, printable, not empty.
fn plain(text: &str) -> Result<String, RimError> {
    let good = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.is_empty() || text.len() > limits::GPU_TEXT_BYTES_MAX || !text.bytes().all(good) {
        let what = "a name or version that is empty, long or not printable";
        return Err(RimError::Payload { what });
    }
    Ok(text.to_owned())
}

/// How many certificates a RIM has.
const RIM_CHAIN: std::ops::RangeInclusive<usize> = 2..=limits::GPU_RIM_CERTIFICATES_MAX;
/// What Hopper is called in a RIM.
const HOPPER: &str = "GH100";
const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const SHA384_HASH: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const C14N: &str = "http://www.w3.org/2006/12/xml-c14n11";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
const SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";
