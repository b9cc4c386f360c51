//! `chrysalis chat`: lines in, lines out, and Ctrl-C cancels the answer and not the program.

use super::{chrysalis, configured};
use crate::world::{Fault, SCRIPTED, Script, World};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHAT: [&str; 5] = [
    "chat",
    "--config",
    "client.yaml",
    "--insecure-test-root",
    "root.der",
];

#[tokio::test(flavor = "multi_thread")]
async fn lines_come_in_and_verified_answers_go_out() {
    let script = Script::of(&[("Second", "Two."), ("First", "One.")]);
    let world = World::scripted(script).await;
    configured(&world);
    let more = ["--model", SCRIPTED, "--system", "Be brief."];
    let input = "First?\n\n/price\n//slash First\n/new\n/nonsense\n/proof a.proof\nSecond?\n/quit\nFirst?\n";
    let ran = chrysalis(world.directory.path(), &[&CHAT[..], &more].concat(), input).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(ran.out, "One.\nOne.\nTwo.\n", "only answers: {}", ran.err);
    assert_eq!(
        ran.err.matches("verified: receipt").count(),
        3,
        "{}",
        ran.err
    );
    for told in [
        "for a million tokens",
        "spent here",
        "no such command",
        "a.proof",
    ] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    let prompts = world.guest.prompts();
    assert_eq!(prompts.len(), 3, "nothing is asked after /quit");
    assert!(
        prompts.iter().all(|prompt| prompt.contains("Be brief.")),
        "{prompts:?}"
    );
    assert!(
        prompts[1].contains("First?") && prompts[1].contains("/slash"),
        "{prompts:?}"
    );
    assert!(!prompts[2].contains("First?"), "/new forgets: {prompts:?}");
    // What /proof wrote is a proof.
    let verify = [
        "verify",
        "a.proof",
        "--manifest",
        "manifest.json",
        "--insecure-test-root",
        "root.der",
    ];
    let ran = chrysalis(world.directory.path(), &verify, "").await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_verified_ends_a_pipe_with_1() {
    let world = World::start(3600).await;
    configured(&world);
    world.set(Fault::OverCount);
    let more = ["--model", crate::world::CHAT];
    let ran = chrysalis(
        world.directory.path(),
        &[&CHAT[..], &more].concat(),
        "hello world hello\n",
    )
    .await;
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(!ran.err.contains("verified: receipt"), "{}", ran.err);
    let ran = chrysalis(world.directory.path(), &[&CHAT[..], &more].concat(), "").await;
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("standard input is empty"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_the_answer_and_a_second_one_ends() {
    let world = World::start(3600).await;
    configured(&world);
    world.set(Fault::UntilCancelled);
    let mut child = Command::new(env!("CARGO_BIN_EXE_chrysalis"))
        .args(CHAT)
        .args(["--model", crate::world::CHAT])
        .current_dir(world.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"hello world hello\n").unwrap();
    let id = child.id().to_string();
    let interrupt = || {
        let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(sent.success());
    };
    // Only once the job is with the worker, which then says nothing until it is cancelled.
    let until = Instant::now() + Duration::from_secs(20);
    while world.guest.jobs() == 0 {
        assert!(Instant::now() < until, "no job came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let err = child.stderr.take().unwrap();
    interrupt();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(err).lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    let cancelled = async {
        while let Some(line) = heard.recv().await {
            if line.starts_with("cancelled") {
                return true;
            }
        }
        false
    };
    let cancelled = tokio::time::timeout(Duration::from_secs(10), cancelled).await;
    assert_eq!(cancelled, Ok(true));
    assert!(child.try_wait().unwrap().is_none(), "the program goes on");
    interrupt();
    let until = Instant::now() + Duration::from_secs(20);
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("a second Ctrl-C does not end it");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(code, Some(0));
    assert!(
        !world.guest.cancels.lock().unwrap().is_empty(),
        "the worker was told"
    );
    drop(input);
    // What was made is paid: its voucher is in the books.
    let client = world.client().unwrap();
    assert_eq!(client.budget().cumulative(), Ok(settlement::Nano(32_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_told_what_was_verified_and_is_not_steered() {
    let mut has = Command::new("script");
    if has.arg("--version").stdout(Stdio::null()).status().is_err() {
        without::skip("a terminal", "there is no script(1)");
        return;
    }
    let script = Script::of(&[("", "Clear \u{1b}[2J\u{7}this.")]);
    let world = World::scripted(script).await;
    configured(&world);
    let program = env!("CARGO_BIN_EXE_chrysalis");
    let line = format!("{program} {} --model {SCRIPTED}", CHAT.join(" "));
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .current_dir(world.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"Why?\n/nonsense\n/quit\n").unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        output
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    for part in [
        "worker verified: the quote leads to an insecure test root",
        "> ",
        "Clear [2Jthis.",
        "verified: receipt",
        "no such command",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    // A pipe gets the answer as it is.
    let more = ["--model", SCRIPTED];
    let directory = world.directory.path();
    let ran = chrysalis(directory, &[&CHAT[..], &more].concat(), "Why?\n").await;
    assert_eq!(ran.out, "Clear \u{1b}[2J\u{7}this.\n", "{}", ran.err);
}
