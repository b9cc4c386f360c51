//! The program with a machine behind it: a small firmware, a small kernel, and a TPM's log of their boot.

mod machine;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use attest::{Collateral, Policy, Root, verify};
use machine::Machine;
use registers::{Digest48, Registers, ReportData};
use simulator::{
    BootError, Launched, Source, events_of,
    protocol::{Request, encode},
    registers_of,
};

struct Simulator {
    child: Child,
    directory: tempfile::TempDir,
}

impl Simulator {
    fn start(launched: &Path) -> Simulator {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_chrysalis-simulator"))
            .current_dir(directory.path())
            .args(["--socket", "tdx.sock", "--out", "sim", "--parent-pipe"])
            .arg("--launched")
            .arg(launched)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert!(ready.contains("\"ready\":true"), "{ready}");
        Simulator { child, directory }
    }

    /// The answer to one request on a connection of its own: the payload, or the sentence.
    fn ask(&self, request: &Request) -> Result<Vec<u8>, String> {
        let mut stream = UnixStream::connect(self.directory.path().join("tdx.sock")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream.write_all(&encode(request)).unwrap();
        let mut header = [0; 5];
        stream.read_exact(&mut header).unwrap();
        let [status, length @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).unwrap();
        match status {
            0 => Ok(payload),
            _ => Err(String::from_utf8(payload).unwrap()),
        }
    }

    fn registers(&self) -> Result<Registers, String> {
        let bytes = self.ask(&Request::Registers)?;
        let (values, rest) = bytes.as_chunks::<48>();
        assert_eq!((values.len(), rest), (5, &[][..]));
        Ok(Registers {
            mrtd: Digest48(values[0]),
            rtmr: std::array::from_fn(|at| Digest48(values[1 + at])),
        })
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_machine_has_the_registers_of_its_files_and_its_log() {
    let machine = Machine::booted();
    let launched = Launched::read(&machine.launched()).unwrap();
    let events = events_of(&launched).unwrap();
    assert_eq!(events.len(), 2 + machine.measured().len());
    for (event, (pcr, digest)) in events[2..].iter().zip(machine.measured()) {
        assert_eq!((event.source, event.digest), (Source::Pcr(pcr), digest));
    }
    let registers = registers_of(&launched).unwrap();
    for rtmr in 0..4 {
        let of_register = events.iter().filter(|event| event.rtmr == rtmr);
        let value = of_register.fold(Digest48::ZERO, |value, e| value.extended_by(&e.digest));
        assert_eq!(registers.rtmr[rtmr], value);
    }
    assert_eq!(registers.rtmr[3], Digest48::ZERO);

    let simulator = Simulator::start(&machine.launched());
    assert_eq!(simulator.registers(), Ok(registers));
}

#[test]
fn the_guest_goes_on_with_rtmr3_only_and_its_quote_is_verified() {
    let machine = Machine::booted();
    let simulator = Simulator::start(&machine.launched());
    let digest = Digest48::of(b"agent");
    let extend = |index| simulator.ask(&Request::Extend { index, digest });
    let sentence = extend(2).unwrap_err();
    assert!(
        sentence.contains("what the firmware measured"),
        "{sentence}"
    );
    assert_eq!(extend(3), Ok(Vec::new()));

    let launched = Launched::read(&machine.launched()).unwrap();
    let mut registers = registers_of(&launched).unwrap();
    registers.rtmr[3] = Digest48::ZERO.extended_by(&digest);
    let report_data = [5; 64];
    let quote = simulator.ask(&Request::Quote { report_data }).unwrap();
    let of_run = |name: &str| fs::read(simulator.directory.path().join("sim").join(name)).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    verify(
        &quote,
        &Collateral::from_json(&of_run("collateral.json")).unwrap(),
        &ReportData(report_data),
        &Policy::exact(registers),
        &Root::insecure_test(of_run("root.der")).unwrap(),
        now.as_secs(),
    )
    .unwrap();
}

#[test]
fn requests_before_the_boot_is_over_are_refused_and_the_next_looks_again() {
    let mut machine = Machine::booted();
    let log = machine.log();
    machine.write_log(&log[..log.len() / 2]);
    let simulator = Simulator::start(&machine.launched());
    for request in [
        Request::Registers,
        Request::Quote {
            report_data: [0; 64],
        },
        Request::Extend {
            index: 3,
            digest: Digest48::ZERO,
        },
    ] {
        let sentence = simulator.ask(&request).unwrap_err();
        assert!(sentence.contains("the boot is not over"), "{sentence}");
    }
    machine.write_log(&log);
    let registers = simulator.registers().unwrap();
    assert_ne!(registers.rtmr[2], Digest48::ZERO);
    assert_eq!(registers.rtmr[3], Digest48::ZERO);
}

#[test]
fn one_boot_per_run() {
    let mut machine = Machine::booted();
    let simulator = Simulator::start(&machine.launched());
    let registers = simulator.registers();
    assert!(registers.is_ok());
    machine.write_log(b"");
    machine.write("initrd", b"another");
    fs::remove_file(machine.launched()).unwrap();
    assert_eq!(simulator.registers(), registers);
}

#[test]
fn a_description_may_be_written_after_the_start() {
    let machine = Machine::booted();
    let (launched, late) = (
        machine.launched(),
        machine.launched().with_extension("late"),
    );
    fs::rename(&launched, &late).unwrap();
    let simulator = Simulator::start(&launched);
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| simulator.registers());
        std::thread::sleep(Duration::from_millis(300));
        fs::rename(&late, &launched).unwrap();
        waiting.join().unwrap()
    });
    assert!(waiting.is_ok(), "{waiting:?}");
}

