//! One fault and what has to notice it.

use std::path::Path;

/// A change of shipped code that puts a fault back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutation {
    /// The fault, as a sentence about the changed code.
    pub fault: &'static str,
    /// The file, from the repository's root.
    pub file: &'static str,
    /// Text that is in the file exactly once.
    pub text: &'static str,
    /// What stands there with the fault.
    pub with: &'static str,
    /// What passes before the change and fails after it.
    pub test: Test,
}

/// One test of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// The package.
    pub package: &'static str,
    /// The integration test's name, or none for the tests in the library.
    pub target: Option<&'static str>,
    /// The test's whole path, as `cargo test -- --list` says it.
    pub name: &'static str,
}

impl Test {
    /// A test in a package's library.
    pub const fn lib(package: &'static str, name: &'static str) -> Test {
        Test {
            package,
            target: None,
            name,
        }
    }

    /// A test of a package's test program.
    pub const fn of(package: &'static str, target: &'static str, name: &'static str) -> Test {
        Test {
            package,
            target: Some(target),
            name,
        }
    }

    /// Whether both are in one program, which is then compiled once.
    pub fn is_beside(self, other: Test) -> bool {
        (self.package, self.target) == (other.package, other.target)
    }
}

impl Mutation {
    /// The file's text with the fault in it.
    ///
    /// # Errors
    /// Says what is wrong with the entry if the text is not there exactly once.
    pub fn apply(&self, root: &Path) -> Result<String, String> {
        let path = root.join(self.file);
        let whole =
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", self.file))?;
        match whole.matches(self.text).count() {
            1 if self.text == self.with => Err(format!("{}: changes nothing", self.file)),
            1 => Ok(whole.replacen(self.text, self.with, 1)),
            found => Err(format!(
                "{}: is there {found} times, not once: {}",
                self.file, self.text
            )),
        }
    }
}

#[test]
fn each_entry_is_a_change_of_one_place() {
    let root = crate::tree::Tree::root();
    let wrong: Vec<_> = crate::table::all()
        .filter_map(|mutation| mutation.apply(root).err())
        .collect();
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[test]
fn a_text_that_is_absent_doubled_or_unchanged_is_no_entry() {
    let entry = |text, with| Mutation {
        fault: "",
        file: "rust-toolchain.toml",
        text,
        with,
        test: Test::lib("", ""),
    };
    let apply = |text, with| entry(text, with).apply(crate::tree::Tree::root());
    assert!(apply("[toolchain]", "[tools]").is_ok());
    for (text, with) in [("absent", ""), ("e", "f"), ("[toolchain]", "[toolchain]")] {
        assert!(apply(text, with).is_err(), "{text}");
    }
}
