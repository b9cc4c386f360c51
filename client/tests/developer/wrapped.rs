//! Evidence and verdict in the forms of other makes: what `chrysalis verify` writes, it reads again, and believes the evidence alone.

use super::verdicts::{CONFIG, MANIFEST, ROOT, paid, run};
use crate::world::World;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::Value;
use wire::{Cmw, Proof};

fn read(world: &World, name: &str) -> Vec<u8> {
    std::fs::read(world.directory.path().join(name)).unwrap()
}

fn write(world: &World, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(world.directory.path().join(name), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_handed_on_in_a_wrapper_and_judged_again_by_who_gets_it() {
    let (world, id) = paid().await;
    let made = run(&world, &[&["proof", &id, "--out", "a.proof"], &CONFIG]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    for target in [world.address.as_str(), "a.proof"] {
        for (cmw, eat) in [("e.cmw", "e.eat"), ("e.json", "eat.json")] {
            let files = ["--cmw", cmw, "--eat", eat];
            let ran = run(&world, &[&["verify", target], &files, &MANIFEST, &ROOT]).await;
            assert_eq!(ran.code, Some(0), "{target}: {}{}", ran.out, ran.err);
            let wrapper = Cmw::decode(&read(&world, cmw)).unwrap();
            assert_eq!(wrapper.result, Some(read(&world, eat)));
            // Somebody else, who has the file and a manifest.
            let ran = run(&world, &[&["verify", cmw], &MANIFEST, &ROOT]).await;
            assert_eq!(ran.code, Some(0), "{cmw}: {}{}", ran.out, ran.err);
            assert!(
                ran.out.contains("freshness: that this worker"),
                "{}",
                ran.out
            );
            assert!(!ran.out.contains("a nonce drawn here"), "{}", ran.out);
        }
    }
    let token: Value = serde_json::from_slice(&read(&world, "eat.json")).unwrap();
    assert_eq!(token["eat_profile"], "urn:chrysalis:attestation-result:v1");
    assert_eq!(token["dbgstat"], "disabled-since-boot");
    assert_eq!(
        token["measres"][0][1][4],
        serde_json::json!(["RTMR3", "success"])
    );
    assert_eq!(token["chrysalis"]["root"], "insecure-test");
    let nonce = BASE64_URL_SAFE_NO_PAD.decode(token["eat_nonce"].as_str().unwrap());
    let proof = Proof::decode(&read(&world, "a.proof")).unwrap();
    assert_eq!(nonce.unwrap(), proof.nonce);
    // RFC 9781: an unprotected claims set has tag 601.
    assert_eq!(read(&world, "e.eat")[..3], [0xd9, 0x02, 0x59]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_in_a_wrapper_is_not_believed_and_other_evidence_is_refused() {
    let (world, _) = paid().await;
    let address = world.address.clone();
    let made = run(
        &world,
        &[&["verify", &address, "--cmw", "e.cmw"], &MANIFEST, &ROOT],
    )
    .await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let good = Cmw::decode(&read(&world, "e.cmw")).unwrap();
    let other =
        attest::Manifest::process(registers::Digest48::of(b"x"), registers::Digest48::of(b"y"));
    write(&world, "other.json", other.to_json());
    // The file's own verdict says otherwise; it is not asked.
    let other = ["--manifest", "other.json"];
    let ran = run(&world, &[&["verify", "e.cmw"], &other, &ROOT]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    let nonce = Cmw {
        nonce: [1; 32],
        ..good.clone()
    };
    let mut quote = good.clone();
    let middle = quote.bundle.len() / 8;
    quote.bundle[middle] ^= 1;
    for (name, changed) in [("nonce.cmw", nonce), ("quote.cmw", quote)] {
        write(&world, name, changed.encode());
        let ran = run(&world, &[&["verify", name], &MANIFEST, &ROOT]).await;
        assert_eq!(ran.code, Some(1), "{name}: {}", ran.out);
    }
    let lies = Cmw {
        result: Some(b"{\"verified\":false}".to_vec()),
        ..good
    };
    write(&world, "lies.cmw", lies.encode());
    let ran = run(&world, &[&["verify", "lies.cmw"], &MANIFEST, &ROOT]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    write(&world, "cut.cmw", &lies.encode()[..1000]);
    let ran = run(&world, &[&["verify", "cut.cmw"], &MANIFEST, &ROOT]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(
        ran.out.contains("conceptual message wrapper"),
        "{}",
        ran.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_whose_evidence_is_in_no_books_is_verified_with_what_the_proxy_kept() {
    let (mut world, id) = paid().await;
    let made = run(&world, &[&["proof", &id, "--out", "a.proof"], &CONFIG]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let proof = Proof::decode(&read(&world, "a.proof")).unwrap();
    write(&world, "a.receipt", &proof.receipt);
    let mut bare: Value = serde_json::from_str(&world.config_text()).unwrap();
    bare["state"] = "none.sqlite".into();
    write(&world, "bare.yaml", bare.to_string());
    let bare = ["--config", "bare.yaml"];
    let verify = async |world: &World| run(world, &[&["verify", "a.receipt"], &bare, &ROOT]).await;
    let ran = verify(&world).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    // Another guest's proxy kept nothing of this one.
    world.reboot_guest().await;
    let ran = verify(&world).await;
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.out.contains("no evidence of keyset"), "{}", ran.out);
}
