//! JSON-RPC 2.0 requests: what they call, and what each call says that it costs.
//!
//! A call must mean the same here and at the upstream. So one that two servers could read in two ways (`method` twice, or
//! once more as `Method`) is invalid, not guessed at. Chooses no route and takes nothing; `answer` writes errors.

mod answer;

use std::borrow::Cow;
use std::sync::LazyLock;

use thiserror::Error;

pub use self::answer::{RpcError, error_response_without_id, error_responses};
use super::Unread;
use super::json::{Found, JsonFault, Wanted};
use super::pointer::Pointer;
use super::scan::{Scanner, unescape};

/// Most members of a batch.
pub const CALLS_MAX: usize = 1_000;

/// The method by which the Model Context Protocol calls a tool.
const MCP_TOOLS_CALL: &str = "tools/call";

/// One request or a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// Whether it came as an array, even of one.
    pub batch: bool,
    /// At least one; if it is no batch, exactly one.
    pub members: Vec<Member>,
}

/// A member of a batch, or what stands alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// A request or a notification.
    Call(Call),
    /// A client's answer to what its server asked, as in MCP. Asks for nothing and is answered by nothing.
    Response,
    /// Neither, with its id where it has a good one. JSON-RPC 2.0 answers it with -32600 and carries the others of its batch
    /// out. But some servers are less strict than the specification, so do not let it pass uncounted.
    Invalid(Option<Id>),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `None`: a notification, which is never answered.
    pub id: Option<Id>,
    /// The method's name. What is no Unicode is replaced.
    pub method: Box<str>,
    /// The tool that MCP's `tools/call` names.
    pub tool: Option<Box<str>>,
    /// The amounts at the pointers that were given, in their order.
    pub amounts: Vec<Result<u64, Unread>>,
    /// The texts at those of texts.
    pub texts: Vec<Option<Box<str>>>,
}

/// A call's id as the text that it came as: a JSON string, a number or null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Box<str>);

/// Why a text is no JSON-RPC request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RpcFault {
    /// It is not JSON: -32700.
    #[error(transparent)]
    NotJson(#[from] JsonFault),
    /// It is JSON, and of another protocol: there is no method, or not one in a whole batch.
    #[error("the body is not JSON-RPC")]
    NotJsonRpc,
    /// It names a method and not the version `"jsonrpc": "2.0"`. It may be of another protocol; some servers carry it out.
    #[error("the body names a method without \"jsonrpc\": \"2.0\"")]
    NoVersion,
    /// An array of nothing: -32600.
    #[error("the batch is empty")]
    EmptyBatch,
    /// More than [`CALLS_MAX`] members, some of which are JSON-RPC.
    #[error("the batch has more than {CALLS_MAX} members")]
    TooManyCalls,
}

/// What is read of each member, besides the amounts.
static MEMBERS: LazyLock<[Pointer; 7]> = LazyLock::new(|| {
    let mut members = [&[][..]; 7];
    members[JSONRPC] = &["jsonrpc"];
    members[METHOD] = &["method"];
    members[ID] = &["id"];
    members[PARAMS] = &["params"];
    members[PARAMS_NAME] = &["params", "name"];
    members[RESULT] = &["result"];
    members[ERROR] = &["error"];
    members.map(Pointer::of_members)
});
const JSONRPC: usize = 0;
const METHOD: usize = 1;
const ID: usize = 2;
const PARAMS: usize = 3;
const PARAMS_NAME: usize = 4;
const RESULT: usize = 5;
const ERROR: usize = 6;

impl Calls {
    /// Reads a request's body. Pointers start at the object of each call; where a member is named twice, the last counts.
    /// `texts` are read as texts, and not as amounts.
    pub fn parse(body: &[u8], pointers: &[Pointer], texts: &[Pointer]) -> Result<Self, RpcFault> {
        let wanted = Wanted::new(MEMBERS.iter().chain(pointers).chain(texts));
        let reader = Reader { wanted, amounts: pointers.len() };
        let mut scanner = Scanner::new(body);
        let mut found = reader.wanted.nothing();
        if scanner.peek()? == b'[' {
            return reader.batch(scanner, &mut found);
        }
        reader.wanted.find(&mut scanner, &mut found)?;
        scanner.end()?;
        match reader.member(&found) {
            Kind::Rpc(member) => Ok(Self { batch: false, members: vec![member] }),
            Kind::NoVersion(_) => Err(RpcFault::NoVersion),
            Kind::Response | Kind::Other(_) => Err(RpcFault::NotJsonRpc),
        }
    }

