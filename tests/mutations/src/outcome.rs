//! What came of a test: compiled or not, passed or not.

use crate::mutation::Test;
use crate::tree::Tree;
use std::fmt;
use std::fs::File;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It failed: the fault was noticed.
    Failed,
    /// It passed.
    Passed,
    /// No test has that name.
    Absent,
    /// The change does not compile, which proves nothing.
    DoesNotCompile,
    /// It did not end in time, which proves nothing either.
    Endless,
}

/// Compiling included.
const TIME_MAX: Duration = Duration::from_secs(20 * 60);

impl Outcome {
    /// Runs tests of one program in the copy. What cargo said is left in `output.txt` beside the copy.
    ///
    /// # Errors
    /// Cargo does not start, or the disk failed.
    pub fn of(tree: &Tree, tests: &[Test]) -> io::Result<Outcome> {
        let Some(first) = tests.first() else {
            return Ok(Outcome::Absent);
        };
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--locked", "--package", first.package]);
        // For its features alone: it has no library and no test program.
        cargo.args(["--package", "mutations"]);
        match first.target {
            Some(target) => cargo.args(["--test", target]),
            None => cargo.arg("--lib"),
        };
        cargo.args(["--", "--exact", "--include-ignored"]);
        cargo.args(tests.iter().map(|test| test.name));
        // The cargo that runs us says what it knows about this package; build scripts would take it for theirs.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST") {
                cargo.env_remove(&*name);
            }
        }
        cargo
            .current_dir(&tree.path)
            .env("CARGO_TARGET_DIR", &tree.target);
        let path = tree.path.with_file_name("output.txt");
        let output = File::create(&path)?;
        cargo.stdin(Stdio::null());
        cargo.stdout(output.try_clone()?).stderr(output);
        let ended = wait(cargo.spawn()?)?;
        let said = std::fs::read(path)?;
        Ok(Outcome::read(
            ended,
            &String::from_utf8_lossy(&said),
            tests.len(),
        ))
    }

    /// Reads how the run ended, if it did, and what it said.
    fn read(is_success: Option<bool>, said: &str, tests: usize) -> Outcome {
        match is_success {
            None => Outcome::Endless,
            Some(_) if said.contains("running 0 tests") => Outcome::Absent,
            Some(true) if said.contains(&format!("{tests} passed")) => Outcome::Passed,
            Some(true) => Outcome::Absent,
            Some(false) if said.contains("test result: FAILED") => Outcome::Failed,
            Some(false) => Outcome::DoesNotCompile,
        }
    }
}

/// Whether it ended well, or none if it was ended because it took too long.
fn wait(mut child: Child) -> io::Result<Option<bool>> {
    let started = Instant::now();
    while started.elapsed() < TIME_MAX {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Outcome::Failed => "caught",
            Outcome::Passed => "SURVIVED",
            Outcome::Absent => "NO SUCH TEST",
            Outcome::DoesNotCompile => "DOES NOT COMPILE",
            Outcome::Endless => "DID NOT END",
        })
    }
}

#[test]
fn only_an_assertion_that_fails_counts() {
    let failed = "running 1 test\ntest a ... FAILED\ntest result: FAILED. 0 passed; 1 failed";
    let passed = "running 1 test\ntest result: ok. 1 passed; 0 failed";
    let compiler = "error[E0308]: mismatched types\nerror: could not compile `wire`";
    assert_eq!(Outcome::read(Some(false), failed, 1), Outcome::Failed);
    assert_eq!(Outcome::read(Some(true), passed, 1), Outcome::Passed);
    assert_eq!(Outcome::read(Some(true), passed, 2), Outcome::Absent);
    assert_eq!(
        Outcome::read(Some(true), "running 0 tests", 1),
        Outcome::Absent
    );
    let outcome = Outcome::read(Some(false), compiler, 1);
    assert_eq!(outcome, Outcome::DoesNotCompile);
    assert_eq!(Outcome::read(None, failed, 1), Outcome::Endless);
}
