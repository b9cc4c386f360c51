//! The compiled contracts are what their source gives.

use serde_json::Value;
use settlement::{
    CHANNEL_CODE_HASH, CHARGE_CHECK_CODE_HASH, Contract, REGISTRY_CODE_HASH, STAKE_CODE_HASH,
};
use std::{env, fs, path::Path, process::Command};

#[test]
fn committed_code_has_the_hashes_of_the_manifest() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/manifest.json");
    let manifest: Value =
        serde_json::from_slice(&fs::read(path).expect("committed")).expect("JSON");
    for (contract, name, constant) in [
        (Contract::Channel, "channel", CHANNEL_CODE_HASH),
        (
            Contract::ChargeCheck,
            "charge_check",
            CHARGE_CHECK_CODE_HASH,
        ),
        (Contract::Stake, "stake", STAKE_CODE_HASH),
        (Contract::Registry, "registry", REGISTRY_CODE_HASH),
    ] {
        let listed = &manifest["contracts"][name];
        assert_eq!(
            listed["code_hash"],
            hex::encode(contract.code_hash()),
            "{name}"
        );
        assert_eq!(listed["boc_bytes"], contract.code_boc().len(), "{name}");
        assert_eq!(contract.code_hash(), constant, "{name}");
    }
    assert_eq!(manifest["package"], "@ton/tolk-js 1.3.0");
}

/// Needs node and the packages of `contracts/package.json`; `CHRYSALIS_TOLK` names the `node_modules` that has them.
#[test]
fn source_compiles_to_the_committed_code_and_vectors() {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts");
    let modules = env::var_os("CHRYSALIS_TOLK").map_or(contracts.join("node_modules"), Into::into);
    if !modules.join("@ton/tolk-js").is_dir() {
        let why = "set CHRYSALIS_TOLK to a node_modules with @ton/tolk-js";
        return without::skip("the Tolk compiler", why);
    }
    let output = Command::new("node")
        .arg("build.mjs")
        .arg("--check")
        .env("CHRYSALIS_TOLK", &modules)
        .current_dir(&contracts)
        .output()
        .expect("node runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
