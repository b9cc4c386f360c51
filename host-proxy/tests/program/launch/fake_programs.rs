//! Programs in place of QEMU, swtpm and vhost-device-vsock. They do no more than a launch can tell from the real ones: open
//! sockets, speak a little QMP, print what a guest prints.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// Not a test: what the scripts of a [`Fixture`](super::fixture::Fixture) start. Without their variables it does nothing.
#[test]
fn a_program() {
    let Ok(fake) = std::env::var("FAKE_PROGRAM") else {
        return;
    };
    let (program, scenario) = fake.split_once(' ').expect("a program and a scenario");
    let fake = FakeProgram {
        scenario: scenario.to_owned(),
        run: std::env::var("FAKE_RUN").expect("a directory").into(),
        arguments: std::env::var("FAKE_ARGUMENTS").expect("arguments"),
    };
    match program {
        "qemu" => fake.qemu(),
        "swtpm" => fake.swtpm(),
        _ => fake.vsock(),
    }
}

struct FakeProgram {
    scenario: String,
    run: PathBuf,
    arguments: String,
}

impl FakeProgram {
    fn swtpm(&self) {
        if self.scenario == "tpm-dies" {
            eprintln!("no state");
            exit(1);
        }
        assert!(
            self.arguments
                .contains("--flags not-need-init,startup-clear")
        );
        assert!(
            fs::read_dir(self.run.join("tpm"))
                .expect("a fresh state")
                .next()
                .is_none()
        );
        fs::write(self.run.join("tpm/state"), "used").expect("written");
        fs::write(self.run.join("tpm.arguments"), &self.arguments).expect("written");
        let _socket = UnixListener::bind(self.run.join("tpm.sock")).expect("a socket");
        sleep(Duration::from_secs(600));
    }

    /// Connects proxy and guest while the file `up` is there, as if the guest listened then.
    fn vsock(&self) {
        if self.scenario == "vsock-dies" {
            exit(3);
        }
        let listener = UnixListener::bind(self.run.join("vsock.sock")).expect("a socket");
        let _socket = UnixListener::bind(self.run.join("vhost.sock")).expect("a socket");
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut line = String::new();
            BufReader::new(&stream)
                .read_line(&mut line)
                .expect("a line");
            assert_eq!(line, "CONNECT 9000\n");
            if self.run.join("up").exists() {
                stream.write_all(b"OK 1073741824\n").expect("written");
            }
        }
    }

    fn qemu(&self) {
        let _ = fs::remove_file(self.run.join("up"));
        let tpm =
            fs::read_to_string(self.run.join("tpm.arguments")).expect("swtpm was started first");
        fs::write(
            self.run.join("qemu.arguments"),
            format!("{tpm}\n{}", self.arguments),
        )
        .expect("written");
        let kvm = self.arguments.contains("-accel kvm");
        match self.scenario.as_str() {
            "no-socket" => {
                eprintln!("cannot open the firmware");
                exit(1);
            }
            "kvm-dies" if kvm => {
                eprintln!("failed to set MSR 0x10a");
                exit(134);
            }
            _ => {}
        }
        let monitor = Monitor::open(
            &self.run.join("qmp.sock"),
            self.scenario == "malformed",
            self.scenario == "deaf",
        );
        let print = |text: &str| self.print(text);
        match self.scenario.as_str() {
            "silent" | "malformed" => {}
            "kvm-stops" if kvm => {
                print("\x1b[2J");
                monitor.set("internal-error");
                monitor.event(json!({ "event": "STOP" }));
            }
            "kvm-refuses" if kvm => {
                print("\x1b[2JEFI stub: Loaded initrd\r\n");
                monitor.end("guest-reset");
            }
            "panics" => {
                monitor.set("guest-panicked");
                monitor.event(json!({ "event": "GUEST_PANICKED", "data": { "action": "pause" } }));
                monitor.event(json!({ "event": "STOP" }));
            }
            "dies" => {
                print("EFI stub: Loaded initrd\n");
                sleep(Duration::from_millis(500));
                eprintln!("out of luck");
                exit(1);
            }
            "powers-off" => {
                print("\x1b[2JEFI stub: Loaded initrd\r\n");
                sleep(Duration::from_millis(500));
                monitor.end("guest-shutdown");
            }
            "resets" => {
                print(
                    "\x1b[2JEFI stub: Loaded initrd\r\nstage0: modules loaded\r\nstage0: the root is corrupt\x07[31m\r\n",
                );
                monitor.end("guest-reset");
            }
            _ => self.boot(&monitor),
        }
        sleep(Duration::from_secs(600));
    }

    fn boot(&self, monitor: &Monitor) {
        for text in [
            "\x1b[2J\x1b[01;01H",
            "EFI stub: Loaded initrd\r\n",
            "stage0: modules loaded\r\nstage0: root verified\r\n",
            "stage0: starting the agent\r\n",
        ] {
            self.print(text);
            // Long enough for each to be seen.
            sleep(Duration::from_millis(450));
        }
        let mut config = Vec::new();
        let mut stream =
            UnixStream::connect(self.run.join("vsock.sock_9101")).expect("a configuration");
        stream.read_to_end(&mut config).expect("read");
        fs::write(self.run.join("config.read"), config).expect("written");
        if self.scenario == "unanswering" {
            return;
        }
        fs::write(self.run.join("up"), "").expect("written");
        if self.scenario == "boots-then-resets" {
            sleep(Duration::from_secs(3));
            monitor.end("guest-reset");
        }
    }

    fn print(&self, text: &str) {
        let file = fs::File::options()
            .append(true)
            .open(self.run.join("serial.log"));
        file.expect("made by the launcher")
            .write_all(text.as_bytes())
            .expect("written");
    }
}

