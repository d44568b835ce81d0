//! `/v1/plans`: the tiers that are offered, for whoever asks: a page of prices needs no token.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tollgate_policy::document::{Localized, Price};
use utoipa::ToSchema;

use super::me::languages;
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use super::tiers::LimitBody;
use crate::service::in_force::PolicyInForce;
use crate::service::languages::Languages;
use crate::service::{NotFound, ServiceError};

/// How long a page may show plans that were changed meanwhile, s.
pub(super) const CACHE_CONTROL: &str = "public, max-age=60";

/// The tiers that are offered.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanList {
    /// ISO 4217 code of the currency of all prices.
    currency: Option<String>,
    /// The plans, in the order of the policy: the lowest first.
    pub(super) items: Vec<PlanBody>,
}

/// A tier that is offered, in the reader's language.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanBody {
    /// The tier's name: what `POST /v1/me/upgrade` takes.
    pub(super) name: String,
    /// Its name for people.
    title: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Its place: going to a higher one is an upgrade.
    order: i32,
    /// Whether subjects without a subscription have it.
    is_default: bool,
    /// Whether a user may take it without paying.
    is_free: bool,
    /// How long it may be tried, days.
    trial_days: u32,
    /// What it costs, as the policy says, with texts in the reader's language; amounts are minor units of the currency.
    #[schema(value_type = Vec<Object>)]
    prices: Vec<serde_json::Value>,
    /// Names of its features.
    features: Vec<String>,
    /// Its limits.
    limits: Vec<LimitBody>,
}

/// The tiers that are offered, the lowest first. Answers in the best language of `Accept-Language` that the policy has.
#[utoipa::path(
    get, path = "/v1/plans", tag = "me", security(()),
    responses(
        (status = 200, body = PlanList),
        (status = 304, description = "As `If-None-Match` names it"),
        (status = 404, body = ProblemBody, description = "policy-missing"),
    )
)]
pub async fn list(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Problem> {
    // What this process last read is enough for a page of prices: it is asked often, and the poller keeps it new.
    let in_force = api.plane.in_force();
    let policy = in_force.policy.as_ref().ok_or(ServiceError::NotFound(NotFound::Policy))?;
    let languages = languages(&headers);
    let mut spoken = Spoken::new(&languages);
    let list = spoken.plans(policy, |tier| api.plane.is_free(&policy.document, tier));
    let tag = spoken.tag.unwrap_or_default();
    // The payments file has a say in what is free, and is no part of the revision.
    let free: String = list.items.iter().map(|plan| if plan.is_free { '1' } else { '0' }).collect();
    let etag = format!("\"{}-{tag}-{free}\"", in_force.revision);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known =
        known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag || known.trim() == "*");
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Json(list).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language, Origin"));
    for (name, value) in [(header::ETAG, etag), (header::CONTENT_LANGUAGE, tag)] {
        // A language is told only where the policy has texts by language, in tags that a header can hold.
        if let Ok(value) = HeaderValue::try_from(value)
            .map_err(drop)
            .and_then(|v| if v.is_empty() { Err(()) } else { Ok(v) })
        {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// Texts in a reader's languages, and the language of the first of them.
pub(super) struct Spoken<'a> {
    languages: &'a Languages,
    tag: Option<String>,
}

impl<'a> Spoken<'a> {
    pub(super) fn new(languages: &'a Languages) -> Self {
        Self { languages, tag: None }
    }

    /// The tiers that are offered.
    pub(super) fn plans(&mut self, policy: &PolicyInForce, is_free: impl Fn(&str) -> bool) -> PlanList {
        let document = &policy.document;
        let mut offered: Vec<_> = document.tiers.iter().filter(|(_, tier)| tier.visible.0).collect();
        offered.sort_by_key(|(name, tier)| (tier.order, *name));
        let items = offered.into_iter().filter_map(|(name, _)| self.plan(policy, name, &is_free));
        PlanList { items: items.collect(), currency: document.billing.currency.clone() }
    }

    /// A tier, offered or not.
    pub(super) fn plan(
        &mut self,
        policy: &PolicyInForce,
        name: &str,
        is_free: impl Fn(&str) -> bool,
    ) -> Option<PlanBody> {
        let (document, tier) = (&policy.document, policy.document.tiers.get(name)?);
        let compiled = policy.compiled.tier(name)?;
        let limits = policy.compiled.limits_of(compiled, &Default::default());
        Some(PlanBody {
            title: tier.title.as_ref().map_or_else(|| name.to_owned(), |title| self.text(title)),
            description: tier.description.as_ref().map(|text| self.text(text)),
            order: tier.order,
            is_default: document.default_tier.as_deref() == Some(name),
            is_free: is_free(name),
            trial_days: tier.trial_days,
            prices: tier.prices.iter().map(|price| self.price(price)).collect(),
            features: compiled.features.iter().cloned().collect(),
            limits: limits.iter().map(|limit| LimitBody::new(limit, &policy.compiled)).collect(),
            name: name.to_owned(),
        })
    }

    fn text(&mut self, text: &Localized) -> String {
        let (text, tag) = self.languages.choose(text);
        if self.tag.is_none() {
            self.tag = tag.map(str::to_owned);
        }
        text.to_owned()
    }

    fn price(&mut self, price: &Price) -> serde_json::Value {
        let mut json = serde_json::to_value(price).unwrap_or_default();
        if let (Some(title), Some(members)) = (&price.title, json.as_object_mut()) {
            members.insert("title".to_owned(), self.text(title).into());
        }
        json
    }
}
