//! What a template is given: documents of this interface, and functions that ask for more. What no template refers to is not
//! looked up.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::request::Parts;
use minijinja::value::{Kwargs, Serde, Value};
use serde_json::{Value as Json, json};
use tollgate_policy::document::Localized;

use super::ledger::Ledger;
use super::refusal::{Refusal, argument, wrong};
use crate::api::me::{MeBody, languages, me_body};
use crate::api::plans::{PlanBody, PlanList, Spoken};
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::calendar::{DAY_MS, HOUR_MS, rfc3339};
use crate::service::in_force::{InForce, PolicyInForce};
use crate::service::languages::Languages;
use crate::service::me::EndUser;
use crate::service::views::View;
use crate::service::{NotFound, ServiceError};

/// How far `ago` looks back by days, and by hours: a century.
const AGO_MS_MAX: i64 = 36_525 * DAY_MS;

/// What the templates of one request are given.
pub struct Context {
    values: BTreeMap<&'static str, Value>,
    request: Json,
    ledger: Option<Arc<Ledger>>,
    refusal: Refusal,
}

impl Context {
    /// Looks up what the template of `view` refers to.
    pub async fn gather(
        api: &Api,
        in_force: &InForce,
        view: &View,
        user: Option<(EndUser, Json)>,
        request: &Parts,
    ) -> Result<Self, Problem> {
        let policy = in_force.policy.as_ref().ok_or(ServiceError::NotFound(NotFound::View))?;
        let languages = languages(&request.headers);
        let (mut values, refusal) = (BTreeMap::new(), Refusal::default());
        let now_ms = api.plane.clock.now_ms();
        values.insert("now", Value::from(rfc3339(now_ms)));
        values.insert("ago", ago(now_ms, refusal.clone()));
        let tiers = &policy.document.tiers;
        let titles = tiers.iter().map(|(name, tier)| {
            let title = tier.title.clone().unwrap_or_else(|| Localized::Text(name.clone()));
            (name.clone(), title)
        });
        values.insert("title", localized(titles.collect(), languages.clone()));
        let described =
            tiers.iter().filter_map(|(name, tier)| Some((name.clone(), tier.description.clone()?)));
        values.insert("description", localized(described.collect(), languages.clone()));
        let mut own_tier = None;
        let mut ledger = None;
        if let Some((user, claims)) = user {
            if view.refers_to(&["me", "limit", "plan"]) {
                let me = me_body(api, api.plane.me(&user).await?, &languages);
                own_tier = me.tier_name().map(str::to_owned);
                values.insert("limit", limit(&me));
                values.insert("me", document(&me, &user, claims));
            }
            if view.refers_to(&["usage", "costs"]) {
                let asked = Arc::new(Ledger::new(api.clone(), &user, refusal.clone()));
                values.extend(asked.functions());
                ledger = Some(asked);
            }
        }
        if view.refers_to(&["plans", "plan"]) {
            let (list, own) = plans(api, policy, &languages, own_tier.as_deref());
            values.insert("plan", plan(&list, own.as_ref()));
            values.insert("plans", Value::from(Serde(&list)));
        }
        let request = json!({
            "method": request.method.as_str(),
            "query": query(request),
            "language": languages.best(),
        });
        Ok(Self { values, request, ledger, refusal })
    }

    /// The context of one rendering, with what was sent.
    pub fn for_body(&self, body: &Json) -> BTreeMap<&'static str, Value> {
        self.refusal.clear();
        if let Some(ledger) = &self.ledger {
            ledger.begin();
        }
        let mut request = self.request.clone();
        if let Some(members) = request.as_object_mut() {
            members.insert("json".to_owned(), body.clone());
        }
        let mut values = self.values.clone();
        values.insert("request", Value::from(Serde(request)));
        values
    }

    /// Why a function of the last rendering was refused, if one was.
    pub fn refused(&self) -> Option<Problem> {
        self.refusal.problem()
    }
}

