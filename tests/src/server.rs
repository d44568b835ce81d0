//! A small HTTP/1.1 server: a thread for each connection, and a handler that may answer, wait, stream or cut.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::{Message, write_chunk};

/// What a handler does with a request.
type Handler = dyn Fn(&Message, &mut Responder) -> io::Result<()> + Send + Sync;

/// A server that listens until it is dropped.
pub struct Server {
    port: u16,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

/// The way back.
pub struct Responder(TcpStream);

impl Server {
    /// Listens on this port; 0 chooses one.
    pub fn start(
        port: u16,
        handle: impl Fn(&Message, &mut Responder) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_connections(port, move |stream| serve(stream, &handle))
    }

    /// Listens on this port, and leaves each connection to `serve`.
    pub fn start_connections(port: u16, serve: impl Fn(&TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("it listens").port();
        let server = Self { port, stopped: Arc::default(), open: Arc::default() };
        let (stopped, open) = (server.stopped.clone(), server.open.clone());
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                open.lock().unwrap_or_else(PoisonError::into_inner).extend(stream.try_clone());
                let serve = serve.clone();
                std::thread::spawn(move || serve(&stream));
            }
        });
        server
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Serves a connection to its end. Errors end it, as the caller will see.
fn serve(stream: &TcpStream, handle: &Handler) {
    let _ = stream.set_nodelay(true);
    let Ok(mut responder) = stream.try_clone().map(Responder) else { return };
    let mut from = BufReader::new(stream);
    while let Ok(Some(mut request)) = Message::read_head(&mut from) {
        let done = request.read_body(&mut from, false).and_then(|()| handle(&request, &mut responder));
        if done.is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

impl Responder {
    /// Answers with a whole body.
    pub fn send(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        self.0.write_all(&bytes)
    }

    /// Sends these bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Answers with JSON.
    pub fn send_json(&mut self, status: u16, body: &serde_json::Value) -> io::Result<()> {
        self.send(status, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Answers 204.
    pub fn send_nothing(&mut self) -> io::Result<()> {
        let mut bytes = head(204, &[]);
        bytes.extend_from_slice(b"\r\n");
        self.0.write_all(&bytes)
    }

    /// Begins an answer in chunks.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        self.0.write_all(&bytes)
    }

    /// The next chunk.
    pub fn chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        write_chunk(&mut self.0, chunk)
    }

    /// The end of an answer in chunks.
    pub fn end(&mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")
    }

    /// Closes the connection in the middle of whatever is being sent.
    pub fn cut(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Both)?;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Status\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.into_bytes()
}
