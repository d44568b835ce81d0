//! Whatever a batch holds, its answer is JSON with the callers' own ids.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::*;

/// Members with what matters to JSON-RPC, right and wrong.
fn members() -> impl Strategy<Value = String> {
    let pair = |name: &'static str, values: &[&'static str]| {
        let value = prop::sample::select(values.to_vec());
        value.prop_map(move |value| format!("\"{name}\":{value}"))
    };
    let pair = prop_oneof![
        8 => pair("jsonrpc", &["\"2.0\""]),
        8 => pair("method", &["\"m\"", "\"tools/call\"", "\"\\\"}\"", "\"\\ud800\""]),
        8 => pair("id", &["1", "-0.0", "\"\\\"],[\"", "null", "1e999", "{}", "[]", "true"]),
        4 => pair("params", &["{\"name\":\"t\"}", "[]", "{\"max_tokens\":5}", "3"]),
        1 => pair("Method", &["\"n\""]),
        1 => pair("result", &["{}"]),
    ];
    prop_oneof![
        9 => prop::collection::vec(pair, 0..7).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        1 => prop::sample::select(vec!["1", "[]", "{}", "null"]).prop_map(str::to_owned),
    ]
}

/// The texts of an array's elements.
fn elements(text: &str) -> Vec<&str> {
    let mut scanner = Scanner::new(text.as_bytes());
    let mut items = scanner.open().unwrap();
    let mut texts = Vec::new();
    while scanner.item(&mut items).unwrap() {
        let start = scanner.start().unwrap();
        scanner.skip().unwrap();
        texts.push(std::str::from_utf8(scanner.since(start)).unwrap());
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Every call with an id is answered once, in order, with that id; what a member is does not depend on its neighbours.
    #[test]
    fn answers_are_json_with_the_ids_of_the_calls(members in prop::collection::vec(members(), 1..6), message in any::<String>()) {
        let body = format!("[{}]", members.join(","));
        let Ok(calls) = Calls::parse(body.as_bytes(), &[], &[]) else { return Ok(()) };
        prop_assert!(calls.batch);
        let error = || RpcError { code: 1, message: message.clone(), data: None };
        let answer = error_responses(&calls, |_| error());
        let mut expected = Vec::new();
        for (member, text) in calls.members.iter().zip(&members) {
            match Calls::parse(text.as_bytes(), &[], &[]) {
                Ok(alone) => prop_assert_eq!(&alone.members[..], std::slice::from_ref(member)),
                Err(_) => prop_assert!(!matches!(member, Member::Call(_))),
            }
            match member {
                Member::Call(Call { id: Some(id), .. }) => expected.push((id.as_str(), 1)),
                Member::Invalid(id) => expected.push((id.as_ref().map_or("null", Id::as_str), -32600)),
                _ => {}
            }
        }
        if expected.is_empty() {
            prop_assert_eq!(answer, "");
            return Ok(());
        }
        // Ids may be JSON that serde_json has no value for, so they are compared as texts.
        serde_json::from_str::<IgnoredAny>(&answer).unwrap();
        let texts = elements(&answer);
        prop_assert_eq!(texts.len(), expected.len());
        for (text, (id, code)) in texts.iter().zip(expected) {
            let rest = text.strip_suffix(&format!(",\"id\":{id}}}")).expect("the id comes last");
            let answered: Value = serde_json::from_str(&format!("{rest}}}")).unwrap();
            prop_assert_eq!(&answered["error"]["code"], &json!(code));
            if code == 1 {
                prop_assert_eq!(&answered["error"]["message"], &json!(message));
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Calls::parse(&body, &pointers(), &[]);
    }
}
