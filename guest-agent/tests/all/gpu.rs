//! A guest with a GPU, whose gate is a script: what becomes of each answer, at boot and at the next epoch.

use crate::made::{Device, Party};
use crate::rerank::reranker;
use crate::world::{InProcess, MODEL, body, config, end, exchange, models, module};
use gpu::{GpuRefusal, GpuRoots};
use guest_agent::{BootError, Booted, GpuError, Serving};
use nix::sys::stat::Mode;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use registers::{Digest48, ReportData, RuntimeEvent, replay};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use wire::*;

/// A gate that gives what a device of the test root signs, through this process, then what `ready` holds; or `report` at once.
struct Gate {
    directory: TempDir,
    device: Arc<Mutex<Device>>,
}

impl Gate {
    fn good() -> Gate {
        let gate = Gate {
            directory: tempfile::tempdir().unwrap(),
            device: Arc::new(Mutex::new(Device::new())),
        };
        gate.says("ready", &GateAnswer::Ready);
        let script = "#!/bin/sh\nexec >&0\ncd \"$(dirname \"$0\")\"\n[ -e report ] && head -c 41 > request && cat report && exit\n\
            head -c 41 > asked; cat answer\nhead -c 7 > request; cat ready\n";
        std::fs::write(gate.program(), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(gate.program(), mode).unwrap();
        let (asked, answer) = (gate.path("asked"), gate.path("answer"));
        for pipe in [&asked, &answer] {
            nix::unistd::mkfifo(pipe, Mode::S_IRWXU).unwrap();
        }
        let device = gate.device.clone();
        std::thread::spawn(move || {
            // Until the directory goes with its test.
            while let Ok(request) = std::fs::read(&asked) {
                let mut device = device.lock().unwrap();
                device
                    .report
                    .nonce
                    .copy_from_slice(&request[request.len() - 32..]);
                let report = GpuReport::new(device.signed_report(), device.certificates());
                let _ = std::fs::write(&answer, GateAnswer::Report(report).encode());
            }
        });
        gate
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self) -> PathBuf {
        self.path("gate")
    }

    fn says(&self, file: &str, answer: &GateAnswer) {
        std::fs::write(self.path(file), answer.encode()).unwrap();
    }

    /// From now on the GPU says this instead of what it signs for the nonce.
    fn shows(&self, change: impl FnOnce(&mut Device, &mut GpuReport)) {
        let mut device = self.device.lock().unwrap().clone();
        let mut report = GpuReport::new(device.signed_report(), device.certificates());
        change(&mut device, &mut report);
        self.says("report", &GateAnswer::Report(report));
    }
}

/// Its model stays on the processor: what computes on a GPU has its own tests, in `gpu-worker`.
fn with_gpu() -> Vec<u8> {
    config(|config| {
        config["gpu"] = true.into();
        config["models"] = reranker().1;
        config["lifetime_s"] = 2.into();
    })
}

fn boot(config: &[u8], gate: Option<&Path>) -> Result<(Serving<InProcess>, Digest48), BootError> {
    let certificates = Device::new().certificates();
    let root = &certificates[4];
    let roots = GpuRoots::insecure_test(root, root).unwrap();
    let booted = Booted::new(InProcess(module()), config, true)?.with_gpu(gate, roots);
    let agent = Digest48([7; 48]);
    let (all, _) = reranker();
    std::os::unix::fs::symlink(models().join(MODEL), all.path().join(MODEL)).unwrap();
    let measured = booted.measure(|| Ok(agent), all.path())?;
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
    let changes: [(Change, &str); 4] = [
        (
            |gate| gate.says("report", &GateAnswer::Refused(GateRefusal::Count(0))),
            "the GPU gate refuses: the driver sees 0 GPUs",
        ),
        (
            |gate| gate.device.lock().unwrap().parties[1].serial = 99,
            "the GPU is another one than was measured",
        ),
        (
            |gate| gate.device.lock().unwrap().parties[4] = Party::new("Test Device Root", 99),
            "which is not the root",
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
    let old = with(&|gate| gate.shows(|_, _| {}));
    assert!(matches!(
        old,
        GpuError::NotVerified(GpuRefusal::Nonce { .. })
    ));
    let forged = with(&|gate| gate.shows(|_, report| *report.report.last_mut().unwrap() ^= 1));
    assert!(matches!(
        forged,
        GpuError::NotVerified(GpuRefusal::ReportSignature)
    ));
    let bare = with(&|gate| gate.shows(|_, report| report.certificates.truncate(1)));
    assert!(matches!(bare, GpuError::Evidence(_)), "{bare}");
    let cut = with(&|gate| gate.shows(|_, report| report.report.truncate(100)));
    assert!(matches!(cut, GpuError::Evidence(_)), "{cut}");
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
        move |gate: &Gate| std::fs::write(gate.path("report"), bytes).unwrap()
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
    assert!(
        refused.contains("`gpu` must be true in the profile h100"),
        "{refused}"
    );
}

#[test]
fn a_guest_for_hardware_wants_the_device_before_it_asks_anybody() {
    let for_gpu = config(|config| {
        config["profile"] = "h100".into();
        config["gpu"] = true.into();
    });
    let gate = Gate::good();
    let booted = Booted::new(InProcess(module()), &for_gpu, false).unwrap();
    let booted = booted.with_gpu(Some(&gate.program()), GpuRoots::NVIDIA);
    let refused = booted.measure(|| Ok(Digest48([7; 48])), models()).map(drop);
    // This machine has none that is for a guest: whatever it has, it stops there.
    assert!(
        matches!(refused, Err(BootError::Gpu(GpuError::Device(_)))),
        "{:?}",
        refused.err()
    );
    let without = config(|config| config["profile"] = "h100".into());
    let refused = MeasuredConfig::parse(&without).unwrap_err().to_string();
    assert!(refused.contains("`gpu` must be true"), "{refused}");
    let simulated = Booted::new(InProcess(module()), &for_gpu, true).map(drop);
    assert!(matches!(simulated, Err(BootError::Profile { .. })));
}
