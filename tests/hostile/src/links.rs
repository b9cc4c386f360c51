//! Connections in memory, and what a host does to the bytes on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};
use wire::{Frame, FrameDecoder, FrameKind};

/// Bytes that one direction of a connection holds.
pub const BUFFER_BYTES: usize = 64 * 1024;
/// What was read and is on its way, in chunks as they were read.
const CHUNKS_MAX: usize = 16;

/// Which two parties a connection is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// Client and proxy.
    Client,
    /// Proxy and guest.
    Guest,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Evidence.
    Attest,
    /// A job and its answer.
    Job,
    /// A voucher.
    Voucher,
    /// What the payee knows of a channel.
    Channel,
    /// The end of a job.
    Cancel,
    /// A receipt.
    Receipt,
    /// Something else.
    Other,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Towards the guest.
    Up,
    /// Towards the client.
    Down,
}

impl Route {
    /// By the first bytes of a connection, which name it.
    pub fn of(link: Link, begins: &[u8]) -> Route {
        let begins_with = |text: &str| begins.starts_with(text.as_bytes());
        match (link, begins.first()) {
            (Link::Client, _) if begins_with("GET /v1/attestation") => Route::Attest,
            (Link::Client, _) if begins_with("POST /v1/sealed") => Route::Job,
            (Link::Client, _) if begins_with("POST /v1/vouchers") => Route::Voucher,
            (Link::Client, _) if begins_with("GET /v1/channels") => Route::Channel,
            (Link::Client, _) if begins_with("POST /v1/cancel") => Route::Cancel,
            (Link::Client, _) if begins_with("GET /v1/receipts") => Route::Receipt,
            (Link::Guest, Some(kind)) => match *kind {
                kind if kind == FrameKind::OpenAttest as u8 => Route::Attest,
                kind if kind == FrameKind::OpenJob as u8 => Route::Job,
                kind if kind == FrameKind::Voucher as u8 => Route::Job,
                kind if kind == FrameKind::OpenCancel as u8 => Route::Cancel,
                kind if kind == FrameKind::OpenReceipt as u8 => Route::Receipt,
                _ => Route::Other,
            },
            _ => Route::Other,
        }
    }
}

/// What happens at one byte.
#[derive(Debug, Clone, Copy)]
pub enum Happening {
    /// The connection breaks, both ways.
    Disconnect,
    /// This way ends.
    End,
    /// Nothing arrives any more.
    Silence,
    /// What follows waits.
    Wait(Duration),
    /// A bit of it changes.
    Flip,
}

/// Holds up whatever comes while it is shut, and lets it go in the order in which it came. A `watch` wakes in a random one.
#[derive(Default)]
pub struct Gate {
    shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// Shuts or opens it.
    pub fn set(&self, shut: bool) {
        self.shut.store(shut, Ordering::Relaxed);
        if !shut {
            self.opened.notify_waiters();
        }
    }

    /// Once it is open.
    pub async fn pass(&self) {
        while self.shut.load(Ordering::Relaxed) {
            self.opened.notified().await;
        }
    }
}

/// Frames in place of one.
pub type Edit = Box<dyn FnMut(Frame) -> Vec<Frame> + Send>;

/// What one direction does with the bytes that pass.
pub struct Treatment {
    /// How long bytes take.
    pub latency: Duration,
    /// How many pass at a time.
    pub bytes_max: usize,
    /// What happens, and at which byte.
    pub at: Option<(usize, Happening)>,
    /// What becomes of frames.
    pub edit: Option<Edit>,
    /// Nothing passes while it is shut.
    pub gate: Option<Arc<Gate>>,
    /// Told of each byte that was given to the link, and of each that left it.
    pub seen: Seen,
}

