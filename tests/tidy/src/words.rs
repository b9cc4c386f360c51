//! Length of files, and words that have no place in what we hand over.

use crate::tree::File;

const LINES_MAX: usize = 600;
/// Words split in two, so that this file does not break its own rule, with what is wrong about them.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("/ro", "ot/", "a path of somebody's machine"),
    ("/wo", "rk/", "a path of somebody's machine"),
    ("/ho", "me/", "a path of somebody's machine"),
    ("/Use", "rs/", "a path of somebody's machine"),
    (
        "/tm",
        "p/",
        "a path that another user can take; ask the system for a temporary directory",
    ),
    ("to", "do!", "work undone"),
    ("unimple", "mented!", "work undone"),
    ("FIX", "ME", "work undone"),
    ("TO", "DO", "work undone"),
    ("db", "g!(", "a debugging aid"),
    ("serde_y", "ml", "an unsound crate"),
];

/// Sources that nobody reads to the end.
pub fn long_files(sources: &[&File]) -> Vec<String> {
    let counted = sources
        .iter()
        .map(|file| (&file.path, file.text.lines().count()));
    let long = counted.filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(path, lines)| format!("{path} has {lines} lines; {LINES_MAX} is the most"))
        .collect()
}

/// Lines with a forbidden word. `deny.toml` and the root manifest may name what they forbid.
pub fn forbidden(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    let exempt = ["deny.toml", "Cargo.toml", "Cargo.lock"];
    for file in files
        .iter()
        .filter(|file| !exempt.contains(&file.path.as_str()))
    {
        for (number, line) in file.text.lines().enumerate() {
            let found = FORBIDDEN
                .iter()
                .filter(|(head, tail, _)| stands_in(line, &format!("{head}{tail}")));
            breaches.extend(found.map(|(head, tail, why)| {
                format!("{}:{}: {head}{tail} is {why}", file.path, number + 1)
            }));
        }
    }
    breaches
}

/// Whether `word` stands in `line` and is not the middle of a longer path or name.
fn stands_in(line: &str, word: &str) -> bool {
    let before = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '}' | '-');
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(before))
}

#[test]
fn a_long_file_and_a_forbidden_word_are_breaches() {
    let file = |text: String| File {
        path: "a.rs".into(),
        text,
    };
    assert_eq!(long_files(&[&file("\n".repeat(600))]), [""; 0]);
    assert_eq!(long_files(&[&file("\n".repeat(601))]).len(), 1);
    for (head, tail, _) in FORBIDDEN {
        assert_eq!(
            forbidden(&[file(format!("a\nb {head}{tail} c"))]).len(),
            1,
            "{head}{tail}"
        );
    }
    assert_eq!(
        forbidden(&[file(concat!("network", "/wo", "rk/").into())]),
        [""; 0]
    );
    assert_eq!(forbidden(&[file("nothing to see".into())]), [""; 0]);
}
