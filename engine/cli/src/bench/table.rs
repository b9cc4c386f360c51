//! The figures as a table for docs/benchmarks.md.

use std::fmt::Write;

use super::Report;

/// Markdown.
pub fn text(report: &Report) -> String {
    let machine = &report.machine;
    let word = |key: &str| machine[key].as_str().unwrap_or("?").to_owned();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}, {}; {}, path {}, {} thread(s), load before {}",
        report.model,
        report.kind,
        word("processor"),
        word("path"),
        machine["threads"],
        machine["load_before"],
    );
    let _ = writeln!(
        out,
        "engine {} ({} build); reads {:.1} GB/s",
        word("engine"),
        word("build"),
        report.bandwidth / 1e9
    );
    for peer in &report.peers {
        let word = |key: &str| peer[key].as_str().unwrap_or("?");
        let _ = writeln!(
            out,
            "{}: {}; {}",
            word("peer"),
            word("version"),
            word("instructions")
        );
    }
    out.push_str("\n| what | unit | engine | against | its | ratio | half of the rounds | |\n|---|---|---|---|---|---|---|---|\n");
    for line in &report.lines {
        let number = |value: Option<f64>| value.map_or("".into(), |value| format!("{value:.1}"));
        let ratio = line
            .ratio
            .map_or("".into(), |ratio| format!("{ratio:.2} x"));
        let spread = line
            .spread
            .map_or("".into(), |(low, high)| format!("{low:.2} to {high:.2}"));
        let _ = writeln!(
            out,
            "| {} | {} | {:.1} | {} | {} | {ratio} | {spread} | {} |",
            line.what,
            line.unit,
            line.ours,
            line.against.unwrap_or(""),
            number(line.theirs),
            line.note,
        );
    }
    out
}