/// `GET /v1/me`, with what the user's token says besides.
fn document(me: &MeBody, user: &EndUser, claims: Json) -> Value {
    let mut document = serde_json::to_value(me).unwrap_or_default();
    let id = user.caller.subject.split_once(':').map_or("", |(_, id)| id);
    if let Some(members) = document.as_object_mut() {
        members.insert("subject_id".to_owned(), id.into());
        members.insert("claims".to_owned(), claims);
    }
    Value::from(Serde(document))
}

/// A limit by its name. One that there is not has no members, which are then null.
fn limit(me: &MeBody) -> Value {
    let limits: BTreeMap<String, Value> =
        me.limits().map(|(name, limit)| (name.to_owned(), Value::from(Serde(limit)))).collect();
    by_name(limits)
}

/// A plan by its name: one that is offered, or that the user has.
fn plan(list: &PlanList, own: Option<&PlanBody>) -> Value {
    let plans = list.items.iter().chain(own);
    by_name(plans.map(|plan| (plan.name.clone(), Value::from(Serde(plan)))).collect())
}

/// A text of a tier, in the reader's best language or in a named one; null of a tier without one.
fn localized(texts: BTreeMap<String, Localized>, languages: Languages) -> Value {
    Value::from_function(
        move |tier: Value, language: Option<Value>, rest: Kwargs| -> Result<Value, minijinja::Error> {
            let language = match language {
                Some(language) => Some(language),
                None => rest.get::<Option<Value>>("language")?,
            };
            rest.assert_all_used()?;
            let named = language.as_ref().and_then(Value::as_str).map(Languages::accepted);
            let text = tier.as_str().and_then(|tier| texts.get(tier));
            Ok(text.map_or(Value::from(()), |text| {
                Value::from(named.as_ref().unwrap_or(&languages).choose(text).0)
            }))
        },
    )
}

/// The moment so many days and hours ago, RFC 3339.
fn ago(now_ms: i64, refusal: Refusal) -> Value {
    Value::from_function(move |named: Kwargs| -> Result<Value, minijinja::Error> {
        let (days, hours) = (argument(None, &named, "days")?, argument(None, &named, "hours")?);
        named.assert_all_used()?;
        let ms = ago_ms(days.as_ref(), "days", DAY_MS)
            .and_then(|ms| Ok(ms + ago_ms(hours.as_ref(), "hours", HOUR_MS)?));
        ms.map(|ms| Value::from(rfc3339(now_ms.saturating_sub(ms))))
            .map_err(|problem| refusal.refuse(problem))
    })
}

/// So many times `unit_ms`, of a number or of its digits.
fn ago_ms(count: Option<&Value>, name: &str, unit_ms: i64) -> Result<i64, Problem> {
    let Some(count) = count else { return Ok(0) };
    let number = match count.as_str() {
        Some(digits) => digits.parse().ok(),
        None => i64::try_from(count.clone()).ok(),
    };
    let ms = number.and_then(|number| number.checked_mul(unit_ms)).filter(|ms| (0..=AGO_MS_MAX).contains(ms));
    ms.ok_or_else(|| wrong(format!("Give `{name}` as a whole number, of at most a century.")))
}

fn by_name(values: BTreeMap<String, Value>) -> Value {
    Value::from_function(move |name: Value, rest: Kwargs| -> Result<Value, minijinja::Error> {
        rest.assert_all_used()?;
        let found = name.as_str().and_then(|name| values.get(name));
        Ok(found.cloned().unwrap_or_else(|| Value::from_iter(std::iter::empty::<(String, Value)>())))
    })
}

fn plans(
    api: &Api,
    policy: &PolicyInForce,
    languages: &Languages,
    own_tier: Option<&str>,
) -> (PlanList, Option<PlanBody>) {
    let is_free = |tier: &str| api.plane.is_free(&policy.document, tier);
    let mut spoken = Spoken::new(languages);
    let list = spoken.plans(policy, is_free);
    let own = own_tier.and_then(|name| spoken.plan(policy, name, is_free));
    (list, own)
}

/// The query's members; of one that comes twice the last counts.
fn query(request: &Parts) -> BTreeMap<String, String> {
    let query = request.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}
