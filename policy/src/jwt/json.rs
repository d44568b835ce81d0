//! JSON in which no object names a member twice: two readers of one token must not see two different callers.
//!
//! RFC 7515 4 and RFC 7519 4 let a parser refuse duplicates or take the last; Tollgate refuses, at any depth. Nesting is
//! bounded by serde_json's own limit of 128.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads one JSON object and nothing after it. `None` for anything else.
pub(super) fn parse_object(bytes: &[u8]) -> Option<Value> {
    match serde_json::from_slice(bytes) {
        Ok(Unique(object @ Value::Object(_))) => Some(object),
        _ => None,
    }
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without repeated member names")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unique(value))) = access.next_entry::<String, Unique>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is named twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, accepted: bool) {
        let plain = serde_json::from_str::<Value>(text).ok();
        assert_eq!(parse_object(text.as_bytes()), plain.filter(|_| accepted), "{text}");
    }

    #[test]
    fn unique_objects_read_as_serde_json_reads_them() {
        check(r#"{"a":[1,-1,1.5,18446744073709551615,"x\n",null,true,{"a":{}}],"b":"\u00e9"}"#, true);
        check("{}", true);
    }

    #[test]
    fn a_member_named_twice_is_refused_at_any_depth() {
        check(r#"{"a":1,"a":1}"#, false);
        check(r#"{"a":1,"\u0061":1}"#, false);
        check(r#"{"x":[{"a":1,"b":2,"a":3}]}"#, false);
    }

    #[test]
    fn only_one_object_is_read() {
        for text in
            ["", "[]", "null", "\"a\"", "{} {}", "{", "{\"a\":1e999}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}"]
        {
            check(text, false);
        }
        assert_eq!(parse_object(b"{\"a\":\"\xff\"}"), None);
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse_object(nested(100).as_bytes()).is_some());
        assert!(parse_object(nested(3_000).as_bytes()).is_none());
    }
}
