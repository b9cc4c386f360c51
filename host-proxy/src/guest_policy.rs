//! The proxy's own guest, verified before its keyset is endorsed: by the manifest that the provider publishes, and by the
//! function that clients verify it with ([`wire::attest`]). Whoever gets to the guest's address first, with keys of its own, is
//! not endorsed then.

use crate::clock::now_unix_s;
use crate::config::GuestFiles;
use crate::error::{Context, Error, Fault, read_file};
use crate::limits::CONFIG_BYTES_MAX;
use attest::{Manifest, Policy, Root};
use wire::{Expected, GpuRoots, Keyset, NotTrusted};

/// What the guest must be.
pub(crate) struct GuestPolicy {
    policy: Policy,
    root: Root,
}

impl GuestPolicy {
    pub(crate) fn read(files: &GuestFiles) -> Result<Self, Error> {
        let shown = || files.manifest.display();
        let manifest = read_file(&files.manifest, CONFIG_BYTES_MAX)?;
        let manifest = Manifest::from_json(&manifest).context(Fault::Configuration, shown)?;
        let root = match &files.insecure_test_root {
            None => Root::intel(),
            Some(path) => {
                let root = Root::insecure_test(read_file(path, CONFIG_BYTES_MAX)?);
                root.context(Fault::Configuration, || path.display())?
            }
        };
        let policy = Policy::from_manifest(&manifest);
        Ok(GuestPolicy { policy, root })
    }

    /// Refuses a bundle that a client with this manifest would refuse. `keyset` is the one in it.
    pub(crate) fn check(
        &self,
        bundle: &[u8],
        nonce: &[u8; 32],
        keyset: &Keyset,
    ) -> Result<(), NotTrusted> {
        // Whom it pays was compared with this provider before. The profile is the registers' business.
        let expected = Expected {
            profile: keyset.profile.clone(),
            chain: keyset.chain,
            payee: keyset.payee,
            payee_key: keyset.payee_key,
            gpu_roots: GpuRoots::NVIDIA,
            appraised_gpus: Default::default(),
        };
        let (policy, root) = (&self.policy, &self.root);
        wire::attest(bundle, nonce, policy, root, &expected, now_unix_s()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BundleCollateral;
    use crate::fixtures::{self, config, directory, http, keyset, node, payee};
    use registers::{Digest48, GpuBinding, ReportData};
    use simulator::SimulatedModule;
    use std::path::Path;
    use wire::{Bundle, Endorsement, Event, Evidence, KeysetDigest};

    fn manifest() -> Manifest {
        Manifest::process(Digest48::of(b"agent"), Digest48::of(b"config"))
    }

    fn module(manifest: &Manifest) -> SimulatedModule {
        let mut random = |buffer: &mut [u8]| getrandom::fill(buffer).expect("randomness");
        let mut module = SimulatedModule::new(now_unix_s(), &mut random).expect("a module");
        for event in manifest.rtmr3_events() {
            module.extend(3, &event.digest).expect("RTMR3");
        }
        module
    }

    fn files(directory: &Path, module: &SimulatedModule) -> GuestFiles {
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(directory.join(name), bytes).expect("written");
            directory.join(name)
        };
        GuestFiles {
            manifest: write("manifest.json", manifest().to_json().as_ref()),
            insecure_test_root: Some(write("root.der", module.root_der())),
        }
    }

    #[test]
    fn only_the_manifests_guest_with_its_own_keys_and_this_nonce_is_endorsed() {
        let directory = directory();
        let genuine = module(&manifest());
        let policy = GuestPolicy::read(&files(directory.path(), &genuine)).expect("read");
        let mut own = keyset(&payee());
        own.registers = wire::registers_digest(&genuine.registers());
        let bundle =
            |module: &SimulatedModule, keyset: &Keyset, quoted: &Keyset, nonce: [u8; 32]| {
                let bound = KeysetDigest::of(&quoted.encode());
                let report_data = ReportData::bind(&bound.0, &nonce, GpuBinding::None);
                let events = manifest()
                    .rtmr3_events()
                    .iter()
                    .map(|event| Event {
                        name: event.name.clone(),
                        digest: event.digest.0,
                    })
                    .collect();
                let quote = module.quote(&report_data.0);
                let evidence = Evidence::new(keyset.encode(), quote, events, None).encode();
                let endorsement = Endorsement::sign(keyset.digest(), &fixtures::payee_key(1));
                let collateral = module.collateral_json().to_vec();
                Bundle::new(evidence, endorsement, collateral, None).encode()
            };
        let check = |bundle: &[u8], keyset: &Keyset| policy.check(bundle, &[7; 32], keyset);
        assert_eq!(check(&bundle(&genuine, &own, &own, [7; 32]), &own), Ok(()));
        check(&bundle(&genuine, &own, &own, [8; 32]), &own).expect_err("an old quote");
        let mut foreign = own.clone();
        foreign.receipt_key = [9; 32];
        check(&bundle(&genuine, &foreign, &own, [7; 32]), &foreign).expect_err("other keys");
        let other = module(&Manifest::process(
            Digest48::of(b"other"),
            Digest48::of(b"config"),
        ));
        check(&bundle(&other, &own, &own, [7; 32]), &own).expect_err("another machine");
    }

    #[tokio::test]
    async fn what_only_says_that_it_is_the_guest_is_neither_endorsed_nor_believed() {
        let directory = directory();
        let (_, url) = node().await;
        let module = module(&manifest());
        let mut config = config(directory.path(), url);
        config.guest_files = Some(files(directory.path(), &module));
        let collateral = directory.path().join("collateral.json");
        std::fs::write(&collateral, module.collateral_json()).expect("written");
        config.collateral = BundleCollateral::File(collateral);
        let served = crate::http::serve(config.clone(), std::future::pending()).await;
        let listen = served.expect("serves").listen;
        fixtures::guest(&config, async |_, _| ());
        let path = format!("/v1/attestation?nonce={}", "ab".repeat(32));
        let (status, body, _) = http(listen, "GET", &path, b"").await;
        assert_eq!(status, 502);
        assert!(String::from_utf8_lossy(&body).contains("not_endorsed"));
        // Nor does a charge that it signs count: its key is looked for when a job names its keyset, and not remembered.
        let named = keyset(&payee()).digest();
        for (files, known) in [(config.guest_files.clone(), false), (None, true)] {
            let state = fixtures::directory();
            config.state = crate::store::StatePlace::File(state.path().join("state.sqlite"));
            config.guest_files = files;
            let proxy = crate::proxy::Proxy::open(&config).expect("opens");
            proxy.search(named).await;
            assert_eq!(proxy.guests.of(named).is_some(), known);
        }
    }
}
