//! What a host does to a build: forbids it what it needs, or ends it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::host_sandbox::{IMAGE_BUILDER, host_sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_host_that_forbids_user_namespaces_is_told_so_in_one_sentence_with_the_fix() {
    let (_tree, sandbox) = host_sandbox();
    let sandbox = sandbox.read(IMAGE_BUILDER, "/ib");
    // In a room of its own, whose root may lower the limit for whatever is below.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && /ib build /none.yaml --out image --store store --json";
    let output = sandbox
        .command("sh", ["-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("sysctl user.max_user_namespaces=15000"),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(json["fault"], "host");
}

#[test]
fn a_build_that_is_told_to_end_leaves_the_directory_as_it_was() {
    // A mirror that takes the question and never answers.
    let mirror = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", mirror.local_addr().expect("bound"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sim.yaml");
    for (signal, before) in [(Signal::SIGINT, false), (Signal::SIGTERM, true)] {
        let directory = tempfile::tempdir().expect("a directory");
        let (out, new) = (
            directory.path().join("image"),
            directory.path().join(".image.new"),
        );
        if before {
            fs::create_dir(&out).expect("made");
            for name in ["initrd", "cmdline"] {
                fs::write(out.join(name), name).expect("written");
            }
        }
        let mut build = Command::new(IMAGE_BUILDER);
        build.arg("build").arg(&recipe).arg("--out").arg(&out);
        build
            .arg("--store")
            .arg(directory.path().join("store"))
            .args(["--mirror", &url]);
        let mut build = build
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let (asked, _) = mirror.accept().expect("it asks");
        assert!(new.is_dir(), "it writes beside the directory");
        kill(Pid::from_raw(build.id() as i32), signal).expect("ours");
        let begun = Instant::now();
        let status = loop {
            match build.try_wait().expect("ours") {
                Some(status) => break status,
                None if begun.elapsed() > Duration::from_secs(60) => panic!("it goes on"),
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        drop(asked);
        assert_eq!(status.code(), Some(128 + signal as i32));
        assert!(!new.exists(), "nothing half is left");
        assert_eq!(out.exists(), before);
        if before {
            assert_eq!(fs::read(out.join("initrd")).expect("there"), b"initrd");
        }
    }
}
