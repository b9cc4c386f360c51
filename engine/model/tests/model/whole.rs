//! What a model must be to be packed, verified and read: the judge's answers.

use model::tensors::Header;
use model::whole::{Flaw, Judge};

/// A file of tensors: its header, and so many bytes behind it.
fn tensors(header: &str, bytes: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; bytes]].concat()
}

fn weights(name: &str) -> Vec<u8> {
    tensors(
        &format!(r#"{{"{name}":{{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}}}"#),
        16,
    )
}

/// What is said of these files, in their order, and then of all of them together.
fn judge(files: &[(&str, &[u8])]) -> Vec<(String, Flaw)> {
    let mut judge = Judge::default();
    let one = |(path, bytes): &(&str, &[u8])| {
        let judged = judge.file(path, bytes.len() as u64, *bytes);
        Some(((*path).to_owned(), judged.err()?))
    };
    let mut flaws: Vec<_> = files.iter().filter_map(one).collect();
    flaws.extend(judge.finish());
    flaws
}

fn said(name: &str, bytes: &[u8]) -> String {
    match judge(&[(name, bytes)]).as_slice() {
        [] => "whole".into(),
        [(_, flaw)] => flaw.to_string(),
        more => panic!("{more:?}"),
    }
}

fn check(name: &str, bytes: &[u8], expected: &str) {
    let said = said(name, bytes);
    assert!(
        said.contains(expected),
        "{name}: {said}; expected {expected}"
    );
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn the_tensors_of_a_file_cover_it_exactly() {
    let entry = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let two = |one: String, other: String| format!(r#"{{"a":{one},"b":{other}}}"#);
    let f32 = |from, to| entry("F32", "[4]", from, to);
    let good =
        |header: String, bytes| check("model.safetensors", &tensors(&header, bytes), "whole");
    good(two(f32(0, 16), f32(16, 32)), 32);
    // The order of the names is not that of the bytes.
    good(two(f32(16, 32), f32(0, 16)), 32);
    good(two(entry("F32", "[0,7]", 0, 0), f32(0, 16)), 16);
    good(two(f32(0, 16), entry("F16", "[0]", 16, 16)), 16);
    good(two(f32(0, 16), entry("F4", "[2,3]", 16, 19)), 19);
    good(two(f32(0, 16), entry("BF16", "[]", 16, 18)), 18);
    good(
        format!(
            r#"{{"__metadata__":{{"format":"pt"}},"a":{}}}   "#,
            f32(0, 16)
        ),
        16,
    );

    let bad = |header: &str, bytes, expected| {
        check("x/MODEL.SafeTensors", &tensors(header, bytes), expected)
    };
    bad(
        &two(f32(0, 16), f32(16, 32)),
        24,
        "`b` ends at byte 32 of the data, and there are 24",
    );
    bad(
        &two(f32(0, 16), f32(16, 32)),
        33,
        "end at byte 32 of the data, and there are 33",
    );
    bad(&two(f32(0, 16), f32(8, 24)), 24, "`b` shares bytes");
    bad(&two(f32(0, 16), f32(20, 36)), 36, "`b` leaves a gap");
    bad(&two(f32(4, 20), f32(20, 36)), 36, "`a` leaves a gap");
    bad(&two(f32(0, 16), f32(0, 16)), 16, "shares bytes");
    bad(
        &two(f32(0, 12), f32(12, 28)),
        28,
        "not the size of [4] numbers of F32",
    );
    bad(
        &format!(r#"{{"a":{}}}"#, f32(0, 1000)),
        16,
        "ends at byte 1000",
    );
    bad(
        &format!(
            r#"{{"a":{}}}"#,
            entry("F32", "[18446744073709551615,2]", 0, 16)
        ),
        16,
        "not the size",
    );
    bad(
        &format!(
            r#"{{"a":{}}}"#,
            entry("F32", "[4294967296,1073741824]", 0, 0)
        ),
        0,
        "not the size",
    );
    bad(
        &two(f32(0, 16), entry("F32", "[18446744073709551615,2]", 16, 0)),
        16,
        "not the size",
    );
    bad(
        &format!(r#"{{"a":{}}}"#, entry("F4", "[3]", 0, 1)),
        1,
        "not the size",
    );
    bad(
        &format!(r#"{{"a":{}}}"#, entry("F33", "[4]", 0, 16)),
        16,
        "has the type `F33`",
    );
    bad(
        &format!(r#"{{"a":{}}}"#, entry("f32", "[4]", 0, 16)),
        16,
        "has the type `f32`",
    );
    bad(
        r#"{"a":{"dtype":"F32","shape":[4]}}"#,
        16,
        "missing field `data_offsets`",
    );
    bad(
        r#"{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}"#,
        16,
        "lists no tensors",
    );
    bad(
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,32]}}"#,
        16,
        "lists no tensors",
    );
    bad(
        &format!(r#"{{"a":{0},"a":{0}}}"#, f32(0, 16)),
        16,
        "key `a` stands twice",
    );
    bad(
        &format!(r#"{{"__metadata__":{{"n":1}},"a":{}}}"#, f32(0, 16)),
        16,
        "lists no tensors",
    );
    bad(
        &format!(r#"{{"__metadata__":["pt"],"a":{}}}"#, f32(0, 16)),
        16,
        "lists no tensors",
    );
    bad(r#"{"__metadata__":{}}"#, 0, "holds no tensor");
    bad("{}", 0, "holds no tensor");
    bad("{", 0, "not JSON");
    bad(" {}", 0, "does not begin with `{`");
    bad("[]", 0, "does not begin with `{`");
    bad("{}\0\0", 0, "not JSON");
}

#[test]
fn a_file_of_weights_that_is_something_else_is_refused_by_what_it_is() {
    let name = "model.safetensors";
    check(name, b"", "is empty");
    check(name, &[1; 7], "within the length of its header");
    check(
        name,
        &u64::MAX.to_le_bytes(),
        "claim a header of 18446744073709551615 bytes",
    );
    check(name, &(16u64 << 20).to_le_bytes(), "it was cut short");
    check(
        name,
        &(100_000_000u64).to_le_bytes(),
        "claim a header of 100000000 bytes",
    );
    check(
        name,
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0}",
        "claim a header of",
    );
    check(name, b"PK\x03\x04\0\0\0\0\0\0", "claim a header of");
    check(name, b"<!DOCTYPE html><html></html>", "claim a header of");
    check(name, POINTER.as_bytes(), "is a Git LFS pointer");
    let whole = weights("a");
    for end in 0..whole.len() {
        assert_ne!(said(name, &whole[..end]), "whole", "cut at {end}");
    }
    // A file that ends before the length that its directory told.
    let cut = Judge::default().file(name, whole.len() as u64, &whole[..20]);
    assert!(cut.is_err_and(|flaw| flaw.to_string().contains("ends within its header")));
}

#[test]
fn a_header_is_judged_as_the_formats_own_library_judges_it() {
    let name = "model.safetensors";
    let two = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"__metadata__":{"k":"v"},"b":{"dtype":"I8","shape":[3],"data_offsets":[16,19]}}"#;
    let whole = tensors(two, 19);
    assert!(safetensors::SafeTensors::deserialize(&whole).is_ok());
    let mut both = [0, 0];
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let ours = said(name, &bytes) == "whole";
            let theirs = safetensors::SafeTensors::deserialize(&bytes).is_ok();
            // They take the last of two equal names; nothing else may differ.
            assert!(
                ours == theirs || said(name, &bytes).contains("twice"),
                "byte {at} bit {bit}"
            );
            both[usize::from(ours)] += 1;
        }
    }
    assert!(both.iter().all(|count| *count > 50), "{both:?}");
}

#[test]
fn a_header_tells_where_each_tensor_lies() {
    let bytes = weights("a.weight");
    let header = Header::read(bytes.len() as u64, bytes.as_slice()).expect("whole");
    let tensor = header.tensor("a.weight").expect("there");
    assert_eq!(
        (tensor.dtype, tensor.shape.as_slice(), tensor.data.clone()),
        ("F32", &[4][..], 0..16)
    );
    assert_eq!(header.bytes() + 16, bytes.len() as u64);
    assert_eq!(header.tensor("a"), None);
}

#[test]
fn json_is_what_every_reader_understands_alike() {
    for good in [
        "{}",
        " {\"a\": {\"a\": [1, -2.5e3, null, true, \"\\u00e9\"]}}\n",
    ] {
        check("config.json", good.as_bytes(), "whole");
    }
    for good in ["1", "[]", "\"a\"", "null"] {
        check("d/a.json", good.as_bytes(), "whole");
        check("d/config.json", good.as_bytes(), "expected an object");
    }
    for (bad, expected) in [
        ("", "is empty"),
        (" \n", "EOF while parsing"),
        ("\u{feff}{}", "byte order mark"),
        (
            "{\"a\": 1, \"b\": {\"c\": 1, \"c\": 1}}",
            "the key `c` stands twice in one object at line 1",
        ),
        ("{\"a\": 1, \"\\u0061\": 2}", "the key `a` stands twice"),
        ("{\"a\": NaN}", "expected value"),
        ("{\"a\": 1,}", "trailing comma"),
        ("{} {}", "trailing characters"),
        ("{}\0", "trailing characters"),
        ("{\"a\": 'b'}", "expected value"),
        ("{// c\n}", "key must be a string"),
        ("{\"a\": \"b", "EOF while parsing"),
        ("<html>", "expected value"),
        (POINTER, "is a Git LFS pointer"),
        (
            &POINTER.replace("git-lfs", "hawser"),
            "is a Git LFS pointer",
        ),
        (&"[".repeat(100_000), "recursion limit"),
    ] {
        check("config.json", bad.as_bytes(), expected);
    }
    check("a.json", b"{\"a\": \"\xff\"}", "not JSON");
    check("a.json", &[0xff, 0xfe, b'{', 0, b'}', 0], "not JSON");
}

#[test]
fn other_files_are_no_pointers_and_pieces_are_pieces() {
    for name in [
        "README.md",
        "LICENSE",
        "merges.txt",
        "tokenizer.model",
        "tokenizer.json",
        "t.jinja",
    ] {
        check(name, POINTER.as_bytes(), "is a Git LFS pointer");
    }
    check("README.md", b"", "whole");
    check("merges.txt", b"", "is empty");
    check("chat_template.jinja", b"", "is empty");
    check("README.md", b"version https://git-lfs.github.com/", "whole");
    // ModelProto: two pieces, a trainer's and a normaliser's part.
    let pieces =
        b"\x0a\x08\x0a\x01a\x15\0\0\x80\xbf\x0a\x05\x0a\x01b\x18\x02\x12\x02\x08\x01\x1a\0";
    check("tokenizer.model", pieces, "whole");
    check("original/tokenizer.model", b"IQ== 0\nIg== 1\n", "whole");
    for bad in [
        &b"{}"[..],
        &pieces[..9],
        b"IQ== 0\nIg=",
        b"\n",
        b"IQ== x\n",
        &[0xff; 40],
    ] {
        check("tokenizer.model", bad, "neither a SentencePiece model");
    }
    check("tokenizer.model", b"", "is empty");
}

#[test]
fn an_index_and_its_shards_are_whole_together() {
    let (one, two) = (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    );
    let (a, b) = (weights("a"), weights("b"));
    let map = |map: &str| format!(r#"{{"metadata":{{"total_size":32}},"weight_map":{map}}}"#);
    let both = map(&format!(r#"{{"a":"{one}","b":"{two}"}}"#));
    let index = ("model.safetensors.index.json", both.as_bytes());
    assert_eq!(judge(&[(one, &a), index, (two, &b)]), []);
    let missing = |shard: &str| {
        vec![(
            index.0.to_owned(),
            Flaw::ShardMissing {
                shard: shard.into(),
            },
        )]
    };
    assert_eq!(judge(&[(one, &a), index]), missing(two));
    // A shard of another directory is another one.
    let beside = format!("d/{two}");
    let mut said = judge(&[(one, &a), index, (&beside, &b)]);
    assert_eq!(said.pop(), Some((beside, Flaw::NoIndex)));
    assert_eq!(said, missing(two));
    // The same tensors in the wrong order of files.
    let said = judge(&[(one, &b), index, (two, &a)]);
    let lacks = |tensor: &str, shard: &str| {
        let (tensor, shard) = (tensor.to_owned(), shard.to_owned());
        (index.0.to_owned(), Flaw::TensorMissing { tensor, shard })
    };
    assert_eq!(said, [lacks("a", one), lacks("b", two)]);
    // Weights that the index does not name; shards without one; a shard that was refused is not told of twice.
    let more = ("consolidated.safetensors", a.as_slice());
    assert_eq!(
        judge(&[(one, &a), index, (two, &b), more]),
        [(more.0.to_owned(), Flaw::NotInIndex)]
    );
    assert_eq!(
        judge(&[(one, &a), ("model.safetensors", &a)]),
        [(one.to_owned(), Flaw::NoIndex)]
    );
    assert_eq!(
        judge(&[("model.safetensors", &a), ("d/x.safetensors", &b)]),
        []
    );
    assert_eq!(
        judge(&[(one, &a), index, (two, POINTER.as_bytes())]),
        [(two.to_owned(), Flaw::LfsPointer)]
    );

    let no_index = |text: &str, expected: &str| {
        let said = judge(&[("m.safetensors.index.json", text.as_bytes())]);
        let said: Vec<_> = said.iter().map(|(_, flaw)| flaw.to_string()).collect();
        assert!(
            said.len() == 1 && said[0].contains(expected),
            "{text}: {said:?}"
        );
    };
    no_index("{}", "missing field `weight_map`");
    no_index("[]", "expected an object");
    no_index("", "is empty");
    no_index(&map("{}"), "names no tensor");
    no_index(&map(r#"{"a":1}"#), "invalid type");
    no_index(
        &map(r#"{"a":"x.safetensors","a":"x.safetensors"}"#),
        "stands twice",
    );
    for outside in [
        "../x.safetensors",
        "/etc/x.safetensors",
        "d/x.safetensors",
        "x.bin",
        "",
        "..\\\\x.safetensors",
    ] {
        no_index(
            &map(&format!(r#"{{"a":"{outside}"}}"#)),
            "in the same directory",
        );
    }
    no_index(
        &map(r#"{"a":"x.safetensors"}"#),
        "names the shard `x.safetensors`",
    );
}
