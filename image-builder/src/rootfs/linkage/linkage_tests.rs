use super::*;

/// A shared object, by the ELF-64 object file format: its own name, what it asks for, its directories, and its loader.
struct Made<'a> {
    soname: &'a str,
    needed: &'a [&'a str],
    directories: Option<&'a str>,
    interpreter: Option<&'a str>,
}

const PLAIN: Made<'_> = Made {
    soname: "",
    needed: &[],
    directories: None,
    interpreter: None,
};

impl Made<'_> {
    fn bytes(&self) -> Vec<u8> {
        let (mut strings, mut table) = (vec![0u8], Vec::new());
        let mut add = |tag: u64, text: &str| {
            table.extend([tag.to_le_bytes(), (strings.len() as u64).to_le_bytes()].concat());
            strings.extend(text.bytes().chain([0]));
        };
        if !self.soname.is_empty() {
            add(14, self.soname);
        }
        self.needed.iter().for_each(|name| add(1, name));
        if let Some(directories) = self.directories {
            add(29, directories);
        }
        let mut interpreter = self.interpreter.unwrap_or_default().as_bytes().to_vec();
        interpreter.push(0);
        // The header, three headers of segments, the strings, the loader's path, the table.
        let strings_at = 64 + 3 * 56;
        let interpreter_at = strings_at + strings.len();
        let table_at = (interpreter_at + interpreter.len()).next_multiple_of(8);
        table.extend([5u64.to_le_bytes(), (strings_at as u64).to_le_bytes()].concat());
        table.extend([0; 16]);
        let whole = table_at + table.len();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        file.extend([0; 8]);
        file.extend(64u64.to_le_bytes());
        file.extend([0; 12]);
        for half in [64u16, 56, 3, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let kind = if self.interpreter.is_some() { 3u32 } else { 0 };
        for (kind, at, bytes) in [
            (1u32, 0, whole),
            (2, table_at, table.len()),
            (kind, interpreter_at, interpreter.len()),
        ] {
            file.extend([kind.to_le_bytes(), 4u32.to_le_bytes()].concat());
            for value in [at, at, at, bytes, bytes, 8] {
                file.extend((value as u64).to_le_bytes());
            }
        }
        file.extend(strings);
        file.extend(interpreter);
        file.resize(table_at, 0);
        file.extend(table);
        file
    }

    fn at(&self, path: &str) -> Entry {
        Entry::memory(path, 0o644, self.bytes(), "maker 1".into())
    }
}

fn root(more: Vec<Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = ["/", "/etc", "/usr", "/usr/lib", LIBRARIES, "/opt", "/opt/a"]
        .into_iter()
        .map(Entry::directory)
        .collect();
    entries.push(Entry::link("/lib64", "usr/lib64", "maker 1".into()));
    entries.push(Entry::directory("/usr/lib64"));
    entries.extend(more);
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    entries
}

const PLAIN_LIBC: Made<'_> = Made {
    soname: "libc.so.6",
    ..PLAIN
};

fn libc() -> Entry {
    PLAIN_LIBC.at(&format!("{LIBRARIES}/libc.so.6"))
}

/// What is missing, if anything.
fn judge(more: Vec<Entry>, asked: &[&str]) -> Option<String> {
    let asked: Vec<String> = asked.iter().map(|name| (*name).into()).collect();
    match check(&root(more), &asked) {
        Ok(()) => None,
        Err(error) => {
            let sentence = error.to_string();
            let words = sentence.strip_suffix(", which is not in the root");
            let words: Vec<_> = words.expect(&sentence).split(' ').collect();
            Some(match (words[0], words[words.len() - 1]) {
                ("the", library) => library.to_owned(),
                (path, library) => format!("{path} {library}"),
            })
        }
    }
}

