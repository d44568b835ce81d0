//! The labels of a charge: where the values are that the ledger tells its units apart by, and the text that they make.
//!
//! The text is that of [`crate::labels`]. A value that nobody told is empty; [`OTHER`] stands for those that are not told
//! apart. Says nothing about what a use costs: labels refuse nobody.

use std::fmt::Write as _;

use crate::body::pointer::Pointer;
use crate::charge::{ChargeFault, header, pointer};
use crate::document::{LABEL_BYTES_MAX, LabelRule, LabelSource};
use crate::labels::{self, LABELS_BYTES_MAX, OTHER};

/// The label that is the name of the route.
pub const ROUTE: &str = "route";

/// The labels of a charge, ready to be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// Always this text; an empty one where the meter tells nothing apart.
    Fixed(Box<str>),
    /// Some of them are read from requests or responses. By name.
    Read(Box<[Label]>),
}

/// One label of a charge.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    name: Box<str>,
    /// Where its value is.
    pub from: LabelFrom,
}

/// Where a label's value is. Header names are in small letters.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFrom {
    /// Here, encoded.
    Fixed(Box<str>),
    /// In a header of the request.
    RequestHeader(Box<str>),
    /// In the request's JSON body.
    RequestJson(Pointer),
    /// In a header of the response.
    ResponseHeader(Box<str>),
    /// In the response's JSON body.
    ResponseJson(Pointer),
}

/// The labels of one charge of a request, as far as the request tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLabels {
    /// By label of the charge, encoded; none where it is not the request's to tell.
    values: Vec<Option<Box<str>>>,
    /// With what the response will tell left empty.
    text: Box<str>,
}

impl Default for Labels {
    fn default() -> Self {
        Self::Fixed("".into())
    }
}

impl Labels {
    /// The labels named in `by` of a charge on this route; `given` are those that it gives.
    pub(crate) fn of<'r>(
        by: &[String],
        route: &str,
        given: impl Fn(&str) -> Option<&'r LabelRule>,
    ) -> Result<Self, Vec<ChargeFault>> {
        let mut names: Vec<&String> = by.iter().collect();
        names.sort();
        let mut labels = Vec::with_capacity(names.len());
        for name in names {
            let from = match given(name) {
                _ if name == ROUTE => LabelFrom::Fixed(encode(route)),
                None => LabelFrom::Fixed("".into()),
                Some(rule) => meaning_of(rule)?,
            };
            labels.push(Label { name: name.as_str().into(), from });
        }
        let labels = Self::Read(labels.into());
        Ok(if labels.is_read() { labels } else { Self::Fixed(labels.text(&[], &|_| None)) })
    }

    /// Whether a request or a response must be looked at.
    pub fn is_read(&self) -> bool {
        self.all().any(|from| !matches!(from, LabelFrom::Fixed(_)))
    }

    /// Whether they are known only once there is a response.
    pub fn is_of_response(&self) -> bool {
        self.all().any(|from| matches!(from, LabelFrom::ResponseHeader(_) | LabelFrom::ResponseJson(_)))
    }

    /// Where labels are read in the request's JSON body.
    pub fn request_pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.all().filter_map(|from| match from {
            LabelFrom::RequestJson(pointer) => Some(pointer),
            _ => None,
        })
    }

    /// Where labels are read in the response's JSON body.
    pub fn response_pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.all().filter_map(|from| match from {
            LabelFrom::ResponseJson(pointer) => Some(pointer),
            _ => None,
        })
    }

    /// Headers of the response that are labels.
    pub fn response_headers(&self) -> impl Iterator<Item = &str> {
        self.all().filter_map(|from| match from {
            LabelFrom::ResponseHeader(name) => Some(&**name),
            _ => None,
        })
    }

    /// What a request tells of them; `value` is what it has at a place. None where there is nothing to read.
    pub fn read(&self, value: &dyn Fn(&LabelFrom) -> Option<Box<str>>) -> Option<RequestLabels> {
        if !self.is_read() {
            return None;
        }
        let values: Vec<_> = self.all().map(|from| value(from).map(|value| encode(&value))).collect();
        let text = self.text(&values, &|_| None);
        Some(RequestLabels { values, text })
    }

    /// All of them, once the response has told its own.
    pub fn complete(
        &self,
        request: &RequestLabels,
        value: &dyn Fn(&LabelFrom) -> Option<Box<str>>,
    ) -> Box<str> {
        self.text(&request.values, &|from| value(from).map(|value| encode(&value)))
    }

    fn all(&self) -> impl Iterator<Item = &LabelFrom> {
        let labels: &[Label] = match self {
            Self::Fixed(_) => &[],
            Self::Read(labels) => labels,
        };
        labels.iter().map(|label| &label.from)
    }

    fn text(
        &self,
        request: &[Option<Box<str>>],
        response: &dyn Fn(&LabelFrom) -> Option<Box<str>>,
    ) -> Box<str> {
        let labels = match self {
            Self::Fixed(text) => return text.clone(),
            Self::Read(labels) => labels,
        };
        let mut text = String::new();
        for (at, label) in labels.iter().enumerate() {
            let told = response(&label.from);
            let value = match &label.from {
                LabelFrom::Fixed(value) => value,
                LabelFrom::RequestHeader(_) | LabelFrom::RequestJson(_) => {
                    request.get(at).and_then(Option::as_deref).unwrap_or("")
                }
                LabelFrom::ResponseHeader(_) | LabelFrom::ResponseJson(_) => told.as_deref().unwrap_or(""),
            };
            let and = if at == 0 { "" } else { "&" };
            let _ = write!(text, "{and}{}={value}", label.name);
        }
        if text.len() > LABELS_BYTES_MAX { others(&text) } else { text.into() }
    }
}

