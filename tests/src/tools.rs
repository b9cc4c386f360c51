//! The tools that run an image, for tests that start a machine by themselves.

use crate::stack::Child;
use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// What `image-builder tools` describes.
#[derive(Debug, Deserialize)]
pub struct Tools {
    programs: BTreeMap<String, Tool>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    run: Vec<String>,
    program: String,
}

/// A directory of this host and where a tool sees it.
pub type Shown<'a> = (&'a Path, &'a str);

impl Tools {
    /// Reads the description.
    pub fn read(path: &Path) -> anyhow::Result<Tools> {
        let json = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&json).context("reading the description of the tools")
    }

    /// Starts one in its sandbox; it ends with the value, or with the thread that started it.
    pub fn start(
        &self,
        name: &str,
        reads: &[Shown],
        writes: &[Shown],
        arguments: &[&str],
    ) -> anyhow::Result<Child> {
        let tool = self
            .programs
            .get(name)
            .with_context(|| format!("no tool {name}"))?;
        let (first, rest) = tool.run.split_first().context("it runs in the sandbox")?;
        let mut command = Command::new(first);
        command.args(rest);
        for (option, shown) in [("--read", reads), ("--write", writes)] {
            for (host, inside) in shown {
                command
                    .arg(option)
                    .arg(format!("{}={inside}", host.display()));
            }
        }
        command.arg("--").arg(&tool.program).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Child::start_silent(command).with_context(|| format!("starting {name}"))
    }
}