#[test]
fn a_root_whose_files_find_everything_passes() {
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let program = Made {
        needed: &["libc.so.6", "libx.so.1"],
        directories: Some("/nowhere:$ORIGIN/../opt/a"),
        interpreter: Some(loader),
        ..PLAIN
    };
    let soname = "libx.so.1";
    let library = Made {
        soname,
        needed: &["libc.so.6"],
        ..PLAIN
    };
    let real = PLAIN.at("/usr/lib64/ld-linux-x86-64.so.2");
    let entries = vec![
        program.at("/usr/program"),
        library.at("/opt/a/libx.so.1"),
        libc(),
        real,
        Entry::memory(
            "/usr/text",
            0o644,
            b"\x7fELF, no".to_vec(),
            "maker 1".into(),
        ),
    ];
    assert_eq!(judge(entries.clone(), &["libc.so.6"]), None);
    // The same without one of them.
    for (gone, expected) in [
        ("/opt/a/libx.so.1", "/usr/program libx.so.1"),
        (
            "/usr/lib64/ld-linux-x86-64.so.2",
            &*format!("/usr/program {loader}"),
        ),
        (&*libc().path, "/opt/a/libx.so.1 libc.so.6"),
    ] {
        let some = entries.iter().filter(|entry| entry.path != gone);
        let missing = judge(some.cloned().collect(), &[]);
        assert_eq!(missing.as_deref(), Some(expected), "without {gone}");
    }
}

#[test]
fn a_library_that_is_opened_by_name_has_to_be_where_the_loader_looks() {
    let soname = "libcuda.so.1";
    let cuda = Made { soname, ..PLAIN };
    assert_eq!(judge(vec![], &[soname]).as_deref(), Some(soname));
    assert_eq!(
        judge(vec![cuda.at("/opt/a/libcuda.so.1")], &[soname]).as_deref(),
        Some(soname)
    );
    let there = cuda.at(&format!("{LIBRARIES}/libcuda.so.1"));
    assert_eq!(judge(vec![there.clone()], &[soname]), None);
    // A directory that the loader's configuration names.
    let config = Entry::memory("/etc/ld.so.conf", 0o644, b"/opt/a\n".to_vec(), "m".into());
    let linked = Entry::link("/opt/a/libcuda.so", "libcuda.so.1", "maker 1".into());
    let configured = vec![cuda.at("/opt/a/libcuda.so.1"), linked, config];
    assert_eq!(judge(configured, &[soname]), None);
    // A link that leads nowhere is no library.
    let dangling = Entry::link(format!("{LIBRARIES}/{soname}"), "gone", "maker 1".into());
    assert_eq!(judge(vec![dangling], &[soname]).as_deref(), Some(soname));
}

#[test]
fn a_library_may_leave_finding_to_those_who_load_it_if_all_of_them_find() {
    let made = |soname, needed, directories| Made {
        soname,
        needed,
        directories,
        ..PLAIN
    };
    let hidden = made("libhidden.so", &[], None).at("/opt/a/libhidden.so");
    let trusting = made("libtrusting.so", &["libhidden.so"], None);
    let trusting = trusting.at(&format!("{LIBRARIES}/libtrusting.so"));
    let path = Some("/opt/a");
    let finds = made("", &["libtrusting.so", "libhidden.so"], path).at("/usr/finds");
    let both = || vec![hidden.clone(), trusting.clone()];
    let lost = format!("{LIBRARIES}/libtrusting.so libhidden.so");
    assert_eq!(judge(both(), &[]), Some(lost.clone()));
    let with = |more: &[&Entry]| {
        let more = more.iter().map(|entry| (*entry).clone());
        judge(both().into_iter().chain(more).collect(), &[])
    };
    assert_eq!(with(&[&finds]), None);
    let alone = made("", &["libtrusting.so"], path).at("/usr/alone");
    assert_eq!(with(&[&finds, &alone]), Some(lost));
    let elsewhere = made("", &["libtrusting.so", "libhidden.so"], Some("/opt")).at("/usr/blind");
    assert_eq!(
        with(&[&elsewhere]).as_deref(),
        Some("/usr/blind libhidden.so")
    );
}

#[test]
fn a_file_with_any_byte_changed_is_judged_without_a_panic() {
    let program = Made {
        soname: "libp.so.1",
        needed: &["libc.so.6"],
        directories: Some("$ORIGIN"),
        interpreter: Some("/lib64/ld.so"),
    };
    let good = program.bytes();
    let dynamic = elf::dynamic(Cursor::new(&good))
        .expect("read")
        .expect("a table");
    assert_eq!(dynamic.needed, ["libc.so.6"]);
    assert_eq!(dynamic.directories, ["$ORIGIN"]);
    assert_eq!(dynamic.interpreter.as_deref(), Some("/lib64/ld.so"));
    for at in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut bytes = good.clone();
            bytes[at] ^= bit;
            let _ = elf::dynamic(Cursor::new(bytes));
        }
        let cut = elf::dynamic(Cursor::new(&good[..at]));
        assert!(!matches!(cut, Ok(Some(_))), "cut at {at}");
    }
}

