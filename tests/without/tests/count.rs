//! The last words of `cargo test --workspace`: what it went without.

use std::env;
use std::process::{Command, Stdio};

fn main() {
    let is_given = |word: &str| env::args().any(|argument| argument == word);
    if is_given("--skip-one") {
        without::skip("a thing", "it is not here");
        return assert_eq!(without::take().into_values().sum::<usize>(), 1);
    }
    if is_given("--list") {
        return;
    }
    a_skip_passes_and_is_counted_and_fails_with_ci();
    let skipped = without::take();
    let count: usize = skipped.values().sum();
    println!("\nskipped in this run: {count}; with CI=true a skip is a failure (docs/testing.md)");
    for (what, count) in skipped {
        println!("{count:>6}  {what}");
    }
}

fn a_skip_passes_and_is_counted_and_fails_with_ci() {
    for (ci, passes) in [("", true), ("true", false)] {
        let mut child = Command::new(env::current_exe().expect("a program has a path"));
        child.arg("--skip-one").env("CI", ci).stderr(Stdio::null());
        let status = child.status().expect("it ran once, so it runs again");
        assert_eq!(status.success(), passes, "with CI={ci:?}");
    }
}
