//! What a charge of the document means: where its amount is, when it counts, and what holds where the amount is missing.

use crate::body::pointer::Pointer;
use crate::document::{
    BodyOf, Charge, ChargePer, ChargeRules, EstimateRule, On, TEXT_BYTES_MAX, header_fault,
};
use crate::label::Labels;

/// What one request costs on one meter.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledCharge {
    /// Index into [`crate::compile::CompiledPolicy::meters`].
    pub meter: usize,
    /// How much.
    pub amount: Amount,
    /// When it counts.
    pub on: On,
    /// Whether the amount is given back instead of taken.
    pub release: bool,
    /// What an amount that is missing or cannot be read counts as. `None`: of the response the estimate; a request that
    /// does not say its amount is refused.
    pub default: Option<u64>,
    /// What is reserved at admission where the amount is known later.
    pub estimate: Estimate,
    /// What is stored or deleted.
    pub id: Option<IdSource>,
    /// Whether it counts once where a JSON-RPC batch has several calls.
    pub per_request: bool,
    /// By what the ledger tells its units apart.
    pub labels: Labels,
}

/// The source of a charge's amount. Header names are in small letters.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// So many units, 1 or more.
    Units(u64),
    /// The bytes of the request's body.
    RequestBytes,
    /// The bytes of the response's body.
    ResponseBytes,
    /// A number in a header of the request.
    RequestHeader(Box<str>),
    /// A number in a header of the response.
    ResponseHeader(Box<str>),
    /// A number in the request's JSON body.
    RequestJson(Pointer),
    /// A number in the response's JSON body.
    ResponseJson(Pointer),
}

impl CompiledCharge {
    /// Where it is read in the request's JSON body.
    pub fn request_pointers(&self) -> impl Iterator<Item = &Pointer> {
        let amount = match &self.amount {
            Amount::RequestJson(pointer) => Some(pointer),
            _ => None,
        };
        let estimate = match &self.estimate.source {
            Some(EstimateSource::RequestJson(pointer)) => Some(pointer),
            _ => None,
        };
        amount.into_iter().chain(estimate)
    }

    /// Whether the request's JSON body must be read before it can be decided.
    pub fn reads_request_json(&self) -> bool {
        self.counts_request_json() || self.labels.request_pointers().next().is_some()
    }

    /// Whether what it costs stands in the request's JSON body, and not only what it is told apart by.
    pub fn counts_request_json(&self) -> bool {
        self.request_pointers().next().is_some()
    }
}

impl Amount {
    /// Whether the amount is known only once there is a response.
    pub fn is_of_response(&self) -> bool {
        matches!(self, Self::ResponseBytes | Self::ResponseHeader(_) | Self::ResponseJson(_))
    }
}

/// What is reserved at admission where an amount is known later.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estimate {
    /// Where it is read. `None`: it is the default.
    pub source: Option<EstimateSource>,
    /// What it is where it cannot be read.
    pub default: u64,
}

/// Where an estimate is read. Header names are in small letters.
#[derive(Debug, Clone, PartialEq)]
pub enum EstimateSource {
    /// A number in a header of the request.
    RequestHeader(Box<str>),
    /// A number in the request's JSON body.
    RequestJson(Pointer),
}

/// Where the id of what is stored or deleted is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdSource {
    /// The segments that stand for a parameter of the route's path.
    Path(Box<str>),
    /// A header of the request, in small letters.
    Header(Box<str>),
}

/// What is wrong with a charge by itself: the path of a member within it, or `None` for the charge as a whole, and a
/// sentence.
pub(crate) type ChargeFault = (Option<&'static str>, String);

/// What the charge means apart from its labels, or all that is wrong with it. `None`: it charges nothing.
pub(crate) fn meaning_of(charge: &Charge, meter: usize) -> Result<Option<CompiledCharge>, Vec<ChargeFault>> {
    let shorthand;
    let rules = match charge {
        Charge::Units(units) => {
            shorthand = ChargeRules { units: Some(*units), ..ChargeRules::default() };
            &shorthand
        }
        Charge::Rules(rules) => rules,
    };
    let mut faults = Vec::new();
    let Some(amount) = amount_of(rules, &mut faults) else {
        return Err(faults);
    };
    misplaced(rules, &amount, &mut faults);
    let estimate = estimate_of(rules.estimate.as_ref(), &mut faults);
    let id = rules.id.as_deref().and_then(|text| id_of(text, &mut faults));
    if !faults.is_empty() {
        return Err(faults);
    }
    if amount == Amount::Units(0) {
        return Ok(None);
    }
    let counted_per_call = matches!(amount, Amount::Units(_) | Amount::RequestJson(_));
    let release = rules.release.unwrap_or(false) || rules.units.is_some_and(i64::is_negative);
    let default_on = match amount.is_of_response() {
        // What was not there (404) or may not be deleted (403) frees nothing.
        _ if release => On::Success,
        true => On::Response,
        false => On::Request,
    };
    Ok(Some(CompiledCharge {
        meter,
        on: rules.on.unwrap_or(default_on),
        release,
        default: rules.default,
        estimate,
        id,
        per_request: !counted_per_call || rules.per == Some(ChargePer::Request),
        amount,
        labels: Labels::default(),
    }))
}

/// The one source of the amount, if there is just one that can be read.
fn amount_of(rules: &ChargeRules, faults: &mut Vec<ChargeFault>) -> Option<Amount> {
    let given: Vec<&'static str> = [
        ("units", rules.units.is_some()),
        ("body_bytes", rules.body_bytes.is_some()),
        ("request_header", rules.request_header.is_some()),
        ("response_header", rules.response_header.is_some()),
        ("request_json", rules.request_json.is_some()),
        ("response_json", rules.response_json.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_given)| is_given.then_some(name))
    .collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            let message = "say how much: give `units`, `body_bytes`, `request_header`, `response_header`, \
                           `request_json` or `response_json`";
            faults.push((None, message.to_owned()));
            return None;
        }
        [one, other, ..] => {
            faults.push((None, format!("give `{one}` or `{other}`, not both: a charge has one amount")));
            return None;
        }
    }
    if let Some(units) = rules.units {
        return Some(Amount::Units(units.unsigned_abs()));
    }
    if let Some(body) = rules.body_bytes {
        return Some(match body {
            BodyOf::Request => Amount::RequestBytes,
            BodyOf::Response => Amount::ResponseBytes,
        });
    }
    if let Some(name) = &rules.request_header {
        return header(name, "request_header", faults).map(Amount::RequestHeader);
    }
    if let Some(name) = &rules.response_header {
        return header(name, "response_header", faults).map(Amount::ResponseHeader);
    }
    if let Some(text) = &rules.request_json {
        return pointer(text, "request_json", faults).map(Amount::RequestJson);
    }
    let text = rules.response_json.as_ref()?;
    pointer(text, "response_json", faults).map(Amount::ResponseJson)
}

