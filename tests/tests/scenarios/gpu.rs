//! A guest with a GPU that a fake driver's library plays, through agent, gate and proxy to a client.

use crate::common;
use crate::fake::{Fake, Said};
use crate::made::{OcspMaker, Party, RimMaker};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use client::trust::Minimum;
use client::{Attestation, ClientError, Transport, Verifier};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tests::{Stack, StackGpu, StackOptions};
use wire::{GpuReport, NotTrusted};

/// An epoch begins every two seconds, with new evidence.
const LIFETIME_S: u32 = 4;

/// Good answers about the certificates of the good GPU and its RIMs. Each has its own serial number, the last byte of a request.
async fn responder() -> SocketAddr {
    let (said, rims) = (Said::good(), RimMaker::driver());
    let answers = OcspMaker::all_good(&said.device, &rims);
    let above = said.device.parties[1..4].iter().chain(&rims.parties[..2]);
    let serials: Vec<u8> = above.map(|party: &Party| party.serial).collect();
    let answer = move |request: Bytes| {
        let asked = request.last().copied();
        let at = serials.iter().position(|serial| Some(*serial) == asked);
        let body = at.map(|at| answers[at].clone()).unwrap_or_default();
        async move { ([("content-type", "application/ocsp-response")], body) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn ask(stack: &Stack) -> Result<Attestation, ClientError> {
    let said = Said::good();
    let root = stack.path("sim/root.der");
    let opened = Verifier::open(
        &stack.path("manifest.json"),
        Some(&root),
        &stack.path("verified.sqlite"),
        Minimum::default(),
    );
    let verifier = Verifier {
        gpu_roots: said.device.roots(&RimMaker::driver()),
        ..opened.unwrap()
    };
    let proxy = Transport::new(&format!("http://{}", stack.proxy)).unwrap();
    client::verify(&proxy, &verifier).await
}

/// Why the client does not trust the GPU.
async fn refused(stack: &Stack) -> String {
    match ask(stack).await.map(drop) {
        Err(ClientError::NotTrusted(NotTrusted::Gpu(refused))) => refused.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn next_epoch() {
    tokio::time::sleep(Duration::from_millis(
        1000 * u64::from(LIFETIME_S) / 2 + 200,
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_trusts_a_guest_with_a_gpu_while_what_the_gpu_signs_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new(directory.path());
    let rims = directory.path().join("rims");
    std::fs::create_dir(&rims).unwrap();
    for (id, maker) in [
        ("NV_GPU_DRIVER_GH100_550.90.07", RimMaker::driver()),
        ("NV_GPU_VBIOS_1010_0200_882_96009F0001", RimMaker::vbios()),
    ] {
        std::fs::write(rims.join(format!("{id}.xml")), maker.file()).unwrap();
    }
    let certificates = Said::good().device.certificates();
    let root = directory.path().join("device-root.der");
    std::fs::write(&root, &certificates[4]).unwrap();
    let gpu = StackGpu {
        root,
        worker: fake.program(
            &common::programs().path("gpu-worker"),
            &common::programs().path("simulated-gpu-worker"),
            "",
        ),
        identity: GpuReport::new(Vec::new(), certificates).identity().unwrap(),
        lifetime_s: LIFETIME_S,
        rims,
        ocsp: responder().await,
    };
    let options = StackOptions {
        gpu: Some(gpu.clone()),
        ..StackOptions::default()
    };
    let Some(stack) = common::stack(options).await else {
        return;
    };
    assert!(fake.said.lock().unwrap().ready, "it takes work");
    let attested = ask(&stack).await.unwrap();
    let worker = attested.worker();
    assert_eq!(worker.keyset().gpus, [gpu.identity]);
    let verified = worker.gpu().expect("a verified GPU");
    assert_eq!(verified.evidence.fields.vbios_version, "96.00.9F.00.01");
    assert!(verified.evidence.revocation_checked);
    // A developer's program trusts NVIDIA, whatever root its quotes lead to.
    let said = Command::new(stack.program("chrysalis"))
        .args(["verify", &format!("http://{}", stack.proxy)])
        .args(["--manifest", "manifest.json"])
        .args(["--insecure-test-root", "sim/root.der"])
        .env("XDG_STATE_HOME", directory.path())
        .current_dir(stack.dir.path())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert_eq!(said.status.code(), Some(1), "{words}");
    assert!(words.contains("Test Device Root"), "{words}");

    // What the agent cannot judge, which has no RIMs, the client does.
    fake.said.lock().unwrap().device.report.blocks = 30;
    next_epoch().await;
    let other = refused(&stack).await;
    assert!(other.contains("not what the RIMs accept"), "{other}");
    *fake.said.lock().unwrap() = Said::good();
    next_epoch().await;
    let later = ask(&stack).await.unwrap();
    assert!(later.worker().keyset().epoch > worker.keyset().epoch);

    // A signature that is not the GPU's ends the guest's serving, as would a GPU that vanished.
    fake.said.lock().unwrap().forged = true;
    next_epoch().await;
    let gone = ask(&stack).await.map(drop).unwrap_err();
    assert!(!matches!(gone, ClientError::NotTrusted(_)), "{gone}");
    fake.said.lock().unwrap().forged = false;
    ask(&stack).await.map(drop).expect_err("it stays lost");
    let log = std::fs::read_to_string(stack.path("guest.log")).unwrap();
    assert!(log.contains("changed or forged"), "{log}");
}
