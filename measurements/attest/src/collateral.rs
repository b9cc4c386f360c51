//! What Intel publishes about platforms: TCB levels, the quoting enclave's identity, revocation lists.

use dcap_qvl::QuoteCollateralV3;
use serde::Deserialize;

use crate::limits;

/// Collateral that has the right shape. Its signatures are checked by `verify`, under the verifier's root.
#[derive(Clone, PartialEq, Eq)]
pub struct Collateral(QuoteCollateralV3);

/// Why bytes are not collateral.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum CollateralError {
    #[error("the collateral has {got} bytes, more than the {max} allowed; it was not read")]
    TooLong { got: usize, max: usize },
    #[error(
        "the collateral is not valid: {0}; fetch it again from Intel's service or a cache of it"
    )]
    Json(String),
    #[error(
        "the collateral's {0} is not hexadecimal; fetch it again from Intel's service or a cache of it"
    )]
    Hex(&'static str),
}

impl Collateral {
    /// Reads the JSON that `dcap-qvl` and the services behind it write.
    pub fn from_json(bytes: &[u8]) -> Result<Collateral, CollateralError> {
        if bytes.len() > limits::COLLATERAL_BYTES_MAX {
            return Err(CollateralError::TooLong {
                got: bytes.len(),
                max: limits::COLLATERAL_BYTES_MAX,
            });
        }
        let file: CollateralJson =
            serde_json::from_slice(bytes).map_err(|e| CollateralError::Json(e.to_string()))?;
        Ok(Collateral(QuoteCollateralV3 {
            pck_crl_issuer_chain: file.pck_crl_issuer_chain,
            root_ca_crl: from_hex("root_ca_crl", &file.root_ca_crl)?,
            pck_crl: from_hex("pck_crl", &file.pck_crl)?,
            tcb_info_issuer_chain: file.tcb_info_issuer_chain,
            tcb_info: file.tcb_info,
            tcb_info_signature: from_hex("tcb_info_signature", &file.tcb_info_signature)?,
            qe_identity_issuer_chain: file.qe_identity_issuer_chain,
            qe_identity: file.qe_identity,
            qe_identity_signature: from_hex("qe_identity_signature", &file.qe_identity_signature)?,
            // The quote carries its own chain. A second one beside it would decide which platform is judged,
            // so it is read and never used.
            pck_certificate_chain: None,
        }))
    }

    pub(crate) fn as_qvl(&self) -> &QuoteCollateralV3 {
        &self.0
    }
}

impl std::fmt::Debug for Collateral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collateral({} bytes of TCB info)", self.0.tcb_info.len())
    }
}

fn from_hex(field: &'static str, text: &str) -> Result<Vec<u8>, CollateralError> {
    hex::decode(text).map_err(|_| CollateralError::Hex(field))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CollateralJson {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    #[serde(default, rename = "pck_certificate_chain")]
    _pck_certificate_chain: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 9] = [
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
    ];

    fn json(edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Vec<u8> {
        let mut object = FIELDS
            .iter()
            .map(|field| (field.to_string(), "00".into()))
            .collect();
        edit(&mut object);
        serde_json::to_vec(&object).unwrap()
    }

    #[test]
    fn missing_unknown_long_or_not_hex_is_refused() {
        assert!(Collateral::from_json(&json(|_| ())).is_ok());
        for field in FIELDS {
            let missing = Collateral::from_json(&json(|o| drop(o.remove(field))));
            assert!(matches!(missing, Err(CollateralError::Json(_))), "{field}");
        }
        let unknown = Collateral::from_json(&json(|o| drop(o.insert("extra".into(), "".into()))));
        assert!(matches!(unknown, Err(CollateralError::Json(_))));
        let not_hex =
            Collateral::from_json(&json(|o| drop(o.insert("pck_crl".into(), "0g".into()))));
        assert_eq!(not_hex.err(), Some(CollateralError::Hex("pck_crl")));
        let max = limits::COLLATERAL_BYTES_MAX;
        assert_eq!(
            Collateral::from_json(&vec![b' '; max + 1]).err(),
            Some(CollateralError::TooLong { got: max + 1, max })
        );
    }

    #[test]
    fn a_second_certificate_chain_is_never_used() {
        let with_chain =
            json(|o| drop(o.insert("pck_certificate_chain".into(), "anything".into())));
        assert_eq!(
            Collateral::from_json(&with_chain)
                .unwrap()
                .as_qvl()
                .pck_certificate_chain,
            None
        );
    }
}
