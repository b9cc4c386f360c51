//! Logs: a real one, and ones that lie, break off or say what is not followed.

use super::*;

/// No log of these tests has it.
const NEVER: Extend = Extend {
    pcr: u32::MAX,
    digest: Digest48::ZERO,
};

fn extends(log: impl BufRead) -> Result<Vec<Extend>, LogError> {
    extends_until(log, NEVER)
}

#[test]
fn what_follows_the_last_extend_is_not_looked_at() {
    let whole = extends(REAL).unwrap();
    let last = whole[whole.len() / 2];
    let first = whole.iter().position(|extend| *extend == last).unwrap();
    // The log of a kernel that gave up on its TPM, or was told to by its host.
    let nonsense = [REAL, b" SWTPM_IO_Read: length nonsense\n"].concat();
    assert!(extends(&nonsense[..]).is_err());
    assert_eq!(
        extends_until(&nonsense[..], last),
        Ok(whole[..=first].to_vec())
    );
}

const REAL: &[u8] = include_bytes!("../../tests/data/boot.log");

/// swtpm's log of commands, each with the answer code it got.
fn log_of(commands: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let mut log = String::new();
    for (command, code) in commands {
        log += &block("SWTPM_IO_Read", command);
        log += &block("SWTPM_IO_Write", &message_of(0x8001, *code, &[]));
    }
    log.into_bytes()
}

fn block(kind: &str, bytes: &[u8]) -> String {
    let mut text = format!(" {kind}: length {}\n", bytes.len());
    for line in bytes.chunks(16) {
        let pairs = line.iter().map(|byte| format!("{byte:02X} "));
        text += &format!(" {}\n", pairs.collect::<String>());
    }
    text
}

fn message_of(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(10 + body.len()).unwrap();
    [
        &tag.to_be_bytes()[..],
        &length.to_be_bytes(),
        &code.to_be_bytes(),
        body,
    ]
    .concat()
}

fn start() -> (Vec<u8>, u32) {
    (message_of(0x8001, STARTUP, &[0, 0]), SUCCESS)
}

/// TPM2_PCR_Extend with an empty password and this list of digests.
fn extend_of(pcr: u32, list: &[u8]) -> (Vec<u8>, u32) {
    let authorization = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let body = [&pcr.to_be_bytes()[..], &[0, 0, 0, 9], &authorization, list].concat();
    (message_of(WITH_SESSIONS, PCR_EXTEND, &body), SUCCESS)
}

fn digests(algorithms: &[(u16, usize)]) -> Vec<u8> {
    let count = u32::try_from(algorithms.len()).unwrap();
    algorithms
        .iter()
        .fold(count.to_be_bytes().to_vec(), |list, (algorithm, length)| {
            [&list[..], &algorithm.to_be_bytes(), &vec![7; *length]].concat()
        })
}

fn good(pcr: u32) -> (Vec<u8>, u32) {
    extend_of(pcr, &digests(&[(SHA1, 20), (SHA384, 48)]))
}

fn check(commands: &[(Vec<u8>, u32)], expected: Result<&[u32], LogError>) {
    let pcrs = extends(&log_of(commands)[..])
        .map(|extends| extends.iter().map(|e| e.pcr).collect::<Vec<_>>());
    assert_eq!(pcrs, expected.map(<[_]>::to_vec), "{commands:02x?}");
}

// What a TPM itself said of PCRs 0 to 7 but 1, after a boot of the same firmware and kernel with another command line.
#[test]
fn extends_of_a_real_boot_add_up_to_what_a_tpm_says() {
    let extends = extends(REAL).unwrap();
    assert_eq!(extends.len(), 29);
    for (pcr, expected) in [
        (
            0,
            "5f6f9472e953d7f49e3ce38e89976e7e5d96fdba53d2b3392870a57f85ace3d2e4574c45b3795fb1810ac689a4f08818",
        ),
        (2, ONE_SEPARATOR),
        (3, ONE_SEPARATOR),
        (
            4,
            "09df9599caae5d6ed07746b5cbdaf26b28d237ed3b7225fb18c6d9650d69f64f2587b5e49b667dc744a6d9e19d314d0e",
        ),
        (
            5,
            "c50b529497c7f441ea47305587d6ce83e2e31f7b4fab6c13dc0b0c3c900e1d0caf0768321100927862df142bf0465ee4",
        ),
        (6, ONE_SEPARATOR),
        (
            7,
            "384a798e98b5369727295c5b2889e1e015c65b3add6d78dce4e457c164865ee2af7b6d53ac7cbcd092eaf5fa1a76ea18",
        ),
    ] {
        let of_pcr = extends.iter().filter(|extend| extend.pcr == pcr);
        let value = of_pcr.fold(Digest48::ZERO, |value, e| value.extended_by(&e.digest));
        assert_eq!(value.to_string(), expected, "PCR {pcr}");
    }
}

