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
    let promised = world.guest.vouchers.lock().unwrap().last().copied();
    assert_eq!(promised.unwrap().voucher.cumulative, Nano(64_000));
}

const PATH: &str = "/v1/chat/completions";
const PATIENCE: Duration = Duration::from_secs(20);