impl RequestLabels {
    /// The text, with what the response will tell left empty.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The text that stands for all labels of these names that are not told apart.
pub fn others(text: &str) -> Box<str> {
    let names = text.split('&').map(|label| label.split_once('=').map_or(label, |(name, _)| name));
    names.map(|name| format!("{name}={OTHER}")).collect::<Vec<_>>().join("&").into()
}

/// Where a label's value is, or what is wrong with the rule that says so.
pub(crate) fn meaning_of(rule: &LabelRule) -> Result<LabelFrom, Vec<ChargeFault>> {
    let source = match rule {
        LabelRule::Text(text) if text.is_empty() || text.len() > LABEL_BYTES_MAX => {
            return Err(vec![(None, format!("write 1 to {LABEL_BYTES_MAX} bytes of text"))]);
        }
        LabelRule::Text(text) => return Ok(LabelFrom::Fixed(encode(text))),
        LabelRule::Source(source) => source,
    };
    let mut faults = Vec::new();
    let found = match source {
        LabelSource {
            request_header: Some(name),
            response_header: None,
            request_json: None,
            response_json: None,
        } => header(name, "request_header", &mut faults).map(LabelFrom::RequestHeader),
        LabelSource {
            request_header: None,
            response_header: Some(name),
            request_json: None,
            response_json: None,
        } => header(name, "response_header", &mut faults).map(LabelFrom::ResponseHeader),
        LabelSource {
            request_header: None,
            response_header: None,
            request_json: Some(text),
            response_json: None,
        } => pointer(text, "request_json", &mut faults).map(LabelFrom::RequestJson),
        LabelSource {
            request_header: None,
            response_header: None,
            request_json: None,
            response_json: Some(text),
        } => pointer(text, "response_json", &mut faults).map(LabelFrom::ResponseJson),
        _ => {
            let message = "give one of `request_header`, `response_header`, `request_json` and `response_json`, or a \
                           text instead of this mapping";
            faults.push((None, message.to_owned()));
            None
        }
    };
    found.ok_or(faults)
}

/// A value as it stands in a text of labels.
fn encode(value: &str) -> Box<str> {
    let mut encoded = String::new();
    labels::encode(value, &mut encoded);
    encoded.into()
}

#[cfg(test)]
mod tests;