/// Members that say nothing about an amount of this kind.
fn misplaced(rules: &ChargeRules, amount: &Amount, faults: &mut Vec<ChargeFault>) {
    let mut refuse = |given: bool, field: &'static str, message: &str| {
        if given {
            faults.push((Some(field), message.to_owned()));
        }
    };
    let negative = rules.units.is_some_and(i64::is_negative);
    let release = negative || rules.release == Some(true);
    refuse(
        negative && rules.release.is_some(),
        "release",
        "leave `release` out: a negative number of units is a release",
    );
    refuse(
        amount.is_of_response() && rules.on == Some(On::Request),
        "on",
        "write `on: response` or `on: success`: the amount is not known before the response",
    );
    refuse(
        rules.default.is_some()
            && matches!(amount, Amount::Units(_) | Amount::RequestBytes | Amount::ResponseBytes),
        "default",
        "leave `default` out: this amount is never missing",
    );
    refuse(
        rules.estimate.is_some() && !amount.is_of_response() && *amount != Amount::RequestBytes,
        "estimate",
        "leave `estimate` out: this amount is known when the request is admitted",
    );
    refuse(
        rules.estimate.is_some() && release,
        "estimate",
        "leave `estimate` out: nothing is reserved for what is given back",
    );
    refuse(
        rules.per.is_some() && !matches!(amount, Amount::Units(_) | Amount::RequestJson(_)),
        "per",
        "leave `per` out: bytes, headers and responses are those of the whole request",
    );
}

fn estimate_of(rule: Option<&EstimateRule>, faults: &mut Vec<ChargeFault>) -> Estimate {
    let rules = match rule {
        None => return Estimate::default(),
        Some(EstimateRule::Units(units)) => return Estimate { source: None, default: *units },
        Some(EstimateRule::Source(rules)) => rules,
    };
    let source = match (&rules.request_header, &rules.request_json) {
        (Some(name), None) => {
            header(name, "estimate.request_header", faults).map(EstimateSource::RequestHeader)
        }
        (None, Some(text)) => pointer(text, "estimate.request_json", faults).map(EstimateSource::RequestJson),
        _ => {
            let message = "give `request_header` or `request_json`, or a number instead of this mapping";
            faults.push((Some("estimate"), message.to_owned()));
            None
        }
    };
    Estimate { source, default: rules.default }
}

fn id_of(text: &str, faults: &mut Vec<ChargeFault>) -> Option<IdSource> {
    match text.split_once('.') {
        Some(("path", name)) if !name.is_empty() => Some(IdSource::Path(name.into())),
        Some(("header", name)) => header(name, "id", faults).map(IdSource::Header),
        _ => {
            let message =
                "write `path.` and a parameter of the route's path, or `header.` and a header's name";
            faults.push((Some("id"), message.to_owned()));
            None
        }
    }
}

pub(crate) fn header(name: &str, field: &'static str, faults: &mut Vec<ChargeFault>) -> Option<Box<str>> {
    match header_fault(name) {
        None => Some(name.into()),
        Some(message) => {
            faults.push((Some(field), message));
            None
        }
    }
}

pub(crate) fn pointer(text: &str, field: &'static str, faults: &mut Vec<ChargeFault>) -> Option<Pointer> {
    let fault = match Pointer::parse(text) {
        Ok(pointer) if text.len() <= TEXT_BYTES_MAX => return Some(pointer),
        Ok(_) => format!("use at most {TEXT_BYTES_MAX} bytes"),
        Err(fault) => fault.to_string(),
    };
    faults.push((Some(field), fault));
    None
}
