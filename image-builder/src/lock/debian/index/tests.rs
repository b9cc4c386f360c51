use super::*;
use crate::limits::RELATIONS_MAX;
use crate::lock::debian::{Preferred, closure};
use crate::lock::recipe::Choice;

fn paragraph(name: &str) -> String {
    format!(
        "Package: {name}\nVersion: 1:2-3\nArchitecture: all\nDepends: a1,\n b2 | c3\nProvides: v1 (= 4), v2\n\
         Description: x\n long\nFilename: pool/main/a/{name}_2-3_all.deb\nSize: 7\nSHA256: {}\n",
        "1".repeat(64)
    )
}

#[test]
fn a_paragraph_is_read_with_its_continued_lines() {
    let index = Index::read(format!("\n{}\n\n{}", paragraph("p2"), paragraph("p1")).as_bytes());
    let index = index.expect("well formed");
    let package = &index.versions("p1")[0];
    assert_eq!(package.version.as_str(), "1:2-3");
    let needs = package.needs().expect("well formed");
    assert_eq!(needs.len(), 2);
    assert_eq!(needs[1][1].name, "c3");
    assert_eq!(index.providers("v1"), ["p1", "p2"]);
    assert!(index.versions("v1").is_empty());
}

/// What is said when `p1` is needed, in an index that has `p2` as well, which nothing is wrong with.
fn needing(text: &str) -> String {
    let index = Index::read(format!("{}\n{text}", paragraph("p2")).as_bytes()).expect(text);
    assert_eq!(index.versions("p2").len(), 1, "{text}");
    let choose = |name: &str| {
        let choice = Choice::try_from(name.to_owned()).expect("a name");
        let all = closure(&index, &[choice], &Preferred::new());
        all.map_or_else(|error| error.to_string(), |_| "chosen".into())
    };
    assert!(
        choose("p2").contains("a1"),
        "only what it depends on is missing: {text}"
    );
    choose("p1")
}

#[test]
fn an_odd_paragraph_refuses_who_needs_its_package_and_nobody_else() {
    let whole = paragraph("p1");
    assert!(needing(&whole).starts_with("p1 needs `a1`"));
    // One field in many lines, each of them short.
    let many_lines = format!("Depends: {}", "a1,\n ".repeat(INDEX_FIELD_BYTES_MAX / 4));
    for (from, to, expected) in [
        ("Package: p1", "Package: P1", "Package: P1"),
        ("Package: p1\n", "", "no Package"),
        (
            "Version: 1:2-3",
            "Version: x:2",
            "(package p1), Version: x:2",
        ),
        ("Version: 1:2-3\n", "", "(package p1), no Version"),
        (
            "Architecture: all",
            "Architecture: x y",
            "(package p1), Architecture: x y",
        ),
        ("pool/main", "../main", "Filename: ../main"),
        ("pool/main", "pool/../main", "Filename"),
        ("pool/main", "pool//main", "Filename"),
        ("Size: 7", "Size: 0", "Size: 0"),
        ("Size: 7", "Size: 99999999999999999999", "Size: 9"),
        ("Size: 7", "Size: 7\nSize: 8", "two fields Size"),
        ("Size: 7", "Size: 7\nsize: 8", "two fields Size"),
        ("SHA256: 11", "SHA256: g1", "SHA256"),
        (
            "Description: x",
            "Description",
            "a line that is no field: Description",
        ),
        ("Package: p1", " Package: p1", "continuation of nothing"),
        ("Depends: a1,", &many_lines, "Depends: a field of more than"),
        (
            "Provides: v1",
            &format!("Provides: {}v1", "v3, ".repeat(RELATIONS_MAX)),
            "Provides",
        ),
    ] {
        assert!(whole.contains(from), "the case needs `{from}`");
        let said = needing(&whole.replacen(from, to, 1));
        assert!(said.contains(expected), "{to}: {said}");
        assert!(said.contains("in the paragraph at line 13"), "{to}: {said}");
    }
    // For another architecture it is nobody's, and nothing is odd about that.
    let foreign = needing(&whole.replace("Architecture: all", "Architecture: i386"));
    assert_eq!(foreign, "no package p1 in the archive");
}

