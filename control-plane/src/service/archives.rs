//! Archives: what subjects had before they moved here, such as a balance of credits. They come with an import, are kept for
//! good, and each is given back once, so that whoever pays a balance back pays it once.

use serde_json::Value as Json;

use super::subscriptions::check_subject;
use super::{ControlPlane, Invalid, NotFound, ServiceError};
use crate::store::archives::Archive;
use crate::store::audit::Author;
use crate::store::{Tx, archives, audit};

/// Longest name of a kind, in characters.
pub const KIND_CHARS_MAX: usize = 64;

/// Largest archive, as JSON.
pub const DATA_BYTES_MAX: usize = 16 << 10;

/// What archiving came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archived {
    /// It was not there.
    Added,
    /// It was there with other data, which are replaced.
    Replaced,
    /// It was there with the same data.
    Unchanged,
}

impl ControlPlane {
    /// At most `limit` archives after the one of `after` (subject and kind).
    pub async fn archives(
        &self,
        after: (&str, &str),
        subject: Option<&str>,
        kind: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Archive>, ServiceError> {
        subject.map(check_subject).transpose()?;
        kind.map(check_kind).transpose()?;
        Ok(archives::list(&self.database, after, subject, kind, limit).await?)
    }

    /// An archive.
    pub async fn archive(&self, subject: &str, kind: &str) -> Result<Archive, ServiceError> {
        check_subject(subject)?;
        check_kind(kind)?;
        let found = archives::read(&self.database, subject, kind).await?;
        found.ok_or(ServiceError::NotFound(NotFound::Archive))
    }

    /// Gives an archive back. Once: whoever asks again is refused, since it may have been paid back already.
    pub async fn restore_archive(
        &self,
        author: &Author,
        subject: &str,
        kind: &str,
    ) -> Result<Archive, ServiceError> {
        check_subject(subject)?;
        check_kind(kind)?;
        let restored = self
            .database
            .transact("restore an archive", |tx| {
                Box::pin(async move {
                    let restored = archives::restore(tx, subject, kind, author.now_ms, &author.actor).await?;
                    if let Some(archive) = &restored {
                        let data = json_of(archive);
                        audit::append(tx, author, "archive.restore", subject, None, Some(&data)).await?;
                    }
                    Ok::<_, ServiceError>(restored)
                })
            })
            .await?;
        match restored {
            Some(archive) => Ok(archive),
            None => {
                let archive = self.archive(subject, kind).await?;
                let (at_ms, by) = archive.restored.unwrap_or_default();
                let at = crate::calendar::rfc3339(at_ms);
                let message = format!(
                    "It was given back at {at} to {by:?}. GET it to look at it; what was paid back is not paid back \
                     again."
                );
                Err(ServiceError::invalid(Invalid::ArchiveRestored, message))
            }
        }
    }
}

/// Archives what a subject had. The subject is locked.
pub(super) async fn archive_in(
    tx: &mut Tx<'_>,
    author: &Author,
    (subject, kind, data): (&str, &str, &Json),
    replace: bool,
) -> Result<Archived, ServiceError> {
    check_kind(kind)?;
    if data.to_string().len() > DATA_BYTES_MAX {
        let message = format!("The archive {kind:?} may have at most {DATA_BYTES_MAX} bytes.");
        return Err(ServiceError::invalid(Invalid::Archive, message));
    }
    let before = archives::read_in(tx, subject, kind).await?;
    match &before {
        Some(before) if before.data == *data => return Ok(Archived::Unchanged),
        Some(before) if !replace || before.restored.is_some() => {
            let message = match before.restored {
                Some(_) => format!("The archive {kind:?} was given back already, with other data."),
                None => format!("The archive {kind:?} is there already, with other data."),
            };
            return Err(ServiceError::invalid(Invalid::Archive, message));
        }
        _ => {}
    }
    let archive = Archive {
        subject: subject.to_owned(),
        kind: kind.to_owned(),
        data: data.clone(),
        archived_ms: author.now_ms,
        archived_by: author.actor.clone(),
        restored: None,
    };
    archives::write(tx, &archive).await?;
    let (old, new) = (before.as_ref().map(json_of), json_of(&archive));
    audit::append(tx, author, "archive.add", subject, old.as_ref(), Some(&new)).await?;
    Ok(if before.is_some() { Archived::Replaced } else { Archived::Added })
}

fn json_of(archive: &Archive) -> Json {
    serde_json::json!({ "kind": archive.kind, "data": archive.data })
}

fn check_kind(kind: &str) -> Result<(), ServiceError> {
    let good = (1..=KIND_CHARS_MAX).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    match good {
        true => Ok(()),
        false => {
            let message = format!(
                "Name an archive's kind with 1 to {KIND_CHARS_MAX} letters, digits, underscores, dots and hyphens: \
                 credit_balance."
            );
            Err(ServiceError::invalid(Invalid::Archive, message))
        }
    }
}
