//! A guest with a GPU, whose gate is a script: what becomes of each answer, at boot and at the next epoch.

use crate::world::{InProcess, body, config, end, exchange, models, module};
use guest_agent::{BootError, Booted, GpuError, Serving};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use registers::{Digest48, ReportData, RuntimeEvent, replay};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use wire::*;

/// Stands in a prepared answer where a request's nonce goes.
const MARK: [u8; 32] = *b"the nonce of the request is here";

/// A gate that answers from files: `report` with the nonce of the request, then `ready`.
struct Gate(TempDir);

impl Gate {
    fn good() -> Gate {
        let gate = Gate(tempfile::tempdir().unwrap());
        gate.shows(&[b"leaf", b"device", b"root"]);
        gate.says("ready", &GateAnswer::Ready);
        let script = "#!/bin/sh\nexec >&0\ncd \"$(dirname \"$0\")\"\nhead -c 41 > request\n[ -e report ] && cat report && exit\n\
            cat before; tail -c 32 request; cat after\nhead -c 7 > request; cat ready\n";
        std::fs::write(gate.program(), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(gate.program(), mode).unwrap();
        gate
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("gate")
    }

    fn says(&self, file: &str, answer: &GateAnswer) {
        std::fs::write(self.0.path().join(file), answer.encode()).unwrap();
    }

    /// From now on the GPU has these certificates.
    fn shows(&self, certificates: &[&[u8]]) {
        let report = [&[0x11, 0xe0, 1, 0xff][..], &MARK, &[7; 200]].concat();
        let certificates = certificates.iter().map(|der| der.to_vec()).collect();
        let bytes = GateAnswer::Report(GpuReport::new(report, certificates)).encode();
        let at = bytes.windows(32).position(|part| part == MARK).unwrap();
        std::fs::write(self.0.path().join("before"), &bytes[..at]).unwrap();
        std::fs::write(self.0.path().join("after"), &bytes[at + 32..]).unwrap();
    }
}

fn with_gpu() -> Vec<u8> {
    config(|config| {
        config["gpu"] = true.into();
        config["lifetime_s"] = 2.into();
    })
}

fn boot(config: &[u8], gate: Option<&Path>) -> Result<(Serving<InProcess>, Digest48), BootError> {
    let booted = Booted::new(InProcess(module()), config, true)?.with_gate(gate);
    let agent = Digest48([7; 48]);
    let measured = booted.measure(|| Ok(agent), models())?;
    let attested = measured.attest(&mut ChaCha20Rng::from_seed([1; 32]))?;
    Ok((attested.serve(), agent))
}

fn refused(gate: Option<&Path>) -> GpuError {
    match boot(&with_gpu(), gate) {
        Err(BootError::Gpu(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it boots"),
    }
}

async fn evidence(serving: &Serving<InProcess>) -> Option<Evidence> {
    let open = Frame::encode(FrameKind::OpenAttest, &[9; 32]);
    let frames = exchange(serving, [open, end()].concat()).await;
    let bytes = body(&frames, FrameKind::Data);
    (!bytes.is_empty()).then(|| Evidence::decode(&bytes).unwrap())
}

async fn status(serving: &Serving<InProcess>) -> Status {
    let open = Frame::encode(FrameKind::OpenStatus, b"");
    let frames = exchange(serving, [open, end()].concat()).await;
    Status::decode(&body(&frames, FrameKind::Data)).unwrap()
}

#[tokio::test]
async fn a_gpu_is_measured_named_and_asked_anew_for_each_keyset() {
    let gate = Gate::good();
    let config = with_gpu();
    let (serving, agent) = boot(&config, Some(&gate.program())).unwrap();
    let first = evidence(&serving).await.unwrap();
    let keyset = Keyset::decode(&first.keyset).unwrap();
    let report = first.gpu.as_ref().unwrap();
    assert_eq!(first.version, 2);
    assert_eq!(keyset.gpus, [report.identity().unwrap()]);
    assert!(report.answers(&GpuReport::nonce(keyset.digest())));
    // RTMR3: agent, configuration, then the GPU, and all of it before the keyset.
    let event = GpuReport::event(&keyset.gpus[0]);
    assert_eq!(first.events.last(), Some(&event));
    let measured =
        [agent, Digest48::of(&config), Digest48(event.digest)].map(|digest| RuntimeEvent {
            name: String::new(),
            digest,
        });
    let mut registers = module().registers();
    registers.rtmr[3] = replay(&measured);
    assert_eq!(keyset.registers, registers_digest(&registers));
    // The quote binds the evidence.
    let bound = ReportData::bind(
        &keyset.digest().0,
        &[9; 32],
        GpuReport::binding(Some(report)),
    );
    let quoted = first.quote.windows(64).any(|part| part == bound.0);
    assert!(quoted);
    assert_eq!(status(&serving).await.gpus, [keyset.gpus[0].to_string()]);

    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = evidence(&serving).await.unwrap();
    let later = Keyset::decode(&second.keyset).unwrap();
    assert_eq!((later.epoch, &later.gpus), (1, &keyset.gpus));
    let report = second.gpu.unwrap();
    assert!(report.answers(&GpuReport::nonce(later.digest())));
}

#[tokio::test]
async fn a_guest_whose_gpu_is_gone_at_the_next_epoch_serves_nothing_and_says_so() {
    type Change = fn(&Gate);
    let changes: [(Change, &str); 3] = [
        (
            |gate| gate.says("report", &GateAnswer::Refused(GateRefusal::Count(0))),
            "the GPU gate refuses: the driver sees 0 GPUs",
        ),
        (
            |gate| gate.shows(&[b"leaf", b"another", b"root"]),
            "the GPU is another one than was measured",
        ),
        (
            |gate| std::fs::remove_file(gate.program()).unwrap(),
            "starting it",
        ),
    ];
    for (change, why) in changes {
        let gate = Gate::good();
        let (serving, _) = boot(&with_gpu(), Some(&gate.program())).unwrap();
        assert!(evidence(&serving).await.is_some());
        change(&gate);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(evidence(&serving).await, None, "{why}");
        let said = status(&serving).await;
        assert!(said.gpus[0].starts_with("lost: "), "{:?}", said.gpus);
        assert!(
            said.log.iter().any(|line| line.contains(why)),
            "{:?}",
            said.log
        );
        // It does not come back, and the clock of the epochs has no end to run into.
        tokio::time::sleep(Duration::from_millis(3100)).await;
        assert_eq!(evidence(&serving).await, None);
        assert_eq!(status(&serving).await.epochs.len(), 1);
    }
}

#[tokio::test]
async fn a_guest_that_demands_a_gpu_does_not_boot_without_a_good_answer() {
    assert!(matches!(refused(None), GpuError::NoGate));
    let nowhere = refused(Some(Path::new("/nowhere/gate")));
    assert!(matches!(
        nowhere,
        GpuError::Io {
            doing: "starting it",
            ..
        }
    ));
    let silent = refused(Some(Path::new("/bin/true")));
    assert!(matches!(silent, GpuError::Io { .. }), "{silent}");

    let with = |change: &dyn Fn(&Gate)| {
        let gate = Gate::good();
        change(&gate);
        refused(Some(&gate.program()))
    };
    let count = with(&|gate| gate.says("report", &GateAnswer::Refused(GateRefusal::Count(2))));
    assert!(matches!(count, GpuError::Refused(GateRefusal::Count(2))));
    let ready = with(&|gate| gate.says("report", &GateAnswer::Ready));
    assert!(matches!(ready, GpuError::OutOfOrder));
    let old = GpuReport::new([&[0x11, 0xe0, 1, 0xff][..], &[8; 33]].concat(), vec![]);
    let old = with(&|gate| gate.says("report", &GateAnswer::Report(old.clone())));
    assert!(matches!(old, GpuError::Nonce));
    let bare = with(&|gate| gate.shows(&[b"leaf"]));
    assert!(matches!(bare, GpuError::NoDevice));
    let stays = GateAnswer::Refused(GateRefusal::Call {
        call: "nvmlSystemSetConfComputeGpusReadyState".into(),
        code: 3,
    });
    let stays = with(&|gate| gate.says("ready", &stays));
    assert!(matches!(
        stays,
        GpuError::Refused(GateRefusal::Call { code: 3, .. })
    ));
    let file = |bytes: &'static [u8]| {
        move |gate: &Gate| std::fs::write(gate.0.path().join("report"), bytes).unwrap()
    };
    let long = with(&file(&[0xff; 4]));
    assert!(matches!(long, GpuError::TooLong(_)));
    let noise = with(&file(&[0, 0, 0, 2, 0xff, 0xff]));
    assert!(matches!(noise, GpuError::Malformed(_)));
}

#[tokio::test]
async fn a_guest_that_demands_none_starts_no_gate_and_shows_none() {
    let (serving, _) = boot(&config(|_| ()), Some(Path::new("/nowhere/gate"))).unwrap();
    let shown = evidence(&serving).await.unwrap();
    assert_eq!((shown.version, shown.gpu), (1, None));
    let of_cpu = config(|config| {
        config["profile"] = "cpu".into();
        config["gpu"] = true.into();
    });
    let refused = MeasuredConfig::parse(&of_cpu).unwrap_err().to_string();
    assert!(refused.contains("`gpu` must be false"), "{refused}");
}
