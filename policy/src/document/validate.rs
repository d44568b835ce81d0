//! Whether a policy document makes sense. Finds all that is wrong at once, and where, but not on which line.
//!
//! What the parts of a document mean is known to `crate::limit`, `crate::route` and `crate::status`; this asks them.

mod answers;
mod callers;
mod charges;
mod issuers;
mod limits;
mod prices;
mod routes;
mod tiers;
mod views;

use std::collections::BTreeSet;

use super::fault::Fault;
use super::model::PolicyDocument;

/// Most issuers in a document.
pub const ISSUERS_MAX: usize = 32;
/// Most keys in one JWKS.
pub const JWKS_KEYS_MAX: usize = 64;
/// Most audiences or algorithms of one issuer.
pub const ISSUER_LIST_MAX: usize = 32;
/// Largest clock tolerance, seconds.
pub const CLOCK_TOLERANCE_S_MAX: u32 = 300;
/// Most meters in a document.
pub const METERS_MAX: usize = 200;
/// Most tiers in a document.
pub const TIERS_MAX: usize = 200;
/// Most limits in one tier.
pub const LIMITS_MAX: usize = 64;
/// Most earlier versions that one tier keeps.
pub const EARLIER_MAX: usize = 16;
/// Longest trial, and longest grace after a failed payment, days.
pub const DAYS_MAX: u32 = 366;
/// Longest tag of a language, bytes (RFC 5646 section 4.4.1 asks for 35 at least).
pub const LANGUAGE_BYTES_MAX: usize = 35;
/// Most features of one tier, or of one route. They go into one request header.
pub const FEATURES_MAX: usize = 64;
/// Most routes in a document.
pub const ROUTES_MAX: usize = 1_000;
/// Most methods of one route.
pub const METHODS_MAX: usize = 32;
/// Most hosts of one route.
pub const HOSTS_MAX: usize = 32;
/// Most headers that one route matches.
pub const HEADERS_MAX: usize = 16;
/// Most JSON-RPC methods, or MCP tools, of one route.
pub const CALLS_MAX: usize = 64;
/// Most refund or success patterns of one route.
pub const STATUSES_MAX: usize = 32;
/// Most routes that one limit names.
pub const LIMIT_ROUTES_MAX: usize = 64;
/// Most proxies in front of this one that are trusted.
pub const TRUSTED_HOPS_MAX: u32 = 16;
/// Largest `bodies.json_bytes_max`: a worker reads bodies into memory of its own.
pub const JSON_BYTES_MAX: u64 = 16 << 20;
/// Most percentages to warn at.
pub const WARNINGS_MAX: usize = 8;
/// Largest body of a denial's template, bytes of its JSON.
pub const TEMPLATE_BYTES_MAX: usize = 16 << 10;
/// Most limits of one tier that one request can touch: all of them are checked in one swap.
pub const LIMITS_PER_REQUEST_MAX: usize = 16;
/// Most labels by which a meter tells its units apart.
pub const LABELS_MAX: usize = 8;
/// Longest names of them together, bytes.
pub const LABEL_NAMES_BYTES_MAX: usize = 128;
/// Longest label that is written into a policy, bytes.
pub const LABEL_BYTES_MAX: usize = 128;
/// Most prices of one tier.
pub const PRICES_MAX: usize = 64;
/// Most steps of one price.
pub const PRICE_STEPS_MAX: usize = 32;
/// Most costs by labels of one price.
pub const COSTS_MAX: usize = 200;
/// Largest fee, hundredths of a percent: ten times what it is on.
pub const FEE_BASIS_POINTS_MAX: u32 = 100_000;
/// Longest name of a meter, tier, limit or feature, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest text that is not a name, such as an issuer or an address, bytes.
pub const TEXT_BYTES_MAX: usize = 2_048;
/// Largest number of units: what JSON readers with floating-point numbers keep exactly (RFC 8259 section 6).
pub const UNITS_MAX: u64 = (1 << 53) - 1;
/// Most views.
pub const VIEWS_MAX: usize = 64;
/// Longest template of a view, bytes.
pub const VIEW_BYTES_MAX: usize = 64 << 10;
/// Most faults that are told; one more says that there are others.
pub const FAULTS_MAX: usize = 100;

/// All that is wrong with a document; empty when nothing is. Lines are unknown here, `parse` knows them.
pub fn validate(document: &PolicyDocument) -> Vec<Fault> {
    let mut faults = Faults::default();
    if document.version != 1 {
        faults.add("version", "write `version: 1`, the only version of this format");
    }
    issuers::validate(document, &mut faults);
    callers::validate(document, &mut faults);
    tiers::validate(document, &mut faults);
    prices::validate(document, &mut faults);
    routes::validate(document, &mut faults);
    answers::validate(&document.denials, &mut faults);
    views::validate(document, &mut faults);
    faults.into_vec()
}

/// The faults found so far, up to a bound.
#[derive(Default)]
struct Faults {
    found: Vec<Fault>,
    untold: usize,
}

impl Faults {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.found.len() < FAULTS_MAX {
            self.found.push(Fault::new(path, message));
        } else {
            self.untold += 1;
        }
    }

    fn into_vec(mut self) -> Vec<Fault> {
        if self.untold > 0 {
            self.found.push(Fault::new("", format!("correct these first: there are {} more", self.untold)));
        }
        self.found
    }

    fn check_count(&mut self, path: &str, what: &str, count: usize, max: usize) {
        if count > max {
            self.add(path, format!("use at most {max} {what}; there are {count}"));
        }
    }

    fn check_name(&mut self, path: &str, what: &str, name: &str) {
        if !is_name(name) {
            self.add(
                path,
                format!(
                    "name the {what} with a small letter and then small letters, digits, `_`, `.` and `-`, at most \
                     {NAME_BYTES_MAX} in all"
                ),
            );
        }
    }

    fn check_text(&mut self, path: &str, text: &str) {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            self.add(path, format!("write 1 to {TEXT_BYTES_MAX} bytes of text without control characters"));
        }
    }

    fn check_units(&mut self, path: &str, units: u64) {
        if units > UNITS_MAX {
            self.add(path, format!("use at most {UNITS_MAX} units (2^53 - 1)"));
        }
    }

    /// Names that must be well-formed and must not come twice.
    fn check_name_list(&mut self, path: &str, what: &str, names: &[String]) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            let path = super::fault::item(path, index);
            self.check_name(&path, what, name);
            if !seen.insert(name) {
                self.add(path, format!("remove this {what}: {name} is in the list already"));
            }
        }
    }
}

/// Whether a meter, tier, limit or feature can have this name: `[a-z][a-z0-9_.-]{0,63}`.
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
}

/// What is wrong with the name of a header that is to be read: of a request, before anything is added to it.
pub(crate) fn header_fault(name: &str) -> Option<String> {
    // A token (RFC 9110 section 5.1); proxies compare in small letters.
    let is_token =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Some(format!(
            "write the name of a header in small letters, such as x-api-version, at most {NAME_BYTES_MAX} bytes"
        ));
    }
    let own = name.starts_with("x-tollgate-");
    own.then(|| "use another header: those that start with x-tollgate- are Tollgate's own".to_owned())
}

#[cfg(test)]
mod tests;
