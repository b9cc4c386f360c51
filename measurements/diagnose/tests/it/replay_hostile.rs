//! Small logs written here: each limit and each rule of the formats, and what becomes of lies in the data.

use diagnose::{Claim, Event, EventLog, EventLogError, EventType, Kind};
use registers::{Digest48, Register};

const SEPARATOR: u32 = 4;
const TAG: u32 = 6;
const IPL: u32 = 0xd;
const VARIABLE: u32 = 0x8000_0001;
const VARIABLE_BOOT: u32 = 0x8000_0002;
const APPLICATION: u32 = 0x8000_0003;
const GPT: u32 = 0x8000_0006;
const ACTION: u32 = 0x8000_0007;
const TABLES: u32 = 0x8000_0009;

/// A log of these algorithms and events.
fn log(algorithms: &[(u16, u16)], events: &[Vec<u8>]) -> Vec<u8> {
    let mut specification = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
    specification.extend((algorithms.len() as u32).to_le_bytes());
    for (number, bytes) in algorithms {
        specification.extend(number.to_le_bytes());
        specification.extend(bytes.to_le_bytes());
    }
    specification.push(0);
    let mut log = [[1, 0, 0, 0], [3, 0, 0, 0]].concat();
    log.extend([0; 20]);
    log.extend((specification.len() as u32).to_le_bytes());
    log.extend(specification);
    log.extend(events.concat());
    log
}

/// An event with one digest.
fn event(register: u32, kind: u32, digest: &Digest48, data: &[u8]) -> Vec<u8> {
    event_with(register, kind, &[(0xc, &digest.0)], data)
}

fn event_with(register: u32, kind: u32, digests: &[(u16, &[u8])], data: &[u8]) -> Vec<u8> {
    let mut event = [register, kind, digests.len() as u32]
        .map(u32::to_le_bytes)
        .concat();
    for (number, digest) in digests {
        event.extend(number.to_le_bytes());
        event.extend(*digest);
    }
    event.extend((data.len() as u32).to_le_bytes());
    event.extend(data);
    event
}

const ONE: &[(u16, u16)] = &[(0xc, 48)];

fn parse(bytes: &[u8]) -> Result<EventLog, EventLogError> {
    EventLog::parse_tcg(bytes, Kind::Ccel)
}

/// The one event of a log that has it, with this digest.
fn one(kind: u32, digest: Digest48, data: &[u8]) -> Event {
    let log = parse(&log(ONE, &[event(1, kind, &digest, data)])).unwrap();
    log.events()[0].clone()
}

/// What is said of data that hashes to its digest.
fn said(kind: u32, data: &[u8]) -> String {
    let event = one(kind, Digest48::of(data), data);
    assert_eq!(event.claim(), Claim::Data);
    event.describe()
}

#[test]
fn an_empty_log_leads_to_zeros() {
    for filling in [vec![], vec![0xff], vec![0xff; 100], vec![0; 100], vec![0]] {
        let log = parse(&[log(ONE, &[]), filling].concat()).unwrap();
        assert!(log.events().is_empty());
        assert_eq!(log.replay().rtmr, [Digest48::ZERO; 4]);
    }
}

#[test]
fn what_follows_the_last_event_is_filling_of_one_kind() {
    let whole = log(ONE, &[event(1, SEPARATOR, &Digest48::ZERO, &[])]);
    let at = whole.len();
    for filling in [
        [vec![0xff; 50], vec![0]].concat(),
        [vec![0; 50], vec![1]].concat(),
        [vec![0xff; 4], event(1, SEPARATOR, &Digest48::ZERO, &[])].concat(),
    ] {
        let bytes = [whole.clone(), filling].concat();
        assert_eq!(parse(&bytes), Err(EventLogError::Filling { at }));
    }
}

