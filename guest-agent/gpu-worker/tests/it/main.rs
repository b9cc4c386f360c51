//! The program `gpu-worker --gate`, with a library that answers as a driver would; `--serve` with what SIMULATES a GPU.

mod agent;
mod fake;
mod jobs;
#[path = "../../../../measurements/gpu/tests/it/made.rs"]
mod made;
#[path = "../../../tests/all/world.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod world;

use fake::{Fake, Said};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use wire::{GateAnswer, GateRefusal, GateRequest, GpuReport};

const NONCE: [u8; 32] = [0x5a; 32];

struct Gate {
    child: Child,
    socket: UnixStream,
}

impl Gate {
    fn start(library: &Path) -> Gate {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_gpu-worker"))
            .args(["--gate", "--library"])
            .arg(library)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        Gate {
            child,
            socket: ours,
        }
    }

    fn ask(&mut self, request: &[u8]) -> GateAnswer {
        self.socket.write_all(request).unwrap();
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut bytes).unwrap();
        GateAnswer::decode(&bytes).unwrap()
    }

    fn ended(mut self) -> bool {
        drop(self.socket);
        self.child.wait().unwrap().success()
    }
}

fn ask(fake: &Fake) -> GateAnswer {
    let mut gate = Gate::start(&fake.library);
    let answer = gate.ask(&GateRequest::Report(NONCE).encode());
    assert!(gate.ended());
    answer
}

#[test]
fn a_good_gpu_is_shown_for_the_nonce_and_takes_work_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new(directory.path());
    let mut gate = Gate::start(&fake.library);
    let answer = gate.ask(&GateRequest::Report(NONCE).encode());
    let GateAnswer::Report(report) = answer else {
        panic!("{answer:?}");
    };
    let device = fake.said.lock().unwrap().device.clone();
    let own = GpuReport::new(report.report.clone(), device.certificates());
    assert_eq!(report, own);
    assert!(report.answers(&NONCE));
    assert!(!report.answers(&[0; 32]));
    assert!(!fake.said.lock().unwrap().ready);
    assert_eq!(gate.ask(&GateRequest::SetReady.encode()), GateAnswer::Ready);
    assert!(fake.said.lock().unwrap().ready);
    assert!(gate.ended());
    // An agent that wants evidence alone just leaves.
    fake.said.lock().unwrap().ready = false;
    assert!(matches!(ask(&fake), GateAnswer::Report(_)));
    assert!(!fake.said.lock().unwrap().ready);
}

#[test]
fn every_other_gpu_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new(directory.path());
    type Change = fn(&mut Said);
    let refused = |change: Change| {
        let mut said = Said::good();
        change(&mut said);
        *fake.said.lock().unwrap() = said;
        match ask(&fake) {
            GateAnswer::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let call = |call: &str, code| GateRefusal::Call {
        call: call.into(),
        code,
    };
    let version = |says: &str, reported: &str| GateRefusal::Version {
        says: says.into(),
        reported: reported.into(),
    };
    let cases: [(Change, GateRefusal); 8] = [
        (|said| said.initialised = 9, call("nvmlInit_v2", 9)),
        (|said| said.count = 0, GateRefusal::Count(0)),
        (|said| said.count = 2, GateRefusal::Count(2)),
        (|said| said.state[1] = 0, GateRefusal::ConfidentialOff),
        (|said| said.state[2] = 1, GateRefusal::DeveloperTools),
        (|said| said.state[0] = 1, GateRefusal::Environment(1)),
        (
            |said| said.driver = "550.90.08".into(),
            version("550.90.08", "550.90.07"),
        ),
        (
            |said| said.vbios = "96.00.5E.00.01".into(),
            version("96.00.5E.00.01", "96.00.9F.00.01"),
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(refused(change), expected);
    }
    let unread: [Change; 3] = [
        |said| said.report = Some(vec![0; 100]),
        |said| said.certificates = Some(b"none".to_vec()),
        |said| {
            let mut report = said.device.signed_report();
            report.push(0);
            said.report = Some(report);
        },
    ];
    for change in unread {
        assert!(matches!(refused(change), GateRefusal::Evidence(_)));
    }
    assert!(!fake.said.lock().unwrap().ready);
}

#[test]
fn what_is_no_request_and_what_is_no_library_end_the_gate() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new(directory.path());
    let check = |request: &[u8]| {
        let mut gate = Gate::start(&fake.library);
        assert_eq!(gate.ask(request), GateAnswer::Refused(GateRefusal::Request));
        assert!(gate.ended());
    };
    check(&GateRequest::SetReady.encode());
    check(&[0xff; 4]);
    check(&[0, 0, 0, 1, 0xff]);
    assert_eq!(fake.said.lock().unwrap().reports, 0);
    let mut gate = Gate::start(&directory.path().join("nothing.so"));
    let answer = gate.ask(&GateRequest::Report(NONCE).encode());
    assert!(matches!(
        answer,
        GateAnswer::Refused(GateRefusal::Library(_))
    ));
    // A library that has other functions.
    let mut gate = Gate::start(Path::new("libc.so.6"));
    let answer = gate.ask(&GateRequest::Report(NONCE).encode());
    let GateAnswer::Refused(GateRefusal::Library(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("nvmlInit_v2"), "{why}");
    let bad = Command::new(env!("CARGO_BIN_EXE_gpu-worker")).status();
    assert_eq!(bad.unwrap().code(), Some(2));
}
