//! Which field of another system's users means what here: a record becomes a row of `POST /v1/import`. A field that nothing
//! names, such as a password, is never sent.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json, json};

use super::source::KEY_FIELD;

/// Numbers from here on are Unix time in ms, below it in seconds: the years 1973 in one, 5138 in the other.
const MS_FROM: i64 = 100_000_000_000;

/// Which field means what.
#[derive(Debug, Default, Args)]
pub struct Mapping {
    /// The tier that everybody gets whose own is not read from a field.
    #[arg(long)]
    pub tier: Option<String>,
    /// The field that something is read from, such as `subject=email` or `expires=subscription_expires_at`. Fields of
    /// objects in objects are named with dots. May be repeated.
    #[arg(long = "map", value_name = "WHAT=FIELD", value_parser = parse_map)]
    pub fields: Vec<(Target, String)>,
    /// What a value of theirs means here, such as `tier:premium=pro`. May be repeated.
    #[arg(long = "value", value_name = "WHAT:THEIRS=OURS", value_parser = parse_value)]
    pub values: Vec<(Target, String, String)>,
    /// A field that is archived, such as `credit_balance`, under its own name or another. May be repeated.
    #[arg(long = "archive", value_name = "[KIND=]FIELD", value_parser = parse_archive)]
    pub archives: Vec<(String, String)>,
    /// What subjects are that do not say so themselves.
    #[arg(long, value_enum, default_value_t = SubjectKind::User)]
    pub kind: SubjectKind,
}

/// What a field can be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Target {
    /// Who it is. Default: the field `subject`, else the name of the user's object.
    Subject,
    /// The tier.
    Tier,
    /// Where the subscription is in its life; `free`, `none` and nothing: there is none.
    State,
    /// Start of the first billing period. This and the others are moments: RFC 3339, a date with or without a time (of
    /// UTC), or Unix time.
    Anchor,
    /// From then on the tier is no longer in force.
    Expires,
    /// End of the trial.
    TrialEnds,
    /// Since when it is of its tier.
    Since,
}

/// What a subject is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SubjectKind {
    /// `user:…`
    #[default]
    User,
    /// `org:…`
    Org,
}

impl Mapping {
    /// The row that a record becomes, or why it cannot.
    pub fn row(&self, fields: &Map<String, Json>) -> Result<Json, String> {
        let mut row = Map::new();
        row.insert("subject".to_owned(), self.subject(fields)?.into());
        let state = self.text(Target::State, fields)?.map(|state| state.to_lowercase());
        let has_state = self.fields.iter().any(|(target, _)| *target == Target::State);
        let subscribes = match state.as_deref() {
            None => !has_state,
            Some("free" | "none") => false,
            Some(_) => true,
        };
        if subscribes {
            if let Some(tier) = self.text(Target::Tier, fields)?.or_else(|| self.tier.clone()) {
                row.insert("tier".to_owned(), tier.into());
            }
            row.extend(state.map(|state| ("state".to_owned(), state.into())));
            let moments = [
                (Target::Anchor, "anchor_ms"),
                (Target::Expires, "expires_at_ms"),
                (Target::TrialEnds, "trial_ends_at_ms"),
                (Target::Since, "tier_since_ms"),
            ];
            for (target, member) in moments {
                if let Some(text) = self.text(target, fields)? {
                    row.insert(member.to_owned(), moment(&text)?.into());
                }
            }
        }
        let archived = self.archives.iter().filter_map(|(kind, field)| {
            let value = find(fields, field).filter(|value| !is_nothing(value))?;
            Some((kind.clone(), value.clone()))
        });
        let archived: BTreeMap<String, Json> = archived.collect();
        if !archived.is_empty() {
            row.insert("archives".to_owned(), json!(archived));
        }
        Ok(Json::Object(row))
    }

    fn subject(&self, fields: &Map<String, Json>) -> Result<String, String> {
        let named = self.text(Target::Subject, fields)?;
        let is_mapped = self.fields.iter().any(|(target, _)| *target == Target::Subject);
        let found = match named {
            None if !is_mapped => {
                ["subject", KEY_FIELD].iter().find_map(|name| fields.get(*name)).map(text_of)
            }
            named => named.map(Ok),
        };
        let Some(found) = found.transpose()? else {
            return Err(match is_mapped {
                true => "it does not say who it is".to_owned(),
                false => "it does not say who it is; name the field with --map subject=FIELD".to_owned(),
            });
        };
        let is_subject = ["user:", "org:", "anon:"].iter().any(|kind| found.starts_with(kind));
        Ok(match (is_subject, self.kind) {
            (true, _) => found,
            (false, SubjectKind::User) => format!("user:{found}"),
            (false, SubjectKind::Org) => format!("org:{found}"),
        })
    }

    /// The text that a field has of something, in our words.
    fn text(&self, target: Target, fields: &Map<String, Json>) -> Result<Option<String>, String> {
        let mapped = self.fields.iter().find(|(mapped, _)| *mapped == target);
        let Some(value) =
            mapped.and_then(|(_, field)| find(fields, field)).filter(|value| !is_nothing(value))
        else {
            return Ok(None);
        };
        let theirs = text_of(value)?;
        let ours = self.values.iter().find(|(of, from, _)| *of == target && *from == theirs);
        Ok(Some(ours.map_or(theirs, |(_, _, ours)| ours.clone())))
    }
}

