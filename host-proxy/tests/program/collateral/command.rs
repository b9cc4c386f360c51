//! `host-proxy collateral`: what it writes, how it ends, and what a `kill -9` costs.

use super::fake_source::{FakeSource, Reply, body};
use super::recorded::{module, pcs, platform, serve_as_pcs, vector};
use crate::process;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

struct Sources {
    directory: TempDir,
}

impl Sources {
    fn with(sources: &str) -> Sources {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!("listen: 127.0.0.1:0\ncache: cache\n{sources}");
        std::fs::write(directory.path().join("collateral.yaml"), text).expect("written");
        Sources { directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let arguments = [&["collateral"], arguments].concat();
        let mut command = process::command(&arguments, Path::new("collateral.yaml"));
        command.current_dir(self.directory.path());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let command = self.command(arguments).output();
        command.await.expect("the program runs")
    }

    /// Starts the service and returns its address.
    async fn serve(&self) -> (Child, String) {
        let mut child = self.command(&["serve", "--json"]).spawn().expect("started");
        let listen = process::listen_address(&mut child).await;
        (child, listen)
    }
}

fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// EntryHeader and body of an answer.
async fn get(address: &str, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let at = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a header");
    let header = String::from_utf8(answer[..at].to_vec()).expect("text");
    (header.to_ascii_lowercase(), answer[at + 4..].to_vec())
}

#[tokio::test]
async fn a_kill_costs_nothing_that_was_fetched() {
    let collateral: Value =
        serde_json::from_slice(module(now_unix_s()).collateral_json()).expect("JSON");
    let platform = platform(&collateral);
    let path = format!(
        "/v1/collateral/tdx/{}/{}",
        hex::encode(platform.fmspc),
        platform.ca
    );
    let source = FakeSource::start();
    serve_as_pcs(&source, &collateral);
    let sources = Sources::with(&format!("tdx:\n{}", pcs(&source)));
    let (mut child, address) = sources.serve().await;
    let (header, body) = get(&address, &path).await;
    assert!(header.starts_with("http/1.1 200"), "{header}");
    assert!(
        header.contains("x-expires-unix-s: ") && header.contains("age: "),
        "{header}"
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&body).ok(),
        Some(collateral)
    );

    process::signal(&child, Signal::SIGKILL);
    child.wait().await.expect("ended");
    source.is_down(true);
    let (mut child, address) = sources.serve().await;
    assert_eq!(get(&address, &path).await.1, body);
    // What it never had is not available, and a client learns no more than that.
    let (header, refused) = get(&address, "/v1/collateral/tdx/00a067110000/processor").await;
    assert!(header.starts_with("http/1.1 503"), "{header}");
    assert!(!String::from_utf8_lossy(&refused).contains("127.0.0.1"));
    for wrong in [
        "/v1/collateral/tdx/00a06711000/processor",
        "/v1/rim/..%2fx",
        "/v1/collateral/tdx/00a067110000/root",
    ] {
        let (header, _) = get(&address, wrong).await;
        assert!(header.starts_with("http/1.1 400"), "{wrong}: {header}");
    }

    process::signal(&child, Signal::SIGTERM);
    assert!(child.wait().await.expect("ended").success());
}

