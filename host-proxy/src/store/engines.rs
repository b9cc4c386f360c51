//! For tests: books on each engine. A PostgreSQL server of Debian's package is started once for a test program, on a Unix socket in a
//! directory of its own, by a user without rights, and ends with the program, however that ends.

use super::{LeaseId, StatePlace, Store};
use crate::fixtures::{directory, payee};
use postgres::{Client, NoTls};
use settlement::ChainId;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs a test on each engine, each time with empty books.
pub(crate) fn on_each(test: impl Fn(&StatePlace)) {
    let directory = directory();
    test(&StatePlace::File(directory.path().join("state.sqlite")));
    if let Some(server) = Server::running() {
        test(&server.database());
    }
}

/// The tests' payee's books.
pub(crate) fn open(place: &StatePlace) -> Store {
    let opened = Store::open_at(place, &payee().address(), ChainId::EMBEDDED);
    opened.expect("opens")
}

/// What a message is begun with.
pub(crate) fn lease(store: &Store) -> Option<LeaseId> {
    let id = LeaseId::new().expect("randomness");
    let take = || store.take_lease(&id, "a test", Duration::from_secs(60));
    let free = !store.is_shared() || take().expect("taken").is_none();
    assert!(free, "another has it");
    store.is_shared().then_some(id)
}

pub(crate) struct Server {
    programs: PathBuf,
    directory: PathBuf,
    databases: AtomicUsize,
    port: u16,
    /// Whose standard input ends with this program, and the server with it.
    _shell: Child,
}

/// The user of the databases, who needs no password on the socket, and one who does.
const USER: &str = "chrysalis";
pub(crate) const WITH_PASSWORD: &str = "guarded";

/// What the system has for programs that should own nothing.
const NOBODY: u32 = 65_534;

