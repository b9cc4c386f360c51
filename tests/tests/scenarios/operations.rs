//! The provider's tutorial, docs/operations.md: each of its commands, as they stand there, from an empty directory.

use crate::common;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tests::{Image, workspace_root};

/// A boot under TCG beside other tests, and a build from a warm store.
const PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_can_follow_the_providers_tutorial_word_by_word() {
    // Whether the archive can be reached is judged here, and the store is warm.
    let Some(image) = common::sim().await else {
        return;
    };
    let done = tokio::task::spawn_blocking(move || follow(&image)).await;
    done.expect("it was followed");
}

fn follow(image: &Image) {
    let page = fs::read_to_string(workspace_root().join("docs/operations.md")).expect("a page");
    let (building, serving) = page.split_once("## 3. ").expect("the third section");
    let (building, serving) = (commands(building), commands(serving));
    assert!(building.contains("image-builder build"), "{building}");
    assert!(serving.contains("host-proxy serve"), "{serving}");
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    // The builder refuses to work beside another one in the same store; the other tests take turns by this file.
    let turn = image.dir.with_file_name("lock");
    let turn = fs::File::create(turn).expect("the turn of builders");
    turn.lock().expect("a turn");
    let building = match &image.fresh_lock {
        Some(lock) => building.replace("sim.yaml", &format!("sim.yaml --lock {}", lock.display())),
        None => building,
    };
    let said = run(here, &building);
    assert!(
        said.contains("model        "),
        "inspect names models: {said}"
    );
    drop(turn);

    // Other programs may listen where the page does.
    let ports = [8081, 9000].map(|port| (format!("127.0.0.1:{port}"), free()));
    let serving = ports.iter().fold(serving, |text, (page, here)| {
        assert!(text.contains(page.as_str()), "{page}");
        text.replace(page.as_str(), here)
    });
    let checked = format!("{serving}\nkill %1 %2 %3\nwait\ncat serve.log\n");
    let said = run(here, &checked);
    assert!(
        said.contains("No channel has a charge or a voucher yet."),
        "{said}"
    );
    assert!(
        !said.contains("WARN"),
        "serve finds something wrong: {said}"
    );
    for left in ["backup.sqlite", "host-proxy.sqlite", "run/sim/root.der"] {
        assert!(here.join(left).exists(), "{left}: {said}");
    }
}

/// What the page has in its fences of shell commands.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().expect("a first part"));
    blocks.collect()
}

fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").to_string()
}

/// Runs a script and gives what it printed. It and all it started are ended with it.
fn run(directory: &Path, script: &str) -> String {
    let programs = common::programs().target_dir().join("debug");
    let path = std::env::var("PATH").unwrap_or_default();
    let log = directory.join(".said");
    let out = fs::File::create(&log).expect("a log");
    let mut child = Command::new("bash")
        .args(["-euc", &format!("set -o pipefail\n{script}")])
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("CHRYSALIS", workspace_root())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a second handle"))
        .stderr(out)
        .process_group(0)
        .spawn()
        .expect("bash");
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("waited for") {
            Some(status) => break Some(status),
            None if Instant::now() > until => break None,
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process"));
    // Mostly there is nobody left.
    let _ = killpg(group, Signal::SIGTERM);
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let logs = ["launch.log", "serve.log", "ledger.log"].map(|name| read(&directory.join(name)));
    let said = read(&log);
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {said}\n{}",
        logs.join("\n")
    );
    said
}
