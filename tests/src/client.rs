//! A caller with one connection of its own. It sends exactly what it is told, once: a request is never repeated.

use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Message, read_chunk};

/// Longer than anything may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A caller.
#[derive(Debug)]
pub struct Client {
    port: u16,
    connection: Option<BufReader<TcpStream>>,
    patience: Duration,
}

/// A request that is being written.
#[derive(Debug)]
pub struct Request<'a> {
    client: &'a mut Client,
    head: Vec<u8>,
    body: Vec<u8>,
    has_length: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All of it.
    pub message: Message,
}

impl Client {
    /// A caller of 127.0.0.1.
    pub fn new(port: u16) -> Self {
        Self { port, connection: None, patience: TIMEOUT }
    }

    /// How long it waits for an answer that may never come.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// A request to this path.
    pub fn request(&mut self, method: &str, path: &str) -> Request<'_> {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: api.example\r\n").into_bytes();
        Request { client: self, head, body: Vec::new(), has_length: false }
    }

    /// GET with a token.
    pub fn get(&mut self, path: &str, token: &str) -> Answer {
        self.request("GET", path).token(token).send()
    }

    /// Sends these bytes as they are and reads one answer; `None` when the connection was closed instead.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Option<Answer> {
        self.open_raw(bytes).ok()?;
        let answer = self.read_answer().ok().flatten();
        self.connection = None;
        answer
    }

    /// Sends these bytes as they are, and reads nothing.
    pub fn open_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let connection = self.connect()?;
        connection.get_mut().write_all(bytes)
    }

    /// Reads the head of an answer whose body is read by [`Client::read_chunk`].
    pub fn read_answer_head(&mut self) -> io::Result<Option<Answer>> {
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Message::read_head(connection)?.map(Answer::of).transpose()
    }

    /// Reads a chunk of an answer; `None` at its end.
    pub fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        read_chunk(self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?)
    }

    /// Whether something of an answer, or the connection's end, is there to be read.
    pub fn is_answered(&self) -> bool {
        let Some(connection) = &self.connection else { return true };
        let stream = connection.get_ref();
        let is_there = || -> io::Result<usize> {
            stream.set_nonblocking(true)?;
            let there = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            there
        };
        !connection.buffer().is_empty() || is_there().is_ok()
    }

    /// Closes the connection, whatever is on its way.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }

    fn connect(&mut self) -> io::Result<&mut BufReader<TcpStream>> {
        if self.connection.is_none() {
            let stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            self.connection = Some(BufReader::new(stream));
        }
        self.connection.as_mut().ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Reads the body that follows an answer's head. What came before an error is in the answer.
    pub fn read_answer_body(&mut self, answer: &mut Answer) -> io::Result<()> {
        if answer.status == 204 || answer.status == 304 {
            return Ok(());
        }
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        answer.message.read_body(connection, true)
    }

    fn read_answer(&mut self) -> io::Result<Option<Answer>> {
        let Some(mut answer) = self.read_answer_head()? else { return Ok(None) };
        self.read_answer_body(&mut answer)?;
        let last = |value: String| value.eq_ignore_ascii_case("close");
        if answer.header("connection").is_some_and(last) {
            self.connection = None;
        }
        Ok(Some(answer))
    }
}

impl Request<'_> {
    /// A bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// A header, of any bytes.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        self.head.extend_from_slice(value.as_ref());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// A body of known length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        body.as_ref().clone_into(&mut self.body);
        self.has_length = true;
        self
    }

    /// A JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sends it and reads the answer.
    #[track_caller]
    pub fn send(self) -> Answer {
        self.try_send().unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Sends it and reads the answer, if there is one.
    pub fn try_send(self) -> io::Result<Answer> {
        let client = self.open()?;
        let answer = client.read_answer();
        if answer.is_err() {
            client.connection = None;
        }
        answer?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends it, and leaves the answer to be read.
    pub fn open<'c>(mut self) -> io::Result<&'c mut Client>
    where
        Self: 'c,
    {
        if self.has_length {
            let length = format!("content-length: {}\r\n", self.body.len());
            self.head.extend_from_slice(length.as_bytes());
        }
        self.head.extend_from_slice(b"\r\n");
        self.head.extend_from_slice(&self.body);
        let connection = self.client.connect()?;
        connection.get_mut().write_all(&self.head)?;
        Ok(self.client)
    }
}

impl Answer {
    fn of(message: Message) -> io::Result<Self> {
        let status = message.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Self { status: status.ok_or(io::ErrorKind::InvalidData)?, message })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        self.message.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.message.body)
            .unwrap_or_else(|error| panic!("{error} in the body of a {}: {}", self.status, self.text()))
    }

    /// The `code` of a problem, or nothing.
    pub fn code(&self) -> String {
        let problem = self.header("content-type").is_some_and(|kind| kind == "application/problem+json");
        let body: Option<Value> = serde_json::from_slice(&self.message.body).ok().filter(|_| problem);
        body.and_then(|body| Some(body.get("code")?.as_str()?.to_owned())).unwrap_or_default()
    }

    /// Fails unless the status is this; shows the answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let (head, text) = (&self.message.headers, self.text());
        let shown: Vec<_> =
            head.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        assert_eq!(self.status, status, "{}\n{text}", shown.join("\n"));
        self
    }

    /// Fails unless it is a problem document of this status and code.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.code(), code, "{}", answer.text());
        assert_eq!(answer.json()["status"], status, "{}", answer.text());
        answer
    }
}