    /// The calls among the members.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.members.iter().filter_map(|member| match member {
            Member::Call(call) => Some(call),
            Member::Response | Member::Invalid(_) => None,
        })
    }

    /// Whether a member is invalid.
    pub fn has_invalid(&self) -> bool {
        self.members.iter().any(|member| matches!(member, Member::Invalid(_)))
    }
}

struct Reader {
    /// `MEMBERS`, then the pointers of the amounts, then those of the texts.
    wanted: Wanted,
    /// How many of them are amounts.
    amounts: usize,
}

/// What an object is, by itself.
enum Kind {
    /// A call, or one that is invalid.
    Rpc(Member),
    Response,
    NoVersion(Option<Id>),
    Other(Option<Id>),
}

impl Reader {
    fn batch<'b>(&self, mut scanner: Scanner<'b>, found: &mut Found<'b>) -> Result<Calls, RpcFault> {
        let mut items = scanner.open()?;
        let mut members = Vec::new();
        let (mut count, mut rpc, mut no_version) = (0, false, false);
        while scanner.item(&mut items)? {
            self.wanted.find(&mut scanner, found)?;
            let kind = self.member(found);
            rpc |= matches!(kind, Kind::Rpc(_));
            no_version |= matches!(kind, Kind::NoVersion(_));
            count += 1;
            // Beyond the bound members are still looked at, since they say whether the array is of this protocol.
            if count <= CALLS_MAX {
                members.push(match kind {
                    Kind::Rpc(member) => member,
                    Kind::Response => Member::Response,
                    Kind::NoVersion(id) | Kind::Other(id) => Member::Invalid(id),
                });
            }
        }
        scanner.end()?;
        match (count, rpc, no_version) {
            (0, ..) => Err(RpcFault::EmptyBatch),
            (_, false, false) => Err(RpcFault::NotJsonRpc),
            (_, false, true) => Err(RpcFault::NoVersion),
            _ if count > CALLS_MAX => Err(RpcFault::TooManyCalls),
            _ => Ok(Calls { batch: true, members }),
        }
    }

    fn member(&self, found: &Found<'_>) -> Kind {
        let text = |member| self.wanted.text(found, member);
        let is_ambiguous = |member| self.wanted.is_ambiguous(found, member);
        let id = text(ID).map(Id::of);
        let valid_id = || id.clone().flatten().filter(|_| !is_ambiguous(ID));
        let has_version = is_ambiguous(JSONRPC) || self.string(found, JSONRPC).as_deref() == Some("2.0");
        let has_method = is_ambiguous(METHOD) || text(METHOD).is_some();
        match (has_version, has_method) {
            (true, true) => {}
            (false, true) => return Kind::NoVersion(valid_id()),
            (true, false) if text(RESULT).or(text(ERROR)).is_some() => return Kind::Response,
            (_, false) => return Kind::Other(valid_id()),
        }
        let ambiguous = [JSONRPC, METHOD, ID, PARAMS].into_iter().any(is_ambiguous);
        let (Some(method), false) = (self.string(found, METHOD), ambiguous || id == Some(None)) else {
            return Kind::Rpc(Member::Invalid(valid_id()));
        };
        let mut tool = None;
        if method == MCP_TOOLS_CALL {
            if is_ambiguous(PARAMS_NAME) {
                return Kind::Rpc(Member::Invalid(valid_id()));
            }
            tool = self.string(found, PARAMS_NAME).map(Box::from);
        }
        let texts_from = MEMBERS.len() + self.amounts;
        let amounts = (MEMBERS.len()..texts_from).map(|pointer| self.wanted.number(found, pointer)).collect();
        let texts = (texts_from..self.wanted.len()).map(|text| self.wanted.label(found, text)).collect();
        Kind::Rpc(Member::Call(Call { id: id.flatten(), method: method.into(), tool, amounts, texts }))
    }

    /// What a string at one of the `MEMBERS` says; `None` for anything else.
    fn string<'b>(&self, found: &Found<'b>, member: usize) -> Option<Cow<'b, str>> {
        self.wanted.text(found, member).filter(|text| text.starts_with(b"\"")).map(unescape)
    }
}

impl Id {
    /// The text, which is JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` for what is no id: true, false, an array, an object, or bytes that are not UTF-8.
    fn of(text: &[u8]) -> Option<Self> {
        let good = matches!(text, [b'"' | b'-' | b'0'..=b'9' | b'n', ..]);
        std::str::from_utf8(text).ok().filter(|_| good).map(|text| Self(text.into()))
    }
}

#[cfg(test)]
mod tests;
