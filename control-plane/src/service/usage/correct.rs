//! Corrections: usage that was counted wrongly is put right by a new entry with a reason, not by changing what is there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use tollgate_policy::document::UNITS_MAX;

use super::{AHEAD_MS_MAX, check_key, check_meter, labels_text};
use crate::calendar::hour_of;
use crate::service::bypass::check_reason;
use crate::service::entitled::check_known_subject;
use crate::service::{ControlPlane, Invalid, ServiceError};
use crate::store::audit::Author;
use crate::store::usage::corrections::{self, Correction, CorrectionRow, SESSION};
use crate::store::usage::{UsageWrite, add, sent};
use crate::store::{StoreError, audit, subjects};

/// What is to be corrected.
#[derive(Debug, Clone)]
pub struct CorrectionWish {
    /// The caller's own name for it, so that a repeated request corrects once.
    pub key: Option<String>,
    /// The meter.
    pub meter: String,
    /// How much more was used; less than nothing for less.
    pub units: i64,
    /// When it counts. Default: now.
    pub at: Option<Timestamp>,
    /// What its units are told apart by.
    pub labels: BTreeMap<String, String>,
    /// Why.
    pub reason: String,
}

/// A correction, and whether it was made just now.
#[derive(Debug, Clone)]
pub struct Corrected {
    /// The correction.
    pub row: CorrectionRow,
    /// Else it was made before, under the same key.
    pub is_new: bool,
}

impl ControlPlane {
    /// Corrects what a subject used.
    pub async fn correct_usage(
        &self,
        author: &Author,
        subject: &str,
        wish: &CorrectionWish,
    ) -> Result<Corrected, ServiceError> {
        check_known_subject(subject)?;
        check_meter(&wish.meter)?;
        check_reason(&wish.reason)?;
        if let Some(key) = &wish.key {
            check_key("key", key)?;
        }
        if wish.units == 0 || wish.units.unsigned_abs() > UNITS_MAX {
            let message = format!("Correct by 1 to {UNITS_MAX} units, or by as many less than nothing.");
            return Err(ServiceError::invalid(Invalid::Usage, message));
        }
        let at_ms = wish.at.map_or(author.now_ms, Timestamp::as_millisecond);
        if at_ms < 0 || at_ms > author.now_ms.saturating_add(AHEAD_MS_MAX) {
            let message = "Correct usage that was, not usage of the future.";
            return Err(ServiceError::invalid(Invalid::Usage, message));
        }
        let correction = &Correction {
            key: wish.key.clone(),
            subject: subject.to_owned(),
            meter: wish.meter.clone(),
            labels: labels_text(&wish.labels)?,
            at_ms,
            units: wish.units,
            reason: wish.reason.clone(),
        };
        let has_time = wish.at.is_some();
        self.database
            .transact("correct usage", |tx| {
                Box::pin(async move {
                    subjects::lock(tx, &[subject]).await?;
                    if let Some(key) = &correction.key
                        && let Some(row) = corrections::find(tx, subject, key).await?
                    {
                        // One that was to count at once was made at another moment than its repetition.
                        let at_ms = if has_time { correction.at_ms } else { row.correction.at_ms };
                        return match row.correction == (Correction { at_ms, ..correction.clone() }) {
                            true => Ok(Corrected { row, is_new: false }),
                            false => Err(ServiceError::KeyConflict(key.clone())),
                        };
                    }
                    let row = corrections::insert(tx, author, correction).await?;
                    let usage = [UsageWrite {
                        subject,
                        hour_ms: hour_of(correction.at_ms),
                        meter: &correction.meter,
                        labels: &correction.labels,
                        taken: correction.units.max(0),
                        freed: correction.units.min(0).saturating_neg(),
                    }];
                    if add(tx, SESSION, &usage).await? > i64::try_from(UNITS_MAX).unwrap_or(i64::MAX) {
                        let message = format!("Correct an hour by at most {UNITS_MAX} units in all.");
                        return Err(ServiceError::invalid(Invalid::Usage, message));
                    }
                    sent::note(tx, &usage).await?;
                    let after = json!({
                        "id": row.id, "meter": correction.meter, "labels": correction.labels,
                        "units": correction.units, "at_ms": correction.at_ms, "reason": correction.reason,
                    });
                    audit::append(tx, author, "usage.correct", subject, None, Some(&after)).await?;
                    Ok(Corrected { row, is_new: true })
                })
            })
            .await
    }

    /// At most `limit` corrections of a subject before the one of this number, the newest first.
    pub async fn corrections(
        &self,
        subject: &str,
        before_id: i64,
        limit: i64,
    ) -> Result<Vec<CorrectionRow>, ServiceError> {
        check_known_subject(subject)?;
        let found: Result<_, StoreError> = corrections::page(&self.database, subject, before_id, limit).await;
        Ok(found?)
    }
}
