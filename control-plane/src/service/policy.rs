//! Policies: applied, rolled back, and looked at. Applying is refused as a whole when anything is wrong with the text;
//! what is in force then stays.

use serde_json::{Value as Json, json};
use tollgate_policy::document::{Fault, PolicyDocument, parse};
use tollgate_policy::jwt::Keyring;

use super::versions::{ChangedTiers, carry};
use super::views::Views;
use super::{ControlPlane, NotFound, ServiceError};
use crate::store::audit::Author;
use crate::store::policies::{PolicyRow, PolicyVersion};
use crate::store::{Tx, audit, configuration, issuer_keys, policies};

/// Longest note on a version, characters.
pub const NOTE_CHARS_MAX: usize = 1_000;

/// What applying a policy did, or would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The version in force now. Without a change it is the one that was in force before; in a dry run, the one that
    /// would come.
    pub version: i64,
    /// The configuration's revision; nothing in a dry run.
    pub revision: Option<i64>,
    /// Parts of the document that differ, as paths such as `tiers.free`.
    pub changes: Vec<PolicyChange>,
}

/// A part of the document that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// Such as `tiers.free`.
    pub path: String,
    /// `added`, `removed` or `changed`.
    pub kind: &'static str,
}

/// Reads a policy and checks all that can be checked without asking anyone.
pub fn check(text: &str) -> Result<PolicyDocument, Vec<Fault>> {
    let document = parse(text)?;
    let mut faults = Vec::new();
    for (index, issuer) in document.issuers.iter().enumerate() {
        if issuer.keys.file.is_some() {
            faults.push(Fault {
                path: format!("issuers[{index}].keys.file"),
                line: None,
                column: None,
                message: "write the keys into the policy as `jwks`: the control plane reads no files. `tollgate policy \
                          apply` does so for you"
                    .to_owned(),
            });
        }
    }
    if let Err(found) = Keyring::from_issuers(&document.issuers) {
        faults.extend(found.into_iter().map(|(path, message)| Fault {
            path: format!("issuers{path}"),
            line: None,
            column: None,
            message,
        }));
    }
    if let Err(found) = Views::compile(&document) {
        faults.extend(found);
    }
    if faults.is_empty() { Ok(document) } else { Err(faults) }
}

impl ControlPlane {
    /// Puts a policy in force. `expected`: only when this version is in force (0: none). A policy that is in force
    /// already changes nothing.
    pub async fn apply_policy(
        &self,
        author: &Author,
        text: &str,
        note: Option<&str>,
        expected: Option<i64>,
    ) -> Result<Applied, ServiceError> {
        self.apply_policy_to(author, text, note, expected, ChangedTiers::All).await
    }

    /// As [`Self::apply_policy`]; `changed_tiers` says for whom tiers that differ do.
    pub async fn apply_policy_to(
        &self,
        author: &Author,
        text: &str,
        note: Option<&str>,
        expected: Option<i64>,
        changed_tiers: ChangedTiers,
    ) -> Result<Applied, ServiceError> {
        let written = &check(text).map_err(ServiceError::PolicyInvalid)?;
        let applied = self
            .database
            .transact("apply policy", |tx| {
                Box::pin(async move {
                    let current = expect_version(tx, expected).await?;
                    let before = current.as_ref().map(|row| &row.document);
                    let document = &carry(before, written, changed_tiers, author.now_ms)?;
                    let changes = differences(before, document);
                    if let (true, Some(current)) = (changes.is_empty(), &current) {
                        return Ok(Applied { version: current.about.version, revision: None, changes });
                    }
                    let version = policies::insert(tx, author, document, text, note).await?;
                    let from = current.as_ref().map(|row| row.about.version);
                    let revision =
                        put_in_force(tx, author, "policy.apply", from, version, document, &changes).await?;
                    Ok::<_, ServiceError>(Applied { version, revision: Some(revision), changes })
                })
            })
            .await?;
        self.configuration_rose().await?;
        Ok(applied)
    }

    /// What applying a policy would do.
    pub async fn try_policy(
        &self,
        text: &str,
        expected: Option<i64>,
        changed_tiers: ChangedTiers,
    ) -> Result<Applied, ServiceError> {
        let written = check(text).map_err(ServiceError::PolicyInvalid)?;
        let in_force = self.newest().await?;
        let current = in_force.policy.as_ref();
        let before = current.map(|policy| &policy.document);
        let document = carry(before, &written, changed_tiers, self.clock.now_ms())?;
        let found = current.map_or(0, |policy| policy.version);
        check_version(expected, found)?;
        let changes = differences(current.map(|policy| &policy.document), &document);
        let version = if changes.is_empty() { found } else { self.newest_version().await? + 1 };
        Ok(Applied { version, revision: None, changes })
    }