#[test]
fn registers_are_those_of_the_kind_of_log() {
    let log_of = |index, kind| {
        let bytes = log(ONE, &[event(index, SEPARATOR, &Digest48::ZERO, &[])]);
        EventLog::parse_tcg(&bytes, kind).map(|log| log.events()[0].register)
    };
    use Register::{Mrtd, Rtmr0, Rtmr1, Rtmr2, Rtmr3};
    for (index, ccel, tpm) in [
        (1, Some(Rtmr0), Some(Rtmr0)),
        (2, Some(Rtmr1), Some(Rtmr1)),
        (3, Some(Rtmr2), Some(Rtmr1)),
        (4, Some(Rtmr3), Some(Rtmr1)),
        (0, Some(Mrtd), Some(Mrtd)),
    ] {
        assert_eq!(log_of(index, Kind::Ccel), Ok(ccel));
        assert_eq!(log_of(index, Kind::Tpm), Ok(tpm));
    }
    assert_eq!(log_of(7, Kind::Tpm), Ok(Some(Rtmr0)));
    assert_eq!(log_of(15, Kind::Tpm), Ok(Some(Rtmr2)));
    assert_eq!(log_of(23, Kind::Tpm), Ok(None));
    for (index, kind) in [(5, Kind::Ccel), (24, Kind::Tpm), (u32::MAX - 1, Kind::Tpm)] {
        let refused = Err(EventLogError::Register { event: 0, index });
        assert_eq!(log_of(index, kind), refused);
    }
}

#[test]
fn notes_extend_nothing_and_neither_does_anything_extend_mrtd() {
    let digest = Digest48::of(b"anything");
    let bytes = log(
        ONE,
        &[event(1, 3, &digest, b"note"), event(0, 8, &digest, b"v")],
    );
    let log = parse(&bytes).unwrap();
    assert_eq!(log.events().len(), 2);
    assert_eq!(log.replay().rtmr, [Digest48::ZERO; 4]);
    assert_eq!(log.replay().events, [0; 4]);
}

#[test]
fn unknown_types_are_kept_and_shown_by_number() {
    let event = one(0x1234_5678, Digest48::ZERO, b"\x01\x02");
    let kind = event.kind.unwrap();
    assert_eq!(kind, EventType(0x1234_5678));
    assert_eq!(kind.to_string(), "type 0x12345678");
    assert_eq!(event.claim(), Claim::Label);
    assert_eq!(event.describe(), "labelled: 2 bytes 0102");
}

#[test]
fn the_header_is_what_the_specification_has() {
    let good = log(ONE, &[]);
    assert!(parse(&good).is_ok());
    let wrong = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert!(
            matches!(parse(&bytes), Err(EventLogError::Header { .. })),
            "byte {at}: {:?}",
            parse(&bytes)
        );
    };
    for (at, value) in [
        (4, 4),
        (10, 1),
        (32, b's'),
        (62, 47),
        (62, 1),
        (56, 2),
        (57, 1),
        (64, 1),
    ] {
        wrong(at, value);
    }
    let refused = |algorithms: &[(u16, u16)]| parse(&log(algorithms, &[]));
    assert_eq!(refused(&[(0xb, 32)]), Err(EventLogError::NoSha384));
    assert_eq!(refused(&[]), Err(EventLogError::NoSha384));
    let header = |what| Err(EventLogError::Header { what });
    assert_eq!(refused(&[ONE[0], ONE[0]]), header("an algorithm twice"));
    let length = "a digest of another length than its algorithm has";
    assert_eq!(refused(&[(0xc, 32)]), header(length));
    assert_eq!(refused(&[ONE[0], (0x77, 65)]), header(length));
    let many: Vec<(u16, u16)> = (0..9).map(|n| (0x100 + n, 32)).collect();
    assert_eq!(refused(&many), header("too many algorithms"));
}

