//! The command line of both programs: options that each take one value and must be given, all but one.

use crate::{Listen, Source};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the command line names. Everything else is in the measured configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// Where to listen for the proxy.
    pub listen: Listen,
    /// The measured configuration. Its SHA-384 is extended into RTMR3, so it does not matter who hands it over.
    pub config: Source,
    /// The directory that holds one directory per model.
    pub models: PathBuf,
    /// The program that speaks to a GPU. It may be left out.
    pub gpu_worker: Option<PathBuf>,
    /// A test root (DER) that replaces NVIDIA's for the GPU of a simulation. It may be left out; a production agent knows no such option.
    pub insecure_gpu_root: Option<PathBuf>,
    /// Intel's attestation library, in place of the kernel's interface. It may be left out; only a production agent with the feature
    /// `tdx-attest` knows the option.
    pub tdx_attest: Option<PathBuf>,
}

/// Why there is nothing to start.
#[derive(Debug, PartialEq, Eq)]
enum Instead {
    Help,
    Version,
    Misuse(String),
}

/// Reads this process's command line: the options of every agent and `more`, which name sources. Where there is nothing
/// to start it prints why, or `help`, and returns the exit code.
pub fn arguments<const N: usize>(
    program: &str,
    help: &str,
    more: [&str; N],
) -> Result<(Start, [Source; N]), ExitCode> {
    parse(std::env::args_os().skip(1), more).map_err(|instead| match instead {
        Instead::Help => {
            println!("{help}");
            ExitCode::SUCCESS
        }
        Instead::Version => {
            println!("{program} {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Instead::Misuse(why) => {
            eprintln!("{program}: {why}\n\nFor more information, try `{program} --help`.");
            ExitCode::from(2)
        }
    })
}

fn parse<const N: usize>(
    mut words: impl Iterator<Item = OsString>,
    more: [&str; N],
) -> Result<(Start, [Source; N]), Instead> {
    let mut values = BTreeMap::new();
    while let Some(word) = words.next() {
        let word = text(word)?;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        match name {
            "-h" | "--help" => return Err(Instead::Help),
            "-V" | "--version" => return Err(Instead::Version),
            "--listen" | "--config" | "--models" | GPU_WORKER => {}
            // Only a simulation has sources more.
            GPU_ROOT if N > 0 => {}
            TDX_ATTEST if N == 0 && cfg!(feature = "tdx-attest") => {}
            _ if more.contains(&name) => {}
            _ => return Err(Instead::Misuse(format!("unexpected argument `{name}`"))),
        }
        let missing = || Instead::Misuse(format!("{name} needs a value"));
        let value = match value {
            Some(value) => value,
            None => text(words.next().ok_or_else(missing)?)?,
        };
        if values.insert(name.to_owned(), value).is_some() {
            return Err(Instead::Misuse(format!("{name} is given twice")));
        }
    }
    let gpu_worker = values.remove(GPU_WORKER).map(PathBuf::from);
    let insecure_gpu_root = values.remove(GPU_ROOT).map(PathBuf::from);
    let tdx_attest = values.remove(TDX_ATTEST).map(PathBuf::from);
    let mut value = |name: &str| {
        let missing = || Instead::Misuse(format!("{name} is missing"));
        values.remove(name).ok_or_else(missing)
    };
    let start = Start {
        listen: of_type("--listen", &value("--listen")?)?,
        config: of_type("--config", &value("--config")?)?,
        models: value("--models")?.into(),
        gpu_worker,
        insecure_gpu_root,
        tdx_attest,
    };
    let mut sources = Vec::new();
    for name in more {
        sources.push(of_type(name, &value(name)?)?);
    }
    let sources = sources.try_into().expect("one was pushed for each of N");
    Ok((start, sources))
}

const GPU_WORKER: &str = "--gpu-worker";
const GPU_ROOT: &str = "--insecure-gpu-root";
const TDX_ATTEST: &str = "--tdx-attest";

fn text(word: OsString) -> Result<String, Instead> {
    word.into_string()
        .map_err(|word| Instead::Misuse(format!("{word:?} is not UTF-8")))
}

fn of_type<T>(name: &str, value: &str) -> Result<T, Instead>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    value
        .parse()
        .map_err(|error| Instead::Misuse(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<(Start, [Source; 1]), Instead> {
        parse(line.split(' ').map(OsString::from), ["--simulator"])
    }

    #[test]
    fn every_option_is_given_once_with_a_value() {
        let good =
            "--listen vsock:9000 --config=vsock:2:9101 --models /models --simulator tdx.sock";
        let (start, [simulator]) = check(good).unwrap();
        let expected = Start {
            listen: Listen::Vsock(9000),
            config: Source::Vsock { cid: 2, port: 9101 },
            models: "/models".into(),
            gpu_worker: None,
            insecure_gpu_root: None,
            tdx_attest: None,
        };
        assert_eq!(start, expected);
        assert_eq!(simulator, Source::Path("tdx.sock".into()));
        let (with_worker, _) = check(&format!("{good} --gpu-worker /worker")).unwrap();
        assert_eq!(with_worker.gpu_worker, Some("/worker".into()));
        for (line, said) in [
            ("", "unexpected argument ``"),
            ("--config a", "--listen is missing"),
            ("--listen", "--listen needs a value"),
            ("--config a --config b", "--config is given twice"),
            ("--nonsense", "unexpected argument `--nonsense`"),
            ("models", "unexpected argument `models`"),
            (TDX_ATTEST, "unexpected argument `--tdx-attest`"),
            (
                "--listen tcp:1 --config a --models a --simulator a",
                "`tcp:1` is neither",
            ),
            (
                "--listen vsock:1 --config vsock:2 --models a --simulator a",
                "`vsock:2` is neither",
            ),
            (
                "--listen vsock:1 --config a --models a",
                "--simulator is missing",
            ),
        ] {
            let Err(Instead::Misuse(why)) = check(line) else {
                panic!("`{line}` is taken");
            };
            assert!(why.contains(said), "{line}: {why}");
        }
        assert_eq!(check("--listen vsock:9000 --help"), Err(Instead::Help));
        assert_eq!(check("--version"), Err(Instead::Version));
        for of_simulation in ["--simulator", GPU_ROOT] {
            let said = parse([of_simulation.into()].into_iter(), []);
            let Err(Instead::Misuse(why)) = said else {
                panic!("production takes {of_simulation}");
            };
            assert!(why.contains("unexpected argument"), "{why}");
        }
        let (with_root, _) = check(&format!("{good} --insecure-gpu-root a.der")).unwrap();
        assert_eq!(with_root.insecure_gpu_root, Some("a.der".into()));
    }
}
