//! A wire between two programs that can be cut and mended: what a network does to them while both go on running.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Forwards connections of its port to another one.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    target: u16,
    wire: Arc<Mutex<Wire>>,
}

#[derive(Debug, Default)]
struct Wire {
    is_cut: bool,
    /// Connections that wait, while new ones do.
    held: Option<Vec<TcpStream>>,
    ended: bool,
    open: Vec<TcpStream>,
}

impl Relay {
    /// A wire to this port.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("it listens").port();
        let relay = Self { port, target, wire: Arc::default() };
        let wire = relay.wire.clone();
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                let mut wire = lock(&wire);
                if wire.ended {
                    return;
                }
                if wire.is_cut {
                    continue;
                }
                if let Some(held) = &mut wire.held {
                    held.push(from);
                    continue;
                }
                // A failure closes the connection, as the network would.
                let _ = forward(from, target, &mut wire.open);
            }
        });
        relay
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets all connections, and every new one.
    pub fn cut(&self) {
        let mut wire = lock(&self.wire);
        wire.is_cut = true;
        for stream in wire.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Accepts new connections, and forwards nothing of them.
    pub fn hold(&self) {
        lock(&self.wire).held = Some(Vec::new());
    }

    /// Forwards again.
    pub fn restore(&self) {
        let mut wire = lock(&self.wire);
        wire.is_cut = false;
        for from in wire.held.take().unwrap_or_default() {
            let _ = forward(from, self.target, &mut wire.open);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
        lock(&self.wire).ended = true;
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn forward(from: TcpStream, target: u16, open: &mut Vec<TcpStream>) -> io::Result<()> {
    let to = TcpStream::connect(("127.0.0.1", target))?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    open.extend([from.try_clone()?, to.try_clone()?]);
    for (from, to) in [(from.try_clone()?, to.try_clone()?), (to, from)] {
        std::thread::spawn(move || pump(&from, &to));
    }
    Ok(())
}

fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}
