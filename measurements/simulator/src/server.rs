//! The socket: one thread per connection, one module for all.
//!
//! The guest is a process, whose registers start at zero, or a machine, whose registers are computed at the first request
//! after its boot. Until then every request is refused with the reason, and the next one tries again.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    BootError, Launched, LaunchedError, SimulatedModule,
    limits::CONNECTIONS_MAX,
    protocol::{self, Request, RequestError},
    registers_of,
};

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[error("the socket accepts no more connections: {0}")]
pub struct ServeError(#[from] std::io::Error);

/// Answers requests of a process until the listener fails.
pub fn serve(listener: &UnixListener, module: SimulatedModule) -> Result<(), ServeError> {
    accept(listener, Guest::of(module, None))
}

/// Answers requests of the machine that is described in this file, which need not exist yet, until the listener fails.
pub fn serve_launched(
    listener: &UnixListener,
    module: SimulatedModule,
    launched: PathBuf,
) -> Result<(), ServeError> {
    accept(listener, Guest::of(module, Some(launched)))
}

struct Guest {
    module: Mutex<SimulatedModule>,
    /// The description of a machine whose registers are not computed yet.
    launched: Mutex<Option<PathBuf>>,
}

/// Why a machine has no registers yet.
#[derive(Debug, thiserror::Error)]
#[error("the machine has no registers yet: {0}")]
enum Unready {
    Launched(#[from] LaunchedError),
    Boot(#[from] BootError),
}

fn accept(listener: &UnixListener, guest: Guest) -> Result<(), ServeError> {
    let guest = Arc::new(guest);
    // Each thread holds one clone; the count is the number of connections, plus the one here.
    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error.into()),
        };
        if Arc::strong_count(&guest) > CONNECTIONS_MAX {
            // Dropped: the peer reads the end of the stream.
            continue;
        }
        let guest = Arc::clone(&guest);
        std::thread::spawn(move || {
            // An error here means that the peer left in the middle of a message.
            let _ = converse(stream, &guest);
        });
    }
}

fn converse(mut stream: UnixStream, guest: &Guest) -> std::io::Result<()> {
    loop {
        let mut header = [0; 3];
        match stream.read_exact(&mut header) {
            Ok(()) => (),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let (request, in_step) = match protocol::decode_header(header) {
            Ok((op, len)) => {
                let mut payload = vec![0; len];
                stream.read_exact(&mut payload)?;
                (protocol::decode(op, &payload), true)
            }
            Err(error) => (Err(error), false),
        };
        let answer = guest.answer(request);
        stream.write_all(&answer)?;
        if !in_step {
            // The announced payload was not read, so the next header cannot be found.
            return Ok(());
        }
    }
}

impl Guest {
    fn of(module: SimulatedModule, launched: Option<PathBuf>) -> Guest {
        Guest {
            module: Mutex::new(module),
            launched: Mutex::new(launched),
        }
    }

    fn answer(&self, request: Result<Request, RequestError>) -> Vec<u8> {
        if request.is_ok()
            && let Err(unready) = self.boot()
        {
            return protocol::refusal(unready.to_string());
        }
        protocol::answer(&mut lock(&self.module), request)
    }

    /// Computes the registers of a machine, once.
    fn boot(&self) -> Result<(), Unready> {
        let Some(path) = lock(&self.launched).clone() else {
            return Ok(());
        };
        // Not under the lock, so that several requests can wait for the file at once.
        let launched = Launched::wait(&path)?;
        let mut pending = lock(&self.launched);
        if pending.is_some() {
            let registers = registers_of(&launched)?;
            lock(&self.module).boot(registers);
            *pending = None;
        }
        Ok(())
    }
}

/// A panic of another connection's thread leaves what it held whole: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
