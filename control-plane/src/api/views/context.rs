//! What a template is given: documents of this interface, and functions that ask for more. What no template refers to is not
//! looked up.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::request::Parts;
use minijinja::value::{Kwargs, Serde, Value};
use serde_json::{Value as Json, json};

use super::ledger::Ledger;
use crate::api::me::{MeBody, languages, me_body};
use crate::api::plans::{PlanBody, PlanList, Spoken};
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::calendar::rfc3339;
use crate::service::in_force::{InForce, PolicyInForce};
use crate::service::languages::Languages;
use crate::service::me::EndUser;
use crate::service::views::View;
use crate::service::{NotFound, ServiceError};

/// What the templates of one request are given.
pub struct Context {
    values: BTreeMap<&'static str, Value>,
    request: Json,
    ledger: Option<Arc<Ledger>>,
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
        let mut values = BTreeMap::new();
        values.insert("now", Value::from(rfc3339(api.plane.clock.now_ms())));
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
                let asked = Arc::new(Ledger::new(api.clone(), &user));
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
        Ok(Self { values, request, ledger })
    }

    /// The context of one rendering, with what was sent.
    pub fn for_body(&self, body: &Json) -> BTreeMap<&'static str, Value> {
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
        self.ledger.as_ref()?.refused()
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