/// A field by its name, or by the names on the way to it.
fn find<'a>(fields: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    fields.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find(fields.get(first)?.as_object()?, rest)
    })
}

fn is_nothing(value: &Json) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

fn text_of(value: &Json) -> Result<String, String> {
    match value {
        Json::String(text) => Ok(text.trim().to_owned()),
        Json::Number(number) => Ok(number.to_string()),
        other => Err(format!("{other} is neither text nor a number")),
    }
}

fn moment(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(if number.abs() >= MS_FROM { number } else { number * 1000 });
    }
    let of_utc = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    let at = text.parse::<Timestamp>().ok().or_else(of_utc);
    at.map(Timestamp::as_millisecond).ok_or_else(|| format!("{text:?} is no moment; write it as in RFC 3339"))
}

fn parse_target(text: &str) -> Result<Target, String> {
    <Target as ValueEnum>::from_str(text, false).map_err(|_| {
        let names = Target::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

fn parse_map(text: &str) -> Result<(Target, String), String> {
    let (target, field) = text.split_once('=').ok_or("write it as WHAT=FIELD")?;
    Ok((parse_target(target)?, field.to_owned()))
}

fn parse_value(text: &str) -> Result<(Target, String, String), String> {
    let form = "write it as WHAT:THEIRS=OURS";
    let (target, value) = text.split_once(':').ok_or(form)?;
    let (theirs, ours) = value.rsplit_once('=').ok_or(form)?;
    Ok((parse_target(target)?, theirs.to_owned(), ours.to_owned()))
}

fn parse_archive(text: &str) -> Result<(String, String), String> {
    let (kind, field) = text.split_once('=').unwrap_or((text, text));
    Ok((kind.to_owned(), field.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{Mapping, SubjectKind, moment, parse_archive, parse_map, parse_value};

    fn mapping(tier: Option<&str>, maps: &[&str], values: &[&str], archives: &[&str]) -> Mapping {
        Mapping {
            tier: tier.map(str::to_owned),
            fields: maps.iter().map(|text| parse_map(text).unwrap()).collect(),
            values: values.iter().map(|text| parse_value(text).unwrap()).collect(),
            archives: archives.iter().map(|text| parse_archive(text).unwrap()).collect(),
            kind: SubjectKind::User,
        }
    }

    fn check(mapping: &Mapping, record: Json, expected: Result<Json, &str>) {
        let row = mapping.row(record.as_object().unwrap());
        assert_eq!(row, expected.map_err(str::to_owned), "{record}");
    }

    #[test]
    fn users_by_name_get_one_tier_and_their_passwords_stay_behind() {
        let mapping = mapping(Some("unlimited"), &[], &[], &[]);
        check(
            &mapping,
            json!({"@key": "alice", "password": "secret", "isAdmin": true}),
            Ok(json!({"subject": "user:alice", "tier": "unlimited"})),
        );
        check(
            &mapping,
            json!({"subject": "org:acme"}),
            Ok(json!({"subject": "org:acme", "tier": "unlimited"})),
        );
        check(
            &mapping,
            json!({"id": 7}),
            Err("it does not say who it is; name the field with --map subject=FIELD"),
        );
    }

    #[test]
    fn subscriptions_are_read_from_fields() {
        let mapping = mapping(
            Some("pro"),
            &["subject=id", "tier=plan.name", "state=status", "expires=expires_at"],
            &["tier:premium=pro", "state:canceled=cancelled"],
            &["credit_balance", "coins=wallet"],
        );
        check(
            &mapping,
            json!({"id": 7, "plan": {"name": "premium"}, "status": "canceled", "expires_at": "2025-09-01",
                   "credit_balance": "12.50", "wallet": {"gold": 3}}),
            Ok(
                json!({"subject": "user:7", "tier": "pro", "state": "cancelled", "expires_at_ms": 1_756_684_800_000_i64,
                      "archives": {"credit_balance": "12.50", "coins": {"gold": 3}}}),
            ),
        );
        check(
            &mapping,
            json!({"id": "8", "plan": {}, "status": "ACTIVE", "expires_at": "", "credit_balance": null}),
            Ok(json!({"subject": "user:8", "tier": "pro", "state": "active"})),
        );
        for status in [json!("free"), json!(""), json!("none"), Json::Null] {
            check(
                &mapping,
                json!({"id": "9", "status": status, "plan": {"name": "premium"}, "credit_balance": 0}),
                Ok(json!({"subject": "user:9", "archives": {"credit_balance": 0}})),
            );
        }
        check(&mapping, json!({"id": "", "status": "active"}), Err("it does not say who it is"));
        check(&mapping, json!({"id": []}), Err("[] is neither text nor a number"));
        check(
            &mapping,
            json!({"id": 1, "status": "active", "expires_at": "soon"}),
            Err("\"soon\" is no moment; write it as in RFC 3339"),
        );
    }

    #[test]
    fn moments_are_read_as_databases_write_them() {
        for text in [
            "2025-09-01T10:00:00Z",
            "2025-09-01T12:00:00+02:00",
            "2025-09-01 10:00:00+00",
            "2025-09-01 10:00:00",
            "2025-09-01T10:00:00.000",
            "1756720800",
            "1756720800000",
        ] {
            assert_eq!(moment(text), Ok(1_756_720_800_000), "{text}");
        }
        assert_eq!(moment("2024-02-29"), Ok(1_709_164_800_000));
        for text in ["2025-02-29", "01/09/2025", "tomorrow", "9999999999999999999999"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
