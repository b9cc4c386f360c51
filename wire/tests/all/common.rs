//! A whole guest in a test: simulated quotes, real keys, real encodings.
use attest::{Policy, Root};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use registers::{Digest48, ReportData, RuntimeEvent, replay};
use settlement::{Address, ChainId, ChannelTerms, Nano};
use simulator::SimulatedModule;
use wire::*;

pub const NOW: u64 = 1_790_000_000;
pub const NONCE: [u8; 32] = [0x5a; 32];
pub const PAYEE: Address = Address {
    workchain: 0,
    hash: [0x11; 32],
};

pub struct Guest {
    pub module: SimulatedModule,
    pub receipt: SigningKey,
    pub payee: SigningKey,
    pub keyset: Keyset,
    pub events: Vec<RuntimeEvent>,
}

pub fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([3; 32])
}

pub fn guest() -> Guest {
    let mut counter = 0u8;
    let mut random = |out: &mut [u8]| {
        counter += 1;
        out.iter_mut()
            .enumerate()
            .for_each(|(i, b)| *b = counter.wrapping_mul(31).wrapping_add(i as u8));
    };
    let mut module = SimulatedModule::new(NOW, &mut random).unwrap();
    let events = [("agent", [1; 48]), ("config", [2; 48])];
    let events = events
        .map(|(name, d)| RuntimeEvent {
            name: name.into(),
            digest: Digest48(d),
        })
        .to_vec();
    for event in &events {
        module.extend(3, &event.digest).unwrap();
    }
    let (sealing, receipt) = (
        SealingKey::generate(1, &mut rng()),
        SigningKey::from_bytes(&[4; 32]),
    );
    let payee = SigningKey::from_bytes(&[5; 32]);
    let keyset = keyset(&module, &sealing, &receipt, &payee);
    Guest {
        module,
        receipt,
        payee,
        keyset,
        events,
    }
}

fn keyset(
    module: &SimulatedModule,
    sealing: &SealingKey,
    receipt: &SigningKey,
    payee: &SigningKey,
) -> Keyset {
    let prices = Prices {
        prompt: Nano(1_000_000),
        cached: Nano(500_000),
        completion: Nano(3_000_000),
    };
    Keyset {
        version: 1,
        profile: "sim".into(),
        epoch: 0,
        lifetime_s: 3600,
        jobs_max: 100,
        kem_keys: vec![sealing.public()],
        receipt_key: receipt.verifying_key().to_bytes(),
        models: vec![ModelOffer {
            id: "tiny-chat".into(),
            endpoint: Endpoint::Chat,
            root: Digest([6; 32]),
            tokenizer: Digest([7; 32]),
            config: Digest([4; 32]),
            template: None,
            context_tokens: 256,
            quantisation: "f32".into(),
            determinism: "machine".into(),
            prices,
        }],
        price_step: Nano(100),
        exposure_max: Nano(1_000_000),
        chain: ChainId::EMBEDDED,
        payee: PAYEE,
        payee_key: payee.verifying_key().to_bytes(),
        stake: PAYEE,
        registers: registers_digest(&module.registers()),
        gpus: vec![],
        padding: Padding {
            step_bytes: 512,
            interval_ms: 50,
        },
    }
}

impl Guest {
    pub fn bundle(&self, nonce: &[u8; 32]) -> Bundle {
        self.bundle_of(&self.keyset, nonce)
    }

    pub fn bundle_of(&self, keyset: &Keyset, nonce: &[u8; 32]) -> Bundle {
        self.bundle_with(keyset, nonce, None)
    }

    pub fn bundle_with(
        &self,
        keyset: &Keyset,
        nonce: &[u8; 32],
        report: Option<&GpuReport>,
    ) -> Bundle {
        let data = ReportData::bind(&keyset.digest().0, nonce, GpuReport::binding(report));
        let events = self
            .events
            .iter()
            .map(|e| Event {
                name: e.name.clone(),
                digest: e.digest.0,
            })
            .collect();
        let quote = self.module.quote(&data.0);
        let evidence = Evidence::new(keyset.encode(), quote, events, report.cloned());
        let endorsement = Endorsement::sign(keyset.digest(), &self.payee);
        let collateral = self.module.collateral_json().to_vec();
        Bundle::new(evidence.encode(), endorsement, collateral, None)
    }

    pub fn policy(&self) -> Policy {
        assert_eq!(replay(&self.events), self.module.registers().rtmr[3]);
        Policy::exact(self.module.registers())
    }

    pub fn root(&self) -> Root {
        Root::insecure_test(self.module.root_der().to_vec()).unwrap()
    }

    pub fn expected(&self) -> Expected {
        Expected {
            profile: "sim".into(),
            chain: ChainId::EMBEDDED,
            payee: PAYEE,
            payee_key: self.payee.verifying_key().to_bytes(),
            gpu_roots: GpuRoots::NVIDIA,
            appraised_gpus: Default::default(),
        }
    }

    pub fn attest(&self, bundle: &Bundle) -> Result<AttestedWorker, NotTrusted> {
        attest(
            &bundle.encode(),
            &NONCE,
            &self.policy(),
            &self.root(),
            &self.expected(),
            NOW,
        )
    }
}

pub fn terms(payer: &SigningKey) -> ChannelTerms {
    ChannelTerms {
        chain: ChainId::EMBEDDED,
        payer: PAYEE,
        payee: PAYEE,
        payer_key: payer.verifying_key().to_bytes(),
        payee_key: [5; 32],
        close_delay_s: 3_600,
        claims_until: 2_000_000_000,
        salt: 0,
    }
}

pub fn envelope(payer: &SigningKey) -> Envelope {
    Envelope {
        version: 1,
        job: [8; 16],
        keyset: KeysetDigest::default(),
        model: "tiny-chat".into(),
        model_root: Digest([6; 32]),
        endpoint: Endpoint::Chat,
        cost_max: Nano(5_000),
        terms: terms(payer),
        cap_signature: [0; 64],
        class: "standard".into(),
        deadline_ms: 1000,
        first_token_ms: 500,
        sealed_bytes: 0,
        voucher: None,
    }
}