/// A program as our compiler makes one.
const PROGRAM: Made<'_> = Made {
    soname: "",
    needed: &["libgcc_s.so.1", "libc.so.6"],
    directories: None,
    interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
};

#[test]
fn a_program_asks_the_loader_for_the_c_library_and_no_more() {
    let check = |made: &Made<'_>| program::problem_of(&made.bytes());
    assert_eq!(check(&PROGRAM), None);
    let refused = |made: Made<'_>, why: &str| {
        let said = check(&made).expect(why);
        assert!(said.contains(why), "{said}");
    };
    let needed = &["libc.so.6", "libstdc++.so.6"][..];
    refused(Made { needed, ..PROGRAM }, "asks for libstdc++.so.6");
    let needed = &["/usr/lib/x86_64-linux-gnu/libc.so.6"][..];
    refused(Made { needed, ..PROGRAM }, "asks for /usr/lib");
    // The loader takes an empty directory for the current one.
    for directories in ["/opt/a", "$ORIGIN", ":"] {
        let directories = Some(directories);
        refused(
            Made {
                directories,
                ..PROGRAM
            },
            "DT_RPATH or DT_RUNPATH",
        );
    }
    let interpreter = Some("/lib/ld-musl-x86_64.so.1");
    refused(
        Made {
            interpreter,
            ..PROGRAM
        },
        "it has to be /lib64",
    );
    refused(PLAIN, "asks for the loader ``");
    assert!(
        program::problem_of(b"#!/bin/sh\n")
            .expect("no ELF")
            .contains("no loader")
    );
    let whole = PROGRAM.bytes();
    for length in 0..whole.len() {
        assert!(program::problem_of(&whole[..length]).is_some(), "{length}");
    }
}

#[test]
fn a_program_finds_in_the_root_what_it_was_linked_against() {
    let directory = tempfile::tempdir().expect("a directory");
    let tree = directory.path().join("tree");
    let libraries = tree.join(&LIBRARIES[1..]);
    std::fs::create_dir_all(&libraries).expect("a directory");
    let path = directory.path().join("worker");
    std::fs::write(&path, PROGRAM.bytes()).expect("written");
    let loader = Entry::memory(
        "/usr/lib64/ld-linux-x86-64.so.2",
        0o755,
        b"loader".into(),
        "maker 1".into(),
    );
    let gcc = |bytes: &[u8]| {
        Entry::memory(
            format!("{LIBRARIES}/libgcc_s.so.1"),
            0o644,
            bytes.into(),
            "maker 1".into(),
        )
    };
    for (name, bytes) in [
        ("libc.so.6", &PLAIN_LIBC.bytes()[..]),
        ("libgcc_s.so.1", b"gcc"),
        ("ld-linux-x86-64.so.2", b"loader"),
    ] {
        std::fs::write(libraries.join(name), bytes).expect("written");
    }
    let check = |more: Vec<Entry>| program::check(&path, &tree, &root(more));
    let said = |more| check(more).expect_err("refused").to_string();
    check(vec![libc(), gcc(b"gcc"), loader.clone()]).expect("the same");
    let other = said(vec![libc(), gcc(b"another"), loader.clone()]);
    assert!(
        other.contains("was linked against a libgcc_s.so.1"),
        "{other}"
    );
    let lacks = said(vec![libc(), loader.clone()]);
    assert!(
        lacks.contains("the root has no /usr/lib/x86_64-linux-gnu/libgcc_s.so.1"),
        "{lacks}"
    );
    let lacks = said(vec![libc(), gcc(b"gcc")]);
    assert!(
        lacks.contains("the root has no /lib64/ld-linux-x86-64.so.2"),
        "{lacks}"
    );
    let needed = &["libcuda.so.1"][..];
    std::fs::write(&path, Made { needed, ..PROGRAM }.bytes()).expect("written");
    let more = said(vec![libc(), gcc(b"gcc"), loader]);
    assert!(more.contains("asks for libcuda.so.1"), "{more}");
}