/// The control socket.
struct Monitor {
    status: Arc<Mutex<&'static str>>,
    clients: Arc<Mutex<Vec<UnixStream>>>,
}

impl Monitor {
    fn open(path: &Path, malformed: bool, deaf: bool) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let monitor = Monitor {
            status: Arc::new(Mutex::new("running")),
            clients: Arc::default(),
        };
        let (status, clients) = (monitor.status.clone(), monitor.clients.clone());
        let end = path.with_file_name("qemu.end");
        spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                send(
                    &stream,
                    &json!({ "QMP": { "version": {}, "capabilities": [] } }),
                );
                for line in BufReader::new(stream.try_clone().expect("cloned")).lines() {
                    let Ok(line) = line else { break };
                    if malformed {
                        (&stream).write_all(b"not JSON\n").expect("written");
                        continue;
                    }
                    let command: Value = serde_json::from_str(&line).expect("JSON");
                    match command["execute"].as_str().expect("a command") {
                        "query-status" => {
                            let status = *status.lock().expect("no panic");
                            send(
                                &stream,
                                &json!({ "return": { "status": status, "running": status == "running" } }),
                            );
                        }
                        "quit" if deaf => {}
                        "quit" => {
                            send(&stream, &json!({ "return": {} }));
                            fs::write(&end, "quit").expect("written");
                            exit(0);
                        }
                        _ => {
                            send(&stream, &json!({ "return": {} }));
                            clients
                                .lock()
                                .expect("no panic")
                                .push(stream.try_clone().expect("cloned"));
                        }
                    }
                }
            }
        });
        monitor
    }

    fn set(&self, status: &'static str) {
        *self.status.lock().expect("no panic") = status;
    }

    /// Sends it to every client, and waits until there is one.
    fn event(&self, event: Value) {
        while self.clients.lock().expect("no panic").is_empty() {
            sleep(Duration::from_millis(10));
        }
        for client in self.clients.lock().expect("no panic").iter() {
            send(client, &event);
        }
    }

    fn end(&self, reason: &str) -> ! {
        self.event(json!({ "event": "SHUTDOWN", "data": { "guest": true, "reason": reason } }));
        exit(0)
    }
}

fn send(mut stream: &UnixStream, message: &Value) {
    // The launcher may have gone.
    let _ = stream.write_all(format!("{message}\r\n").as_bytes());
}
