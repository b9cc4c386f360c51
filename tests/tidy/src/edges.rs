//! Who may depend on whom. The table is the design's; an edge that is not in it is a breach.

use crate::tree::Manifest;

/// Each package with all that it may use of ours.
const ALLOWED: &[(&str, &[&str])] = &[
    ("registers", &[]),
    ("pki", &[]),
    ("settlement", &[]),
    ("stage0", &[]),
    ("tidy", &[]),
    ("demo", &[]),
    ("mutations", &["tests"]),
    ("without", &[]),
    ("random-model", &[]),
    (
        "reference",
        &[
            "client",
            "host-proxy",
            "image-builder",
            "ledger",
            "measurements",
            "simulator",
        ],
    ),
    // It shares nothing with the predictor, so that one can be held against the other.
    ("simulator", &["registers"]),
    ("attest", &["registers", "pki"]),
    ("gpu", &["registers", "pki"]),
    ("predict", &["registers", "attest"]),
    ("diagnose", &["registers", "attest", "gpu", "predict"]),
    (
        "measurements",
        &[
            "registers",
            "pki",
            "attest",
            "gpu",
            "predict",
            "diagnose",
            "wire",
        ],
    ),
    ("model", &["registers"]),
    ("kernels", &[]),
    ("engine", &["model", "kernels"]),
    ("engine-cli", &["engine", "model", "kernels"]),
    (
        "image-builder",
        &["registers", "attest", "predict", "model"],
    ),
    ("ledger", &["settlement"]),
    ("timestamp", &["pki"]),
    (
        "wire",
        &["registers", "settlement", "attest", "gpu", "timestamp"],
    ),
    (
        "client",
        &[
            "wire",
            "registers",
            "attest",
            "gpu",
            "model",
            "pki",
            "settlement",
            "timestamp",
        ],
    ),
    (
        "guest-agent",
        &[
            "wire",
            "registers",
            "settlement",
            "engine",
            "model",
            "gpu",
            "gpu-jobs",
            "stage0",
        ],
    ),
    ("gpu-jobs", &["engine", "wire"]),
    (
        "gpu-worker",
        &[
            "engine",
            "gpu",
            "gpu-jobs",
            "guest-agent",
            "kernels",
            "model",
            "pki",
            "registers",
            "settlement",
            "wire",
        ],
    ),
    (
        "host-proxy",
        &[
            "wire",
            "settlement",
            "ledger",
            "registers",
            "pki",
            "timestamp",
            "attest",
            "gpu",
            "predict",
        ],
    ),
    (
        "hostile",
        &[
            "attest",
            "client",
            "engine",
            "guest-agent",
            "host-proxy",
            "ledger",
            "random-model",
            "registers",
            "settlement",
            "simulator",
            "wire",
        ],
    ),
    (
        "tests",
        &[
            "attest",
            "client",
            "demo",
            "engine",
            "gpu",
            "host-proxy",
            "image-builder",
            "ledger",
            "measurements",
            "model",
            "pki",
            "predict",
            "registers",
            "settlement",
            "simulator",
            "wire",
        ],
    ),
];
/// What tests of any package may use besides: the two stand-ins for things we cannot have in a test, the verifier that judges
/// what they signed, a model that nobody trained, and how a test says that it was skipped.
const FOR_TESTS: &[&str] = &["simulator", "ledger", "attest", "random-model", "without"];

/// Edges outside the table, and packages that the table does not know.
pub fn breaches(manifests: &[Manifest]) -> Vec<String> {
    let mut breaches = Vec::new();
    for manifest in manifests {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == manifest.name) else {
            breaches.push(format!(
                "package {} is not in the table of tests/tidy/src/edges.rs",
                manifest.name
            ));
            continue;
        };
        for need in &manifest.needs {
            let ours = ALLOWED.iter().any(|(name, _)| *name == need.name);
            // Tests of a package that takes itself, with a feature.
            let for_tests = need.development
                && (FOR_TESTS.contains(&need.name.as_str()) || need.name == manifest.name);
            if ours && !allowed.contains(&need.name.as_str()) && !for_tests {
                let kind = if need.development { "tests of " } else { "" };
                breaches.push(format!(
                    "{kind}{} may not depend on {}",
                    manifest.name, need.name
                ));
            }
        }
    }
    breaches
}

#[test]
fn an_edge_outside_the_table_is_a_breach() {
    let check = |name: &str, section: &str, need: &str| {
        let text = format!("[package]\nname = \"{name}\"\n[{section}]\n{need}.workspace = true\n");
        breaches(&[Manifest::parse(name, &text)])
    };
    assert_eq!(
        check("settlement", "dependencies", "wire"),
        ["settlement may not depend on wire"]
    );
    assert_eq!(
        check("client", "dependencies", "host-proxy"),
        ["client may not depend on host-proxy"]
    );
    assert_eq!(
        check("client", "dependencies", "ledger"),
        ["client may not depend on ledger"]
    );
    assert_eq!(
        check("simulator", "dependencies", "predict"),
        ["simulator may not depend on predict"]
    );
    assert_eq!(
        check("guest-agent", "dependencies", "attest"),
        ["guest-agent may not depend on attest"]
    );
    assert_eq!(
        check("client", "dev-dependencies", "engine"),
        ["tests of client may not depend on engine"]
    );
    assert_eq!(
        check("guest-agent", "build-dependencies", "simulator"),
        ["guest-agent may not depend on simulator"]
    );
    assert_eq!(
        check("client", "target.'cfg(unix)'.dependencies", "engine"),
        ["client may not depend on engine"]
    );
    assert_eq!(check("utils", "dependencies", "serde").len(), 1);
    assert_eq!(check("client", "dev-dependencies", "ledger"), [""; 0]);
    assert_eq!(check("wire", "dev-dependencies", "wire"), [""; 0]);
    assert_eq!(check("client", "dependencies", "wire"), [""; 0]);
    assert_eq!(check("client", "dependencies", "serde"), [""; 0]);
}
