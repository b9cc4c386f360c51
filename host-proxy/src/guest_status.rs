//! Asks a guest how it is, over the stream that jobs take: no shell, no content, and an answer of bounded size.

use crate::guest::{GuestAddress, GuestError};
use crate::limits::GUEST_STATUS;
use tokio::time::Instant;
use wire::limits::STATUS_BYTES_MAX;
use wire::{Frame, FrameError, FrameKind, Malformed, Status};

/// Why a guest's status is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("its answer is refused: {0}")]
    Malformed(#[from] Malformed),
}

/// What a guest says of itself. Nobody vouches for it.
pub(crate) async fn ask(guest: &GuestAddress) -> Result<Status, StatusError> {
    let until = Instant::now() + GUEST_STATUS;
    let mut stream = guest.connect().await?;
    let request = [FrameKind::OpenStatus, FrameKind::End].map(|kind| Frame::encode(kind, b""));
    let mut frame = stream.ask(&request.concat(), until).await?;
    let mut bytes = Vec::new();
    while frame.kind == FrameKind::Data && bytes.len() + frame.payload.len() <= STATUS_BYTES_MAX {
        bytes.extend_from_slice(&frame.payload);
        frame = stream.next(until).await?;
    }
    match frame.kind {
        FrameKind::End => Ok(Status::decode(&bytes)?),
        other => Err(GuestError::from(FrameError::OutOfPlace(other)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn an_answer_that_is_no_status_is_refused_whatever_it_is() {
        let end = Frame::encode(FrameKind::End, b"");
        let long = Frame::data(&vec![0; STATUS_BYTES_MAX + 1]);
        for frames in [
            end.clone(),
            [Frame::data(b"{}"), end.clone()].concat(),
            [long, end.clone()].concat(),
            Frame::encode(FrameKind::Charge, b""),
            Frame::data(b"cut"),
            b"\xff\0\0\0\0".to_vec(),
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("guest.sock");
            let listener = UnixListener::bind(&path).expect("a socket");
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("one stream");
                let mut asked = [0; 10];
                stream.read_exact(&mut asked).await.expect("two frames");
                stream.write_all(&frames).await.expect("written");
            });
            assert!(ask(&GuestAddress::Unix(path)).await.is_err());
        }
    }
}
