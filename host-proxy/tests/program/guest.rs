//! `host-proxy guest`: a guest's own words for people and for programs, and a clear error where there is no guest.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::process::Command;
use wire::{EpochStatus, Event, Frame, FrameDecoder, FrameKind, KeysetDigest, Load, Stage, Status};

fn status() -> Status {
    Status {
        version: 1,
        agent: "guest-agent/1".into(),
        profile: "sim".into(),
        stages: ["booted", "serving"]
            .map(|name| Stage {
                name: name.into(),
                at_ms: 40,
            })
            .into(),
        up_ms: 61_000,
        registers: (0..240).collect(),
        events: vec![Event {
            name: "config".into(),
            digest: [0xab; 48],
        }],
        epochs: vec![EpochStatus {
            epoch: 3,
            keyset: KeysetDigest::of(b"keyset"),
            age_s: 60,
            jobs: 7,
            jobs_max: 100,
        }],
        load: Load {
            jobs: 2,
            jobs_max: 64,
        },
        gpus: Vec::new(),
        log: vec![
            "epoch 3 begins".into(),
            "a line\x1b[2J of bad manners".into(),
        ],
    }
}

/// A guest that answers a question after its status with this.
fn guest(directory: &Path, answer: Vec<u8>) {
    let listener = UnixListener::bind(directory.join("guest.sock")).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut decoder, mut kinds, mut chunk) =
                (FrameDecoder::default(), Vec::new(), [0; 64]);
            while kinds.last() != Some(&FrameKind::End) {
                let read = stream.read(&mut chunk).await.unwrap();
                decoder.push(&chunk[..read]);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    kinds.push(frame.kind);
                }
            }
            assert_eq!(kinds, [FrameKind::OpenStatus, FrameKind::End]);
            stream.write_all(&answer).await.unwrap();
        }
    });
}

async fn ask(directory: &Path, what: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-proxy"));
    command
        .current_dir(directory)
        .args(["guest", what])
        .args(more);
    command.output().await.unwrap()
}

const HERE: [&str; 2] = ["--guest", "unix:guest.sock"];

#[tokio::test]
async fn a_guest_says_how_it_is_to_people_and_to_programs() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let answer = [
        Frame::data(&status().encode()),
        Frame::encode(FrameKind::End, b""),
    ];
    guest(directory, answer.concat());
    let cases: [(&str, &[&str]); 4] = [
        (
            "status",
            &[
                "guest-agent/1 of profile sim: serving",
                "61 s",
                "2 of 64 jobs",
                "none",
                "RTMR3",
                "epoch 3",
                "7 of 100",
            ],
        ),
        ("logs", &["epoch 3 begins", "a line [2J of bad manners"]),
        ("events", &["RTMR3 config   abab"]),
        ("gpu", &["none"]),
    ];
    for (what, parts) in cases {
        let output = ask(directory, what, &HERE).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{what}: {text}");
        parts
            .iter()
            .for_each(|part| assert!(text.contains(part), "{what} lacks {part}: {text}"));
        let output = ask(directory, what, &[&HERE[..], &["--json"]].concat()).await;
        let _: Value = serde_json::from_slice(&output.stdout).unwrap();
    }
    let output = ask(directory, "status", &[&HERE[..], &["--json"]].concat()).await;
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&object["stage"], &object["gpus"]),
        (&"serving".into(), &serde_json::json!([]))
    );
    assert_eq!(
        object["registers"]["rtmr3"].as_str().map(str::len),
        Some(96)
    );
    assert_eq!(object["keysets"][0]["epoch"], 3);
}

#[tokio::test]
async fn without_a_guest_the_error_says_where_none_was_and_misuse_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let output = ask(directory.path(), "status", &HERE).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("unix:guest.sock") && text.contains("cannot be reached"),
        "{text}"
    );
    for more in [&[][..], &["--guest", "tcp:1:2"]] {
        let output = ask(directory.path(), "status", more).await;
        assert_eq!(output.status.code(), Some(2));
    }
    // Something else listens there.
    guest(
        directory.path(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    );
    let socket = directory.path().join("guest.sock");
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = ask(
        directory.path(),
        "status",
        &[&HERE[..], &["--json"]].concat(),
    )
    .await;
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &object["fault"]),
        (Some(1), &"guest".into()),
        "{object}"
    );
}
