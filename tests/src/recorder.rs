//! A recorder on the stream between proxy and guest: everything that passes, in both directions, is also written to a file.

use crate::hostile::GuestDoor;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

/// Listens where the proxy looks for its guest, and passes streams on. It ends with the process.
pub async fn start(listen: &Path, guest: GuestDoor, record: PathBuf) -> anyhow::Result<()> {
    let listener = UnixListener::bind(listen).context("binding the recorder")?;
    let record = Arc::new(Mutex::new(File::create(record).await?));
    tokio::spawn(async move {
        while let Ok((proxy, _)) = listener.accept().await {
            let (guest, record) = (guest.clone(), record.clone());
            tokio::spawn(async move {
                let _ = pass(proxy, &guest, &record).await;
            });
        }
    });
    Ok(())
}

async fn pass(proxy: UnixStream, guest: &GuestDoor, record: &Mutex<File>) -> anyhow::Result<()> {
    let (from_proxy, to_proxy) = proxy.into_split();
    let (from_guest, to_guest) = guest.open().await?.into_split();
    let forth = copy(from_proxy, to_guest, record);
    let back = copy(from_guest, to_proxy, record);
    tokio::try_join!(forth, back)?;
    Ok(())
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    record: &Mutex<File>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let got = from.read(&mut chunk).await?;
        if got == 0 {
            return to.shutdown().await;
        }
        let mut record = record.lock().await;
        record.write_all(&chunk[..got]).await?;
        record.flush().await?;
        drop(record);
        to.write_all(&chunk[..got]).await?;
    }
}
