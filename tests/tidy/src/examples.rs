//! Examples in the documentation: cargo tests those of a crate that has some, and does not start rustdoc for one that has none,
//! which takes seconds a crate.

use crate::tree::File;

/// What is wrong with the manifest in `directory`, given the workspace's sources.
pub fn breaches(directory: &str, manifest: &str, sources: &[&File]) -> Vec<String> {
    let inside = format!("{directory}/src/");
    let mut files = sources.iter().filter(|file| file.path.starts_with(&inside));
    let has_examples = files.any(|file| has_example(&file.text));
    let is_tested = !manifest.contains("\ndoctest = false\n");
    match (has_examples, is_tested) {
        (true, false) => vec![format!(
            "{directory} has examples that `doctest = false` hides"
        )],
        (false, true) => vec![format!(
            "{directory} has no examples; say `doctest = false` in [lib]"
        )],
        _ => Vec::new(),
    }
}

/// Whether a fence in a documentation comment opens anything but text.
fn has_example(text: &str) -> bool {
    let comments = text.lines().map(str::trim_start).filter_map(|line| {
        line.strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
    });
    let fences = comments.filter_map(|line| line.trim_start().strip_prefix("```"));
    // Every second fence closes.
    fences.step_by(2).any(|opened| opened.trim() != "text")
}

#[test]
fn a_hidden_example_and_a_search_for_none_are_breaches() {
    let check = |comment: &str, manifest: &str| {
        let file = File {
            path: "a/src/lib.rs".into(),
            text: comment.into(),
        };
        breaches("a", manifest, &[&file]).len()
    };
    let (text, example) = ("//! ```text\n//! ```\n", "/// ```\n/// a();\n/// ```\n");
    assert_eq!(check(text, "[lib]\ndoctest = false\n"), 0);
    assert_eq!(check(text, "[package]\n"), 1);
    assert_eq!(check(example, "[package]\n"), 0);
    assert_eq!(check(example, "[lib]\ndoctest = false\n"), 1);
}
