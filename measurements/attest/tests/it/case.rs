//! A simulated guest and a verifier that expects it.

#![allow(dead_code, reason = "each test program uses its part")]

use crate::common::random;
use attest::{Collateral, Manifest, Peer, Policy, Refusal, Root, Verified, verify};
use registers::{Digest48, ReportData};
use simulator::{Flaws, SimulatedModule};

/// 2026-09-22.
pub const NOW_UNIX_S: u64 = 1_790_000_000;

/// Everything a verifier is given, and what it expects.
pub struct Case {
    pub quote: Vec<u8>,
    pub collateral: Collateral,
    pub report_data: ReportData,
    pub policy: Policy,
    pub root: Root,
    pub now_unix_s: u64,
}

impl Case {
    /// A guest in process mode, with these flaws.
    pub fn simulated(flaws: Flaws) -> Case {
        let manifest = manifest();
        let mut module =
            SimulatedModule::with_flaws(NOW_UNIX_S, &mut random("case"), flaws).unwrap();
        for event in manifest.rtmr3_events() {
            module.extend(3, &event.digest).unwrap();
        }
        let report_data = ReportData([0x5a; 64]);
        Case {
            quote: module.quote(&report_data.0),
            collateral: Collateral::from_json(module.collateral_json()).unwrap(),
            report_data,
            policy: Policy::from_manifest(&manifest),
            root: Root::insecure_test(module.root_der().to_vec()).unwrap(),
            now_unix_s: NOW_UNIX_S,
        }
    }

    pub fn verify(&self) -> Result<Verified<Peer>, Refusal> {
        verify(
            &self.quote,
            &self.collateral,
            &self.report_data,
            &self.policy,
            &self.root,
            self.now_unix_s,
        )
    }

    pub fn refusal(&self) -> Refusal {
        self.verify().expect_err("must be refused")
    }
}

pub fn manifest() -> Manifest {
    Manifest::process(Digest48::of(b"agent binary"), Digest48::of(b"config bytes"))
}
