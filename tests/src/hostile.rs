//! A hostile host: it sits on the path, before the proxy or between proxy and guest, and changes one byte of what
//! passes.

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use demo::Tamper;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use wire::{Bundle, Evidence, Frame, FrameDecoder, FrameKind};

#[derive(Clone, Copy)]
struct Upstream {
    address: SocketAddr,
    tamper: Tamper,
}

/// Starts the hostile host in front of the proxy at `address` and returns its address. It ends with the process.
pub async fn start(address: SocketAddr, tamper: Tamper) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .context("binding the hostile host")?;
    let listens_at = listener.local_addr()?;
    let router = Router::new()
        .fallback(pass)
        .with_state(Upstream { address, tamper });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(listens_at)
}

async fn pass(State(upstream): State<Upstream>, request: Request<Body>) -> Response<Body> {
    match upstream.forward(request).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = Response::new(Body::from(format!("{error:#}")));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

impl Upstream {
    async fn forward(self, request: Request<Body>) -> anyhow::Result<Response<Body>> {
        let path = request.uri().path().to_owned();
        let (parts, body) = request.into_parts();
        let mut body = body.collect().await?.to_bytes().to_vec();
        if (self.tamper, path.as_str()) == (Tamper::Voucher, "/v1/vouchers") {
            let middle = body.len() / 2;
            flip(&mut body, middle);
        }
        let stream = tokio::net::TcpStream::connect(self.address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender
            .send_request(Request::from_parts(parts, Full::new(Bytes::from(body))))
            .await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        let body = match (self.tamper, path.as_str()) {
            (Tamper::Quote, "/v1/attestation") => flip_in_quote(&body)?,
            (Tamper::Answer, "/v1/sealed") => flip_in_frame(&body, FrameKind::Data)?,
            (Tamper::Charge, "/v1/sealed") => flip_in_frame(&body, FrameKind::Charge)?,
            _ => body,
        };
        let mut response = Response::from_parts(parts, Body::from(body));
        // The body is whole now, so hyper gives it a length of its own.
        response.headers_mut().remove("transfer-encoding");
        response.headers_mut().remove("content-length");
        Ok(response)
    }
}

/// Where a hostile host finds the guest.
#[derive(Debug, Clone)]
pub enum GuestDoor {
    /// The socket of a process.
    Process(PathBuf),
    /// The socket of a machine's vhost-device-vsock.
    Machine(PathBuf),
}

impl GuestDoor {
    /// A stream to it, as the proxy opens one.
    pub(crate) async fn open(&self) -> anyhow::Result<UnixStream> {
        let path = match self {
            GuestDoor::Process(path) => return Ok(UnixStream::connect(path).await?),
            GuestDoor::Machine(path) => path,
        };
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(b"CONNECT 9000\n").await?;
        while stream.read_u8().await? != b'\n' {}
        Ok(stream)
    }
}

/// Listens where the proxy looks for its guest, and passes streams on to the guest with each envelope changed.
pub fn start_before_guest(listen: &Path, guest: GuestDoor) -> anyhow::Result<()> {
    let listener = UnixListener::bind(listen).context("binding the hostile host")?;
    tokio::spawn(async move {
        while let Ok((proxy, _)) = listener.accept().await {
            let guest = guest.clone();
            tokio::spawn(async move {
                let _ = pass_to_guest(proxy, &guest).await;
            });
        }
    });
    Ok(())
}

async fn pass_to_guest(proxy: UnixStream, guest: &GuestDoor) -> anyhow::Result<()> {
    let (mut from_proxy, mut to_proxy) = proxy.into_split();
    let (mut from_guest, mut to_guest) = guest.open().await?.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_guest, &mut to_proxy).await });
    let (mut decoder, mut bytes) = (FrameDecoder::default(), vec![0; 16 * 1024]);
    loop {
        while let Some(mut frame) = decoder.next_frame()? {
            if frame.kind == FrameKind::OpenJob {
                // Two bytes of length, then the CBOR of version and job id: the tenth byte is within the id.
                flip(&mut frame.payload, 10);
            }
            to_guest
                .write_all(&Frame::encode(frame.kind, &frame.payload))
                .await?;
        }
        match from_proxy.read(&mut bytes).await? {
            0 => break,
            n => decoder.push(&bytes[..n]),
        }
    }
    drop(to_guest);
    back.await??;
    Ok(())
}

fn flip(bytes: &mut [u8], index: usize) {
    if let Some(byte) = bytes.get_mut(index) {
        *byte ^= 0x01;
    }
}

/// Changes a byte of MRTD: header 48, then 136 bytes into the TD report (TDX Quote format v4, TD report 1.0).
fn flip_in_quote(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bundle = Bundle::decode(body)?;
    let mut evidence = Evidence::decode(&bundle.evidence)?;
    flip(&mut evidence.quote, 48 + 136);
    bundle.evidence = evidence.encode();
    Ok(bundle.encode())
}

/// Changes a byte in the middle of the last frame of this kind.
fn flip_in_frame(body: &[u8], kind: FrameKind) -> anyhow::Result<Vec<u8>> {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for chunk in body.chunks(4096) {
        decoder.push(chunk);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    if let Some(frame) = frames.iter_mut().rfind(|f| f.kind == kind) {
        let middle = frame.payload.len() / 2;
        flip(&mut frame.payload, middle);
    }
    Ok(frames
        .iter()
        .flat_map(|f| Frame::encode(f.kind, &f.payload))
        .collect())
}
