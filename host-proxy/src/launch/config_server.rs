//! The measured configuration, served to the guest: connect, read to the end. Nothing in it is secret, and the guest measures
//! what it reads, so serving anything else only makes a guest that no client accepts.

use crate::error::{Context, Error, Fault, read_file};
use crate::limits::{CONFIG_READ, CONFIG_READERS_MAX, WRITE_BYTES_MAX};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};
use wire::MeasuredConfig;
use wire::limits::CONFIG_BYTES_MAX;

/// The port of the host (CID 2) that a guest asks for its configuration.
pub(super) const CONFIG_PORT: u32 = 9101;

/// Serves until it is dropped.
#[derive(Debug)]
pub(super) struct ConfigServer {
    task: JoinHandle<()>,
    asked: Arc<AtomicUsize>,
}

/// Where it listens.
pub(super) enum Listener {
    /// Beside the socket of vhost-device-vsock.
    Unix(UnixListener),
    /// A port of this host, for one guest.
    Vsock(VsockListener, u32),
}

/// Reads a configuration and judges it as the agent will, which would say so only after a whole boot.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, MeasuredConfig), Error> {
    let bytes = read_file(path, CONFIG_BYTES_MAX as u64)?;
    let parsed = MeasuredConfig::parse(&bytes);
    let parsed = parsed.context(Fault::Configuration, || path.display())?;
    Ok((bytes, parsed))
}

/// Refuses a configuration that is for another image, or for a volume that the machine is not given.
pub(super) fn fits(
    config: &MeasuredConfig,
    path: &Path,
    simulated_image: bool,
    has_volume: bool,
) -> Result<(), Error> {
    let refuse = |words: String| {
        let words = format!("{}: {words}", path.display());
        Err(Error::new(Fault::Configuration, words))
    };
    if (config.profile == "sim") != simulated_image {
        let image = if simulated_image { "is" } else { "is not" };
        return refuse(format!(
            "its `profile` is {}, but the image {image} a simulated one",
            config.profile
        ));
    }
    match config.models.iter().find(|model| model.volume.is_some()) {
        Some(model) if !has_volume => refuse(format!(
            "model `{}` is on a volume; give its file with --model",
            model.id
        )),
        None if has_volume => refuse("no model is on a volume, but --model names one".into()),
        _ => Ok(()),
    }
}

impl Listener {
    /// Listens where vhost-device-vsock looks for the guest's port: at its own socket's path with `_` and the port.
    pub(super) fn unix(vsock_socket: &Path) -> Result<Self, Error> {
        let mut path = vsock_socket.as_os_str().to_owned();
        path.push(format!("_{CONFIG_PORT}"));
        let listener = UnixListener::bind(PathBuf::from(path));
        Ok(Listener::Unix(listener.context(Fault::Host, serving)?))
    }

    /// Listens on the host's port for the guest `cid`.
    pub(super) fn vsock(cid: u32) -> Result<Self, Error> {
        let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, CONFIG_PORT));
        Ok(Listener::Vsock(
            listener.context(Fault::Host, serving)?,
            cid,
        ))
    }
}

fn serving() -> String {
    format!("cannot serve the guest's configuration on port {CONFIG_PORT}")
}

impl ConfigServer {
    /// Serves `config` to every reader.
    pub(super) fn start(listener: Listener, config: Vec<u8>) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(listener, config.into(), asked.clone()));
        ConfigServer { task, asked }
    }

    /// How many readers have connected.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for ConfigServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: Listener, config: Arc<[u8]>, asked: Arc<AtomicUsize>) {
    let slots = Arc::new(Semaphore::new(CONFIG_READERS_MAX));
    loop {
        let slot = slots.clone().acquire_owned().await;
        let slot = slot.expect("the semaphore is never closed");
        let reader: Box<dyn Reader> = match accept(&listener).await {
            Ok(Some(reader)) => reader,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "a reader of the guest's configuration is lost");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        asked.fetch_add(1, Ordering::Relaxed);
        let config = config.clone();
        tokio::spawn(async move {
            // A reader that leaves or stalls loses its own copy only.
            let _ = tokio::time::timeout(CONFIG_READ, send(reader, &config)).await;
            drop(slot);
        });
    }
}