/// Hears what passes: given to the link, or left it.
pub type Seen = Arc<dyn Fn(Passing<'_>) + Send + Sync>;

/// Bytes as they pass.
pub enum Passing<'a> {
    /// As their sender wrote them.
    Given(&'a [u8]),
    /// So many arrived.
    Left(usize),
    /// The planned thing happened.
    Happened,
}

#[derive(PartialEq, Eq)]
enum Ended {
    Way,
    Both,
}

/// Carries bytes between two ends until both have done, or the connection breaks. `begun` was read of the upper direction before.
pub async fn carry(
    near: DuplexStream,
    far: DuplexStream,
    begun: Vec<u8>,
    up: Treatment,
    down: Treatment,
) {
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    let up = up.carry(begun, near_read, far_write);
    let down = down.carry(Vec::new(), far_read, near_write);
    tokio::pin!(up, down);
    let (mut up_ended, mut down_ended) = (false, false);
    while !(up_ended && down_ended) {
        let ended = tokio::select! {
            biased;
            ended = &mut up, if !up_ended => { up_ended = true; ended }
            ended = &mut down, if !down_ended => { down_ended = true; ended }
        };
        if ended == Ended::Both {
            return;
        }
    }
}

impl Treatment {
    async fn carry(
        mut self,
        begun: Vec<u8>,
        from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
    ) -> Ended {
        let (sender, arriving) = mpsc::channel(CHUNKS_MAX);
        let (latency, seen) = (self.latency, self.seen.clone());
        let reading = read(begun, from, latency, seen, sender);
        let writing = async {
            let mut arriving = arriving;
            let (mut passed, mut decoder) = (0, FrameDecoder::default());
            while let Some((at, bytes)) = arriving.recv().await {
                sleep_until(at).await;
                if let Some(gate) = &self.gate {
                    gate.pass().await;
                }
                let bytes = match &mut self.edit {
                    None => bytes,
                    Some(edit) => {
                        decoder.push(&bytes);
                        edited(&mut decoder, edit)
                    }
                };
                for piece in bytes.chunks(self.bytes_max) {
                    match self.pass(piece, &mut passed, &mut to).await {
                        None => yield_now().await,
                        Some(ended) => return ended,
                    }
                }
            }
            // The other end may have gone before.
            let _ = to.shutdown().await;
            Ended::Way
        };
        tokio::pin!(reading, writing);
        tokio::select! {
            biased;
            ended = &mut writing => {
                if ended == Ended::Way {
                    // What goes nowhere is read all the same, until its writer has done.
                    reading.await;
                }
                ended
            }
            () = &mut reading => writing.await,
        }
    }

    /// Writes a piece, as far as it comes.
    async fn pass(
        &mut self,
        piece: &[u8],
        passed: &mut usize,
        to: &mut WriteHalf<DuplexStream>,
    ) -> Option<Ended> {
        let mut piece = piece.to_vec();
        let here = self.at.filter(|(at, _)| *at < *passed + piece.len());
        if let Some((at, happening)) = here {
            (self.seen)(Passing::Happened);
            self.at = None;
            let rest = piece.split_off(at.saturating_sub(*passed));
            if !self.write(&piece, passed, to).await {
                return Some(Ended::Way);
            }
            piece = rest;
            match happening {
                Happening::Disconnect => return Some(Ended::Both),
                Happening::End => {
                    let _ = to.shutdown().await;
                    return Some(Ended::Way);
                }
                Happening::Silence => return Some(Ended::Way),
                Happening::Wait(time) => sleep(time).await,
                Happening::Flip => piece[0] ^= 0x10,
            }
        }
        match self.write(&piece, passed, to).await {
            true => None,
            false => Some(Ended::Way),
        }
    }

    /// Says whether somebody still reads.
    async fn write(
        &mut self,
        piece: &[u8],
        passed: &mut usize,
        to: &mut WriteHalf<DuplexStream>,
    ) -> bool {
        if to.write_all(piece).await.is_err() {
            return false;
        }
        *passed += piece.len();
        (self.seen)(Passing::Left(piece.len()));
        true
    }
}

/// Reads until the writer has done; each byte arrives its latency after it was there to read, however many came with it.
async fn read(
    begun: Vec<u8>,
    mut from: ReadHalf<DuplexStream>,
    latency: Duration,
    seen: Seen,
    sender: mpsc::Sender<(Instant, Vec<u8>)>,
) {
    let mut bytes = begun;
    loop {
        if !bytes.is_empty() {
            let arrives = Instant::now() + latency;
            // Where nothing is passed on any more, it is lost.
            let _ = sender.send((arrives, std::mem::take(&mut bytes))).await;
        }
        bytes.resize(16 * 1024, 0);
        match from.read(&mut bytes).await {
            Ok(count) if count > 0 => bytes.truncate(count),
            _ => return,
        }
        seen(Passing::Given(&bytes));
    }
}

/// The whole frames that have come, as they are to leave. What is not a frame is left out.
fn edited(decoder: &mut FrameDecoder, edit: &mut Edit) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(frame)) = decoder.next_frame() {
        for frame in edit(frame) {
            bytes.extend(Frame::encode(frame.kind, &frame.payload));
        }
    }
    bytes
}

/// A stream of which something was read before.
pub struct Begun<S> {
    /// What was read.
    pub begun: Vec<u8>,
    /// The rest.
    pub stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.begun.is_empty() {
            return std::pin::Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.begun.len().min(buffer.remaining());
        buffer.put_slice(&self.begun[..count]);
        self.begun.drain(..count);
        std::task::Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