    /// Puts an earlier version in force again, as a new version.
    pub async fn roll_back_policy(
        &self,
        author: &Author,
        version: i64,
        expected: Option<i64>,
    ) -> Result<Applied, ServiceError> {
        let applied = self
            .database
            .transact("roll back policy", |tx| {
                Box::pin(async move {
                    let current = expect_version(tx, expected).await?;
                    let wanted = policies::read_in(tx, version).await?;
                    let wanted = wanted.ok_or(ServiceError::NotFound(NotFound::Version))?;
                    let changes = differences(current.as_ref().map(|row| &row.document), &wanted.document);
                    let note = format!("back to version {version}");
                    let new =
                        policies::insert(tx, author, &wanted.document, &wanted.source, Some(&note)).await?;
                    let from = current.map(|row| row.about.version);
                    let revision =
                        put_in_force(tx, author, "policy.rollback", from, new, &wanted.document, &changes)
                            .await?;
                    Ok::<_, ServiceError>(Applied { version: new, revision: Some(revision), changes })
                })
            })
            .await?;
        self.configuration_rose().await?;
        Ok(applied)
    }

    /// A version of the policy; that in force where none is named.
    pub async fn policy(&self, version: Option<i64>) -> Result<PolicyRow, ServiceError> {
        let (version, missing) = match version {
            Some(version) => (Some(version), NotFound::Version),
            None => {
                let read = configuration::read(&self.database).await?;
                (read.policy.map(|(version, _)| version), NotFound::Policy)
            }
        };
        let version = version.ok_or(ServiceError::NotFound(missing))?;
        policies::read(&self.database, version).await?.ok_or(ServiceError::NotFound(missing))
    }

    /// At most `limit` versions below `before`, the newest first.
    pub async fn policy_versions(&self, before: i64, limit: i64) -> Result<Vec<PolicyVersion>, ServiceError> {
        Ok(policies::page(&self.database, before, limit).await?)
    }

    async fn newest_version(&self) -> Result<i64, ServiceError> {
        let page = policies::page(&self.database, i64::MAX, 1).await?;
        Ok(page.first().map_or(0, |about| about.version))
    }

    /// After a commit that raised the configuration's revision.
    pub(super) async fn configuration_rose(&self) -> Result<(), ServiceError> {
        self.hub.poke();
        let in_force = self.refresh().await?;
        self.metrics.configuration_revision.set(i64::try_from(in_force.revision).unwrap_or(i64::MAX));
        Ok(())
    }
}

async fn expect_version(tx: &mut Tx<'_>, expected: Option<i64>) -> Result<Option<PolicyRow>, ServiceError> {
    let version = configuration::lock(tx).await?;
    check_version(expected, version.unwrap_or(0))?;
    match version {
        Some(version) => Ok(policies::read_in(tx, version).await?),
        None => Ok(None),
    }
}

fn check_version(expected: Option<i64>, found: i64) -> Result<(), ServiceError> {
    match expected {
        Some(expected) if expected != found => Err(ServiceError::VersionConflict { expected, found }),
        _ => Ok(()),
    }
}

async fn put_in_force(
    tx: &mut Tx<'_>,
    author: &Author,
    action: &str,
    from: Option<i64>,
    version: i64,
    document: &PolicyDocument,
    changes: &[PolicyChange],
) -> Result<i64, ServiceError> {
    configuration::set_policy(tx, version).await?;
    for issuer in &document.issuers {
        if let Some(url) = &issuer.keys.url {
            issuer_keys::ensure(tx, &issuer.issuer, url).await?;
        }
    }
    let revision = configuration::raise(tx).await?;
    let before = from.map(|version| json!({ "version": version }));
    let changes: Vec<Json> =
        changes.iter().map(|change| json!({ "path": change.path, "kind": change.kind })).collect();
    let after = json!({ "version": version, "revision": revision, "changes": changes });
    audit::append(tx, author, action, "policy", before.as_ref(), Some(&after)).await?;
    Ok(revision)
}

/// The parts of two documents that differ: members of the document, and of its maps and lists by name.
fn differences(before: Option<&PolicyDocument>, after: &PolicyDocument) -> Vec<PolicyChange> {
    let before = before.and_then(|document| serde_json::to_value(document).ok()).unwrap_or(Json::Null);
    let after = serde_json::to_value(after).unwrap_or(Json::Null);
    let mut changes = Vec::new();
    compare("", &before, &after, 2, &mut changes);
    changes
}

fn compare(path: &str, before: &Json, after: &Json, depth: u32, changes: &mut Vec<PolicyChange>) {
    if before == after {
        return;
    }
    if depth > 0 && (before.is_object() || before.is_null()) && after.is_object() {
        let empty = serde_json::Map::new();
        let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match (before.get(name), after.get(name)) {
                (Some(before), Some(after)) => compare(&path, before, after, depth - 1, changes),
                (None, Some(after)) if depth > 1 && after.is_object() => {
                    compare(&path, &Json::Null, after, depth - 1, changes);
                }
                (None, _) => changes.push(PolicyChange { path, kind: "added" }),
                (_, None) => changes.push(PolicyChange { path, kind: "removed" }),
            }
        }
        return;
    }
    changes.push(PolicyChange { path: path.to_owned(), kind: "changed" });
}
