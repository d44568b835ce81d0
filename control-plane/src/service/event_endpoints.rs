//! Endpoints of events: made, changed, tried, and their secrets replaced. A secret is shown once, when it is made.

use serde_json::{Value as Json, json};

use super::deliveries::address::check_url;
use super::deliveries::signature::Secret;
use super::happenings::{self, EventType, Happening};
use super::tokens::random_hex;
use super::{ControlPlane, Invalid, NotFound, ServiceError};
use crate::calendar::HOUR_MS;
use crate::store::audit::Author;
use crate::store::event_deliveries::DeliveryRow;
use crate::store::event_endpoints::{EndpointRow, StoredSecret};
use crate::store::events::{Due, EventRow};
use crate::store::{Tx, audit, event_deliveries, event_endpoints, events};

/// Most endpoints.
pub const ENDPOINTS_MAX: i64 = 50;

/// Most secrets that sign at once: each makes the header longer.
pub const SECRETS_MAX: usize = 4;

/// Longest time that a replaced secret goes on signing, hours.
pub const OVERLAP_HOURS_MAX: u32 = 24 * 30;

/// Longest description, characters.
const DESCRIPTION_CHARS_MAX: usize = 500;

/// Longest id, bytes.
const ID_BYTES_MAX: usize = 64;

/// Most deliveries that one call makes due again.
const AGAIN_MAX: i64 = 10_000;

/// An endpoint as it is asked for: what is left out stays, or is defaulted.
#[derive(Debug, Clone, Default)]
pub struct EndpointWish {
    /// Where events are told. Needed for a new one.
    pub url: Option<String>,
    /// For people.
    pub description: Option<Option<String>>,
    /// Types that are told; none: all.
    pub types: Option<Vec<String>>,
    /// Whether anything is told.
    pub enabled: Option<bool>,
}

impl ControlPlane {
    /// Makes an endpoint; answers it with its secret, which is shown this once. `secret` is one of the caller's own.
    pub async fn create_event_endpoint(
        &self,
        author: &Author,
        wish: &EndpointWish,
        secret: Option<&str>,
    ) -> Result<(EndpointRow, String), ServiceError> {
        let secret = new_secret(secret)?;
        let mut row = EndpointRow {
            id: format!("ep_{}", random_hex::<8>().map_err(|_| no_randomness())?),
            url: String::new(),
            description: None,
            types: Vec::new(),
            secrets: vec![StoredSecret { secret: secret.clone(), expires_ms: None }],
            disabled_ms: None,
            disabled_because: None,
            failing_ms: None,
            created_ms: author.now_ms,
            created_by: author.actor.clone(),
        };
        self.apply(&mut row, wish, author)?;
        if wish.url.is_none() {
            return Err(invalid("Give the url at which events are told."));
        }
        let row = &row;
        self.database
            .transact("create event endpoint", |tx| {
                Box::pin(async move {
                    if event_endpoints::count(tx).await? >= ENDPOINTS_MAX {
                        return Err(invalid(format!(
                            "There are {ENDPOINTS_MAX} endpoints; delete one first."
                        )));
                    }
                    event_endpoints::insert(tx, row).await?;
                    if row.disabled_ms.is_some() {
                        event_endpoints::update(tx, row).await?;
                    }
                    let after = about(row);
                    audit::append(tx, author, "event_endpoint.create", &row.id, None, Some(&after)).await?;
                    Ok(())
                })
            })
            .await?;
        Ok((row.clone(), secret))
    }

    /// Changes an endpoint: what the wish leaves out stays. One that is enabled again is told what it missed and is kept.
    pub async fn change_event_endpoint(
        &self,
        author: &Author,
        id: &str,
        wish: &EndpointWish,
    ) -> Result<EndpointRow, ServiceError> {
        self.database
            .transact("change event endpoint", |tx| {
                Box::pin(async move {
                    let before = locked(tx, id).await?;
                    let mut after = before.clone();
                    self.apply(&mut after, wish, author)?;
                    if after != before {
                        event_endpoints::update(tx, &after).await?;
                        let (was, is) = (about(&before), about(&after));
                        audit::append(tx, author, "event_endpoint.change", id, Some(&was), Some(&is)).await?;
                    }
                    Ok(after)
                })
            })
            .await
    }

    /// Deletes an endpoint, with all that it was still to be told.
    pub async fn delete_event_endpoint(&self, author: &Author, id: &str) -> Result<(), ServiceError> {
        self.database
            .transact("delete event endpoint", |tx| {
                Box::pin(async move {
                    let before = about(&locked(tx, id).await?);
                    event_endpoints::delete(tx, id).await?;
                    Ok(audit::append(tx, author, "event_endpoint.delete", id, Some(&before), None).await?)
                })
            })
            .await
    }

