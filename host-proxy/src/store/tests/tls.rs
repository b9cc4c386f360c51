//! A PostgreSQL server that speaks TLS alone, asked by a process whose certificate store knows who signed its certificate, and by others.

use super::*;
use std::path::PathBuf;
use std::process::{Command, Output};

/// What the child process is told.
const ASKED: &str = "CHRYSALIS_TEST_DATABASE";

/// Not a claim: the child process, since a process reads its certificate store once.
#[test]
fn process_that_opens_books_over_tls() {
    if let Some(url) = std::env::var_os(ASKED) {
        let place = StatePlace::new(&url.into_string().expect("text"), None, Path::new(""));
        let opened = Store::open_at(&place, &payee().address(), ChainId::EMBEDDED);
        if let Err(error) = opened {
            println!("refused: {error}");
            std::process::exit(1);
        }
    }
}

fn asked(url: &str, store: &PathBuf) -> Output {
    let mut child = Command::new(std::env::current_exe().expect("this test program"));
    child.args([
        "--exact",
        "store::tests::tls::process_that_opens_books_over_tls",
    ]);
    child.args(["--nocapture", "--test-threads=1"]);
    child.env(ASKED, url).env("SSL_CERT_FILE", store);
    child.output().expect("it runs")
}

#[test]
fn books_in_a_database_over_tls_are_those_of_a_server_that_the_store_knows() {
    let (pem, _) = crate::fixtures::certificate("localhost");
    let ([stranger, _], _) = crate::fixtures::certificate("localhost");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let Some(server) = Server::over_tls(port, &pem) else {
        return without::skip(
            "a PostgreSQL server",
            "Debian's package postgresql is not installed",
        );
    };
    // Once it is up.
    server.administer(|_| ());
    let directory = directory();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let [known, other] = [("known", &pem[0]), ("other", &stranger)].map(|(n, t)| file(n, t));
    let url = |host: &str, mode: &str| {
        format!("postgresql://chrysalis@{host}:{port}/postgres?sslmode={mode}")
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let good = asked(&url("localhost", "require"), &known);
    assert!(good.status.success(), "{}", said(&good));
    for (url, store, why) in [
        (
            url("localhost", "require"),
            &other,
            "invalid peer certificate",
        ),
        (
            url("127.0.0.1", "require"),
            &known,
            "invalid peer certificate",
        ),
        (url("localhost", "disable"), &known, "no encryption"),
    ] {
        let refused = asked(&url, store);
        let said = said(&refused);
        assert!(
            !refused.status.success() && said.contains(why),
            "{why}: {said}"
        );
    }
}
