//! A small HTTP client for the tour: any status is an answer, and what matters of an answer is kept.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::http::{HeaderMap, HeaderName, Request, Response};
use ureq::{Agent, Body};

/// Longer than anything in the tour may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most that is read of an answer, bytes: an example measures a download.
const BODY_BYTES_MAX: u64 = 256 << 20;

/// A request.
pub struct Sent<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub token: Option<&'a str>,
    pub headers: &'a BTreeMap<String, String>,
    pub body: Option<&'a [u8]>,
}

/// The client.
pub struct Client {
    agent: Agent,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    pub body: String,
}

impl Client {
    pub fn new() -> Self {
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        Self { agent: config.into() }
    }

    /// Any request.
    pub fn send(&self, sent: &Sent<'_>) -> Result<Answer> {
        let mut request = Request::builder().method(sent.method).uri(sent.url);
        if let Some(token) = sent.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in sent.headers {
            request = request.header(name, value);
        }
        let asked = || format!("{} {}", sent.method, sent.url);
        let response = match sent.body {
            Some(body) => self.agent.run(request.body(body)?),
            None => self.agent.run(request.body(())?),
        };
        Answer::read(response.with_context(asked)?)
    }

    /// GET, with a bearer token if there is one.
    pub fn get(&self, url: &str, token: Option<&str>) -> Result<Answer> {
        let mut request = self.agent.get(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Answer::read(request.call().with_context(|| format!("GET {url}"))?)
    }

    /// PUT of a JSON document.
    pub fn put(&self, url: &str, token: &str, document: &Value) -> Result<Answer> {
        let request = self.agent.put(url).header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/json");
        Answer::read(request.send(document.to_string()).with_context(|| format!("PUT {url}"))?)
    }

    /// Whether the address answers with this status; an address that does not answer does not.
    pub fn answers(&self, url: &str, status: u16) -> bool {
        self.get(url, None).is_ok_and(|answer| answer.status == status)
    }
}

/// Sends the head of a request with a body of `bytes` bytes, and none of them: a client of the usual kind would write on while
/// the answer is there already.
pub fn announce(sent: &Sent<'_>, bytes: u64) -> Result<Answer> {
    let (host, path) =
        sent.url.trim_start_matches("http://").split_once('/').context("an address has a path")?;
    let mut head = format!("{} /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {bytes}\r\n", sent.method);
    for (name, value) in sent.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(token) = sent.token {
        head.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    let mut stream = TcpStream::connect(host).with_context(|| format!("cannot reach {host}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    // It may be reset instead of closed, since the body never came.
    let read = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {read:?}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has a status")?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>()?, value.parse()?);
    }
    Ok(Answer { status: status.parse()?, headers, body: body.to_owned() })
}

impl Answer {
    fn read(mut response: Response<Body>) -> Result<Self> {
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec()?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Self { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// A header's value; several of the same name are one list (RFC 9110, 5.3).
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("this is not JSON: {}", self.body))
    }
}
