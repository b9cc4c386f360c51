//! An HTTP server that outlasts slow and silent clients, for the proxy's routes and for the collateral service alone.
//!
//! Promises: a bounded number of connections, each with a deadline for its headers and its body; a stop request lets
//! running requests end, for a while.

use crate::api_error::ApiError;
use crate::error::{Context, Error, Fault};
use crate::limits::{CONNECTION_BUFFER_BYTES, CONNECTION_MAX, CONNECTIONS, DRAIN_S, HEADER_READ};
use crate::tls::Tls;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
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

/// How a socket is served.
pub(crate) struct Service {
    /// Open connections; one more waits in the listen queue until another ends.
    pub(crate) connections: usize,
    pub(crate) tls: Option<Tls>,
    /// How long requests that run may take to end after the request to stop.
    pub(crate) close: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Service {
            connections: CONNECTIONS,
            tls: None,
            close: Duration::from_secs(DRAIN_S),
        }
    }
}

/// Answers on a socket until `shutdown` is done, and lets what runs end, for a while.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    service: Service,
    shutdown: impl Future<Output = ()> + Send,
) {
    let router = with_fallbacks(routes);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(service.connections));
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
                    // Records are small and each is due when it comes. If it fails, they are late.
                    let _ = stream.set_nodelay(true);
                    let connection = Connection {
                        peer: Peer(peer.ip()),
                        router: router.clone(),
                        _slot: slot,
                    };
                    let watcher = graceful.watcher();
                    match service.tls.clone() {
                        None => drop(tokio::spawn(connection.serve(stream, watcher))),
                        Some(tls) => drop(tokio::spawn(async move {
                            match tls.accept(stream).await {
                                Ok(stream) => connection.serve(stream, watcher).await,
                                Err(error) => tracing::debug!(%error, "no TLS handshake"),
                            }
                        })),
                    }
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
    if tokio::time::timeout(service.close, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
}

/// One that was accepted.
struct Connection {
    peer: Peer,
    router: Router,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: Watcher,
    ) {
        follow(watcher.watch(connection(stream, self.peer, self.router))).await;
    }
}

/// HTTP on one stream, as every server of ours speaks it.
pub(crate) fn connection<S>(
    stream: S,
    peer: Peer,
    router: Router,
) -> impl GracefulConnection<Error = hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    // Not a layer of the router: that would build all its routes again for each connection.
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        inner.call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
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