#[test]
fn each_event_has_one_digest_for_each_algorithm() {
    let (short, long): (&[u8], &[u8]) = (&[1; 32], &[2; 48]);
    let both: &[(u16, u16)] = &[(0xb, 32), (0xc, 48)];
    let with = |digests: &[(u16, &[u8])]| {
        parse(&log(both, &[event_with(1, SEPARATOR, digests, &[])]))
            .map(|log| log.events()[0].digest)
    };
    assert_eq!(with(&[(0xb, short), (0xc, long)]), Ok(Digest48([2; 48])));
    assert_eq!(with(&[(0xc, long), (0xb, short)]), Ok(Digest48([2; 48])));
    let refused = Err(EventLogError::Digests { event: 0 });
    assert_eq!(with(&[(0xc, long)]), refused);
    assert_eq!(with(&[(0xb, short), (0xb, short)]), refused);
    assert_eq!(with(&[(0xc, long), (0xc, long)]), refused);
    assert_eq!(with(&[(0xc, long), (0x4, short)]), refused);
    assert_eq!(with(&[]), refused);
}

#[test]
fn lengths_are_bounded_before_they_are_believed() {
    let max = diagnose::limits::EVENT_LOG_BYTES_MAX;
    let long = vec![0; max + 1];
    assert_eq!(
        parse(&long),
        Err(EventLogError::Length { got: max + 1, max })
    );

    let mut bytes = log(ONE, &[event(1, SEPARATOR, &Digest48::ZERO, &[])]);
    let length_at = bytes.len() - 4;
    let max = diagnose::limits::EVENT_DATA_BYTES_MAX;
    for got in [max + 1, u32::MAX as usize] {
        bytes[length_at..].copy_from_slice(&(got as u32).to_le_bytes());
        let refused = EventLogError::Data { event: 0, got, max };
        assert_eq!(parse(&bytes), Err(refused));
    }
    bytes[length_at..].copy_from_slice(&(max as u32).to_le_bytes());
    assert!(matches!(parse(&bytes), Err(EventLogError::Cut { .. })));
    bytes.resize(bytes.len() + max, 7);
    assert!(parse(&bytes).is_ok());

    let note = event(1, 3, &Digest48::ZERO, &[]);
    let many = vec![note.clone(); predict::limits::EVENT_LOG_EVENTS_MAX];
    assert!(parse(&log(ONE, &many)).is_ok());
    let refused = parse(&log(ONE, &[many, vec![note]].concat()));
    assert_eq!(refused, Err(EventLogError::Events));
}

#[test]
fn json_lengths_are_bounded() {
    let max = predict::limits::EVENT_LOG_JSON_BYTES_MAX;
    let long = vec![b' '; max + 1];
    let refused = Err(EventLogError::Length { got: max + 1, max });
    assert_eq!(EventLog::parse_dstack(&long), refused);
    assert_eq!(EventLog::parse_runtime(&long), refused);

    let dstack = |imr: u32, name: &str, payload: &str| {
        let digest = "00".repeat(48);
        format!(
            r#"{{"imr":{imr},"event_type":134217729,"digest":"{digest}","event":"{name}","event_payload":"{payload}"}}"#
        )
    };
    let list =
        |events: &[String]| EventLog::parse_dstack(format!("[{}]", events.join(",")).as_bytes());
    assert!(list(&[dstack(3, "n", "")]).is_ok());
    assert_eq!(
        list(&[dstack(3, "n", ""), dstack(4, "n", "")]),
        Err(EventLogError::Register { event: 1, index: 4 })
    );
    for bad in ["0", "0g", "\u{e9}"] {
        assert_eq!(
            list(&[dstack(3, "n", bad)]),
            Err(EventLogError::Hex { event: 0 })
        );
    }
    let many = vec![dstack(3, "n", ""); predict::limits::EVENT_LOG_EVENTS_MAX + 1];
    assert_eq!(list(&many), Err(EventLogError::Events));
    let max = predict::limits::EVENT_LOG_NAME_BYTES_MAX;
    let refused = Err(EventLogError::Data {
        event: 0,
        got: max + 1,
        max,
    });
    assert_eq!(list(&[dstack(3, &"n".repeat(max + 1), "")]), refused);
    let max = diagnose::limits::EVENT_DATA_BYTES_MAX;
    let refused = Err(EventLogError::Data {
        event: 0,
        got: max + 1,
        max,
    });
    assert_eq!(list(&[dstack(3, "n", &"00".repeat(max + 1))]), refused);
    for bad in [
        "",
        "{}",
        "[{}]",
        "7",
        r#"{"event_log":"["}"#,
        r#"{"event_log":7}"#,
    ] {
        let refused = EventLog::parse_dstack(bad.as_bytes());
        assert!(matches!(refused, Err(EventLogError::Json { .. })), "{bad}");
    }
    // Deep nesting ends in an error, not in the stack.
    let deep = "[".repeat(100_000);
    assert!(EventLog::parse_dstack(deep.as_bytes()).is_err());
}

