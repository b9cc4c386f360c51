//! Logs of real machines against other readers and other ways: `eventlog-rs`, and digests made again from what a log says was
//! hashed.

use crate::common::vector;
use diagnose::{EventLog, Kind};
use eventlog_rs::Eventlog;
use registers::{Digest48, Register};

const LOGS: [&str; 2] = ["ccel/gcp-cos-113/ccel_data.dat", "ccel/dstack/ccel.bin"];
const DSTACK: &str = "ccel/dstack/quote-report.json";

#[test]
fn eventlog_rs_reads_the_same_events_and_the_same_registers() {
    for name in LOGS {
        let Some(bytes) = vector(name) else { return };
        let ours = EventLog::parse_tcg(&bytes, Kind::Ccel).unwrap();
        let theirs = Eventlog::try_from(bytes).unwrap();
        // The first entry, which says how to read the others, is an event in neither list.
        assert_eq!(ours.events().len(), theirs.log.len(), "{name}");
        for (ours, theirs) in ours.events().iter().zip(&theirs.log) {
            assert_eq!(ours.index, theirs.target_measurement_registry);
            assert_eq!(ours.kind.unwrap().0, theirs.event_type_id);
            assert_eq!(ours.digest.0, *theirs.digests[0].digest);
            assert_eq!(theirs.digests.len(), 1);
            assert_eq!(ours.data.as_ref(), Some(&theirs.event_desc));
        }
        let (ours, theirs) = (ours.replay(), theirs.replay_measurement_registry());
        // RTMR0 to RTMR3 are registers 1 to 4 of the log; one without events has no entry there.
        for (number, value) in (1..).zip(ours.rtmr) {
            let theirs = theirs.get(&number).map(|value| value.as_slice());
            assert_eq!(theirs.unwrap_or(&[0; 48]), value.0, "{name} {number}");
        }
        assert!(theirs.keys().all(|number| (1..=4).contains(number)));
    }
}

/// So the comparison above sees what it must.
#[test]
fn eventlog_rs_sees_a_flipped_digest() {
    let Some(mut bytes) = vector(LOGS[0]) else {
        return;
    };
    let ours = EventLog::parse_tcg(&bytes, Kind::Ccel).unwrap();
    let digest = ours.events()[3].digest.0;
    let at = bytes.windows(48).position(|w| w == digest).unwrap();
    bytes[at] ^= 1;
    let theirs = Eventlog::try_from(bytes).unwrap();
    let register = ours.events()[3].index;
    let value = &theirs.replay_measurement_registry()[&register];
    assert_ne!(value[..], ours.replay().rtmr[register as usize - 1].0);
}

/// A variable of UEFI as a log has it (TCG PC Client Platform Firmware Profile, section 10.2.6).
struct Variable {
    namespace: [u8; 16],
    name: String,
    contents: Vec<u8>,
}

impl Variable {
    fn read(data: &[u8]) -> Variable {
        let number = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap()) as usize;
        let (contents_at, bytes) = (32 + 2 * number(16), number(24));
        assert_eq!(data.len(), contents_at + bytes, "nothing behind it");
        let units = data[32..contents_at].chunks(2);
        let units: Vec<u16> = units
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
            .collect();
        Variable {
            namespace: data[..16].try_into().unwrap(),
            name: String::from_utf16(&units).unwrap(),
            contents: data[contents_at..].to_vec(),
        }
    }

    /// What firmware hashes of it: everything, and of boot options the contents alone.
    fn digest(&self, boot: bool) -> Digest48 {
        if boot {
            return Digest48::of(&self.contents);
        }
        let name: Vec<u8> = self
            .name
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let characters = (name.len() as u64 / 2).to_le_bytes();
        let bytes = (self.contents.len() as u64).to_le_bytes();
        let head = [&self.namespace[..], &characters, &bytes, &name].concat();
        Digest48::of(&[&head[..], &self.contents].concat())
    }
}

/// Made again from GUID, name and contents and put in the place of the log's, they lead to the same registers, which are those
/// of the quotes. Google's machine has Secure Boot keys, dstack's have none.
#[test]
fn variables_of_real_machines_have_the_digests_that_follow_from_their_contents() {
    let ccel = |name| vector(name).map(|bytes| EventLog::parse_tcg(&bytes, Kind::Ccel).unwrap());
    let json = vector(DSTACK).map(|bytes| EventLog::parse_dstack(&bytes).unwrap());
    let absent = [
        ("SecureBoot", 0),
        ("PK", 0),
        ("KEK", 0),
        ("db", 0),
        ("dbx", 0),
    ];
    let dstack = [&absent[..], &[("BootOrder", 2), ("Boot0000", 62)]].concat();
    for (log, expected) in [
        (ccel(LOGS[0]), GOOGLE.to_vec()),
        (ccel(LOGS[1]), dstack.clone()),
        (json, dstack),
    ] {
        let Some(log) = log else { return };
        let mut registers = [Digest48::ZERO; 4];
        let mut variables = Vec::new();
        for event in log.events() {
            let boot = match event.kind.unwrap().name() {
                Some("EV_EFI_VARIABLE_BOOT") => Some(true),
                Some("EV_EFI_VARIABLE_DRIVER_CONFIG" | "EV_EFI_VARIABLE_AUTHORITY") => Some(false),
                _ => None,
            };
            let mut digest = event.digest;
            if let Some(boot) = boot {
                let variable = Variable::read(event.data.as_deref().unwrap());
                digest = variable.digest(boot);
                variables.push((variable.name, variable.contents.len()));
            }
            let order = [
                Register::Rtmr0,
                Register::Rtmr1,
                Register::Rtmr2,
                Register::Rtmr3,
            ];
            let number = order.iter().position(|r| Some(*r) == event.register);
            let register = &mut registers[number.unwrap()];
            *register = register.extended_by(&digest);
        }
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, l)| ((*n).to_owned(), *l))
            .collect();
        assert_eq!(variables, expected);
        assert_eq!(registers, log.replay().rtmr);
    }
}

/// Names and lengths of the contents. The last two are shim's.
const GOOGLE: [(&str, usize); 10] = [
    ("SecureBoot", 1),
    ("PK", 1097),
    ("KEK", 1106),
    ("db", 1085),
    ("dbx", 4461),
    ("BootOrder", 4),
    ("Boot0001", 96),
    ("Boot0000", 62),
    ("SbatLevel", 18),
    ("MokListTrusted", 1),
];
