//! The collateral that a platform is judged by: TCB info, QE identity, and the JSON file with them.

use serde_json::{Value, json};

use crate::{
    Flaws, Platform,
    key::Key,
    pki::{Pki, Validity},
};

/// Family of the simulated platform; it spells SIMTD.
pub(crate) const FMSPC: [u8; 6] = *b"\xfeSIMTD";
/// TDX module 1, SVN 6, then the microcode loader's.
pub(crate) const TEE_TCB_SVN: [u8; 16] = [6, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What the module was when the guest was started.
pub(crate) fn launch_tee_tcb_svn(platform: Platform) -> [u8; 16] {
    let mut svn = TEE_TCB_SVN;
    if matches!(
        platform,
        Platform::TdRelaunchAdvised | Platform::ModuleOutOfDate
    ) {
        svn[0] -= 1;
    }
    svn
}

/// What the module is now.
pub(crate) fn current_tee_tcb_svn(platform: Platform) -> [u8; 16] {
    match platform {
        Platform::ModuleOutOfDate => launch_tee_tcb_svn(platform),
        _ => TEE_TCB_SVN,
    }
}

pub(crate) const PCE_SVN: u16 = 13;
pub(crate) const QE_ISV_SVN: u16 = 4;
pub(crate) const OLD_QE_ISV_SVN: u16 = 3;
pub(crate) const QE_ISV_PROD_ID: u16 = 2;
const EVALUATION_NUMBER: u32 = 18;

/// The first component is the level of the platform; the others are plausible and equal in all levels.
pub(crate) fn cpu_svn(platform: Platform) -> [u8; 16] {
    let level = match platform {
        Platform::UpToDate | Platform::TdRelaunchAdvised | Platform::ModuleOutOfDate => 8,
        Platform::SwHardeningNeeded => 7,
        Platform::ConfigurationNeeded => 6,
        Platform::ConfigurationAndSwHardeningNeeded => 5,
        Platform::OutOfDate => 4,
        Platform::OutOfDateConfigurationNeeded => 3,
        Platform::Revoked => 2,
        Platform::BelowEveryLevel => 1,
    };
    [level, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The collateral file, in the shape `dcap-qvl` reads.
pub(crate) fn json(
    pki: &Pki,
    qe_signer: &[u8; 32],
    validity: Validity,
    flaws: &Flaws,
    other_key: &Key,
) -> Vec<u8> {
    let tcb_key = if flaws.collateral_signed_by_other_key {
        other_key
    } else {
        &pki.tcb_key
    };
    let tcb_info = tcb_info(validity, flaws).to_string();
    let qe_identity = qe_identity(qe_signer, validity, flaws).to_string();
    let file = json!({
        "pck_crl_issuer_chain": pki.platform_ca_chain,
        "root_ca_crl": hex::encode(&pki.root_crl),
        "pck_crl": hex::encode(&pki.platform_crl),
        "tcb_info_issuer_chain": pki.tcb_chain,
        "tcb_info_signature": hex::encode(tcb_key.sign_raw(tcb_info.as_bytes())),
        "tcb_info": tcb_info,
        "qe_identity_issuer_chain": pki.tcb_chain,
        "qe_identity_signature": hex::encode(tcb_key.sign_raw(qe_identity.as_bytes())),
        "qe_identity": qe_identity,
    });
    file.to_string().into_bytes()
}

fn tcb_info(validity: Validity, flaws: &Flaws) -> Value {
    let fmspc = if flaws.collateral_for_another_platform {
        *b"\xfeOTHER"
    } else {
        FMSPC
    };
    let signer = flaws.seam_signer.map_or([0; 48], |signer| signer.0);
    let module = json!({
        "mrsigner": hex::encode_upper(signer),
        "attributes": hex::encode_upper(flaws.seam_attributes.to_le_bytes()),
        "attributesMask": "FFFFFFFFFFFFFFFF",
    });
    let mut identity = module.clone();
    identity["id"] = "TDX_01".into();
    identity["tcbLevels"] = json!([
        { "tcb": { "isvsvn": 6 }, "tcbDate": LEVEL_DATE, "tcbStatus": "UpToDate" },
        { "tcb": { "isvsvn": 5 }, "tcbDate": OLD_LEVEL_DATE, "tcbStatus": "OutOfDate",
          "advisoryIDs": ["SIMULATED-SA-00001"] },
    ]);
    json!({
        "id": "TDX",
        "version": 3,
        "issueDate": rfc3339(validity.issued_unix_s),
        "nextUpdate": rfc3339(validity.expires_unix_s),
        "fmspc": hex::encode_upper(fmspc),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": flaws.tcb_evaluation_number.unwrap_or(EVALUATION_NUMBER),
        "tdxModule": module,
        "tdxModuleIdentities": [identity],
        "tcbLevels": [
            level(Platform::UpToDate, "UpToDate"),
            level(Platform::SwHardeningNeeded, "SWHardeningNeeded"),
            level(Platform::ConfigurationNeeded, "ConfigurationNeeded"),
            level(
                Platform::ConfigurationAndSwHardeningNeeded,
                "ConfigurationAndSWHardeningNeeded"
            ),
            level(Platform::OutOfDate, "OutOfDate"),
            level(
                Platform::OutOfDateConfigurationNeeded,
                "OutOfDateConfigurationNeeded"
            ),
            level(Platform::Revoked, "Revoked"),
        ],
    })
}

fn level(platform: Platform, status: &str) -> Value {
    let components = |svns: [u8; 16]| svns.map(|svn| json!({ "svn": svn }));
    let (date, advisories): (_, &[&str]) = match platform {
        Platform::UpToDate => (LEVEL_DATE, &[]),
        _ => (OLD_LEVEL_DATE, &["SIMULATED-SA-00001"]),
    };
    json!({
        "tcb": {
            "sgxtcbcomponents": components(cpu_svn(platform)),
            "pcesvn": PCE_SVN,
            "tdxtcbcomponents": components(TEE_TCB_SVN),
        },
        "tcbDate": date,
        "tcbStatus": status,
        "advisoryIDs": advisories,
    })
}

fn qe_identity(qe_signer: &[u8; 32], validity: Validity, flaws: &Flaws) -> Value {
    json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": rfc3339(validity.issued_unix_s),
        "nextUpdate": rfc3339(validity.expires_unix_s),
        "tcbEvaluationDataNumber": flaws.tcb_evaluation_number.unwrap_or(EVALUATION_NUMBER),
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(qe_signer),
        "isvprodid": QE_ISV_PROD_ID,
        "tcbLevels": [
            { "tcb": { "isvsvn": QE_ISV_SVN }, "tcbDate": LEVEL_DATE, "tcbStatus": "UpToDate" },
            { "tcb": { "isvsvn": OLD_QE_ISV_SVN }, "tcbDate": OLD_QE_LEVEL_DATE, "tcbStatus": "OutOfDate" },
        ],
    })
}

fn rfc3339(unix_s: u64) -> String {
    let at = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(unix_s);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        at.hour(),
        at.minute(),
        at.second()
    )
}

const LEVEL_DATE: &str = "2024-11-13T00:00:00Z";
const OLD_LEVEL_DATE: &str = "2024-03-13T00:00:00Z";
const OLD_QE_LEVEL_DATE: &str = "2023-08-09T00:00:00Z";

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_as_other_programs_write_them() {
        // GNU date -u -d @N.
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::rfc3339(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(super::rfc3339(4_102_444_799), "2099-12-31T23:59:59Z");
    }
}
