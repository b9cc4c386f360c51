//! The three shipped parties of one story, connected by its host.

use crate::dice::Dice;
use crate::host::Host;
use crate::links::Link;
use crate::scripted;
use crate::site::{Machine, client_node, dial_node, directory, site};
use client::Client;
use guest_agent::Booted;
use host_proxy::{Dial, GuestAddress, Service};
use rand_core::Rng;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use wire::Keyset;

/// A client, a proxy, a guest and the host between them.
pub struct World {
    /// The host.
    pub host: Arc<Host>,
    keysets: Mutex<Vec<Keyset>>,
    /// The proxies so far.
    pub proxies: Mutex<Vec<Arc<Service>>>,
    directory: TempDir,
    keys: Mutex<Dice>,
    seed: u64,
    checks: bool,
}

impl World {
    /// Starts proxy and guest. `checks` says whether the proxy verifies its guest.
    pub fn start(host: Arc<Host>, seed: u64, checks: bool) -> World {
        let world = World {
            host,
            keysets: Mutex::default(),
            proxies: Mutex::default(),
            directory: directory(),
            keys: Mutex::new(Dice::new(seed, 1)),
            seed,
            checks,
        };
        world.boot();
        world.restart_proxy();
        world
    }

    /// Boots a guest in place of the one there is, with keys of its own.
    pub fn boot(&self) {
        self.host.put_guest(None);
        let (site, gate) = (site(), self.host.gate());
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let booted = Booted::new(Machine::new(), &site.config, true).expect("a configuration");
        let measured = booted.measure(|| Ok(site.agent()), &site.models);
        let attested = { measured.expect("a model") }
            .attest_driven(keys.rng(), |forward, tokens| {
                Ok(scripted::drive(&*forward, tokens, gate.clone()))
            })
            .expect("keys");
        let keyset = attested.keyset().clone();
        let mut keysets = self.keysets.lock().unwrap_or_else(PoisonError::into_inner);
        keysets.push(keyset);
        let random = Dice::random(keys.rng().next_u64());
        self.host.put_guest(Some(attested.serve_drawing(random)));
    }

    /// Opens a proxy on the state file of the one there is.
    pub fn restart_proxy(&self) {
        let host = Arc::downgrade(&self.host);
        let gone = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let dial = move || host.upgrade().ok_or_else(gone)?.dial(Link::Guest);
        let guest = GuestAddress::Dialled(Dial(Arc::new(dial)));
        let config = site().proxy_config(self.directory.path(), guest, self.checks);
        let service = Service::open(&config, Dial(Arc::new(dial_node)));
        let service = Arc::new(service.expect("a proxy"));
        let mut proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.push(service.clone());
        self.host.put_proxy(Some(service));
    }

    /// Opens the client, which demands a profile.
    pub fn client(&self, profile: &str) -> Client {
        let config = site().client_config(self.directory.path(), profile);
        let host = self.host.clone();
        let dial = client::transport::Dial(Arc::new(move || host.dial(Link::Client)));
        let proxy = client::Transport::dialled("proxy:80", dial);
        { Client::open_drawing(config, true, Dice::random(self.seed)) }
            .expect("a client")
            .through(proxy, client_node())
    }

    /// The keysets of all guests so far.
    pub fn keysets(&self) -> Vec<Keyset> {
        let keysets = self.keysets.lock();
        keysets.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All proxies so far.
    pub fn proxies(&self) -> Vec<Arc<Service>> {
        let proxies = self.proxies.lock();
        proxies.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All bytes of the host's state.
    pub fn state_bytes(&self) -> Vec<u8> {
        let names = ["proxy.sqlite", "proxy.sqlite-wal"];
        let files = names.map(|name| std::fs::read(self.directory.path().join(name)));
        files.into_iter().filter_map(Result::ok).flatten().collect()
    }

    /// Ends proxy and guest.
    pub fn stop(&self) {
        self.host.put_proxy(None);
        self.host.put_guest(None);
        let mut proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.clear();
    }
}
