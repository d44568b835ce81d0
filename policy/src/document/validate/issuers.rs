//! Issuers: that each is told apart, and where its keys are. The keys themselves are the JWT module's.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CLOCK_TOLERANCE_S_MAX, Faults, ISSUER_LIST_MAX, ISSUERS_MAX, JWKS_KEYS_MAX};
use crate::document::fault::{item, member};
use crate::document::model::{Issuer, KeySource, PolicyDocument};

pub(super) fn validate(document: &PolicyDocument, faults: &mut Faults) {
    faults.check_count("issuers", "issuers", document.issuers.len(), ISSUERS_MAX);
    let mut seen = BTreeSet::new();
    for (index, issuer) in document.issuers.iter().enumerate() {
        let path = item("issuers", index);
        if !seen.insert(&issuer.issuer) {
            faults.add(
                member(&path, "issuer"),
                "remove one of the two issuers with this name, or merge their keys",
            );
        }
        issuer_alone(issuer, &path, faults);
    }
}

fn issuer_alone(issuer: &Issuer, path: &str, faults: &mut Faults) {
    faults.check_text(&member(path, "issuer"), &issuer.issuer);
    let audiences = member(path, "audiences");
    faults.check_count(&audiences, "audiences", issuer.audiences.len(), ISSUER_LIST_MAX);
    for (index, audience) in issuer.audiences.iter().enumerate() {
        faults.check_text(&item(&audiences, index), audience);
    }
    let algorithms = member(path, "algorithms");
    faults.check_count(&algorithms, "algorithms", issuer.algorithms.len(), ISSUER_LIST_MAX);
    if issuer.clock_tolerance_s > CLOCK_TOLERANCE_S_MAX {
        faults.add(
            member(path, "clock_tolerance_s"),
            format!("use at most {CLOCK_TOLERANCE_S_MAX} seconds: a token is good for that much longer than it says"),
        );
    }
    if let Some(typ) = &issuer.require_typ {
        faults.check_text(&member(path, "require_typ"), typ);
    }
    let claims = member(path, "claims");
    let names = &issuer.claims;
    for (field, claim) in [
        ("user", Some(&names.user)),
        ("organization", names.organization.as_ref()),
        ("tier", names.tier.as_ref()),
    ] {
        if let Some(claim) = claim {
            claim_name(claim, &member(&claims, field), faults);
        }
    }
    if let Some(admin) = &names.organization_admin {
        let path = member(&claims, "organization_admin");
        claim_name(&admin.claim, &member(&path, "claim"), faults);
        let values = member(&path, "values");
        faults.check_count(&values, "values", admin.values.len(), ISSUER_LIST_MAX);
        for (index, value) in admin.values.iter().enumerate() {
            faults.check_text(&item(&values, index), value);
        }
        if admin.values.is_empty() {
            faults.add(values, "name the values of which one makes an administrator");
        }
        if names.organization.is_none() {
            faults.add(path, "say with `organization` which claim names the organisation");
        }
    }
    keys(&issuer.keys, &member(path, "keys"), faults);
}

fn claim_name(claim: &str, path: &str, faults: &mut Faults) {
    faults.check_text(path, claim);
    // RFC 6901 section 3: a tilde is only the start of `~0` and `~1`.
    let is_escape = |after: &str| after.starts_with(['0', '1']);
    if claim.starts_with('/') && !claim.split('~').skip(1).all(is_escape) {
        faults.add(path, "write `~` as `~0` in a JSON Pointer (RFC 6901), and a slash within a name as `~1`");
    }
}

fn keys(source: &KeySource, path: &str, faults: &mut Faults) {
    let given = [source.jwks.is_some(), source.file.is_some(), source.url.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        faults.add(path, "give exactly one of `jwks`, `file` and `url`");
    }
    if let Some(jwks) = &source.jwks {
        let path = member(path, "jwks");
        match jwks.get("keys").and_then(Value::as_array) {
            None => faults.add(path, "write a JSON Web Key Set: an object with an array `keys`"),
            Some(keys) => {
                faults.check_count(&path, "keys", keys.len(), JWKS_KEYS_MAX);
                for (index, _) in keys.iter().enumerate().filter(|(_, key)| !key.is_object()) {
                    faults.add(
                        item(&member(&path, "keys"), index),
                        "write a JSON Web Key: an object with `kty`",
                    );
                }
            }
        }
    }
    if let Some(file) = &source.file {
        faults.check_text(&member(path, "file"), file);
    }
    if let Some(url) = &source.url {
        let path = member(path, "url");
        faults.check_text(&path, url);
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
            faults.add(path, "write the whole address of the JWKS, starting with https:// or http://");
        }
    }
}
