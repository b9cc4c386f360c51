//! The socket: one thread per connection, one module for all.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{SimulatedModule, limits::CONNECTIONS_MAX, protocol};

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[error("the socket accepts no more connections: {0}")]
pub struct ServeError(#[from] std::io::Error);

/// Answers requests until the listener fails.
pub fn serve(listener: &UnixListener, module: SimulatedModule) -> Result<(), ServeError> {
    let module = Arc::new(Mutex::new(module));
    // Each thread holds one clone; the count is the number of connections, plus the one here.
    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error.into()),
        };
        if Arc::strong_count(&module) > CONNECTIONS_MAX {
            // Dropped: the peer reads the end of the stream.
            continue;
        }
        let module = Arc::clone(&module);
        std::thread::spawn(move || {
            // An error here is the peer's going away in the middle of a message; it knows.
            let _ = converse(stream, &module);
        });
    }
}

fn converse(mut stream: UnixStream, module: &Mutex<SimulatedModule>) -> std::io::Result<()> {
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
        // A panic of another connection's thread leaves registers that are still whole: an extend is one assignment.
        let answer = protocol::answer(
            &mut module.lock().unwrap_or_else(PoisonError::into_inner),
            request,
        );
        stream.write_all(&answer)?;
        if !in_step {
            // The announced payload was not read, so the next header cannot be found.
            return Ok(());
        }
    }
}
