//! An HTTP server that outlasts slow and silent clients, for the proxy's routes and for the collateral service alone.
//!
//! Promises: a bounded number of connections, each with a deadline for its headers and its body; a stop request lets
//! running requests end, for a while.

use crate::api_error::ApiError;
use crate::error::{Context, Error, Fault};
use crate::limits::{CONNECTION_BUFFER_BYTES, CONNECTION_MAX, CONNECTIONS_MAX, DRAIN, HEADER_READ};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::server::conn::http1::{self, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who is at the other end of a connection: for handlers, as an extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Binds the address of a configuration's `listen`.
pub(crate) async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let bound = async {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        std::io::Result::Ok((listener, address))
    };
    bound.await.context(Fault::Configuration, || {
        format!("cannot listen on {listen}")
    })
}

/// Answers on a socket until `shutdown` is done, and lets what runs end, for at most [`DRAIN`].
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let router = with_fallbacks(routes);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let slot = connections.clone().acquire_owned().await;
            (
                listener.accept().await,
                slot.expect("the semaphore is never closed"),
            )
        };
        tokio::select! {
            (accepted, slot) = accepted => match accepted {
                Ok((stream, peer)) => {
                    let router = router.clone().layer(Extension(Peer(peer.ip())));
                    serve_connection(stream, slot, router, &graceful);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: let some connections end.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
}

fn serve_connection(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    router: Router,
    graceful: &GracefulShutdown,
) {
    let connection = graceful.watch(connection(stream, router));
    tokio::spawn(async move {
        follow(connection).await;
        drop(slot);
    });
}

/// HTTP on one stream, as every server of ours speaks it.
pub(crate) fn connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    router: Router,
) -> Connection<TokioIo<S>, TowerToHyperService<Router>> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

/// Waits for the end of a connection, but not for ever.
pub(crate) async fn follow(connection: impl Future<Output = hyper::Result<()>>) {
    match tokio::time::timeout(CONNECTION_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        Err(_elapsed) => tracing::debug!("a connection lasted too long"),
    }
}

/// What every server of ours answers besides its own routes.
pub(crate) fn with_fallbacks(router: Router) -> Router {
    router
        .route("/healthz", get(async || Json(json!({ "ok": true }))))
        .fallback(async || ApiError::refuse(StatusCode::NOT_FOUND, "not_found", "no such path"))
        .method_not_allowed_fallback(async || {
            ApiError::refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this path takes another method",
            )
        })
}
