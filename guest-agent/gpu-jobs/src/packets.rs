//! A socket that keeps messages apart (`SOCK_SEQPACKET`), and reads none that is longer than any may be.

use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, getsockopt, recv, send, setsockopt,
    shutdown, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::limits::WORKER_BYTES_MAX;
use zeroize::Zeroizing;

/// One end of a pair.
#[derive(Debug)]
pub struct Packets(OwnedFd);

/// Why no packet came.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum PacketError {
    #[error("the socket between agent and worker: {0}")]
    Io(#[from] io::Error),
    #[error("a packet has {0} bytes; at most {WORKER_BYTES_MAX} are accepted")]
    TooLong(usize),
}

impl Packets {
    /// Two ends. The other end is to be inherited; neither stays open in a program that is started otherwise.
    pub fn pair() -> io::Result<(Packets, OwnedFd)> {
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let (ours, theirs) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Packets(ours), theirs))
    }

    /// What was inherited, if it is such a socket.
    pub fn inherited(socket: OwnedFd) -> io::Result<Packets> {
        match getsockopt(&socket, sockopt::SockType)? {
            SockType::SeqPacket => Ok(Packets(socket)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// From now on [`Self::receive`] waits for so long and no longer.
    pub fn wait_seconds(&self, seconds: u32) -> io::Result<()> {
        let time = TimeVal::new(seconds.into(), 0);
        Ok(setsockopt(&self.0, sockopt::ReceiveTimeout, &time)?)
    }

    /// Sends one packet, whole or not at all. It waits while the other end reads nothing.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            match send(self.0.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL) {
                Err(nix::errno::Errno::EINTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }

    /// The next packet; none is the end. An error of the kind `WouldBlock` says that none came in time.
    pub fn receive(&self) -> Result<Option<Zeroizing<Vec<u8>>>, PacketError> {
        let mut packet = Zeroizing::new(vec![0; WORKER_BYTES_MAX]);
        let bytes = loop {
            // With this flag the kernel says how long the packet was, whatever fitted.
            match recv(self.0.as_raw_fd(), &mut packet, MsgFlags::MSG_TRUNC) {
                // The second says once that the other end went and left something unread. What it had sent is there still.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => {}
                received => break received.map_err(io::Error::from)?,
            }
        };
        match bytes {
            0 => Ok(None),
            bytes if bytes > WORKER_BYTES_MAX => Err(PacketError::TooLong(bytes)),
            bytes => {
                packet.truncate(bytes);
                Ok(Some(packet))
            }
        }
    }

    /// Ends it for both, whoever waits.
    pub fn close(&self) {
        // The other end may have done so.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn packets_come_apart_and_whole_and_a_longer_one_is_refused() {
        let (ours, theirs) = Packets::pair().unwrap();
        let theirs = Packets::inherited(theirs).unwrap();
        for length in [1, 2, WORKER_BYTES_MAX] {
            ours.send(&vec![7; length]).unwrap();
        }
        for length in [1, 2, WORKER_BYTES_MAX] {
            assert_eq!(theirs.receive().unwrap().unwrap().len(), length);
        }
        ours.send(&vec![7; WORKER_BYTES_MAX + 1]).unwrap();
        let refused = theirs.receive().unwrap_err();
        assert!(matches!(refused, PacketError::TooLong(n) if n == WORKER_BYTES_MAX + 1));
        theirs.wait_seconds(1).unwrap();
        let late = theirs.receive().unwrap_err();
        assert!(
            matches!(late, PacketError::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
        );
        theirs.send(&[2]).unwrap();
        ours.send(&[1]).unwrap();
        drop(theirs);
        assert_eq!(
            ours.receive().unwrap().unwrap()[..],
            [2],
            "what was sent before the end comes"
        );
        assert!(ours.receive().unwrap().is_none());
        let (ours, theirs) = Packets::pair().unwrap();
        let theirs = Packets::inherited(theirs).unwrap();
        ours.close();
        assert!(theirs.receive().unwrap().is_none());
        assert!(theirs.send(&[1]).is_err());
    }

    #[test]
    fn a_socket_that_keeps_nothing_apart_is_refused() {
        let (stream, _other) = UnixStream::pair().unwrap();
        assert!(Packets::inherited(stream.into()).is_err());
        assert!(Packets::inherited(std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }
}
