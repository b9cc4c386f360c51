//! How a crate opens: what it is, whom it trusts, what it promises, what it lacks.

const HEADINGS: [&str; 4] = [
    "**What it is.**",
    "**Trusts.**",
    "**Promises.**",
    "**Lacks.**",
];

/// Headings that are missing from the crate comment of `text`, out of order, or without a sentence.
pub fn breaches(path: &str, text: &str) -> Vec<String> {
    let comment: Vec<_> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let mut from = 0;
    let mut breaches = Vec::new();
    for heading in HEADINGS {
        let Some(at) = comment[from..]
            .iter()
            .position(|line| line.starts_with(heading))
        else {
            breaches.push(format!(
                "{path}: the crate comment has no line that begins with {heading} in its place"
            ));
            continue;
        };
        from += at;
        let sentence: String = comment[from].trim_start_matches(heading).into();
        if sentence.split_whitespace().count() < 3 {
            breaches.push(format!("{path}: {heading} says nothing"));
        }
    }
    // A title for the crate's index may stand before it, and nothing else.
    if !comment
        .iter()
        .take(3)
        .any(|line| line.starts_with(HEADINGS[0]))
    {
        breaches.push(format!("{path} does not open with {}", HEADINGS[0]));
    }
    breaches
}

#[test]
fn a_missing_misplaced_or_empty_heading_is_a_breach() {
    let whole = "//! **What it is.** A thing of ours.\n//!\n//! **Trusts.** Nobody at all.\n//! **Promises.** To be good.\n\
                 //! **Lacks.** All other things.\nmod a;\n";
    let check = |text: &str| breaches("lib.rs", text).len();
    assert_eq!(check(whole), 0);
    for heading in HEADINGS {
        assert!(check(&whole.replace(heading, "")) > 0, "{heading}");
    }
    assert_eq!(check(&whole.replace("**Trusts.**", "**Lacks.**")), 1);
    assert_eq!(check(&whole.replace("Nobody at all.", "")), 1);
    assert_eq!(check(&format!("//! A thing.\n//!\n{whole}")), 0);
    assert_eq!(
        check(&format!("//! A thing.\n//! Of ours.\n//!\n{whole}")),
        1
    );
    assert_eq!(check(&format!("mod b;\n{whole}")), 5);
}
