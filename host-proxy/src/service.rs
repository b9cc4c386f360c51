//! The proxy on connections that its caller brings, in place of a listener: for a test that plays the network and the time.
//!
//! It relays, keeps and attests as the program does, but reads and writes its files within the task that asks. It does not settle by
//! itself.

use crate::blocking::Blocking;
use crate::config::Config;
use crate::error::Error;
use crate::guest::Dial;
use crate::http::router;
use crate::limits::{ATTESTATIONS_MAX, QUESTIONS_MAX, STRANGE_KEYSETS_MAX, UPLOADS_MAX};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::server::{self, Peer, with_fallbacks};
use axum::Router;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// An open proxy without sockets.
pub struct Service {
    proxy: Arc<Proxy>,
    router: Router,
}

/// What of a proxy's limits is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InUse {
    /// Places of jobs, slots of uploads, of jobs for strange keysets, of attestations and of questions.
    pub slots: usize,
    /// Jobs at the guest.
    pub running: usize,
    /// Channels for which something is reserved.
    pub reserved: usize,
}

impl Service {
    /// Opens the state file, reads the keys, and reaches the node by `node` alone.
    pub fn open(config: &Config, node: Dial) -> Result<Self, Error> {
        let node = Node::new(config.toncenter.clone()).dialled(node);
        let proxy = Arc::new(Proxy::with_node(config, node, Blocking::AtOnce)?);
        let router = with_fallbacks(router(proxy.clone()));
        Ok(Service { proxy, router })
    }

    /// Speaks HTTP on a stream until that ends.
    pub fn connection<S>(&self, stream: S, peer: IpAddr) -> impl Future<Output = ()> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        server::follow(server::connection(stream, Peer(peer), self.router.clone()))
    }

    /// What is taken now. Nothing is when no exchange is under way.
    pub fn in_use(&self) -> InUse {
        let proxy = &self.proxy;
        InUse {
            slots: proxy.guests.running()
                + (UPLOADS_MAX - proxy.uploads.available_permits())
                + (STRANGE_KEYSETS_MAX - proxy.strange.available_permits())
                + (ATTESTATIONS_MAX - proxy.attestations.available_permits())
                + (QUESTIONS_MAX - proxy.questions.available_permits()),
            running: proxy.running.count(),
            reserved: proxy.channels_reserved(),
        }
    }
}