    /// Replaces an endpoint's secret. The one before signs besides for `overlap_hours` more, so that its receiver can change
    /// over when it likes. Answers the new one, which is shown this once.
    pub async fn rotate_event_secret(
        &self,
        author: &Author,
        id: &str,
        overlap_hours: u32,
        secret: Option<&str>,
    ) -> Result<(EndpointRow, String), ServiceError> {
        if overlap_hours > OVERLAP_HOURS_MAX {
            return Err(invalid(format!("Let secrets overlap for at most {OVERLAP_HOURS_MAX} hours.")));
        }
        let secret = &new_secret(secret)?;
        let until_ms = author.now_ms.saturating_add(i64::from(overlap_hours) * HOUR_MS);
        let row = self
            .database
            .transact("rotate event secret", |tx| {
                Box::pin(async move {
                    let mut row = locked(tx, id).await?;
                    for old in &mut row.secrets {
                        old.expires_ms = Some(old.expires_ms.map_or(until_ms, |end| end.min(until_ms)));
                    }
                    row.secrets.retain(|old| {
                        old.secret != *secret && old.expires_ms.is_some_and(|end| author.now_ms < end)
                    });
                    if row.secrets.len() >= SECRETS_MAX {
                        return Err(invalid(format!(
                            "{SECRETS_MAX} secrets sign already; wait until one expires, or give an overlap of 0 hours."
                        )));
                    }
                    row.secrets.insert(0, StoredSecret { secret: secret.clone(), expires_ms: None });
                    event_endpoints::update(tx, &row).await?;
                    let after = json!({ "overlap_hours": overlap_hours });
                    audit::append(tx, author, "event_endpoint.rotate", id, None, Some(&after)).await?;
                    Ok(row)
                })
            })
            .await?;
        Ok((row, secret.clone()))
    }

    /// Tells an endpoint a test event, whatever types it asked for. Answers the event's id.
    pub async fn test_event_endpoint(&self, author: &Author, id: &str) -> Result<String, ServiceError> {
        let nonce = random_hex::<8>().map_err(|_| no_randomness())?;
        let row = &Happening::Test { endpoint: id.to_owned(), nonce }.row(author.now_ms);
        self.database
            .transact("test event endpoint", |tx| {
                Box::pin(async move {
                    locked(tx, id).await?;
                    events::insert(tx, std::slice::from_ref(row)).await?;
                    events::enqueue(tx, &[Due { event: &row.id, endpoint: id }], author.now_ms).await?;
                    let after = json!({ "event": row.id });
                    audit::append(tx, author, "event_endpoint.test", id, None, Some(&after)).await?;
                    Ok::<_, ServiceError>(())
                })
            })
            .await?;
        Ok(row.id.clone())
    }

    /// Tells an event again: to one endpoint, whether it was told or not, else to all at which it has not arrived. Answers
    /// their ids.
    pub async fn redeliver_event(
        &self,
        author: &Author,
        event: &str,
        endpoint: Option<&str>,
    ) -> Result<Vec<String>, ServiceError> {
        self.event(event).await?;
        let missed = event_deliveries::of_event(&self.database, event).await?;
        let missed = &missed;
        self.database
            .transact("redeliver event", |tx| {
                Box::pin(async move {
                    let wanted: Vec<&str> = match endpoint {
                        Some(endpoint) => {
                            locked(tx, endpoint).await?;
                            vec![endpoint]
                        }
                        None => not_arrived(missed),
                    };
                    let mut told = Vec::new();
                    for endpoint in wanted {
                        if event_endpoints::lock(tx, endpoint).await?.is_some() {
                            event_deliveries::again(tx, event, endpoint, author.now_ms).await?;
                            told.push(endpoint.to_owned());
                        }
                    }
                    let after = json!({ "endpoints": told });
                    audit::append(tx, author, "event.redeliver", event, None, Some(&after)).await?;
                    Ok(told)
                })
            })
            .await
    }

    /// Tells an endpoint again what was given up, of events since `since_ms` (Unix ms). Answers how many.
    pub async fn recover_event_endpoint(
        &self,
        author: &Author,
        id: &str,
        since_ms: i64,
    ) -> Result<u64, ServiceError> {
        let from = &happenings::id_at(since_ms);
        self.database
            .transact("recover event endpoint", |tx| {
                Box::pin(async move {
                    locked(tx, id).await?;
                    let again =
                        event_deliveries::again_missed(tx, id, from, AGAIN_MAX, author.now_ms).await?;
                    let after = json!({ "events": again });
                    audit::append(tx, author, "event_endpoint.recover", id, None, Some(&after)).await?;
                    Ok(again)
                })
            })
            .await
    }