#[test]
fn a_description_that_never_comes_is_said_to_the_guest() {
    let directory = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(&directory.path().join("launched.json"));
    // Together they wait as long as one does.
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        let asks: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| simulator.registers()))
            .collect();
        for ask in asks {
            let sentence = ask.join().unwrap().unwrap_err();
            assert!(sentence.contains("launched.json"), "{sentence}");
        }
    });
    assert!(start.elapsed() < 3 * simulator::limits::LAUNCHED_WAIT);
}

#[test]
fn files_other_than_those_that_booted_are_named() {
    for (name, what) in [("kernel", "kernel"), ("initrd", "initrd")] {
        let mut machine = Machine::booted();
        let mut bytes = machine.read(name);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        machine.write(name, &bytes);
        refused(&machine, what);
    }
    let mut machine = Machine::booted();
    machine.describe("cmdline", "panic=-1 init=/bin/sh".into());
    refused(&machine, "command line");
    // The words that the firmware adds are not part of a description.
    let mut machine = Machine::booted();
    machine.describe(
        "cmdline",
        format!("{} initrd=initrd", machine::CMDLINE).into(),
    );
    refused(&machine, "command line");
}

fn refused(machine: &Machine, what: &str) {
    let launched = Launched::read(&machine.launched()).unwrap();
    match registers_of(&launched) {
        Err(BootError::OtherFile { what: got, .. }) => assert_eq!(got, what),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn memory_and_firmware_reach_the_registers_they_belong_to() {
    let plain = Machine::booted();
    let of =
        |machine: &Machine| registers_of(&Launched::read(&machine.launched()).unwrap()).unwrap();
    let expected = of(&plain);

    let mut more = Machine::booted();
    more.describe("memory_mib", 4096.into());
    let got = of(&more);
    assert_ne!(got.rtmr[0], expected.rtmr[0]);
    assert_eq!(
        (got.mrtd, got.rtmr[1], got.rtmr[2]),
        (expected.mrtd, expected.rtmr[1], expected.rtmr[2])
    );

    for (at, code) in [(0, false), (0x1000, true)] {
        let mut other = Machine::booted();
        let mut firmware = other.read("firmware.fd");
        firmware[at] ^= 1;
        other.write("firmware.fd", &firmware);
        let got = of(&other);
        assert_eq!(got.mrtd != expected.mrtd, code);
        assert_eq!(got.rtmr[0] != expected.rtmr[0], !code);
        assert_eq!(got.rtmr[1..], expected.rtmr[1..]);
    }
}

#[test]
fn files_that_are_missing_or_broken_are_refused() {
    for name in ["firmware.fd", "kernel", "initrd", "tpm.log"] {
        let machine = Machine::booted();
        fs::remove_file(machine.path(name)).unwrap();
        let launched = Launched::read(&machine.launched()).unwrap();
        let got = registers_of(&launched);
        assert!(
            matches!(&got, Err(BootError::Read { path, .. }) if *path == machine.path(name)),
            "{name}: {got:?}"
        );
    }
    let mut machine = Machine::booted();
    machine.write("firmware.fd", b"short");
    machine.write("kernel", b"MZ");
    let launched = Launched::read(&machine.launched()).unwrap();
    assert!(matches!(
        registers_of(&launched),
        Err(BootError::Firmware(_))
    ));
}