#[test]
fn a_log_that_is_still_written_gives_the_extends_so_far() {
    let whole = extends(REAL).unwrap();
    let mut counts = Vec::new();
    for end in (0..1000).chain((1000..REAL.len()).step_by(41)) {
        let so_far = extends(&REAL[..end]).unwrap();
        assert_eq!(so_far, whole[..so_far.len()]);
        counts.push(so_far.len());
    }
    assert!(counts.is_sorted());
    assert!((0..29).all(|count| counts.contains(&count)));
}

#[test]
fn a_flipped_bit_never_adds_an_extend_and_never_panics() {
    let log = &REAL[..1600];
    let whole = extends(log).unwrap();
    assert_eq!(whole.len(), 1);
    for at in 0..log.len() {
        for bit in [0x01, 0x08, 0x80] {
            let mut flipped = log.to_vec();
            flipped[at] ^= bit;
            let got = extends(&flipped[..]).unwrap_or_default();
            assert!(got.len() <= whole.len(), "byte {at}");
        }
    }
}

#[test]
fn what_the_tpm_refused_did_not_happen() {
    let refused = |(command, _): (Vec<u8>, u32)| (command, 0x100);
    check(&[start(), good(4), refused(good(5))], Ok(&[4]));
    check(&[start(), good(4), refused(start()), good(5)], Ok(&[4, 5]));
    let event = (message_of(WITH_SESSIONS, 0x13c, &[0; 4]), 0x9a2);
    check(&[start(), event, good(4)], Ok(&[4]));
    check(
        &[refused(start()), good(4)],
        Err(LogError::NotStarted { line: 14, pcr: 4 }),
    );
}

#[test]
fn a_log_tells_of_one_start_from_nothing() {
    check(&[start()], Ok(&[]));
    check(
        &[start(), good(4), start()],
        Err(LogError::StartedTwice { line: 18 }),
    );
    let resume = (message_of(0x8001, STARTUP, &[0, 1]), SUCCESS);
    let what = "TPM2_Startup with a saved state";
    check(&[resume], Err(LogError::NotFollowed { line: 4, what }));
}

#[test]
fn other_ways_to_change_a_pcr_are_refused() {
    for (code, what) in NOT_FOLLOWED {
        let command = (message_of(WITH_SESSIONS, code, &[0; 4]), SUCCESS);
        check(
            &[start(), command],
            Err(LogError::NotFollowed { line: 8, what }),
        );
    }
    for (order, what) in [
        (6, "a measured start (_TPM_Hash)"),
        (7, "a measured start (_TPM_Hash)"),
        (8, "a measured start (_TPM_Hash)"),
        (13, "the loading of a saved state"),
    ] {
        let log = block("Ctrl Cmd", &[0, 0, 0, order]);
        let expected = LogError::NotFollowed { line: 2, what };
        assert_eq!(extends(log.as_bytes()), Err(expected));
    }
    let set_locality = block("Ctrl Cmd", &[0, 0, 0, 5, 0, 0, 0, 0]);
    assert_eq!(extends(set_locality.as_bytes()), Ok(Vec::new()));
}

