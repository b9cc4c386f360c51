//! Intel's services, as they answer with given collateral, and a cache with its clock.

use super::fake_source::{FakeSource, Reply, body};
use attest::{PckCa, Platform};
use host_proxy::{Clock, CollateralCache, CollateralConfig, CollateralKey, SourceError};
use serde_json::Value;
use simulator::SimulatedModule;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
pub use without::vector;

/// 2026-09-22. Where a test keeps its own time.
pub const NOW_UNIX_S: u64 = 1_790_000_000;

/// A simulated platform with its module.
pub fn module(now_unix_s: u64) -> SimulatedModule {
    let mut next = 0_u8;
    let mut random = move |buffer: &mut [u8]| {
        for byte in buffer {
            next = next.wrapping_mul(5).wrapping_add(77);
            *byte = next;
        }
    };
    SimulatedModule::new(now_unix_s, &mut random).expect("a module")
}

/// The collateral of a simulated platform.
pub fn simulated() -> Value {
    serde_json::from_slice(module(NOW_UNIX_S).collateral_json()).expect("JSON")
}

/// The platform that such a collateral is for.
pub fn platform(collateral: &Value) -> Platform {
    let tcb_info: Value = serde_json::from_str(text(collateral, "tcb_info")).expect("JSON");
    let fmspc = tcb_info["fmspc"].as_str().expect("a string");
    Platform {
        fmspc: Platform::fmspc_from_hex(fmspc).expect("twelve digits"),
        ca: PckCa::Platform,
    }
}

pub fn text<'a>(collateral: &'a Value, field: &str) -> &'a str {
    collateral[field].as_str().expect("a string")
}

/// Makes an source answer as Intel's service with this collateral.
pub fn serve_as_pcs(source: &FakeSource, collateral: &Value) {
    let der = |field| hex::decode(text(collateral, field)).expect("hexadecimal");
    let sgx = "/sgx/certification/v4";
    let tdx = "/tdx/certification/v4";
    let json = |key: &str, list: &str, signature: &str| {
        format!(
            "{{\"{key}\":{},\"signature\":\"{}\"}}",
            text(collateral, list),
            text(collateral, signature)
        )
    };
    let with = |reply, header: &str, chain: &str| {
        with_header(reply, header, &encoded(text(collateral, chain)))
    };
    source.replies(
        &format!("{sgx}/pckcrl"),
        with(
            body("application/pkix-crl", der("pck_crl")),
            "SGX-PCK-CRL-Issuer-Node",
            "pck_crl_issuer_chain",
        ),
    );
    source.replies(
        &format!("{tdx}/tcb"),
        with(
            body(
                "application/json",
                json("tcbInfo", "tcb_info", "tcb_info_signature"),
            ),
            "TCB-Info-Issuer-Node",
            "tcb_info_issuer_chain",
        ),
    );
    source.replies(
        &format!("{tdx}/qe/identity"),
        with(
            body(
                "application/json;charset=utf-8",
                json("enclaveIdentity", "qe_identity", "qe_identity_signature"),
            ),
            "SGX-Enclave-Identity-Issuer-Node",
            "qe_identity_issuer_chain",
        ),
    );
    source.replies(
        "/root.crl",
        body("application/pkix-crl", der("root_ca_crl")),
    );
}

/// Makes it answer as a PCCS: revocation lists in hexadecimal, and the root CA's among them.
pub fn serve_as_pccs(source: &FakeSource, collateral: &Value) {
    serve_as_pcs(source, collateral);
    let sgx = "/sgx/certification/v4";
    let chain = encoded(text(collateral, "pck_crl_issuer_chain"));
    let crl = body("text/html; charset=utf-8", text(collateral, "pck_crl"));
    source.replies(
        &format!("{sgx}/pckcrl"),
        with_header(crl, "SGX-PCK-CRL-Issuer-Node", &chain),
    );
    source.replies(
        &format!("{sgx}/rootcacrl"),
        body("text/html; charset=utf-8", text(collateral, "root_ca_crl")),
    );
}

pub fn with_header(reply: Reply, name: &str, value: &str) -> Reply {
    let Reply::Whole(status, mut headers, body) = reply else {
        panic!("only whole answers have headers");
    };
    headers.push((name.into(), value.into()));
    Reply::Whole(status, headers, body)
}

/// Percent-encoded, all but letters and digits.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// How the configuration names an source as Intel's service.
pub fn pcs(source: &FakeSource) -> String {
    let url = source.url();
    format!(
        "  - kind: pcs\n    url: {url}\n    root_crl_url: {url}/root.crl\n    timeout_ms: 400\n"
    )
}

/// A cache, its directory and its clock.
pub struct TestCache {
    pub directory: TempDir,
    pub cache: CollateralCache,
    pub now: Arc<AtomicU64>,
    config: CollateralConfig,
}

impl TestCache {
    /// Sources as YAML, the clock at [`NOW_UNIX_S`].
    pub fn with(sources: &str) -> TestCache {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!("cache: cache\n{sources}");
        let config = CollateralConfig::from_yaml(&text, directory.path()).expect("a configuration");
        let now = Arc::new(AtomicU64::new(NOW_UNIX_S));
        let cache = CollateralCache::open(&config, clock(&now)).expect("a cache");
        TestCache {
            directory,
            cache,
            now,
            config,
        }
    }

    /// With these sources of Intel's collateral.
    pub fn tdx(sources: &[String]) -> TestCache {
        TestCache::with(&format!("tdx:\n{}", sources.concat()))
    }

    /// Another program on the same directory, or the same one after a restart: nothing in memory.
    pub fn restart(&mut self) {
        self.cache = CollateralCache::open(&self.config, clock(&self.now)).expect("a cache");
    }

    pub fn set_clock(&self, unix_s: u64) {
        self.now.store(unix_s, Ordering::SeqCst);
    }

    /// What went wrong with the only source.
    pub async fn error(&self, key: &CollateralKey) -> SourceError {
        let unavailable = self.cache.get(key).await.expect_err("no answer");
        let [failure] = &unavailable.failures[..] else {
            panic!("one source: {unavailable}");
        };
        failure.error.clone()
    }
}

fn clock(now: &Arc<AtomicU64>) -> Clock {
    let now = now.clone();
    Arc::new(move || now.load(Ordering::SeqCst))
}
