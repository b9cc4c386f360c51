//! What the guest agent links: how many packages of others, and which never.
//!
//! Counted for the agent alone, as the image builder compiles it, and not for the workspace, whose programs switch on more features.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Packages of others that the agent may link.
const LINKED_MAX: usize = 184;
/// The same without what only the engine and its models bring.
const WITHOUT_ENGINE_MAX: usize = 105;
/// Packages that the agent never links: a verifier of quotes (that of a GPU's signature it links, and with it the reader of
/// certificates), a library of wallets, a client of the internet, and whatever handles text or XML.
const NEVER: &[&str] = &[
    "attest",
    "chrono",
    "cudarc",
    "dcap-qvl",
    "hyper",
    "minijinja",
    "nacl",
    "roxmltree",
    "rustls",
    "tokenizers",
    "tonlib-core",
    "tracing-subscriber",
    "x509-cert",
];
/// Cryptography of which the agent has one version.
const ONCE: &[&str] = &[
    "curve25519-dalek",
    "digest",
    "ed25519-dalek",
    "hmac",
    "sha2",
    "signature",
    "subtle",
];

/// Breaches in what `cargo tree --prefix none` prints for the agent, with the engine and without.
pub fn breaches(linked: &str, without_engine: &str) -> Vec<String> {
    let names = |packages: &BTreeSet<&str>, name: &str| {
        let same = |package: &&&str| package.split(' ').next() == Some(name);
        packages.iter().filter(same).count()
    };
    let all = packages(linked);
    let mut breaches = Vec::new();
    for (what, tree, max) in [
        ("guest-agent", linked, LINKED_MAX),
        (
            "guest-agent without the engine",
            without_engine,
            WITHOUT_ENGINE_MAX,
        ),
    ] {
        let got = packages(tree)
            .iter()
            .filter(|package| !package.contains('('))
            .count();
        if got > max || got == 0 {
            breaches.push(format!(
                "{what} links {got} packages of others; at most {max} are allowed"
            ));
        }
    }
    let never = NEVER.iter().filter(|name| names(&all, name) > 0);
    breaches.extend(never.map(|name| format!("guest-agent may not link {name}")));
    let twice = ONCE.iter().filter(|name| names(&all, name) > 1);
    breaches.extend(twice.map(|name| format!("guest-agent links {name} in two versions")));
    breaches
}

/// Each package once, as `NAME VERSION`, ours with ` (PATH)` behind.
fn packages(tree: &str) -> BTreeSet<&str> {
    let lines = tree.lines().map(|line| line.trim_end_matches(" (*)"));
    lines.filter(|line| !line.is_empty()).collect()
}

/// What cargo says that the agent links, without the packages in `pruned`.
pub fn linked(root: &Path, pruned: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root)
        .args(["tree", "--offline", "--locked", "--prefix", "none"]);
    cargo.args([
        "--package",
        "guest-agent",
        "--edges",
        "normal,no-proc-macro",
    ]);
    // What the image builder compiles for (`image_builder::compile::TRIPLE`).
    cargo.args(["--target", "x86_64-unknown-linux-gnu"]);
    for name in pruned {
        cargo.args(["--prune", name]);
    }
    let output = cargo.output().expect("the cargo that built this test runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo tree failed (`cargo fetch` once needs the network): {said}"
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

#[test]
fn a_package_too_many_a_forbidden_one_and_a_second_version_are_breaches() {
    let some = "guest-agent v0.1.0 (/a)\nserde v1.0.0\n\nserde v1.0.0 (*)\n";
    assert_eq!(breaches(some, some), [""; 0]);
    let check = |more: &str| breaches(&format!("{some}{more}"), some).len();
    assert_eq!(check("dcap-qvl v0.7.1\n"), 1);
    assert_eq!(check("attest v0.1.0 (/a)\n"), 1);
    assert_eq!(check("sha2 v0.10.9\nsha2 v0.11.1\n"), 1);
    assert_eq!(check("sha2 v0.11.1\nsha2 v0.11.1 (*)\n"), 0);
    let many: String = (0..=LINKED_MAX).map(|n| format!("p{n} v1.0.0\n")).collect();
    assert_eq!(breaches(&many, some).len(), 1);
    assert_eq!(breaches(&many, &many).len(), 2);
    assert_eq!(breaches("", some).len(), 1);
}
