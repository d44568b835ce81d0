//! What a route asks of a request besides its path: method, host, headers, and the JSON-RPC method or MCP tool.

use std::fmt;

use crate::document::{NAME_BYTES_MAX, Route};

/// The JSON-RPC method of a call of an MCP tool.
const TOOLS_CALL: &str = "tools/call";

/// What is known of a request from its headers.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, from [`crate::path::normalise`].
    pub path: &'a str,
    /// The `:authority`, as it was sent: case, a port and a dot at the end make no difference.
    pub host: &'a str,
    /// A header by its name in small letters.
    pub headers: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, host, headers: _ } = self;
        f.debug_struct("Head")
            .field("method", method)
            .field("path", path)
            .field("host", host)
            .finish_non_exhaustive()
    }
}

/// One JSON-RPC call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallName<'a> {
    /// Its method.
    pub method: &'a str,
    /// `params.name`, where there is one: the tool, if this is a call of an MCP tool.
    pub tool: Option<&'a str>,
}

/// What is known of a request's JSON-RPC call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call<'a> {
    /// The body has not been read: it could be any.
    Unread,
    /// It is this one, or none.
    Read(Option<CallName<'a>>),
}

/// What a route asks of a request besides its path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    /// Empty means any method.
    methods: Vec<String>,
    /// Rare, so that a route without pays one look for all.
    pub(super) more: Option<Box<More>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct More {
    hosts: Vec<Host>,
    /// Names in small letters; `None` means any value.
    headers: Vec<(Box<str>, Option<Box<str>>)>,
    jsonrpc: Vec<Pattern>,
    mcp_tools: Vec<Pattern>,
}

impl Conditions {
    /// Those of a route that makes sense.
    pub(crate) fn of(route: &Route) -> Self {
        let header = |(name, value): (&String, &String)| {
            (name.as_str().into(), (value != "*").then(|| value.as_str().into()))
        };
        let more = More {
            hosts: route.hosts.iter().map(|host| Host::new(host)).collect(),
            headers: route.headers.iter().map(header).collect(),
            jsonrpc: route.jsonrpc.iter().map(|text| Pattern::new(text)).collect(),
            mcp_tools: route.mcp_tools.iter().map(|text| Pattern::new(text)).collect(),
        };
        let none = more.hosts.is_empty() && more.headers.is_empty() && !more.ask_for_call();
        Self { methods: route.methods.clone(), more: (!none).then(|| Box::new(more)) }
    }

    pub(crate) fn ask_for_call(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.ask_for_call())
    }

    pub(crate) fn hold(&self, head: &Head<'_>, call: Call<'_>) -> bool {
        let methods = &self.methods;
        (methods.is_empty() || methods.iter().any(|allowed| allowed == head.method))
            && self.more.as_ref().is_none_or(|more| more.hold(head, call))
    }
}

impl More {
    fn ask_for_call(&self) -> bool {
        !self.jsonrpc.is_empty() || !self.mcp_tools.is_empty()
    }

    fn hold(&self, head: &Head<'_>, call: Call<'_>) -> bool {
        let host = || {
            let host = bare(head.host);
            self.hosts.iter().any(|allowed| allowed.matches(host))
        };
        let header = |(name, value): &(Box<str>, Option<Box<str>>)| {
            let sent = (head.headers)(name);
            sent.is_some_and(|sent| value.as_ref().is_none_or(|value| value.as_bytes() == sent))
        };
        (self.hosts.is_empty() || host()) && self.headers.iter().all(header) && self.takes(call)
    }

    fn takes(&self, call: Call<'_>) -> bool {
        let call = match call {
            Call::Unread => return true,
            Call::Read(call) => call,
        };
        if !self.ask_for_call() {
            return true;
        }
        let Some(CallName { method, tool }) = call else {
            return false;
        };
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        (self.jsonrpc.is_empty() || any(&self.jsonrpc, method))
            && (self.mcp_tools.is_empty()
                || method == TOOLS_CALL && tool.is_some_and(|tool| any(&self.mcp_tools, tool)))
    }
}

/// A host without its port and the dot that may end it.
fn bare(host: &str) -> &str {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[derive(Debug, Clone)]
enum Host {
    Exact(Box<str>),
    /// With the dot before it: `.example.com`.
    Below(Box<str>),
}

impl Host {
    fn new(text: &str) -> Self {
        match text.strip_prefix('*') {
            Some(suffix) => Self::Below(suffix.into()),
            None => Self::Exact(text.into()),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(suffix) => {
                let start = host.len().checked_sub(suffix.len()).filter(|start| *start > 0);
                start.and_then(|start| host.get(start..)).is_some_and(|end| suffix.eq_ignore_ascii_case(end))
            }
        }
    }
}

/// A name, or what names start with.
#[derive(Debug, Clone)]
struct Pattern {
    text: Box<str>,
    prefix: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(start) => Self { text: start.into(), prefix: true },
            None => Self { text: text.into(), prefix: false },
        }
    }

    fn matches(&self, name: &str) -> bool {
        if self.prefix { name.starts_with(&*self.text) } else { *self.text == *name }
    }
}

/// Longest JSON-RPC method or name of an MCP tool, bytes.
const NAMES_BYTES_MAX: usize = 256;

/// Longest host name, bytes (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// What is wrong with a host of a route.
pub(crate) fn host_fault(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        !label.is_empty() && label.len() < NAME_BYTES_MAX && label.bytes().all(inside)
    };
    let good = name.len() <= HOST_BYTES_MAX && name.split('.').all(label);
    (!good).then(|| {
        "write a host in small letters and without port, such as api.example.com, or \"*.example.com\" for all below it"
            .to_owned()
    })
}

/// What is wrong with a JSON-RPC method or the name of an MCP tool.
pub(crate) fn pattern_fault(text: &str) -> Option<String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    let good = text.len() <= NAMES_BYTES_MAX
        && !text.is_empty()
        && !name.contains('*')
        && !name.chars().any(char::is_control);
    (!good).then(|| {
        format!("write a name of 1 to {NAMES_BYTES_MAX} bytes, or the start of names and one `*` at the end")
    })
}
