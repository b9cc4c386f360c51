//! With a log that leads to the quote, what differs is named by its event.

use crate::explained::{Case, one};
use diagnose::{
    EventLog,
    explain::{DifferenceKind, Explanation},
};
use registers::{Digest48, Register, Registers};
use serde_json::{Value, json};

/// Register, type, digest and data.
type Logged<'a> = (u32, u32, Digest48, &'a [u8]);

/// A dstack list: the register, the type and the digest of each event.
fn log(events: &[Logged<'_>]) -> EventLog {
    let list: Vec<Value> = events
        .iter()
        .map(|(register, kind, digest, data)| {
            json!({"imr": register, "event_type": kind, "digest": digest.to_string(), "event": "",
                "event_payload": hex::encode(data)})
        })
        .collect();
    EventLog::parse_dstack(Value::from(list).to_string().as_bytes()).unwrap()
}

/// RTMR1 and RTMR2 as the image has them, changed, and the registers that the change leads to.
fn logged<'a>(case: &Case, change: impl FnOnce(&mut Vec<Logged<'a>>)) -> (EventLog, Registers) {
    let kind = |register| if register == 1 { 0x8000_0007 } else { 6 };
    let number = |register| match register {
        Register::Rtmr1 => 1,
        _ => 2,
    };
    let booted = case
        .image
        .events
        .iter()
        .filter(|e| e.register != Register::Rtmr0);
    let mut events: Vec<Logged<'a>> = booted
        .map(|e| {
            (
                number(e.register),
                kind(number(e.register)),
                e.digest,
                &[][..],
            )
        })
        .collect();
    change(&mut events);
    let log = log(&events);
    let mut registers = *case.guest.registers();
    registers.rtmr[1..3].copy_from_slice(&log.replay().rtmr[1..3]);
    (log, registers)
}

#[test]
fn a_log_names_the_event_and_the_component() {
    let case = Case::new();
    let check = |register,
                 change: &dyn Fn(&mut Vec<Logged<'static>>),
                 expected: (DifferenceKind, usize, Option<&str>, &[&str])| {
        let (log, registers) = logged(&case, change);
        let explanation = case.explain(&registers, &[log]);
        let finding = one(&explanation, register);
        assert_eq!(finding.log_replays, Some(true));
        let difference = finding.first_difference.as_ref().unwrap();
        let component = finding.component.as_ref();
        let got = (
            difference.kind,
            difference.index,
            component.and_then(|component| component.file.as_deref()),
        );
        assert_eq!(got, (expected.0, expected.1, expected.2));
        assert_eq!(finding.certain, got.0 != DifferenceKind::Rearranged);
        assert_eq!(component.map_or(&[][..], |c| &c.packages), expected.3);
    };
    let new = Digest48::of(b"something else");
    let (r1, r2) = (Register::Rtmr1, Register::Rtmr2);
    let packages = ["linux-image-6.12 6.12.1"];
    use DifferenceKind::{Changed, Extra, Missing, Rearranged};
    check(
        r1,
        &|e| e[0].2 = new,
        (Changed, 0, Some("kernel"), &packages),
    );
    check(r2, &|e| e[6].2 = new, (Changed, 1, Some("initrd"), &[]));
    check(r2, &|e| e[5].2 = new, (Changed, 0, None, &[]));
    check(
        r1,
        &|e| e.insert(3, (1, 6, new, &[])),
        (Extra, 3, None, &[]),
    );
    check(
        r1,
        &|e| {
            e.remove(2);
        },
        (Missing, 2, None, &[]),
    );
    check(r1, &|e| e.swap(0, 1), (Rearranged, 0, None, &[]));
}

#[test]
fn words_of_a_command_line_are_compared_only_where_they_were_measured() {
    let case = Case::new();
    let text = format!("{} initrd=initrd", case.image.cmdline).replace("ttyS0", "hvc0");
    let mut data: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    data.extend([0, 0]);
    let (log, registers) = logged(&case, |events| {
        events[5] = (2, 0xd, Digest48::of(&data), &data);
    });
    let explanation = case.explain(&registers, &[log]);
    let difference = one(&explanation, Register::Rtmr2).first_difference.clone();
    let words = difference.unwrap().words.unwrap();
    assert_eq!(words.missing, ["console=ttyS0"]);
    assert_eq!(words.added, ["console=hvc0"]);

    let component = |explanation: &Explanation| {
        let finding = one(explanation, Register::Rtmr2).clone();
        finding.component.unwrap()
    };
    assert_eq!(component(&explanation).what, "the command line");
    assert_eq!(component(&explanation).file, None);

    // Another root file system is another word, and then the file is named.
    let other = format!("chrysalis.root={}", "5".repeat(64));
    let words = case.image.cmdline.split(' ').map(|word| {
        let root = word.starts_with("chrysalis.root=");
        if root { other.as_str() } else { word }
    });
    let text = format!("{} initrd=initrd\0", words.collect::<Vec<_>>().join(" "));
    let data_of_root: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (log, registers) = logged(&case, |events| {
        events[5] = (2, 0xd, Digest48::of(&data_of_root), &data_of_root);
    });
    let explanation = case.explain(&registers, &[log]);
    let named = component(&explanation);
    assert!(
        named.what.starts_with("the root file system"),
        "{}",
        named.what
    );
    assert_eq!(named.file.as_ref(), Some(&case.image.files.root.name));

    let (log, registers) = logged(&case, |events| {
        events[5] = (2, 0xd, Digest48::of(b"another text"), &data);
    });
    let explanation = case.explain(&registers, &[log]);
    let difference = one(&explanation, Register::Rtmr2).first_difference.clone();
    assert_eq!(difference.unwrap().words, None);
}

#[test]
fn a_log_that_does_not_lead_to_the_quote_is_not_used() {
    let case = Case::new();
    let (log, mut registers) = logged(&case, |events| events[0].2 = Digest48::of(b"x"));
    registers.rtmr[1] = Digest48::of(b"another register");
    let explanation = case.explain(&registers, &[log]);
    let finding = one(&explanation, Register::Rtmr1);
    assert_eq!(finding.log_replays, Some(false));
    assert!(finding.first_difference.is_none() && !finding.certain);
}
