//! `chrysalis serve` is killed while a guest works for it, and comes up again: what it asked for is owed, and it pays.

use crate::world::{Fault, World, chat_body};
use client::Transport;
use client::transport::{Ask, TransportError};
use serde_json::{Value, json};
use settlement::Nano;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

struct Sidecar {
    child: Child,
    http: Arc<Transport>,
}

impl Sidecar {
    /// It listens once it has attested the worker.
    async fn start(world: &World) -> Sidecar {
        let directory = world.directory.path();
        let mut config: Value = serde_json::from_str(&world.config_text()).unwrap();
        config["listen"] = json!("127.0.0.1:0");
        std::fs::write(directory.join("client.yaml"), config.to_string()).unwrap();
        let mut serve = Command::new(env!("CARGO_BIN_EXE_chrysalis"));
        serve.args(["serve", "--config", "client.yaml", "--open"]);
        serve.args(["--insecure-test-root", "root.der"]);
        serve.current_dir(directory).stdin(Stdio::null());
        let mut child = serve.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let line = move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            line
        };
        let line = tokio::task::spawn_blocking(line).await.unwrap();
        let url = line.trim().strip_suffix("/v1").expect(&line);
        Sidecar {
            child,
            http: Arc::new(Transport::new(url).unwrap()),
        }
    }

    async fn call(
        http: &Transport,
        method: &'static str,
        path: &str,
        body: &str,
    ) -> Result<Value, TransportError> {
        let ask = Ask {
            method,
            path,
            content_type: "application/json",
            authorization: "",
            body: body.into(),
        };
        let reply = http.call(ask, 1 << 20).await?;
        Ok(serde_json::from_slice(&reply.body).unwrap())
    }

    /// Jobs and nanoTON in its books.
    async fn spent(&self) -> (u64, String) {
        let usage = Sidecar::call(&self.http, "GET", "/v1/usage", "").await;
        let total = usage.unwrap()["total"].clone();
        let cost = total["cost_nano"].as_str().unwrap().to_owned();
        (total["jobs"].as_u64().unwrap(), cost)
    }
}

/// By SIGKILL: it writes nothing more.
impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_sidecar_that_was_killed_pays_for_what_it_asked_for_when_it_comes_back() {
    let world = World::start(3600).await;
    let first = Sidecar::start(&world).await;
    world.set(Fault::UntilCancelled);
    let (http, body) = (Arc::clone(&first.http), chat_body(false).to_string());
    let asked =
        tokio::spawn(async move { Sidecar::call(&http, "POST", PATH, &body).await.is_ok() });
    let signed = async {
        while world.guest.jobs() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, signed).await.expect("the guest signs");
    drop(first);
    assert!(!asked.await.unwrap(), "nobody got an answer");
    assert!(world.guest.cancels.lock().unwrap().is_empty());

    // It ends the job, and verifies and pays the receipt of what was made.
    let second = Sidecar::start(&world).await;
    let paid = async {
        while second.spent().await == (0, "0".into()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, paid).await.expect("it pays");
    assert_eq!(second.spent().await, (1, "32000".into()));
    assert_eq!(world.guest.cancels.lock().unwrap().len(), 1);

    // Once, and the payee hears of it with the next job.
    drop(second);
    world.set(Fault::None);
    let third = Sidecar::start(&world).await;
    let body = chat_body(false).to_string();
    let answer = Sidecar::call(&third.http, "POST", PATH, &body).await;
    assert_eq!(answer.unwrap()["x_job"]["verified"], true);
    assert_eq!(third.spent().await, (2, "64000".into()));
    world.guest.promised(64_000).await;
}

/// SIGTERM is no SIGKILL: what is paid reaches the payee first, although answers do not wait for that.
#[tokio::test]
async fn a_sidecar_that_is_told_to_end_delivers_its_last_voucher() {
    let world = World::start(3600).await;
    let mut sidecar = Sidecar::start(&world).await;
    let body = chat_body(false).to_string();
    for _ in 0..2 {
        let answer = Sidecar::call(&sidecar.http, "POST", PATH, &body).await;
        assert_eq!(answer.unwrap()["x_job"]["verified"], true);
    }
    let id = sidecar.child.id().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status();
    assert!(told.unwrap().success());
    let ended = tokio::task::spawn_blocking(move || sidecar.child.wait().unwrap());
    assert!(ended.await.unwrap().success());
    let promised = world.guest.vouchers.lock().unwrap().last().copied();
    assert_eq!(promised.unwrap().voucher.cumulative, Nano(64_000));
}

/// Kills of the long tier.
const KILLS: u64 = 200;
/// A sidecar is killed within this time from when it listens: many jobs take that long here.
const LIFE_MS: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two hundred sidecars take minutes"]
async fn killed_two_hundred_times_while_jobs_run_it_pays_each_receipt_once() {
    let seed = std::env::var("CHRYSALIS_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("CHRYSALIS_SEED={seed}");
    let world = World::start(3600).await;
    world.set(Fault::Keeps);
    *world.guest.deposit.lock().unwrap() = 100_000_000_000;
    let (mut whole, mut refused, mut cut) = (0, 0, 0);
    for kill in 0..KILLS {
        let sidecar = Sidecar::start(&world).await;
        let load = [0, 1].map(|_| {
            let http = Arc::clone(&sidecar.http);
            tokio::spawn(async move {
                let (mut whole, mut refused) = (0, 0);
                let body = chat_body(false).to_string();
                // Until the sidecar is gone. What it says is a whole answer, or an error that says whether the job ran.
                while let Ok(said) = Sidecar::call(&http, "POST", PATH, &body).await {
                    match said["x_job"]["verified"] == true {
                        true => whole += 1,
                        false => {
                            assert!(said["error"]["executed"].is_string(), "{said}");
                            refused += 1;
                        }
                    }
                }
                (whole, refused)
            })
        });
        // Spread over a life, by the seed.
        let moment = (kill * 7919 + seed * 104_729) % LIFE_MS;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        drop(sidecar);
        for load in load {
            let (answered, errors) = load.await.unwrap();
            (whole, refused, cut) = (whole + answered, refused + errors, cut + 1);
        }
    }
    let last = Sidecar::start(&world).await;
    let signed = world.guest.jobs();
    let owed = (signed, (32_000 * signed).to_string());
    let paid = async {
        while last.spent().await != owed {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let paid = timeout(3 * PATIENCE, paid).await;
    let spent = last.spent().await;
    println!(
        "{signed} receipts signed, {whole} whole answers, {refused} errors, {cut} cut; {spent:?} in the books"
    );
    assert!(paid.is_ok(), "{spent:?} of {owed:?}");
    assert!(
        whole > 0 && signed > whole,
        "kills fell between receipt and answer"
    );
    // One job more tells the payee of all of it, once.
    let answer = Sidecar::call(&last.http, "POST", PATH, &chat_body(false).to_string()).await;
    assert_eq!(answer.unwrap()["x_job"]["verified"], true);
    world.guest.promised(32_000 * (signed + 1)).await;
}

const PATH: &str = "/v1/chat/completions";
const PATIENCE: Duration = Duration::from_secs(20);
