//! From a request to be explained to who calls and what is asked for, as an edge reads it.

use std::sync::Arc;

use tollgate_policy::body::rpc::Calls;
use tollgate_policy::compile::CallName;
use tollgate_policy::decision::{Bill, Denial};
use tollgate_policy::document::{Auth, Enforcement};
use tollgate_policy::request::{Asked, Body, Credentials, Head, HeaderMap, Reading};

use super::super::entitled::check_known_subject;
use super::super::in_force::PolicyInForce;
use super::super::members::organization_of;
use super::{CallRoute, Sender, ServiceError, Wish, invalid};

/// What a request says.
pub(super) struct Read {
    pub path: Option<String>,
    pub calls: Vec<CallRoute>,
    pub has_calls: bool,
    pub bill: Option<Bill>,
    pub fate: Fate,
    pub notes: Vec<String>,
}

/// What becomes of a request before anybody's limits are looked at.
pub(super) enum Fate {
    /// It passes without a subject.
    Public,
    /// It is refused, if this is enforced. `fault`: it should be JSON-RPC and is not.
    Refused { denial: Box<Denial>, enforcement: Enforcement, fault: bool },
    /// It is known who calls.
    Identified(Caller),
}

/// Who calls.
pub(super) struct Caller {
    pub subject: String,
    pub member: Option<String>,
    /// What the token claims; `None`: there was none to look at.
    pub tier_claim: Option<Option<String>>,
    pub is_anonymous: bool,
}

/// Refuses what no client could send.
pub(super) fn check(wish: &Wish) -> Result<(), ServiceError> {
    if wish.method.is_empty() || !wish.method.bytes().all(is_token) {
        return invalid("Give a method, such as GET.");
    }
    if wish.headers.iter().any(|(name, _)| name.is_empty() || !name.bytes().all(is_token)) {
        return invalid("Name each header by letters, digits and hyphens.");
    }
    let texts = [&wish.path].into_iter().chain(&wish.host).chain(wish.headers.iter().map(|(_, value)| value));
    if texts.into_iter().any(|text| text.contains(['\r', '\n', '\0'])) {
        return invalid("Give path, host and headers without line breaks: no client can send such.");
    }
    match &wish.sender {
        Sender::Subject(subject) => check_known_subject(subject),
        Sender::Token(_) if wish.tier_claim.is_some() => {
            invalid("Leave tier_claim out: the token says which tier it claims.")
        }
        Sender::Anyone if wish.tier_claim.is_some() => {
            invalid("Give the subject whose token claims the tier, or leave tier_claim out.")
        }
        Sender::Token(_) | Sender::Anyone => Ok(()),
    }
}

/// RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Read {
    pub fn of(policy: &PolicyInForce, wish: &Wish, now_ms: i64) -> Self {
        let headers = headers_of(wish);
        let head = Head::of(&headers);
        let compiled = &policy.compiled;
        let mut read = Self {
            path: None,
            calls: Vec::new(),
            has_calls: false,
            bill: None,
            fate: Fate::Public,
            notes: Vec::new(),
        };
        let refused = |denial, enforcement, fault| Fate::Refused { denial, enforcement, fault };
        let path = match head.normalised_path() {
            Ok(path) => path,
            Err(denial) => {
                read.fate = refused(denial, compiled.enforcement, false);
                return read;
            }
        };
        read.path = Some(path.clone().into_owned());
        let reading = Reading { policy: compiled, head: &head, path: &path };
        let body = body_of(wish, &reading, &mut read.notes);
        let asked = match reading.price(body) {
            Ok(asked) => asked,
            Err(fault) => {
                read.take_calls(&reading, fault.calls.as_ref());
                read.fate = refused(fault.denial, compiled.enforcement, fault.code.is_some());
                return read;
            }
        };
        read.take_calls(&reading, asked.calls.as_ref());
        if asked.unreadable > 0 {
            read.notes.push(
                "An amount is not where the policy looks for it; its default, or nothing, counts.".to_owned(),
            );
        }
        read.fate = match read.identify(policy, wish, &head, &asked, now_ms) {
            Ok(Some(caller)) => Fate::Identified(caller),
            Ok(None) => Fate::Public,
            Err(denial) => refused(denial, asked.bill.enforcement(compiled), false),
        };
        read.bill = Some(asked.bill);
        read
    }

    fn take_calls(&mut self, reading: &Reading<'_>, calls: Option<&Calls>) {
        self.has_calls = calls.is_some();
        for call in calls.iter().flat_map(|calls| calls.calls()) {
            let name = CallName { method: &call.method, tool: call.tool.as_deref() };
            let route = reading.route_of_call(Some(name));
            let tool = call.tool.as_deref().map(str::to_owned);
            self.calls.push(CallRoute { method: call.method.to_string(), tool, route: Arc::clone(&route) });
        }
    }

    /// Who calls; nobody where nobody is charged.
    fn identify(
        &mut self,
        policy: &PolicyInForce,
        wish: &Wish,
        head: &Head<'_>,
        asked: &Asked,
        now_ms: i64,
    ) -> Result<Option<Caller>, Box<Denial>> {
        let named = match &wish.sender {
            Sender::Subject(subject) => Some(subject),
            Sender::Anyone | Sender::Token(_) => None,
        };
        if let Some(subject) =
            named.filter(|subject| !subject.starts_with("anon:") && asked.auth != Auth::None)
        {
            self.notes.push("The subject was named: no token was looked at.".to_owned());
            return Ok(Some(self.named(subject, wish)));
        }
        let credentials = asked.credentials(&policy.compiled, head, || wish.client_address.clone())?;
        match credentials {
            Credentials::Nobody => Ok(None),
            Credentials::Address { subject, tier } => {
                let subject = named.cloned().unwrap_or(subject);
                let tier_claim = Some(Some(wish.tier_claim.clone().unwrap_or_else(|| tier.to_owned())));
                Ok(Some(Caller { subject, member: None, tier_claim, is_anonymous: true }))
            }
            Credentials::Token(token) => {
                let verified = policy.keyring.verify(token, now_ms);
                let caller = verified.map_err(|fault| Box::new(Denial::bad_token(fault)))?;
                Ok(Some(Caller {
                    member: caller.member(),
                    subject: caller.subject,
                    tier_claim: Some(caller.tier),
                    is_anonymous: false,
                }))
            }
        }
    }

    fn named(&mut self, subject: &str, wish: &Wish) -> Caller {
        let organization = organization_of(subject);
        if subject.starts_with("org:") {
            self.notes
                .push("No member of the organisation was named: limits of members are left out.".to_owned());
        }
        Caller {
            member: organization.is_some().then(|| subject.to_owned()),
            subject: organization.unwrap_or_else(|| subject.to_owned()),
            tier_claim: wish.tier_claim.clone().map(Some),
            is_anonymous: false,
        }
    }
}

/// The headers as a proxy has them: names in small letters, and method, path and host among them.
fn headers_of(wish: &Wish) -> HeaderMap {
    let mut pairs = vec![
        (":method".to_owned(), wish.method.clone()),
        (":path".to_owned(), wish.path.clone()),
        (":authority".to_owned(), wish.host.clone().unwrap_or_default()),
    ];
    let mut given: Vec<_> = wish
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    if let (None, Some(at)) = (&wish.host, given.iter().position(|(name, _)| name == "host")) {
        // HTTP/1.1's name of it.
        if let Some((_, authority)) = pairs.last_mut() {
            *authority = given.remove(at).1;
        }
    }
    pairs.extend(given);
    // The proxy adds the address that it sees, whoever stands in front of it.
    let address = wish.client_address.clone().unwrap_or_else(|| "unknown".to_owned());
    pairs.push(("x-forwarded-for".to_owned(), address));
    if let Sender::Token(token) = &wish.sender {
        pairs.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    HeaderMap::of(pairs.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The body as far as an edge would read it.
fn body_of(wish: &Wish, reading: &Reading<'_>, notes: &mut Vec<String>) -> Body {
    let announced = reading.head.content_length;
    let bytes = wish.body.as_ref().map(|body| body.len() as u64);
    // What has neither a body nor a length has no body.
    let bytes = bytes.or_else(|| announced.is_none().then_some(0));
    if !reading.needs_body() {
        return Body::Unread(bytes);
    }
    if bytes.or(announced).is_some_and(|bytes| bytes > reading.body_bytes_max() as u64) {
        return Body::TooLong;
    }
    match &wish.body {
        Some(body) if !body.is_empty() => Body::Whole(body.clone().into_bytes()),
        _ => {
            let note = "The body says what this request asks for, and none was given: it is read as empty.";
            notes.push(note.to_owned());
            Body::Unread(bytes)
        }
    }
}