    /// An event.
    pub async fn event(&self, id: &str) -> Result<EventRow, ServiceError> {
        check_id(id, NotFound::Event)?;
        events::read(&self.database, id).await?.ok_or(ServiceError::NotFound(NotFound::Event))
    }

    /// An endpoint.
    pub async fn event_endpoint(&self, id: &str) -> Result<EndpointRow, ServiceError> {
        check_id(id, NotFound::EventEndpoint)?;
        let row = event_endpoints::read(&self.database, id).await?;
        row.ok_or(ServiceError::NotFound(NotFound::EventEndpoint))
    }

    /// At most `limit` endpoints after the id `after`.
    pub async fn event_endpoints(&self, after: &str, limit: i64) -> Result<Vec<EndpointRow>, ServiceError> {
        Ok(event_endpoints::page(&self.database, after, limit).await?)
    }

    fn apply(&self, row: &mut EndpointRow, wish: &EndpointWish, author: &Author) -> Result<(), ServiceError> {
        if let Some(url) = &wish.url {
            let url = check_url(url, self.settings.events.allow_private);
            row.url = url.map_err(|error| invalid(format!("Correct the url: {error}.")))?.to_string();
        }
        if let Some(description) = &wish.description {
            check_description(description.as_deref())?;
            row.description.clone_from(description);
        }
        if let Some(types) = &wish.types {
            let mut types = types.clone();
            types.sort();
            types.dedup();
            check_types(&types)?;
            row.types = types;
        }
        match wish.enabled {
            Some(true) => (row.disabled_ms, row.disabled_because, row.failing_ms) = (None, None, None),
            Some(false) if row.disabled_ms.is_none() => {
                row.disabled_ms = Some(author.now_ms);
                row.disabled_because = Some(format!("{} did so.", author.actor));
            }
            Some(false) | None => {}
        }
        Ok(())
    }
}

/// Refuses what no id made here looks like, before a database is asked for it.
fn check_id(id: &str, missing: NotFound) -> Result<(), ServiceError> {
    let good =
        id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if good { Ok(()) } else { Err(ServiceError::NotFound(missing)) }
}

fn not_arrived(deliveries: &[DeliveryRow]) -> Vec<&str> {
    let missed = deliveries.iter().filter(|delivery| delivery.state != "delivered");
    missed.map(|delivery| delivery.endpoint.as_str()).collect()
}

async fn locked(tx: &mut Tx<'_>, id: &str) -> Result<EndpointRow, ServiceError> {
    check_id(id, NotFound::EventEndpoint)?;
    event_endpoints::lock(tx, id).await?.ok_or(ServiceError::NotFound(NotFound::EventEndpoint))
}

fn check_description(description: Option<&str>) -> Result<(), ServiceError> {
    let good =
        |text: &str| text.chars().count() <= DESCRIPTION_CHARS_MAX && !text.chars().any(char::is_control);
    match description.is_none_or(good) {
        true => Ok(()),
        false => Err(invalid(format!(
            "Describe the endpoint in at most {DESCRIPTION_CHARS_MAX} characters, none a control character."
        ))),
    }
}

fn check_types(types: &[String]) -> Result<(), ServiceError> {
    let known = || EventType::ALL.into_iter().filter(|kind| *kind != EventType::Test);
    match types.iter().find(|name| !known().any(|kind| kind.name() == **name)) {
        None => Ok(()),
        Some(unknown) => {
            let known: Vec<&str> = known().map(EventType::name).collect();
            Err(invalid(format!("There is no type {unknown:?}; there are: {}.", known.join(", "))))
        }
    }
}

fn new_secret(given: Option<&str>) -> Result<String, ServiceError> {
    let secret = match given {
        Some(text) => Secret::parse(text).ok_or_else(|| {
            invalid(
                "Give a secret of whsec_ and the base64 of 24 to 64 random bytes, or none to have one made.",
            )
        })?,
        None => Secret::generate().map_err(|_| no_randomness())?,
    };
    Ok(secret.text())
}

fn no_randomness() -> ServiceError {
    ServiceError::Busy("The operating system gives no random numbers. Try again.")
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::invalid(Invalid::EventEndpoint, message)
}

/// What the audit log keeps of an endpoint: nothing secret, and of its address not what may be.
fn about(row: &EndpointRow) -> Json {
    let host = reqwest::Url::parse(&row.url).ok();
    let host = host.as_ref().map(|url| url.origin().ascii_serialization());
    json!({
        "host": host, "description": row.description, "types": row.types, "enabled": row.disabled_ms.is_none(),
    })
}
