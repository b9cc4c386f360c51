//! One shell in which the blocks of a page are run, one after the other, as somebody types them.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::sleep;

pub struct Shell {
    child: Child,
    directory: PathBuf,
    /// Where the shell's own files are.
    files: tempfile::TempDir,
    /// How much of what it printed was read.
    read: usize,
}

impl Shell {
    /// A shell with these programs, which ends at the first command that fails.
    pub fn start(directory: &Path, programs: &Path, environment: &[(&str, &Path)]) -> Shell {
        let files = tempfile::tempdir().unwrap();
        let said = fs::File::create(files.path().join("said")).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("bash")
            .args(["-euo", "pipefail"])
            .current_dir(directory)
            .env("PATH", format!("{}:{path}", programs.display()))
            .envs(environment.iter().copied())
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .process_group(0)
            .spawn()
            .unwrap();
        Shell {
            child,
            directory: directory.to_owned(),
            files,
            read: 0,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// What was printed since the last time.
    pub fn said(&mut self) -> String {
        let said = fs::read(self.at("said")).unwrap();
        let new = String::from_utf8_lossy(&said[self.read..]).into_owned();
        self.read = said.len();
        new
    }

    /// What programs in the background wrote to files.
    fn logs(&self) -> String {
        let entries = fs::read_dir(&self.directory).unwrap().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        let logs = logs.filter_map(|log| fs::read_to_string(log.path()).ok());
        logs.collect()
    }

    /// Runs a block to its good end and gives what it printed.
    pub async fn run(&mut self, block: &str, patience: Duration) -> String {
        fs::write(self.at("block"), block).unwrap();
        let (block_file, done) = (self.at("block"), self.at("done"));
        let _ = fs::remove_file(&done);
        let typed = format!(
            ". {} </dev/null\ntouch {}\n",
            block_file.display(),
            done.display()
        );
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(typed.as_bytes()).unwrap();
        let until = Instant::now() + patience;
        while !done.exists() {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > until {
                panic!("{ended:?} of\n{block}\n{}\n{}", self.said(), self.logs());
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.said()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Everything that it started has its process group.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}
