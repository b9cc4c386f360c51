//! The program on its socket: what a guest agent sees of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use attest::{Collateral, Policy, Root, RootClass, verify};
use registers::{Digest48, Registers, ReportData};
use simulator::protocol::{Request, encode};

struct Simulator {
    child: Child,
    directory: tempfile::TempDir,
}

impl Simulator {
    fn start() -> Simulator {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_chrysalis-simulator"))
            .current_dir(directory.path())
            .args(["--socket", "tdx.sock", "--out", "sim", "--parent-pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&ready["ready"], &ready["socket"]),
            (&true.into(), &"tdx.sock".into())
        );
        Simulator { child, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path("tdx.sock")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn wait(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the simulator outlives its parent"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(stream: &mut UnixStream, request: &[u8]) -> (u8, Vec<u8>) {
    stream.write_all(request).unwrap();
    let mut header = [0; 5];
    stream.read_exact(&mut header).unwrap();
    let [status, length @ ..] = header;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).unwrap();
    (status, payload)
}

#[test]
fn a_quote_from_the_socket_is_verified_with_the_files_beside_it() {
    let simulator = Simulator::start();
    let mut stream = simulator.connect();
    let digest = Digest48::of(b"agent");
    assert_eq!(
        ask(&mut stream, &encode(&Request::Extend { index: 3, digest })),
        (0, Vec::new())
    );

    let zero = Digest48::ZERO;
    let registers = Registers {
        mrtd: zero,
        rtmr: [zero, zero, zero, zero.extended_by(&digest)],
    };
    let (status, bytes) = ask(&mut stream, &encode(&Request::Registers));
    assert_eq!((status, bytes.len()), (0, 5 * 48));
    assert_eq!(bytes[4 * 48..], registers.rtmr[3].0);

    // Another connection sees the same module.
    let report_data = ReportData([9; 64]);
    let request = encode(&Request::Quote {
        report_data: report_data.0,
    });
    let (status, quote) = ask(&mut simulator.connect(), &request);
    assert_eq!(status, 0);

    let collateral = std::fs::read(simulator.path("sim/collateral.json")).unwrap();
    let root = std::fs::read(simulator.path("sim/root.der")).unwrap();
    let now_unix_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let peer = verify(
        &quote,
        &Collateral::from_json(&collateral).unwrap(),
        &report_data,
        &Policy::exact(registers),
        &Root::insecure_test(root).unwrap(),
        now_unix_s,
    )
    .unwrap();
    assert_eq!(peer.root, RootClass::InsecureTest);

    // A process that starts anew finds registers of zero.
    assert_eq!(ask(&mut stream, &encode(&Request::Reset)), (0, Vec::new()));
    assert_eq!(
        ask(&mut stream, &encode(&Request::Registers)),
        (0, vec![0; 5 * 48])
    );
}

#[test]
fn what_hardware_refuses_is_refused_and_the_connection_goes_on() {
    let simulator = Simulator::start();
    let mut stream = simulator.connect();
    for index in [0, 1, 4] {
        let request = encode(&Request::Extend {
            index,
            digest: Digest48::ZERO,
        });
        let (status, sentence) = ask(&mut stream, &request);
        assert_eq!(status, 1);
        assert!(
            String::from_utf8(sentence)
                .unwrap()
                .contains("cannot be extended")
        );
    }
    assert_eq!(ask(&mut stream, &[9, 0, 0]).0, 1);
    assert_eq!(ask(&mut stream, &[3, 0, 2, 1, 1]).0, 1);
    assert_eq!(ask(&mut stream, &encode(&Request::Registers)).0, 0);
}

#[test]
fn a_length_over_the_limit_is_refused_and_ends_the_connection() {
    let simulator = Simulator::start();
    let mut stream = simulator.connect();
    assert_eq!(ask(&mut stream, &[3, 0xff, 0xff]).0, 1);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(
        ask(&mut simulator.connect(), &encode(&Request::Registers)).0,
        0
    );
}

#[test]
fn it_dies_with_its_parent_and_takes_the_socket_along() {
    let mut simulator = Simulator::start();
    assert!(simulator.path("tdx.sock").exists());
    drop(simulator.child.stdin.take());
    assert!(simulator.wait().success());
    assert!(!simulator.path("tdx.sock").exists());
}

#[test]
fn everything_written_says_that_it_is_simulated() {
    let simulator = Simulator::start();
    let mut stream = simulator.connect();
    let (_, quote) = ask(
        &mut stream,
        &encode(&Request::Quote {
            report_data: [0; 64],
        }),
    );
    let holds =
        |bytes: &[u8], words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
    assert!(holds(&quote, b"chrysalis simulated"));
    let root = std::fs::read(simulator.path("sim/root.der")).unwrap();
    assert!(holds(&root, b"Chrysalis simulated TDX root (not Intel)"));
    let mut names: Vec<_> = std::fs::read_dir(simulator.path("sim"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["collateral.json", "root.der"]);
}

#[test]
fn misuse_ends_with_2_and_a_socket_in_use_with_1() {
    let simulator = Simulator::start();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_chrysalis-simulator"))
            .current_dir(simulator.directory.path())
            .args(arguments)
            .output()
            .unwrap()
    };
    assert_eq!(run(&[]).status.code(), Some(2));
    let second = run(&["--socket", "tdx.sock", "--out", "other"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stdout.is_empty());
}
