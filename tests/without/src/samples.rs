//! Quotes of real machines with their collateral, from the source of the verification library (dcap-qvl, MIT), which cargo
//! unpacked in order to compile it.

use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A sample, which is the one whose digest is written here.
pub fn read(name: &str) -> Vec<u8> {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let known = SAMPLES.iter().find(|(known, _)| *known == name);
    let (_, digest) = known.unwrap_or_else(|| panic!("dcap-qvl's sample {name} is not listed"));
    let path = DIRECTORY.get_or_init(directory).join(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let got = Sha256::digest(&bytes);
    let got: String = got.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(got, *digest, "{}", path.display());
    bytes
}

/// The package's directory, of which cargo's metadata has the path of the manifest.
fn directory() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version=1", "--locked"]);
    metadata.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    metadata.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = metadata.output().expect("cargo runs this test");
    let text = String::from_utf8_lossy(&output.stdout);
    let end = text.find("/dcap-qvl-0.7.1/Cargo.toml\"");
    let end = end.expect("cargo metadata names dcap-qvl 0.7.1");
    let start = text[..end].rfind('"').map_or(0, |quote| quote + 1);
    PathBuf::from(&text[start..end]).join("dcap-qvl-0.7.1/sample")
}

/// All ten.
const SAMPLES: [(&str, &str); 10] = [
    (
        "quote-from-tappd.hex",
        "0aa3ae462a0910049edf338880084934d46f3ca267180d8a197a24190e695fa9",
    ),
    (
        "sgx_quote",
        "f8b81014b6e443609746822194910f5dc1c92c322fa0584298d1e33e505ca3b5",
    ),
    (
        "sgx_quote_collateral.json",
        "bdd694bbe50f3a2a1cfe12f9e2bd83125921107a368edcf10780a5523b8501ce",
    ),
    (
        "tdx-quote.hex",
        "cd67d0c5969c78768f9cfd26947942273b939ede929594b20833ed3b0ace878b",
    ),
    (
        "tdx_quote",
        "c42f9164325024bca2757bc8819b11879a0a369132ea4e2b7c85df4805ea72db",
    ),
    (
        "tdx_quote_collateral.json",
        "b0a5f5fd620a8881b1eda45261fdf30dd930b49aff93231556645c81fcb4c0bc",
    ),
    (
        "tdx_quote_outdated",
        "4c453ea417a7863ed67c215fe4735d91e26f359c760e5984a277866d8d5758e9",
    ),
    (
        "tdx_quote_outdated_collateral.json",
        "05e91466e56352166c15a73654147c3d95d6f4ffa62bd150c3c8cbb1d75c3b15",
    ),
    (
        "tdx_quote_td15ex",
        "fd88575b046315787daac21cb3657d03d95d74760a9c5006ad689fa5c2c498f7",
    ),
    (
        "tdx_quote_td15ex_collateral.json",
        "29e1cb0c2dc98c2cc7f241cc142bdf9d61dee288276d33ae45d5fb2b6b5cc0b0",
    ),
];
