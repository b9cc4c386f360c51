//! A fake `libnvidia-ml.so.1`, and what answers for its GPU.

#![allow(dead_code, reason = "each test program uses its part")]

use crate::made::{Device, pem};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What the driver and its GPU say.
#[derive(Clone)]
pub struct Said {
    /// What `nvmlInit` returns.
    pub initialised: u32,
    pub count: u32,
    /// Environment, confidential computing, developer tools.
    pub state: [u32; 3],
    pub driver: String,
    pub vbios: String,
    /// Signs for the nonce that it is asked with.
    pub device: Device,
    /// Instead of what the device signs.
    pub report: Option<Vec<u8>>,
    /// Changes a bit of what the device signed.
    pub forged: bool,
    /// Instead of the device's own, as PEM.
    pub certificates: Option<Vec<u8>>,
    /// Whether it was told to take work.
    pub ready: bool,
    /// How often it was asked for a report.
    pub reports: u32,
}

impl Said {
    /// A good H100.
    pub fn good() -> Said {
        Said {
            initialised: 0,
            count: 1,
            state: [2, 1, 0],
            driver: "550.90.07".into(),
            vbios: "96.00.9F.00.01".into(),
            device: Device::new(),
            report: None,
            forged: false,
            certificates: None,
            ready: false,
            reports: 0,
        }
    }

    fn answer(&mut self, question: u8, nonce: [u8; 32]) -> (u32, Vec<u8>) {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        match question {
            b'i' => (self.initialised, vec![]),
            b'c' => (0, words(&[self.count])),
            b's' => (0, words(&self.state)),
            b'd' => (0, self.driver.clone().into_bytes()),
            b'v' => (0, self.vbios.clone().into_bytes()),
            b'p' => {
                let own = || pem(&self.device.certificates());
                (0, self.certificates.clone().unwrap_or_else(own))
            }
            b'r' => {
                self.reports += 1;
                self.device.report.nonce = nonce;
                let own = || self.device.signed_report();
                let mut report = self.report.clone().unwrap_or_else(own);
                if let (true, Some(last)) = (self.forged, report.last_mut()) {
                    *last ^= 1;
                }
                (0, report)
            }
            b'y' => {
                self.ready = true;
                (0, vec![])
            }
            _ => (3, vec![]),
        }
    }
}

/// The library, with what answers for it in this process.
pub struct Fake {
    pub said: Arc<Mutex<Said>>,
    pub library: PathBuf,
}

impl Fake {
    /// Compiles the library in this directory. A C compiler is what the whole repository needs.
    pub fn new(directory: &Path) -> Fake {
        let socket = directory.join("nvml.sock");
        let library = directory.join("libnvidia-ml.so.1");
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../guest-agent/gpu-worker/tests/it/nvml.c"
        );
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/nvml.c");
        let source = [own, source]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(format!("-DSOCKET=\"{}\"", socket.display()))
            .arg(source.expect("its source"))
            .status();
        assert!(compiled.expect("a C compiler").success());
        let said = Arc::new(Mutex::new(Said::good()));
        let (listener, answering) = (UnixListener::bind(socket).unwrap(), said.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mut stream, mut asked) = (stream, [0; 33]);
                if stream.read_exact(&mut asked).is_err() {
                    continue;
                }
                let [question, nonce @ ..] = asked;
                let (code, bytes) = answering.lock().unwrap().answer(question, nonce);
                let length = u32::try_from(bytes.len()).unwrap();
                let head = [code.to_le_bytes(), length.to_le_bytes()].concat();
                let _ = stream.write_all(&[head, bytes].concat());
            }
        });
        Fake { said, library }
    }

    /// What an agent starts: the gate with this library, or what SIMULATES the worker, with such arguments more.
    pub fn program(&self, gate: &Path, simulated: &Path, more: &str) -> PathBuf {
        let program = self.library.with_file_name("worker");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --serve ] && exec '{}' --serve {more}\nexec '{}' \"$@\" --library '{}'\n",
            simulated.display(),
            gate.display(),
            self.library.display()
        );
        std::fs::write(&program, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        program
    }
}
