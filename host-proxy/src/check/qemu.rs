//! What a QEMU says that it can do.

use super::{Item, printable, version};
use crate::limits::{QEMU_OUTPUT, QEMU_OUTPUT_BYTES_MAX};
use crate::tools::Tool;
use std::io;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

const FIX: &str = "use QEMU 10.1 or later, built with KVM: Debian's trixie-backports has one; name it with --qemu or --tools";

/// Its version, and whether it can make a trust domain.
pub(super) async fn check(qemu: &Tool) -> [Item; 2] {
    let (said, objects) = (
        ask(qemu, &["--version"]).await,
        ask(qemu, &["-object", "help"]).await,
    );
    [by_version(said), by_objects(objects)]
}

fn by_version(said: io::Result<String>) -> Item {
    let said = said.map_err(|error| format!("cannot be run: {error}"));
    let found = said.as_ref().ok().and_then(|said| {
        let rest = said.strip_prefix("QEMU emulator version ")?;
        version(rest)
    });
    Item {
        item: "qemu",
        ok: found >= Some((10, 1)),
        seen: match (said, found) {
            (Err(error), _) => error,
            (Ok(said), Some(_)) => printable(said.lines().next().unwrap_or_default()),
            (Ok(_), None) => "does not print a version as QEMU does".into(),
        },
        fix: FIX,
        source: "QEMU 10.1, docs/system/i386/tdx.rst",
    }
}

fn by_objects(said: io::Result<String>) -> Item {
    let ok = said.is_ok_and(|said| said.lines().any(|line| line.trim() == "tdx-guest"));
    Item {
        item: "qemu tdx-guest",
        ok,
        seen: match ok {
            true => "QEMU has the object tdx-guest".into(),
            false => "QEMU has no object tdx-guest".into(),
        },
        fix: FIX,
        source: "QEMU 10.1, docs/system/i386/tdx.rst",
    }
}

async fn ask(qemu: &Tool, arguments: &[&str]) -> io::Result<String> {
    let words = qemu.command_line(None, arguments.iter().map(|&word| word.into()).collect());
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let reading = async {
        let mut text = String::new();
        stdout
            .take(QEMU_OUTPUT_BYTES_MAX)
            .read_to_string(&mut text)
            .await?;
        Ok(text)
    };
    timeout(QEMU_OUTPUT, reading)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_qemu_of_ten_one_or_later_will_do() {
        let check =
            |said: &str, expected| assert_eq!(by_version(Ok(said.into())).ok, expected, "{said}");
        check("QEMU emulator version 10.1.0\nCopyright", true);
        check(
            "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)",
            true,
        );
        check(
            "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)",
            false,
        );
        check("QEMU emulator version 9.2.4", false);
        check("QEMU emulator version ten", false);
        check("qemu 10.1", false);
        check("", false);
        assert!(!by_version(Err(io::ErrorKind::NotFound.into())).ok);
    }

    #[test]
    fn the_object_is_a_whole_line() {
        let check =
            |said: &str, expected| assert_eq!(by_objects(Ok(said.into())).ok, expected, "{said}");
        check(
            "List of user creatable objects:\n  secret\n  tdx-guest\n",
            true,
        );
        check("List of user creatable objects:\n  tdx-guest-x\n", false);
        check("", false);
    }
}
