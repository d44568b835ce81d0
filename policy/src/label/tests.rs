//! Labels of charges: where they are read, what text they make, and that what is not told apart has a text of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::labels::parse;

/// The labels of a charge on the route `POST /chat`: as far as the request tells them, and with what the response tells.
fn check(by: &[&str], given: &Value, request: &[(&str, &str)], response: &[(&str, &str)], expected: &Expect) {
    let by: Vec<String> = by.iter().map(|name| (*name).to_owned()).collect();
    let given: BTreeMap<String, LabelRule> = serde_json::from_value(given.clone()).unwrap();
    let labels = Labels::of(&by, "POST /chat", |name| given.get(name)).unwrap();
    let value = |from: &LabelFrom| {
        let (place, values) = match from {
            LabelFrom::Fixed(_) => return None,
            LabelFrom::RequestHeader(name) => (name.to_string(), request),
            LabelFrom::ResponseHeader(name) => (name.to_string(), response),
            LabelFrom::RequestJson(pointer) => (pointer.tokens().join("."), request),
            LabelFrom::ResponseJson(pointer) => (pointer.tokens().join("."), response),
        };
        values.iter().find(|(name, _)| *name == place).map(|(_, value)| (*value).into())
    };
    let shown = match (&labels, labels.read(&value)) {
        (Labels::Fixed(text), None) => format!("{text:?}"),
        (_, Some(read)) => format!("{:?}, then {:?}", read.as_str(), labels.complete(&read, &value)),
        other => format!("{other:?}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn a_text_has_its_names_in_order_and_its_values_encoded() {
    check(&[], &json!({}), &[], &[], &expect![[r#""""#]]);
    check(&["route"], &json!({}), &[], &[], &expect![[r#""route=POST%20%2Fchat""#]]);
    check(
        &["route", "provider", "model"],
        &json!({"provider": "a&b=*", "model": {"response_json": "/model"}}),
        &[],
        &[("model", "größe-1.5")],
        &expect![[
            r#""model=&provider=a%26b%3D*&route=POST%20%2Fchat", then "model=gr%C3%B6%C3%9Fe-1.5&provider=a%26b%3D*&route=POST%20%2Fchat""#
        ]],
    );
}

#[test]
fn what_nobody_tells_is_empty_and_what_is_too_long_is_not_told_apart() {
    check(&["model"], &json!({}), &[], &[], &expect![[r#""model=""#]]);
    let by_request = json!({"model": {"request_json": "/model"}, "region": {"request_header": "x-region"}});
    check(
        &["model", "region"],
        &by_request,
        &[],
        &[],
        &expect![[r#""model=&region=", then "model=&region=""#]],
    );
    let long = "m".repeat(300);
    check(
        &["model", "region"],
        &by_request,
        &[("model", &long), ("x-region", "eu")],
        &[],
        &expect![[r#""model=*&region=*", then "model=*&region=*""#]],
    );
}

#[test]
fn faults_of_a_rule_say_what_to_do() {
    let fault = |rule: Value| meaning_of(&serde_json::from_value(rule).unwrap()).unwrap_err().remove(0);
    assert_eq!(fault(json!("")).1, "write 1 to 128 bytes of text");
    assert!(fault(json!({})).1.starts_with("give one of"));
    assert!(fault(json!({"request_header": "a", "request_json": "/b"})).1.starts_with("give one of"));
    assert_eq!(fault(json!({"request_header": "A b"})).0, Some("request_header"));
    assert_eq!(fault(json!({"response_json": "model"})).0, Some("response_json"));
}

proptest! {
    /// Whatever callers send, a text is in its one form and within its bound, and different values make different texts.
    #[test]
    fn every_text_is_in_its_one_form(one in ".{0,90}", two in ".{0,90}") {
        let labels = Labels::Read(
            ["model", "region"]
                .map(|name| Label { name: name.into(), from: LabelFrom::RequestHeader(name.into()) })
                .into(),
        );
        let text = |model: &str| {
            let read = labels.read(&|from| Some(match from {
                LabelFrom::RequestHeader(name) if &**name == "model" => model.into(),
                _ => "eu".into(),
            }));
            read.unwrap().as_str().to_owned()
        };
        prop_assert!(parse(&text(&one)).is_some(), "{}", text(&one));
        prop_assert!(parse(&others(&text(&one))).is_some());
        let both_fit = [&one, &two].iter().all(|value| !text(value).contains('*'));
        prop_assert!(!both_fit || (one == two) == (text(&one) == text(&two)));
    }
}