#[tokio::test]
async fn fetch_writes_what_the_quote_needs_and_names_what_failed() {
    let made = module(now_unix_s());
    let collateral: Value = serde_json::from_slice(made.collateral_json()).expect("JSON");
    let source = FakeSource::start();
    serve_as_pcs(&source, &collateral);
    let sources = Sources::with(&format!("tdx:\n{}", pcs(&source)));
    std::fs::write(
        sources.directory.path().join("quote.bin"),
        made.quote(&[7; 64]),
    )
    .expect("written");

    let words = ["fetch", "--quote", "quote.bin", "--out", "c.json", "--json"];
    let output = sources.run(&words).await;
    assert!(output.status.success(), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(line["source"], format!("pcs {}", source.url()));
    let written = std::fs::read(sources.directory.path().join("c.json")).expect("written");
    assert_eq!(
        serde_json::from_slice::<Value>(&written).ok(),
        Some(collateral.clone())
    );

    let fmspc = hex::encode_upper(platform(&collateral).fmspc);
    let words = ["fetch", "--fmspc", &fmspc, "--ca", "platform"];
    let output = sources.run(&words).await;
    assert_eq!(output.stdout, written, "data goes to stdout");

    source.is_down(true);
    let words = [
        "fetch",
        "--fmspc",
        &fmspc,
        "--ca",
        "platform",
        "--no-cache",
        "--out",
        "c.json",
    ];
    let output = sources.run(&words).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&source.url()) && stderr.contains("cannot be reached"),
        "{stderr}"
    );
    let kept = std::fs::read(sources.directory.path().join("c.json")).expect("still there");
    assert_eq!(kept, written, "a failure changes no file");

    for misuse in [
        &["fetch"][..],
        &["fetch", "--fmspc", &fmspc],
        &["fetch", "--fmspc", &fmspc, "--ca", "root"],
        &["rim", "--out", "rims"],
        &["rim", "--out", "rims", "--id", "../x"],
    ] {
        assert_eq!(
            sources.run(misuse).await.status.code(),
            Some(2),
            "{misuse:?}"
        );
    }
}

#[tokio::test]
async fn a_stop_ends_a_fetch_from_a_silent_source() {
    let source = FakeSource::start();
    source.replies("/sgx/certification/v4/pckcrl", Reply::Nothing);
    let listed = pcs(&source).replace("timeout_ms: 400", "timeout_ms: 60000");
    let sources = Sources::with(&format!("tdx:\n{listed}"));
    let words = ["fetch", "--fmspc", "00A067110000", "--ca", "platform"];
    let mut child = sources.command(&words).spawn().expect("started");
    let asked = async {
        while source.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(60), asked).await;
    asked.expect("the source is asked");
    let since = Instant::now();
    process::signal(&child, Signal::SIGINT);
    let status = child.wait().await.expect("ended");
    assert_eq!(status.code(), Some(1));
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn rims_are_written_one_file_each_and_a_missing_one_is_told() {
    let Some(xml) = vector("nvidia/sdk/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml") else {
        return;
    };
    use base64::Engine;
    let id = "NV_GPU_DRIVER_GH100_550.144.03";
    let rim = base64::engine::general_purpose::STANDARD.encode(&xml);
    let json = serde_json::json!({ "id": id, "rim": rim }).to_string();
    let source = FakeSource::start();
    source.replies(&format!("/v1/rim/{id}"), body("application/json", json));
    let sources = Sources::with(&format!("rim:\n  - kind: rim\n    url: {}\n", source.url()));
    let words = ["rim", "--id", id, "--out", "rims"];
    assert!(sources.run(&words).await.status.success());
    let written = std::fs::read(sources.directory.path().join(format!("rims/{id}.xml")));
    assert_eq!(written.ok(), Some(xml));

    // Four GPUs need two RIMs: this source has neither, and both are reported.
    if let Some(evidence) = vector("nvidia/sdk/multi_gpu_hopper.json") {
        std::fs::write(sources.directory.path().join("gpus.json"), evidence).expect("written");
        let words = ["rim", "--evidence", "gpus.json", "--out", "rims"];
        let output = sources.run(&words).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let asked = source.seen();
        let of = |part: &str| asked.iter().filter(|path| path.contains(part)).count();
        assert_eq!(
            (of("GH100_590.12"), of("VBIOS_G520_0200_885_9600A50001")),
            (1, 1),
            "{asked:?}"
        );
    }
    let missing = "NV_GPU_DRIVER_GH100_1.2";
    let output = sources
        .run(&["rim", "--id", missing, "--out", "rims"])
        .await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(missing) && stderr.contains("404"),
        "{stderr}"
    );
}
