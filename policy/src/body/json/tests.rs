//! Amounts by example, against serde_json, and what reading them costs.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::work;
use super::*;

fn pointers(texts: &[&str]) -> Vec<Pointer> {
    texts.iter().map(|text| Pointer::parse(text).unwrap()).collect()
}

/// Shows the amounts at `wanted` in each text.
fn check(wanted: &[&str], texts: &[&str], expected: Expect) {
    let wanted = pointers(wanted);
    let mut lines = String::new();
    for text in texts {
        let amounts = match numbers(text.as_bytes(), &wanted) {
            Ok(amounts) => amounts
                .iter()
                .map(|amount| amount.map_or_else(|unread| format!("{unread:?}"), |amount| amount.to_string()))
                .collect::<Vec<_>>()
                .join(" "),
            Err(fault) => fault.to_string(),
        };
        lines += &format!("{text} -> {amounts}\n");
    }
    expected.assert_eq(&lines);
}

#[test]
fn several_pointers_are_read_at_once() {
    check(
        &["/usage/total_tokens", "/usage", "/usage/input", "/list/1/n", "", "/usage/total_tokens"],
        &[
            r#"{"id":"x","usage":{"input":3,"total_tokens":15},"list":[{"n":1},{"n":2}]}"#,
            r#"{"usage":7,"list":{"1":{"n":4}}}"#,
            r#"{"list":[[],[]],"usage":null}"#,
            r#"{"\u0075s\u0061ge":{"total\u005ftokens":1}}"#,
            "12",
            "{}",
        ],
        expect![[r#"
            {"id":"x","usage":{"input":3,"total_tokens":15},"list":[{"n":1},{"n":2}]} -> 15 NotANumber 3 2 NotANumber 15
            {"usage":7,"list":{"1":{"n":4}}} -> Missing 7 Missing 4 NotANumber Missing
            {"list":[[],[]],"usage":null} -> Missing Missing Missing Missing NotANumber Missing
            {"\u0075s\u0061ge":{"total\u005ftokens":1}} -> 1 NotANumber Missing Missing NotANumber 1
            12 -> Missing Missing Missing Missing 12 Missing
            {} -> Missing Missing Missing Missing NotANumber Missing
        "#]],
    );
}

#[test]
fn tokens_are_member_names_and_element_numbers() {
    check(
        &["/a~1b", "/m~0n", "/", "/0", "/é"],
        &[r#"{"a/b":1,"m~n":2,"":3,"0":4,"é":5}"#, r#"{"a\/b":1,"m\u007en":2,"":{"":3},"00":4,"\u00e9":5}"#],
        expect![[r#"
            {"a/b":1,"m~n":2,"":3,"0":4,"é":5} -> 1 2 3 4 5
            {"a\/b":1,"m\u007en":2,"":{"":3},"00":4,"\u00e9":5} -> 1 2 NotANumber Missing 5
        "#]],
    );
    check(
        &["/a/0", "/a/01", "/a/-", "/a/1"],
        &[r#"{"a":[5,6]}"#, r#"{"a":[5]}"#, r#"{"a":[]}"#],
        expect![[r#"
            {"a":[5,6]} -> 5 Missing Missing 6
            {"a":[5]} -> 5 Missing Missing Missing
            {"a":[]} -> Missing Missing Missing Missing
        "#]],
    );
}

#[test]
fn whole_numbers_are_read_exactly_however_they_are_written() {
    check(
        &["/n"],
        &[
            r#"{"n":0}"#,
            r#"{"n":-0}"#,
            r#"{"n":0.00e5}"#,
            r#"{"n":12.0}"#,
            r#"{"n":1.2e1}"#,
            r#"{"n":1200e-2}"#,
            r#"{"n":1E+3}"#,
            r#"{"n":9007199254740993}"#,
            r#"{"n":9007199254740993.0}"#,
            r#"{"n":18446744073709551615}"#,
            r#"{"n":1844674407370955161.5e1}"#,
            r#"{"n":0.000000000000000000000000000001e30}"#,
            r#"{"n":1000000000000000000000000000000e-30}"#,
        ],
        expect![[r#"
            {"n":0} -> 0
            {"n":-0} -> 0
            {"n":0.00e5} -> 0
            {"n":12.0} -> 12
            {"n":1.2e1} -> 12
            {"n":1200e-2} -> 12
            {"n":1E+3} -> 1000
            {"n":9007199254740993} -> 9007199254740993
            {"n":9007199254740993.0} -> 9007199254740993
            {"n":18446744073709551615} -> 18446744073709551615
            {"n":1844674407370955161.5e1} -> 18446744073709551615
            {"n":0.000000000000000000000000000001e30} -> 1
            {"n":1000000000000000000000000000000e-30} -> 1
        "#]],
    );
}

#[test]
fn nothing_else_is_an_amount() {
    check(
        &["/n"],
        &[
            r#"{"n":-1}"#,
            r#"{"n":1.5}"#,
            r#"{"n":1e-1}"#,
            r#"{"n":12e-1}"#,
            r#"{"n":18446744073709551616}"#,
            r#"{"n":1e20}"#,
            r#"{"n":1e999}"#,
            r#"{"n":1e99999999999999999999999}"#,
            r#"{"n":1e-99999999999999999999999}"#,
            r#"{"n":"12"}"#,
            r#"{"n":true}"#,
            r#"{"n":{}}"#,
            r#"{"n":[1]}"#,
            r#"{"n":null}"#,
            r#"{"N":1}"#,
        ],
        expect![[r#"
            {"n":-1} -> NotANumber
            {"n":1.5} -> NotANumber
            {"n":1e-1} -> NotANumber
            {"n":12e-1} -> NotANumber
            {"n":18446744073709551616} -> NotANumber
            {"n":1e20} -> NotANumber
            {"n":1e999} -> NotANumber
            {"n":1e99999999999999999999999} -> NotANumber
            {"n":1e-99999999999999999999999} -> NotANumber
            {"n":"12"} -> NotANumber
            {"n":true} -> NotANumber
            {"n":{}} -> NotANumber
            {"n":[1]} -> NotANumber
            {"n":null} -> Missing
            {"N":1} -> Missing
        "#]],
    );
}

#[test]
fn the_last_of_two_members_of_one_name_counts_with_all_that_is_in_it() {
    check(
        &["/u/n", "/u"],
        &[
            r#"{"u":{"n":1,"n":2}}"#,
            r#"{"u":{"n":1},"u":{"n":2}}"#,
            r#"{"u":{"n":1},"u":{}}"#,
            r#"{"u":{"n":1},"u":3}"#,
            r#"{"u":{"n":1},"\u0075":{"\u006e":4}}"#,
        ],
        expect![[r#"
            {"u":{"n":1,"n":2}} -> 2 NotANumber
            {"u":{"n":1},"u":{"n":2}} -> 2 NotANumber
            {"u":{"n":1},"u":{}} -> Missing NotANumber
            {"u":{"n":1},"u":3} -> Missing 3
            {"u":{"n":1},"\u0075":{"\u006e":4}} -> 4 NotANumber
        "#]],
    );
}

#[test]
fn the_elements_of_an_array_are_added_up() {
    check(
        &["/result/n", ""],
        &[
            r#"[{"result":{"n":1}},{"error":{}},{"result":{"n":2}},{"result":{"n":null}}]"#,
            r#"[{"result":{"n":1}},{"result":{"n":"2"}},{"result":{"n":3}}]"#,
            r#"[{"result":{"n":18446744073709551615}},{"result":{"n":1}}]"#,
            "[]",
            "[1,2,3]",
            r#"[[{"result":{"n":1}}]]"#,
        ],
        expect![[r#"
            [{"result":{"n":1}},{"error":{}},{"result":{"n":2}},{"result":{"n":null}}] -> 3 NotANumber
            [{"result":{"n":1}},{"result":{"n":"2"}},{"result":{"n":3}}] -> NotANumber NotANumber
            [{"result":{"n":18446744073709551615}},{"result":{"n":1}}] -> NotANumber NotANumber
            [] -> Missing Missing
            [1,2,3] -> Missing 6
            [[{"result":{"n":1}}]] -> Missing NotANumber
        "#]],
    );
}

#[test]
fn what_is_not_json_has_no_amounts() {
    check(
        &["/n"],
        &[
            "",
            "{",
            r#"{"n":1"#,
            r#"{"n":1}}"#,
            r#"{"n":1,}"#,
            "n=1",
            r#"{"n":01}"#,
            r#"[{"n":1},]"#,
            r#"{"n":1} {"n":2}"#,
        ],
        expect![[r#"
             -> the JSON text ends too early
            { -> the JSON text ends too early
            {"n":1 -> the JSON text ends too early
            {"n":1}} -> the text is not JSON
            {"n":1,} -> the text is not JSON
            n=1 -> the text is not JSON
            {"n":01} -> the text is not JSON
            [{"n":1},] -> the text is not JSON
            {"n":1} {"n":2} -> the text is not JSON
        "#]],
    );
    let deep = format!("{{\"n\":1,\"x\":{}{}}}", "[".repeat(64), "]".repeat(64));
    assert_eq!(numbers(deep.as_bytes(), &pointers(&["/n"])), Err(JsonFault::TooDeep));
}

#[test]
fn a_number_that_nobody_asked_for_may_be_of_any_size_and_a_string_any_bytes() {
    let text = b"{\"x\":1e999,\"\xff\":\"\xfe\",\"\\ud800\":\"\\udfff\",\"n\":5}";
    assert_eq!(numbers(text, &pointers(&["/n"])), Ok(vec![Ok(5)]));
}

/// Texts of some size that look for a weakness.
pub(crate) fn hostile(count: usize) -> Vec<(&'static str, String)> {
    let member =
        |name: &str, value: &str| format!("{{{}\"z\":0}}", format!("\"{name}\":{value},").repeat(count));
    vec![
        ("members named twice", member("a", "{\"b\":{\"c\":1}}")),
        ("a number named twice", member("n", "1")),
        ("escaped names", member("\\u0061", "1")),
        ("names that are nearly wanted", member("A", "1")),
        ("names in another case", member("\u{17f}\u{212a}", "1")),
        ("elements", format!("[{}1]", "{\"a\":{\"b\":{\"c\":1}}},".repeat(count))),
        ("digits", format!("{{\"n\":{}}}", "9".repeat(8 * count))),
        ("zeros", format!("{{\"n\":0.{}1e{}}}", "0".repeat(8 * count), "0".repeat(8 * count))),
        ("open arrays", "[".repeat(8 * count)),
        ("quotes", "\"\\\"".repeat(4 * count)),
        ("one string", format!("\"{}", "\\u0061".repeat(2 * count))),
        ("space", " ".repeat(8 * count)),
    ]
}

#[test]
fn work_grows_with_the_text_and_no_faster() {
    let wanted = pointers(&["/a/b/c", "/a/b", "/n", "/a/0", "", "/sk"]);
    for ((what, small), (_, large)) in hostile(1_000).into_iter().zip(hostile(8_000)) {
        let cost = |text: &str| work::of(|| drop(numbers(text.as_bytes(), &wanted)));
        let (cost_small, cost_large) = (cost(&small), cost(&large));
        assert!(cost_small <= 8 * small.len() + 100, "{what}: {cost_small} for {} bytes", small.len());
        assert!(cost_large <= 9 * cost_small + 100, "{what}: {cost_small}, then {cost_large}");
    }
}

/// Values that have the names which tests ask for.
pub(crate) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..100).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-9.0..2e20).prop_map(|float: f64| Value::from(float.round())),
        "\\PC{0,3}".prop_map(Value::from),
    ];
    let name = prop_oneof![4 => prop::sample::select(vec!["a", "b", "c", "0", "1"]).prop_map(str::to_owned), 1 => "\\PC?"];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            3 => prop::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The amounts as serde_json's tree has them.
fn model(value: &Value, pointer: &Pointer) -> Result<u64, Unread> {
    match value.pointer(pointer.as_str()) {
        None | Some(Value::Null) => Err(Unread::Missing),
        Some(Value::Number(number)) => {
            // Rust writes a float with the digits that serde_json writes, and without an exponent.
            let float = || format!("{}", number.as_f64().filter(|&float| float >= 0.0)?.abs()).parse().ok();
            number.as_u64().or_else(float).ok_or(Unread::NotANumber)
        }
        Some(_) => Err(Unread::NotANumber),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn amounts_are_where_serde_json_finds_them(value in values(), pretty in any::<bool>()) {
        let texts = ["/a", "/b", "/a/b", "/a/b/c", "/a/0", "/a/1/b", "/0", "/a/b/0/c", "/c/a/b/0", ""];
        let wanted = pointers(&texts);
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        let amounts = numbers(text.as_bytes(), &wanted).unwrap();
        for (pointer, amount) in wanted.iter().zip(amounts) {
            let expected = match &value {
                Value::Array(items) => {
                    items.iter().map(|item| model(item, pointer)).fold(Err(Unread::Missing), added)
                }
                value => model(value, pointer),
            };
            prop_assert_eq!(amount, expected, "{}", pointer);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..64), json in "[\\[\\]{}\",:0-9a\\\\.eE+ -]*") {
        let wanted = pointers(&["/a", "", "/0/a"]);
        let _ = numbers(&text, &wanted);
        let _ = numbers(json.as_bytes(), &wanted);
    }
}