impl Server {
    /// The one of this program. `None`: the test is skipped.
    pub(crate) fn running() -> Option<&'static Server> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server =
            SERVER.get_or_init(|| programs().map(|programs| Server::start(programs, None)));
        if server.is_none() {
            let why = "Debian's package postgresql is not installed";
            without::skip("a PostgreSQL server", why);
        }
        server.as_ref()
    }

    /// One more, which speaks TLS on a port of loopback, and nothing else there, with this certificate and key in PEM.
    pub(crate) fn over_tls(port: u16, pem: &[String; 2]) -> Option<Server> {
        Some(Server::start(programs()?, Some((port, pem))))
    }

    fn start(programs: PathBuf, tls: Option<(u16, &[String; 2])>) -> Server {
        let directory = tempfile::Builder::new().prefix("chrysalis-").tempdir();
        // The server's shell removes it, since nothing of a static value is ever dropped.
        let directory = directory.expect("a directory").keep();
        let root = nix::unistd::geteuid().is_root();
        if root {
            chown(&directory, Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&directory).stdout(Stdio::null());
            let libraries = libraries().into_iter();
            command.envs(libraries.map(|libraries| ("LD_LIBRARY_PATH", libraries)));
            // The server refuses to run as root.
            if root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let mut made = command(&programs.join("initdb"));
        made.args(["--pgdata=data", "--auth=trust", "--no-sync", "--locale=C"]);
        made.args(["--encoding=UTF8", "--username", USER]);
        let made = made.stderr(Stdio::piped()).output().expect("initdb");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        let mut settings = vec!["fsync=off".to_owned(), "max_connections=200".to_owned()];
        match tls {
            None => settings.push("listen_addresses=".to_owned()),
            Some((port, pem)) => {
                for (name, text) in ["server.crt", "server.key"].iter().zip(pem) {
                    let path = directory.join("data").join(name);
                    fs::write(&path, text).expect("written");
                    let private = fs::Permissions::from_mode(0o600);
                    fs::set_permissions(&path, private).expect("set");
                    if root {
                        chown(&path, Some(NOBODY), Some(NOBODY)).expect("given away");
                    }
                }
                settings.push("listen_addresses=127.0.0.1".to_owned());
                settings.extend(["ssl=on".to_owned(), format!("port={port}")]);
            }
        }
        let who = format!(
            "local all {USER} trust\nlocal all all scram-sha-256\nhostssl all {USER} 127.0.0.1/32 trust\n"
        );
        fs::write(directory.join("data/pg_hba.conf"), who).expect("written");
        let mut server = command(Path::new("/bin/sh"));
        // The pipe ends with this program, killed or not. The first signal ends a server that has hardly begun, the second one that
        // still has clients.
        server.arg("-c").arg(
            r#""$0" "$@" 2>log & pid=$!; read -r _; kill "$pid"; kill -INT "$pid"; wait "$pid"; rm -rf "$PWD""#,
        );
        server.arg(programs.join("postgres")).args(["-D", "data"]);
        server.arg("-k").arg(&directory);
        for setting in &settings {
            server.args(["-c", setting]);
        }
        let shell = server.stdin(Stdio::piped()).spawn();
        let server = Server {
            programs,
            databases: AtomicUsize::new(0),
            port: tls.map_or(5432, |(port, _)| port),
            _shell: shell.expect("a shell"),
            directory,
        };
        let role = format!("CREATE ROLE {WITH_PASSWORD} LOGIN SUPERUSER PASSWORD 'right'");
        server.administer(|client| client.batch_execute(&role).expect("made"));
        server
    }

    /// Works on a connection beside those under test, once the server is up; on a thread, since a task may not wait there.
    pub(crate) fn administer<T: Send>(&self, work: impl FnOnce(&mut Client) -> T + Send) -> T {
        let url = self.url("postgres", USER);
        let patience = Instant::now() + Duration::from_secs(60);
        let run = || {
            loop {
                match Client::connect(&url, NoTls) {
                    Ok(mut client) => return work(&mut client),
                    Err(error) if Instant::now() > patience => panic!("{error}"),
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        };
        std::thread::scope(|threads| threads.spawn(run).join()).expect("done")
    }

    pub(crate) fn url(&self, database: &str, user: &str) -> String {
        let (socket, port) = (self.directory.display(), self.port);
        format!("postgresql:///{database}?host={socket}&port={port}&user={user}")
    }

    /// A new, empty one.
    pub(crate) fn database(&self) -> StatePlace {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("books{number}");
        let make = format!("CREATE DATABASE {name}");
        self.administer(|client| client.batch_execute(&make).expect("made"));
        StatePlace::new(&self.url(&name, USER), None, Path::new(""))
    }

    /// What the operator does by pg_dump and psql: a copy of a database in a new one.
    pub(crate) fn copy(&self, of: &StatePlace) -> StatePlace {
        let to = self.database();
        let tool = |name: &str| {
            let mut tool = Command::new(self.programs.join(name));
            let libraries = libraries().into_iter();
            tool.envs(libraries.map(|libraries| ("LD_LIBRARY_PATH", libraries)));
            tool
        };
        let url = |place: &StatePlace| match place {
            StatePlace::Database { url, .. } => url.clone(),
            StatePlace::File(_) => panic!("a file"),
        };
        let mut dump = tool("pg_dump");
        let dump = dump.arg(url(of)).output().expect("pg_dump");
        assert!(dump.status.success(), "{dump:?}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), dump.stdout).expect("written");
        let mut restore = tool("psql");
        restore.args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-f"]);
        restore.arg(file.path()).arg(url(&to));
        let restored = restore.output().expect("psql");
        assert!(restored.status.success(), "{restored:?}");
        to
    }
}

/// Names a directory into which Debian's packages were unpacked, where they are not installed.
const UNPACKED: &str = "CHRYSALIS_POSTGRESQL";

/// Where Debian's package puts them, the newest.
fn programs() -> Option<PathBuf> {
    let root = std::env::var_os(UNPACKED).unwrap_or_else(|| "/".into());
    let versions = fs::read_dir(Path::new(&root).join("usr/lib/postgresql")).ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs
        .filter(|programs| programs.join("initdb").exists())
        .max()
}

fn libraries() -> Option<PathBuf> {
    let root = PathBuf::from(std::env::var_os(UNPACKED)?);
    Some(root.join("usr/lib/x86_64-linux-gnu"))
}
