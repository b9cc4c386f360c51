use super::*;

fn header() -> Header {
    let part = |name: &str, kind: &str, rows, columns, bytes| Part {
        name: name.into(),
        kind: kind.into(),
        rows,
        columns,
        bytes,
    };
    Header {
        packer: "engine 0.1.0".into(),
        sources: vec![Source {
            name: "model.safetensors".into(),
            bytes: 12,
            sha256: "ab".repeat(32),
        }],
        parts: vec![
            part("embedding", "q8", 2, 64, 300),
            part("norm", "plain", 1, 3, 12),
        ],
    }
}

fn parts() -> [Vec<u8>; 2] {
    [(0..300).map(|index| index as u8).collect(), vec![7; 12]]
}

fn file() -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::start(header(), &mut out).expect("the header is fine");
    parts()
        .iter()
        .for_each(|part| writer.write(part).expect("the part fits"));
    writer.finish().expect("all parts were written");
    out
}

fn read_with(
    reader: Result<Reader<&[u8]>, PackedFileError>,
) -> Result<Vec<Vec<u8>>, PackedFileError> {
    let mut reader = reader?;
    let mut read = Vec::new();
    while let Some(part) = reader.next() {
        // No file of these tests is that long: whatever a header claims, it was compared with the file's length.
        assert!(part.bytes < 10_000);
        let mut place = vec![0; part.bytes as usize];
        reader.read(&mut place)?;
        read.push(place);
    }
    reader.finish().map(|_| read)
}

fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PackedFileError> {
    read_with(Reader::open(bytes.len() as u64, bytes))
}

/// The file with another header text, of the same length.
fn with_header(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let file = file();
    let at = file
        .windows(from.len())
        .position(|window| window == from.as_bytes());
    let at = at.expect("the header has it");
    [&file[..at], to.as_bytes(), &file[at + to.len()..]].concat()
}

#[test]
fn what_was_written_is_read() {
    let file = file();
    assert_eq!(read(&file), Ok(parts().to_vec()));
    let reader = Reader::open(file.len() as u64, &file[..]).expect("it is whole");
    assert_eq!(reader.header(), &header());
    assert_eq!(file.len(), 4096 + 320 + 64 + 32);
    let trusted = Reader::open_verified_elsewhere(file.len() as u64, &file[..]);
    assert_eq!(read_with(trusted), Ok(parts().to_vec()));
}

#[test]
fn every_flipped_bit_is_found() {
    let file = file();
    for at in 0..file.len() {
        for bit in [1, 0x80] {
            let mut changed = file.clone();
            changed[at] ^= bit;
            assert!(read(&changed).is_err(), "byte {at}");
            // Where the digest is not compared a change may pass, but nothing panics or allocates more.
            let trusted = Reader::open_verified_elsewhere(file.len() as u64, &changed[..]);
            let _ = read_with(trusted);
        }
    }
}

#[test]
fn every_length_but_its_own_is_refused() {
    let file = file();
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "{length}");
        assert!(
            read_with(Reader::open(file.len() as u64, &file[..length])).is_err(),
            "{length}"
        );
    }
    let longer = [&file[..], &[0]].concat();
    let expected = file.len() as u64;
    let error = PackedFileError::Length {
        found: expected + 1,
        expected,
    };
    assert_eq!(read(&longer), Err(error));
}

#[test]
fn a_header_that_lies_is_refused_by_name() {
    let start = |at: usize, bytes: [u8; 4]| {
        let mut file = file();
        file[at..at + 4].copy_from_slice(&bytes);
        read(&file).expect_err("is refused")
    };
    assert_eq!(start(0, *b"GGUF"), PackedFileError::Magic);
    assert_eq!(start(8, [2, 0, 0, 0]), PackedFileError::Version(2));
    assert_eq!(
        start(12, [255; 4]),
        PackedFileError::HeaderLength(u64::from(u32::MAX))
    );
    assert_eq!(start(12, [8, 0, 0, 0]), PackedFileError::HeaderLength(8));
    for (from, to, why) in [
        ("\"rows\":2,", "\"rows\":0,", "part \"embedding\" is empty"),
        (
            "\"plain\"",
            "\"plane\"",
            "part \"norm\" is of kind \"plane\"",
        ),
        (
            "abab",
            "ABAB",
            "the sha256 of \"model.safetensors\" is not 64 digits",
        ),
    ] {
        let error = read(&with_header(from, to)).expect_err(why);
        assert_eq!(error, PackedFileError::Header(why.into()));
    }
    for (from, to) in [
        ("\"packer\"", "\"parker\""),
        ("\"bytes\":300", "\"bytes\":-30"),
        ("engine 0", "engine\"0"),
    ] {
        let error = read(&with_header(from, to)).expect_err(to);
        assert!(matches!(error, PackedFileError::Header(_)), "{error}");
    }
    let longer = read(&with_header("\"bytes\":300", "\"bytes\":9e9"));
    assert!(longer.is_err());
    let lengths = read(&with_header("\"bytes\":300", "\"bytes\":999"));
    assert!(matches!(lengths, Err(PackedFileError::Length { .. })));
}

#[test]
fn lengths_that_overflow_are_refused() {
    let mut header = header();
    header.parts[0].bytes = u64::MAX - 10;
    assert_eq!(header.file_bytes(4080), None);
}

#[test]
fn parts_are_as_many_and_as_long_as_the_header_says() {
    let file = file();
    let mut reader = Reader::open(file.len() as u64, &file[..]).expect("it is whole");
    let wrong = PackedFileError::Part {
        name: "embedding".into(),
        found: 300,
        expected: 299,
    };
    assert_eq!(reader.read(&mut [0; 299]), Err(wrong));
    reader.read(&mut [0; 300]).expect("it fits");
    assert_eq!(
        reader.finish().map(|_| ()),
        Err(PackedFileError::PartsLeft(1))
    );
    let mut writer = Writer::start(header(), Vec::new()).expect("the header is fine");
    assert!(matches!(
        writer.write(&[0; 12]),
        Err(PackedFileError::Part { .. })
    ));
    assert_eq!(writer.finish(), Err(PackedFileError::PartsLeft(2)));
    let mut twice = header();
    twice.parts[1].name = "embedding".into();
    assert!(matches!(
        Writer::start(twice, Vec::new()),
        Err(PackedFileError::Header(_))
    ));
}