#[test]
fn an_odd_paragraph_beside_a_good_one_of_the_same_package_refuses_it_too() {
    let odd = paragraph("p2")
        .replace("1:2-3", "x:2")
        .replace("p2_2", "p2_3");
    let text = format!(
        "{}\n{odd}",
        paragraph("p2").replace("Depends: a1,\n b2 | c3\n", "")
    );
    let choice = Choice::try_from("p2".to_owned()).expect("a name");
    let mut index = Index::default();
    index.begin_suite("first");
    index.add(text.as_bytes()).expect("an index");
    let refused =
        closure(&index, std::slice::from_ref(&choice), &Preferred::new()).expect_err("odd");
    assert!(
        refused.to_string().starts_with("the index of first has"),
        "{refused}"
    );
    // Not that of a suite behind the one that it is taken from.
    let mut index = Index::default();
    index.begin_suite("first");
    index
        .add(&text.as_bytes()[..text.len() - odd.len()])
        .expect("an index");
    index.begin_suite("second");
    index.add(odd.as_bytes()).expect("an index");
    assert!(closure(&index, &[choice], &Preferred::new()).is_ok());
    assert_eq!(index.odd().len(), 1);
}

#[test]
fn too_many_odd_paragraphs_refuse_the_index() {
    let odd = "Package: p1\n\n".repeat(INDEX_ODD_MAX + 1);
    let error = Index::read(odd.as_bytes()).expect_err("odd").to_string();
    assert!(
        error.contains("at line 1 (package p1), no Architecture"),
        "{error}"
    );
}

#[test]
fn fields_are_read_whatever_their_case_and_with_the_line_ends_of_windows() {
    let text = format!("{}\n{}", paragraph("p1"), paragraph("p2"));
    let expected = Index::read(text.as_bytes()).expect("an index");
    let lower = |line: &str| match line.split_once(':') {
        Some((name, value)) if !line.starts_with(' ') => {
            format!("{}:{value}\n", name.to_lowercase())
        }
        _ => format!("{line}\n"),
    };
    let lower: String = text.lines().map(lower).collect();
    for other in [
        lower.clone(),
        lower.to_uppercase().to_lowercase(),
        text.replace('\n', "\r\n"),
    ] {
        let index = Index::read(other.as_bytes()).expect("an index");
        assert_eq!(index.packages, expected.packages, "{other}");
        assert_eq!(index.odd(), []);
    }
}

#[test]
fn what_provides_nothing_is_told_to_who_needs_it() {
    let odd = paragraph("p2")
        .replace("Depends: a1,\n b2 | c3\n", "")
        .replace("v1 (= 4), v2", "v1 (>= 4), v2:i386, v3, ");
    let wants = |name: &str| {
        let p1 = paragraph("p1").replace("Provides: v1 (= 4), v2\n", "");
        p1.replace("a1,\n b2 | c3", name)
    };
    let said = |name: &str| {
        let index = Index::read(format!("{odd}\n{}", wants(name)).as_bytes()).expect("an index");
        let choice = Choice::try_from("p1".to_owned()).expect("a name");
        closure(&index, &[choice], &Preferred::new())
            .map_or_else(|e| e.to_string(), |_| "had".into())
    };
    assert_eq!(said("v3"), "had");
    assert_eq!(
        said("v2"),
        "p1 needs `v2`, which nothing in the archive fulfils"
    );
    assert_eq!(
        said("v1"),
        "p1 needs `v1`, which nothing in the archive fulfils; the index has, in the paragraph at line 1 (package p2), \
         Provides: v1 (>= 4)"
    );
}

#[test]
fn an_index_with_any_byte_changed_is_an_error_or_an_index() {
    let whole = format!("{}\n{}", paragraph("p1"), paragraph("p2")).into_bytes();
    for at in 0..whole.len() {
        for bit in [1, 0x10, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            if let Ok(index) = Index::read(&bytes[..]) {
                for package in index.packages.values().flatten() {
                    let _ = package.needs();
                }
            }
        }
    }
}

#[test]
fn an_endless_line_is_refused() {
    let endless = std::io::repeat(b'a');
    assert_eq!(
        Index::read(endless).expect_err("endless"),
        too_much("bytes in a line", INDEX_LINE_BYTES_MAX)
    );
}

#[test]
fn an_endless_index_is_refused() {
    let line = format!("Tag: {}\n", "a".repeat(INDEX_LINE_BYTES_MAX - 10));
    let lines = INDEX_UNPACKED_BYTES_MAX as usize / line.len() + 2;
    let endless = (0..lines).fold(Box::new(std::io::empty()) as Box<dyn Read>, |before, _| {
        Box::new(before.chain(line.as_bytes()))
    });
    assert_eq!(
        Index::read(endless).expect_err("endless"),
        too_much("bytes unpacked", INDEX_UNPACKED_BYTES_MAX as usize)
    );
}