#[test]
fn an_extend_has_exactly_one_sha_384_digest() {
    let no_sha_384 = |list: &[(u16, usize)]| {
        let log = log_of(&[start(), extend_of(4, &digests(list))]);
        let got = extends(&log[..]);
        assert!(
            matches!(got, Err(LogError::NoSha384 { pcr: 4, .. })),
            "{list:?}: {got:?}"
        );
    };
    no_sha_384(&[]);
    no_sha_384(&[(SHA1, 20), (SHA256, 32), (SHA512, 64), (SM3_256, 32)]);
    no_sha_384(&[(SHA384, 48), (SHA384, 48)]);
    for list in [
        &digests(&[(SHA384, 47)])[..],
        &digests(&[(SHA384, 49)]),
        &digests(&[(0x27, 48)]),
        &[0, 0, 0, 2, 0, 4],
        &[0xff; 4],
        &[0, 0],
        &[],
    ] {
        let log = log_of(&[start(), extend_of(4, list)]);
        let got = extends(&log[..]);
        assert!(
            matches!(got, Err(LogError::Command { .. })),
            "{list:02x?}: {got:?}"
        );
    }
}

#[test]
fn an_extend_that_lies_about_its_parts_is_refused() {
    let (command, code) = good(4);
    let with = |at: usize, byte: u8| {
        let mut changed = command.clone();
        changed[at] = byte;
        vec![start(), (changed, code)]
    };
    // The tag, the size, the length of the authorizations.
    for (at, byte) in [(1, 0x01), (5, 0xff), (14, 0xff), (17, 0xff)] {
        let got = extends(&log_of(&with(at, byte))[..]);
        assert!(
            matches!(got, Err(LogError::Command { .. })),
            "byte {at}: {got:?}"
        );
    }
}

#[test]
fn blocks_come_one_after_the_other() {
    let (command, answer) = (
        block("SWTPM_IO_Read", &start().0),
        message_of(0x8001, 0, &[]),
    );
    let answer = block("SWTPM_IO_Write", &answer);
    for (log, line) in [
        (answer.clone(), 2),
        (format!("{command}{command}{answer}"), 4),
        (format!("{command}{answer}{answer}"), 6),
        (" SWTPM_IO_Read: length 2\n 00 xx\n".into(), 2),
        (" SWTPM_IO_Read: length 2\n 00 01 02\n".into(), 2),
        (" SWTPM_IO_Read: length 2\n 0001\n".into(), 2),
        (format!(" SWTPM_IO_Read: length 2\n 00\n{command}"), 3),
        (" SWTPM_IO_Read: length 4097\n".into(), 1),
        (" SWTPM_IO_Read: length -1\n".into(), 1),
        (" SWTPM_IO_Read: length \n".into(), 1),
    ] {
        let got = extends(log.as_bytes());
        assert!(
            matches!(got, Err(LogError::Line { line: l, .. }) if l == line),
            "{log}: {got:?}"
        );
    }
    let talk = format!("Data client disconnected\n{command} Ctrl Rsp: length 0\n{answer}\n");
    assert_eq!(extends(talk.as_bytes()), Ok(Vec::new()));
}

#[test]
fn lengths_are_limited() {
    let long = [b'x'; TPM_LOG_LINE_BYTES_MAX];
    assert_eq!(extends(&[&long[..], b"\n"].concat()[..]), Ok(Vec::new()));
    let too_long = [&long[..], b"x\n"].concat();
    let expected = Err(LogError::LineTooLong { line: 1 });
    assert_eq!(extends(&too_long[..]), expected);

    let line = [&long[..TPM_LOG_LINE_BYTES_MAX - 1], b"\n"].concat();
    let lines = usize::try_from(TPM_LOG_BYTES_MAX).unwrap() / line.len();
    let mut log = line.repeat(lines);
    assert_eq!(extends(&log[..]), Ok(Vec::new()));
    log.push(b'\n');
    assert_eq!(extends(&log[..]), Err(LogError::TooLong));

    let mut commands = vec![start()];
    commands.resize(1 + TPM_EXTENDS_MAX, good(10));
    assert_eq!(
        extends(&log_of(&commands)[..]).map(|extends| extends.len()),
        Ok(TPM_EXTENDS_MAX)
    );
    commands.push(good(10));
    assert_eq!(
        extends(&log_of(&commands)[..]),
        Err(LogError::TooManyExtends)
    );
}

const ONE_SEPARATOR: &str = "518923b0f955d08da077c96aaba522b9decede61c599cea6c41889cfbea4ae4d50529d96fe4d1afdafb65e7f95bf23c4";
