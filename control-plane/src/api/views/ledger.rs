//! `usage` and `costs`: what a template asks of the ledger, of nobody but the user whose token it is. At most 8 questions a
//! rendering, and 16 a request; what was asked before in the same request is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Error, ErrorKind};
use serde_json::{Value as Json, json};
use tokio::runtime::Handle;

use super::refusal::{Refusal, argument, wrong};
use crate::api::invoices::InvoiceBody;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::state::Api;
use crate::calendar::rfc3339;
use crate::service::ServiceError;
use crate::service::me::EndUser;
use crate::service::usage::{UsagePeriod, UsageQuery};

/// Most questions of one rendering.
const QUESTIONS_MAX: u32 = 8;

/// Most questions of one request: a batch has many renderings. All answers are kept until it ends.
const REQUEST_QUESTIONS_MAX: usize = 16;

/// What a template asks of the ledger.
pub struct Ledger {
    api: Api,
    subject: String,
    may_ask: bool,
    handle: Handle,
    refusal: Refusal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Answers by question, of the whole request.
    known: BTreeMap<String, Value>,
    /// Questions of this rendering.
    asked: u32,
    /// Questions of the whole request.
    asked_in_all: usize,
}

impl Ledger {
    /// What this user may ask.
    pub fn new(api: Api, user: &EndUser, refusal: Refusal) -> Self {
        Self {
            api,
            subject: user.caller.subject.clone(),
            may_ask: user.decides(),
            handle: Handle::current(),
            refusal,
            state: Mutex::default(),
        }
    }

    /// The functions, by name.
    pub fn functions(self: &Arc<Self>) -> [(&'static str, Value); 2] {
        let (usage, costs) = (self.clone(), self.clone());
        [
            (
                "usage",
                Value::from_function(move |meter: Option<Value>, named: Kwargs| usage.usage(meter, &named)),
            ),
            (
                "costs",
                Value::from_function(move |from: Option<Value>, to: Option<Value>, named: Kwargs| {
                    costs.costs(from, to, &named)
                }),
            ),
        ]
    }

    /// Before a rendering.
    pub fn begin(&self) {
        self.state().asked = 0;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // All that is done under it is to look and to put in.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usage(&self, meter: Option<Value>, named: &Kwargs) -> Result<Value, Error> {
        let meter = argument(meter, named, "meter")?;
        let (by, group) = (argument(None, named, "by")?, argument(None, named, "group")?);
        let (from, to) = (argument(None, named, "from")?, argument(None, named, "to")?);
        named.assert_all_used()?;
        let question = format!("usage {meter:?} {by:?} {group:?} {from:?} {to:?}");
        self.once(question, async || {
            let query = UsageQuery {
                meter: text(meter.as_ref(), "meter")?,
                from: moment(from.as_ref(), "from")?,
                to: moment(to.as_ref(), "to")?,
                by: period(by.as_ref())?,
                group: names(group.as_ref())?,
            };
            let view = self.api.plane.usage(&self.subject, &query).await?;
            let rows = view.sums.into_iter().map(|row| {
                json!({
                    "meter": row.sum.meter, "start": rfc3339(row.sum.start_ms), "end": rfc3339(row.sum.end_ms),
                    "labels": row.labels, "units": row.sum.used(),
                })
            });
            Ok(rows.collect())
        })
    }

    fn costs(&self, from: Option<Value>, to: Option<Value>, named: &Kwargs) -> Result<Value, Error> {
        let (from, to) = (argument(from, named, "from")?, argument(to, named, "to")?);
        named.assert_all_used()?;
        let question = format!("costs {from:?} {to:?}");
        self.once(question, async || {
            let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
            let (from, to) = (moment(from.as_ref(), "from")?, moment(to.as_ref(), "to")?);
            let invoice = self.api.plane.preview_invoice(&self.subject, ms(from), ms(to)).await?;
            let exponent = invoice.currency.exponent();
            let mut document = serde_json::to_value(InvoiceBody::from(invoice)).unwrap_or_default();
            if let Some(members) = document.as_object_mut() {
                members.insert("exponent".to_owned(), exponent.into());
            }
            Ok(document)
        })
    }

    /// The answer to a question. Called within a rendering, on a thread that may wait.
    fn once(
        &self,
        question: String,
        ask: impl AsyncFnOnce() -> Result<Json, Problem>,
    ) -> Result<Value, Error> {
        {
            let mut state = self.state();
            if let Some(known) = state.known.get(&question) {
                return Ok(known.clone());
            }
            if state.asked >= QUESTIONS_MAX {
                let text = format!("a view asks for usage and costs at most {QUESTIONS_MAX} times");
                return Err(Error::new(ErrorKind::InvalidOperation, text));
            }
            if state.asked_in_all >= REQUEST_QUESTIONS_MAX {
                return Err(self.refusal.refuse(too_many()));
            }
            state.asked += 1;
            state.asked_in_all += 1;
        }
        let answer = match self.may_ask {
            true => self.handle.block_on(ask()),
            false => Err(ServiceError::NotAdministrator.into()),
        };
        let answer = answer.map_err(|problem| self.refusal.refuse(problem))?;
        let answer = Value::from(Serde(answer));
        self.state().known.insert(question, answer.clone());
        Ok(answer)
    }
}

fn too_many() -> Problem {
    let text = format!(
        "The calls ask for usage and costs more than {REQUEST_QUESTIONS_MAX} times. Send fewer at once."
    );
    Problem::new(ProblemKind::BatchTooLarge, text)
}

fn text(value: Option<&Value>, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = value else { return Ok(None) };
    match value.as_str() {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(wrong(format!("Give `{name}` as a text."))),
    }
}

/// RFC 3339, or a date: its start in UTC.
fn moment(value: Option<&Value>, name: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text(value, name)? else { return Ok(None) };
    let start = |date: Date| date.to_zoned(TimeZone::UTC).map(|start| start.timestamp());
    let found = text.parse::<Timestamp>().or_else(|_| text.parse::<Date>().and_then(start));
    match found {
        Ok(at) => Ok(Some(at)),
        Err(_) => Err(wrong(format!("Give `{name}` as 2027-03-01 or 2027-03-01T00:00:00Z."))),
    }
}

fn period(value: Option<&Value>) -> Result<UsagePeriod, Problem> {
    match text(value, "by")?.as_deref() {
        Some("hour") => Ok(UsagePeriod::Hour),
        Some("day") => Ok(UsagePeriod::Day),
        None | Some("month") => Ok(UsagePeriod::Month),
        Some("total") => Ok(UsagePeriod::Total),
        Some(_) => Err(wrong("Give `by` as hour, day, month or total.".to_owned())),
    }
}

/// A list of names, or one.
fn names(value: Option<&Value>) -> Result<Vec<String>, Problem> {
    let Some(value) = value else { return Ok(Vec::new()) };
    if let Some(name) = value.as_str() {
        return Ok(name.split(',').map(|name| name.trim().to_owned()).collect());
    }
    let listed = value.try_iter().ok();
    let names: Option<Vec<String>> =
        listed.and_then(|values| values.map(|name| name.as_str().map(str::to_owned)).collect());
    names.ok_or_else(|| wrong("Give `group` as a list of names.".to_owned()))
}