#[test]
fn data_that_is_not_what_was_hashed_is_never_shown_as_such() {
    let other = Digest48::of(b"something else");
    for kind in [
        SEPARATOR,
        ACTION,
        VARIABLE,
        VARIABLE_BOOT,
        GPT,
        5,
        8,
        0x12,
        0x8000_00e0,
    ] {
        let event = one(kind, other, b"Secure Boot is on");
        assert_eq!(event.claim(), Claim::Differs, "{kind:#x}");
        assert!(event.describe().starts_with("NOT what was measured: "));
    }
    for kind in [APPLICATION, TAG, IPL, TABLES, 9, 0xa, 0x8000_000a] {
        let event = one(kind, other, b"a good kernel");
        assert_eq!(event.claim(), Claim::Label, "{kind:#x}");
        assert!(event.describe().starts_with("labelled: "));
    }
}

#[test]
fn a_separator_after_an_error_is_one() {
    let event = one(SEPARATOR, Digest48::of(&[1, 0, 0, 0]), b"disk broken");
    assert_eq!(event.claim(), Claim::Label);
    assert_eq!(event.describe(), "labelled: an error: \"disk broken\"");
    assert_eq!(said(SEPARATOR, &[0; 4]), "end of a phase");
    assert_eq!(said(SEPARATOR, &[1, 0, 0, 0]), "an error: 4 bytes 01000000");
}

/// A variable of one character, `A`, with these contents.
fn variable(contents: &[u8]) -> Vec<u8> {
    let mut data = [0x11; 16].to_vec();
    data.extend(1u64.to_le_bytes());
    data.extend((contents.len() as u64).to_le_bytes());
    data.extend(b"A\0");
    data.extend(contents);
    data
}

#[test]
fn variables_are_read_only_where_their_lengths_are_exact() {
    let vendor = "11111111-1111-1111-1111-111111111111";
    let data = variable(&[7]);
    let words = format!("variable \"A\" of {vendor}: 1 bytes 07");
    assert_eq!(said(VARIABLE, &data), words);
    let contents = one(VARIABLE_BOOT, Digest48::of(&[7]), &data);
    assert_eq!(contents.claim(), Claim::Value);
    assert_eq!(contents.describe(), format!("contents of {words}"));
    assert_eq!(
        one(VARIABLE, Digest48::of(&[7]), &data).claim(),
        Claim::Differs
    );

    for (at, value) in [(16, 2), (23, 0x80), (24, 0), (24, 2), (31, 0xff)] {
        let mut bad = data.clone();
        bad[at] = value;
        assert!(!said(VARIABLE, &bad).starts_with("variable"), "byte {at}");
        assert_eq!(
            one(VARIABLE_BOOT, Digest48::of(&[7]), &bad).claim(),
            Claim::Differs
        );
    }
}

