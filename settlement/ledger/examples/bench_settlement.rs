//! How fast vouchers are signed and verified, beside bare `ed25519-dalek`, and how many claims a second a ledger on disk takes.
//! docs/benchmarks.md has the figures.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use ledger::Ledger;
use settlement::{ChainId, ChannelTerms, Nano, Voucher, Wallet};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u64 = 5_000;
const CLAIMS: u64 = 500;
const FAR: u32 = 1_900_000_000;

fn main() {
    let payer_key = SigningKey::from_bytes(&[3; 32]);
    let [payer, payee] = [1, 2].map(|n| Wallet::from_seed(&[n; 32], ChainId::EMBEDDED));
    let terms = ChannelTerms {
        chain: ChainId::EMBEDDED,
        payer: payer.address(),
        payee: payee.address(),
        payer_key: payer_key.verifying_key().to_bytes(),
        payee_key: [4; 32],
        close_delay_s: 3_600,
        claims_until: FAR,
        salt: 0,
    };
    vouchers(&payer_key, &terms);
    claims(&payer_key, &terms, &payer, &payee);
}

fn voucher(terms: &ChannelTerms, cumulative: u64) -> Voucher {
    Voucher {
        chain: terms.chain,
        channel: terms.address(),
        cumulative: Nano(cumulative),
        usage_root: [7; 32],
    }
}

fn vouchers(key: &SigningKey, terms: &ChannelTerms) {
    let unsigned: Vec<Voucher> = (1..=ROUNDS).map(|n| voucher(terms, n)).collect();
    let started = Instant::now();
    for voucher in &unsigned {
        let signed = black_box(voucher).sign(key);
        black_box(signed.verify(&terms.payer_key).expect("signed"));
    }
    let ours = started.elapsed();
    let messages: Vec<[u8; 32]> = (1..=ROUNDS)
        .map(|n| {
            let mut message = [0; 32];
            message[..8].copy_from_slice(&n.to_be_bytes());
            message
        })
        .collect();
    let started = Instant::now();
    for message in &messages {
        let signature = key.sign(black_box(message));
        let public = VerifyingKey::from_bytes(&terms.payer_key).expect("a key");
        let verified = public.verify_strict(message, &signature);
        black_box(verified).expect("signed");
    }
    let bare = started.elapsed();
    let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / ROUNDS as f64;
    println!(
        "sign and verify: voucher {:.1} us, bare ed25519-dalek {:.1} us, ratio {:.2}",
        each(ours),
        each(bare),
        ours.as_secs_f64() / bare.as_secs_f64()
    );
}

fn claims(key: &SigningKey, terms: &ChannelTerms, payer: &Wallet, payee: &Wallet) {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::open(&directory.path().join("ledger.sqlite")).expect("a ledger");
    for wallet in [payer, payee] {
        let given = ledger.faucet(&wallet.address(), Nano(100_000_000_000));
        given.expect("money");
    }
    let deploy = terms.deploy(Nano(10_000_000_000), 1).expect("an amount");
    let boc = payer.transfer(0, FAR, &[deploy]).expect("one transfer");
    ledger.send_external(&boc).expect("accepted");
    let started = Instant::now();
    for number in 0..CLAIMS {
        let signed = voucher(terms, (number + 1) * 1_000_000).sign(key);
        let claim = terms.claim(&signed.verify(&terms.payer_key).expect("signed"), number);
        let boc = payee.transfer(number as u32, FAR, &[claim]);
        let sent = ledger.send_external(&boc.expect("one transfer"));
        sent.expect("accepted");
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "claims on disk: {:.0} a second, each with its payout and rest ({CLAIMS} claims in {took:.2} s)",
        CLAIMS as f64 / took
    );
}
