//! What of a directory may not be packed, told all at once.

use crate::error::{Error, Fault};

/// A file that may not be part of a volume, or something that one lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedFile {
    /// Below the model's directory.
    pub path: String,
    /// Why; read after the path.
    pub problem: String,
    /// Whether a model can do without it.
    pub dispensable: bool,
}

/// Every file with its problem on a line of its own, and the words that leave out what can be left out.
pub fn told(files: &[RefusedFile]) -> Error {
    // A line end in a name must not begin a line.
    let shown = |path: &str| path.replace(char::is_control, "\u{fffd}");
    let line = |file: &RefusedFile| format!("{}: {}", shown(&file.path), file.problem);
    let mut lines: Vec<_> = files.iter().map(line).collect();
    let dispensable = files.iter().filter(|file| file.dispensable);
    let words: Vec<_> = dispensable
        .filter_map(|file| Some(format!("--leave-out {}", quoted(&file.path)?)))
        .collect();
    if !words.is_empty() {
        lines.push(format!("to pack the model without: {}", words.join(" ")));
    }
    Error::new(Fault::Model, lines.join("\n"))
}

/// As a word of a shell, if it can be typed.
fn quoted(path: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/+=,@%".contains(c);
    match path.chars().all(plain) && !path.starts_with('-') {
        true => Some(path.to_owned()),
        false if path.contains(char::is_control) => None,
        false => Some(format!("'{}'", path.replace('\'', "'\\''"))),
    }
}