#[test]
fn counts_that_overflow_are_no_structure() {
    for count in [2u64, u64::MAX, u64::MAX / 24 + 1, u64::MAX / 128 + 1] {
        let tables = [count.to_le_bytes().to_vec(), vec![0; 24]].concat();
        assert!(said(TABLES, &tables).contains("bytes"));
        let mut table = vec![0; 92];
        table[..8].copy_from_slice(b"EFI PART");
        table.extend(count.to_le_bytes());
        table.extend([0; 128]);
        assert!(said(GPT, &table).contains("bytes"));
        let image = [vec![0; 24], count.to_le_bytes().to_vec(), vec![0; 3]].concat();
        assert!(said(APPLICATION, &image).contains("bytes"));
    }
    assert_eq!(
        said(TAG, b"\x01\0\0\0\x03\0\0\0abc"),
        "tag 0x00000001 \"abc\""
    );
    assert!(said(TAG, b"\x01\0\0\0\x04\0\0\0abc").starts_with("11 bytes"));
}

#[test]
fn device_paths_are_text_where_simple_and_numbers_elsewhere() {
    let program = |path: &[u8]| {
        let mut data = vec![0; 24];
        data[8] = 9;
        data.extend((path.len() as u64).to_le_bytes());
        data.extend(path);
        said(APPLICATION, &data)
    };
    let end = [0x7f, 0xff, 4, 0];
    let file = [4, 4, 10, 0, b'A', 0, b'\n', 0, 0, 0];
    let words = |text: &str| format!("a program of 9 bytes from {text}");
    assert_eq!(program(&[&file[..], &end].concat()), words(r#""A\n""#));
    assert_eq!(program(&file), words(r#""A\n""#));
    let odd = [9, 9, 5, 0, 1];
    assert_eq!(
        program(&[&odd[..], &end].concat()),
        words("Path(9,9,1 bytes)")
    );
    let pci = [1, 1, 6, 0, 2, 3];
    let another = [0x7f, 1, 4, 0];
    assert_eq!(
        program(&[&pci[..], &another, &pci, &end].concat()),
        words("Pci(0x3,0x2)/,/Pci(0x3,0x2)")
    );
    // A node shorter than its own header, one past the end, something after the end, too many of them.
    for bad in [
        [4, 4, 3, 0].to_vec(),
        [4, 4, 9, 0].to_vec(),
        [&end[..], &pci].concat(),
        pci.repeat(33),
    ] {
        assert!(!program(&bad).starts_with("a program"), "{bad:?}");
    }
}

#[test]
fn words_are_printable_and_bounded() {
    let hostile = "\u{1b}[2J\u{7}\u{202e}\r\n\"'\\\u{fffd}".repeat(1000);
    let utf16: Vec<u8> = hostile.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for kind in (0..0x14)
        .chain(0x8000_0000..0x8000_0011)
        .chain([0x8000_00e0])
    {
        for data in [
            hostile.as_bytes(),
            &utf16,
            &variable(&utf16),
            &[0x1b; 9],
            &[],
        ] {
            let words = one(kind, Digest48::of(data), data).describe();
            assert!(words.len() <= diagnose::limits::EVENT_DESCRIPTION_CHARACTERS_MAX);
            assert!(words.chars().all(|c| (' '..='~').contains(&c)), "{words}");
        }
    }
}

#[test]
fn grub_hashes_what_follows_its_own_word() {
    let data = b"grub_cmd: linux /vmlinuz\0";
    let event = one(IPL, Digest48::of(b"linux /vmlinuz"), data);
    assert_eq!(event.claim(), Claim::Value);
    assert_eq!(
        event.describe(),
        r#"after its first word, "grub_cmd: linux /vmlinuz""#
    );
    let whole = one(IPL, Digest48::of(b"grub_cmd: linux /vmlinuz"), data);
    assert_eq!(whole.claim(), Claim::Data);
    for other in [&b"linux /vmlinuz\0"[..], b"vmlinuz", b" linux /vmlinuz"] {
        assert_eq!(one(IPL, Digest48::of(other), data).claim(), Claim::Label);
    }
}

/// One runtime event, `version` as JSON or left out.
fn dstack(name: &str, payload: &[u8], digest: Digest48, version: Option<u64>) -> Event {
    let mut event = serde_json::json!({
        "imr": 3, "event_type": 0x0800_0001, "digest": digest, "event": name, "event_payload": hex::encode(payload),
    });
    if let Some(version) = version {
        event["version"] = version.into();
    }
    let log = EventLog::parse_dstack(event_list(event).as_bytes()).unwrap();
    log.events()[0].clone()
}

fn event_list(event: serde_json::Value) -> String {
    serde_json::Value::from(vec![event]).to_string()
}

#[test]
fn dstack_digests_cover_name_and_payload_in_both_versions() {
    let first = Digest48::of(b"\x01\0\0\x08:app\":\xab\xcd");
    let second =
        Digest48::of(br#"{"event":"app\"","event_type":134217729,"payload":"abcd","version":2}"#);
    let claim =
        |name, payload: &[u8], digest, version| dstack(name, payload, digest, version).claim();
    let payload = &[0xab, 0xcd];
    for (digest, version) in [(first, 1), (second, 2)] {
        assert_eq!(claim("app\"", payload, digest, None), Claim::Data);
        assert_eq!(claim("app\"", payload, digest, Some(version)), Claim::Data);
        assert_eq!(
            claim("app\"", payload, digest, Some(3 - version)),
            Claim::Differs
        );
        assert_eq!(claim("app\"", payload, digest, Some(3)), Claim::Label);
        assert_eq!(claim("app", payload, digest, None), Claim::Differs);
        assert_eq!(claim("app\"", &[0xab], digest, None), Claim::Differs);
        assert_eq!(claim("app\"", &[], digest, None), Claim::Differs);
    }
    let words = dstack("app\"", payload, first, None).describe();
    assert_eq!(words, r#""app\"": 2 bytes abcd"#);
}

/// One digest, two readings: only that with the shortest name is believed.
#[test]
fn a_dstack_name_cannot_grow_into_its_payload() {
    let digest = Digest48::of(b"\x01\0\0\x08:app:good:bad");
    assert_eq!(
        dstack("app", b"good:bad", digest, None).claim(),
        Claim::Data
    );
    assert_eq!(
        dstack("app:good", b"bad", digest, None).claim(),
        Claim::Label
    );
    assert_eq!(
        dstack("app:good", b"bad", digest, Some(1)).claim(),
        Claim::Label
    );
    let second = br#"{"event":"app:good","event_type":134217729,"payload":"626164","version":2}"#;
    let digest = Digest48::of(second);
    assert_eq!(
        dstack("app:good", b"bad", digest, None).claim(),
        Claim::Data
    );
    assert_eq!(
        dstack("app", b"good:bad", digest, None).claim(),
        Claim::Differs
    );
}

/// Only the digests of runtime events cover a name.
#[test]
fn a_name_beside_a_firmware_event_is_a_label() {
    let data = b"Exit Boot Services Invocation";
    let event = serde_json::json!({
        "imr": 1, "event_type": ACTION, "digest": Digest48::of(data), "event": "a lie", "event_payload": hex::encode(data),
    });
    let log = EventLog::parse_dstack(event_list(event).as_bytes()).unwrap();
    let words = log.events()[0].describe();
    assert_eq!(
        words,
        r#""Exit Boot Services Invocation"; labelled "a lie""#
    );

    let event = serde_json::json!({ "imr": 0, "event_type": 10, "digest": Digest48::ZERO });
    let log = EventLog::parse_dstack(event_list(event).as_bytes()).unwrap();
    assert_eq!(log.events()[0].claim(), Claim::Absent);
    assert_eq!(log.events()[0].describe(), "the log does not say");
}
