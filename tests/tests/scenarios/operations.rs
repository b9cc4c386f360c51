//! The provider's page, docs/operations.md: each of its commands, as they stand there, from an empty directory.

#[path = "../../../client/tests/page/shell.rs"]
mod shell;

use crate::common;
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use shell::Shell;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tests::{Image, workspace_root};

const PAGE: &str = include_str!("../../../docs/operations.md");
const PROGRAMS: [&str; 4] = [
    "chrysalis-ledger ",
    "host-proxy ",
    "image-builder ",
    "measurements ",
];
/// What the page promises a newcomer for its tutorial.
const TUTORIAL: Duration = Duration::from_secs(30 * 60);
/// Ends every program: the last thing that happens, wherever it stands.
const END: &str = "kill $(jobs -p)\n";

/// How long a block may take, beside other tests: an image from a warm store, a boot under TCG.
fn patience(block: &str) -> Duration {
    Duration::from_secs(match block {
        _ if block.contains("image-builder build") => 600,
        _ if block.contains("image-builder fetch") => 180,
        _ if block.contains("host-proxy launch") => 480,
        _ => 50,
    })
}

/// The blocks of commands of a part of the page. There is no other block.
fn blocks(page: &'static str) -> Vec<&'static str> {
    let blocks = page.split("```").skip(1).step_by(2);
    let commands = |block: &'static str| {
        let (language, commands) = block.split_once('\n').expect("a language");
        assert_eq!(language, "sh", "a block that nothing runs: {commands}");
        commands
    };
    blocks.map(commands).collect()
}

#[test]
fn every_command_of_the_page_stands_in_a_block_that_is_run() {
    let run = blocks(PAGE).concat().replace("\\\n", " ");
    for prose in PAGE.split("```").step_by(2) {
        let indented = prose.lines().find(|line| line.starts_with("    "));
        assert_eq!(indented, None, "a block without a language");
        // One with an option is to be typed; one without is spoken of.
        let spans = prose.split('`').skip(1).step_by(2);
        let typed = spans.filter(|span| span.contains(" -"));
        for span in typed.filter(|span| PROGRAMS.iter().any(|name| span.starts_with(name))) {
            let has = |line: &str| span.split_whitespace().all(|word| line.contains(word));
            assert!(run.lines().any(has), "`{span}` is in no block");
        }
    }
}

#[test]
fn the_tutorial_is_given_less_time_than_the_page_promises() {
    let (tutorial, _) = PAGE.split_once("\n## 7. ").expect("the seventh section");
    let allowed: Duration = blocks(tutorial).into_iter().map(patience).sum();
    assert!(allowed < TUTORIAL, "{allowed:?}");
}

/// A publisher's web server.
async fn published(directory: PathBuf) -> String {
    let file = async move |uri: Uri| {
        let path = directory.join(uri.path().trim_start_matches('/'));
        match fs::read(path) {
            Ok(bytes) => bytes.into_response(),
            Err(_) => StatusCode::NOT_FOUND.into_response(),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let server = axum::serve(listener, Router::new().fallback(file));
    tokio::spawn(server.into_future());
    format!("http://{address}")
}

fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").to_string()
}

/// What only a publisher or another host has, as it is here.
async fn values(image: &Image, here: &Path) -> Vec<(String, String)> {
    let mut values = vec![(
        "https://releases.example/sim".into(),
        published(here.join("published")).await,
    )];
    // Other programs may listen where the page does.
    for port in [8081, 9000, 9002] {
        values.push((format!("127.0.0.1:{port}"), free()));
    }
    if let Some(lock) = &image.fresh_lock {
        values.push((
            "sim.yaml".into(),
            format!("sim.yaml --lock {}", lock.display()),
        ));
    }
    for (page, _) in &values {
        assert!(PAGE.contains(page), "{page}");
    }
    values
}

/// What a block must say.
fn judge(block: &str, said: &str) {
    for (command, says) in [
        ("image-builder inspect image\n", "model        "),
        ("image-builder fetch", "fetched"),
        (
            "host-proxy channels",
            "No channel has a charge or a voucher yet.",
        ),
        ("--out sealed", "sealed/payee.key can close your channels"),
        (
            "host-proxy delegate",
            "lets the endorsing key endorse until",
        ),
        ("--channel 0:1111", "nothing was sent"),
        ("payouts withdraw", "sent 0.5"),
        (
            "payouts adopt",
            "1 messages on the chain, 0 in the books: taken over",
        ),
        ("host-proxy check", "TDX"),
        ("guest status --config", "{"),
        ("collateral rim", "There is no such RIM here."),
    ] {
        let is_said = !block.contains(command) || said.contains(says);
        assert!(is_said, "no `{says}` of {block}\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_can_follow_the_providers_page_word_by_word() {
    // Whether the archive can be reached is judged here, and the store is warm.
    let Some(image) = common::sim().await else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let values = values(&image, here).await;
    let programs = common::programs().target_dir().join("debug");
    let checkout = ("CHRYSALIS", workspace_root());
    let mut shell = Shell::start(here, &programs, &[checkout]);
    // The builder refuses to work beside another one in the same store; the other tests take turns by this file.
    let turn = image.dir.with_file_name("lock");
    let turn = fs::File::create(turn).expect("the turn of builders");
    tokio::task::block_in_place(|| turn.lock()).expect("a turn");
    let mut turn = Some(turn);
    let all = blocks(PAGE);
    assert_eq!(all.iter().filter(|block| **block == END).count(), 1);
    for block in all.into_iter().filter(|block| *block != END) {
        if block.contains("image-builder fetch") {
            let publish = "cp -r image published\nimage-builder keygen --out publisher.key\n\
                mv publisher.key.pub publisher.pub\nimage-builder sign published --key publisher.key\n";
            shell.run(publish, patience(block)).await;
            turn = None;
        }
        let fill = |text: String, (page, here): &(String, String)| text.replace(page, here);
        let filled = values.iter().fold(block.to_owned(), fill);
        let said = shell.run(&filled, patience(block)).await;
        judge(block, &said);
        if block.contains("host-proxy backup") {
            let log = fs::read_to_string(here.join("serve.log")).expect("a log");
            assert!(!log.contains("WARN"), "serve finds something wrong: {log}");
        }
    }
    assert!(turn.is_none(), "the page fetches an image");
    shell.run(&format!("{END}wait\n"), patience(END)).await;
    for left in [
        "backup.sqlite",
        "host-proxy.sqlite",
        "run/sim/root.der",
        "fetched/manifest.json",
        "collateral.json",
        "served.json",
        "host-proxy.bash",
        "man",
        "completions",
    ] {
        assert!(here.join(left).exists(), "{left}");
    }
    let earnings = fs::read_to_string(here.join("earnings.csv")).expect("CSV");
    assert_eq!(earnings.lines().count(), 2, "{earnings}");
}