trait Reader: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Reader for T {}

/// The next reader; `None` for another guest than ours.
async fn accept(listener: &Listener) -> io::Result<Option<Box<dyn Reader>>> {
    match listener {
        Listener::Unix(listener) => Ok(Some(Box::new(listener.accept().await?.0))),
        Listener::Vsock(listener, guest) => {
            let (stream, from) = listener.accept().await?;
            Ok((from.cid() == *guest).then(|| Box::new(stream) as _))
        }
    }
}

async fn send(mut reader: Box<dyn Reader>, config: &[u8]) -> io::Result<()> {
    for chunk in config.chunks(WRITE_BYTES_MAX) {
        reader.write_all(chunk).await?;
    }
    reader.shutdown().await?;
    // Closing at once could reset the stream before the guest has read it all.
    let mut rest = [0; 256];
    while reader.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn every_reader_gets_the_same_bytes_and_a_stalled_one_holds_up_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("vsock.sock");
        let config = format!("[\"{}\"]", "x".repeat(60_000)).into_bytes();
        let listener = Listener::unix(&socket).expect("bound");
        let server = ConfigServer::start(listener, config.clone());
        let path = directory.path().join("vsock.sock_9101");
        let _stalled = UnixStream::connect(&path).await.expect("connected");
        for round in 1..4 {
            let mut stream = UnixStream::connect(&path).await.expect("connected");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.expect("read");
            assert_eq!(got, config);
            assert_eq!(server.asked(), round + 1);
        }
    }

    fn example() -> serde_json::Value {
        serde_json::json!({
            "version": 1, "profile": "sim", "chain": 20241,
            "payee": format!("0:{}", "11".repeat(32)), "payee_key": "22".repeat(32),
            "stake": format!("0:{}", "11".repeat(32)), "lifetime_s": 3600, "jobs_max": 100,
            "price_step_nano": 1000, "exposure_max_nano": 1_000_000_000, "interval_ms": 50,
            "models": [{"id": "tiny-chat", "endpoint": "chat", "root": "33".repeat(32), "context_tokens": 256,
                "prompt_nano": 1_000_000, "completion_nano": 2_000_000}],
        })
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn a_configuration_is_judged_before_a_boot_and_served_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("guest.json");
        let check = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read(&path)
        };
        let text = format!("{}\n", example());
        assert_eq!(check(&text).expect("usable").0, text.as_bytes());
        for text in ["", "version: 1", "{} {}", "{\"version\": 1}"] {
            assert!(refused(check(text)).contains("guest.json: "), "{text}");
        }
        let mut odd = example();
        odd["models"][0]["root"] = "33".into();
        assert!(refused(check(&odd.to_string())).contains("`models.root` must be 64 hex digits"));
        let most = format!("[{}]", " ".repeat(CONFIG_BYTES_MAX - 2));
        assert!(refused(check(&format!("{most} "))).contains("has more than"));
        let absent = read(&directory.path().join("none"));
        assert!(refused(absent).contains("cannot read"));
    }

    #[test]
    fn a_configuration_for_another_image_or_without_its_volume_is_refused() {
        let path = Path::new("guest.json");
        let parse = |value: serde_json::Value| {
            MeasuredConfig::parse(value.to_string().as_bytes()).expect("usable")
        };
        let config = parse(example());
        assert!(fits(&config, path, true, false).is_ok());
        let said = refused(fits(&config, path, false, false));
        assert!(said.contains("the image is not a simulated one"), "{said}");
        assert!(refused(fits(&config, path, true, true)).contains("--model names one"));
        let mut with = example();
        with["models"][0]["volume"] =
            serde_json::json!({"salt": "44".repeat(32), "data_blocks": 5});
        let with = parse(with);
        assert!(fits(&with, path, true, true).is_ok());
        assert!(refused(fits(&with, path, true, false)).contains("`tiny-chat` is on a volume"));
    }
}
