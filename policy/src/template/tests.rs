//! Templates by example, and that no value breaks out of its string.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const VALUES: Values<'static> = Values {
    code: Some("quota-exceeded"),
    title: Some("The quota is used up"),
    detail: Some("Say \"please\" \\ {used}\n"),
    limit: Some("storage"),
    meter: None,
    maximum: Some(5_000_000_000),
    used: Some(4_850_000_000),
    remaining: Some(150_000_000),
    needed: Some(200_000_000),
    per: Some("month"),
    tier: Some("free"),
    subject: Some("user:zoë"),
    route: None,
    feature: None,
    retry_after_s: Some(0),
    reset_s: Some(u64::MAX),
    reset_at_ms: Some(1_706_745_600_001),
    upgrade_url: Some("https://app.example.com/upgrade?from=free"),
};

/// Shows what `VALUES` make of each template, and what is wrong with it.
fn check(templates: &[Value], expected: Expect) {
    let mut lines = String::new();
    for template in templates {
        lines += &format!("{}\n", Template::new(template).render(&VALUES));
        for fault in super::check(template) {
            lines += &format!("    ! {fault}\n");
        }
    }
    expected.assert_eq(&lines);
}

#[test]
fn strings_are_filled_in_and_everything_else_stays() {
    check(
        &[
            json!({"error": "Limit of {maximum} reached", "used": "{used}", "limit": "{limit}", "list": [1.5, null, true]}),
            json!(
                "Storage quota exceeded. Current: {used:GB.2}GB/{maximum:GB.2}GB. This document ({needed:GB.2}GB) would exceed it."
            ),
            json!({"resetDate": "{reset_at}", "upgradeUrl": "{upgrade_url}", "retryAfter": "{retry_after_s}"}),
            json!({"{code}": {"nested": [["{tier}"], {}]}}),
            json!({"detail": "{detail}", "quoted": "\"{detail}\"", "all": "{reset_s}"}),
            json!(7),
        ],
        expect![[r#"
            {"error":"Limit of 5000000000 reached","limit":"storage","list":[1.5,null,true],"used":4850000000}
            "Storage quota exceeded. Current: 4.85GB/5.00GB. This document (0.20GB) would exceed it."
            {"resetDate":"2024-02-01T00:00:01Z","retryAfter":0,"upgradeUrl":"https://app.example.com/upgrade?from=free"}
            {"{code}":{"nested":[["free"],{}]}}
            {"all":18446744073709551615,"detail":"Say \"please\" \\ {used}\n","quoted":"\"Say \"please\" \\ {used}\n\""}
            7
        "#]],
    );
}

#[test]
fn what_is_absent_is_null_alone_and_nothing_within_a_string() {
    check(
        &[json!({"feature": "{feature}", "text": "[{feature}]", "route": "{route}{meter}"})],
        expect![[r#"{"feature":null,"route":"","text":"[]"}
"#]],
    );
    let template = Template::new(&json!(["{used:GB.2}", "{used:GB.2} GB", "{reset_at}"]));
    assert_eq!(template.render(&Values::default()).as_str(), r#"[null," GB",null]"#);
    let beyond = Values { reset_at_ms: Some(i64::MAX), ..Values::default() };
    assert_eq!(template.render(&beyond).as_str(), r#"[null," GB",null]"#);
}

#[test]
fn names_can_be_written_as_words() {
    check_values(
        &json!(["{meter:words}", "{limit:words} limit", "{feature:words}"]),
        &Values { meter: Some("storage_bytes"), limit: Some("api_calls.month"), ..Values::default() },
        r#"["storage bytes","api calls.month limit",null]"#,
    );
}

fn check_values(template: &serde_json::Value, values: &Values<'_>, expected: &str) {
    assert!(super::check(template).is_empty(), "{template}");
    assert_eq!(Template::new(template).render(values).as_str(), expected);
}

#[test]
fn formats_are_exact_and_round_half_up() {
    let format = |bytes, format: &str| {
        let template = json!(format!("{{used:{format}}}"));
        assert!(super::check(&template).is_empty(), "{template}");
        Template::new(&template).render(&Values { used: Some(bytes), ..Values::default() }).into_string()
    };
    let mut lines = String::new();
    for (bytes, name) in [
        (0, "GB"),
        (499_999_999, "GB"),
        (500_000_000, "GB"),
        (1_994_999_999, "GB.2"),
        (1_995_000_000, "GB.2"),
        (999_999_999, "GB.2"),
        (1, "GB.9"),
        (1, "KB.1"),
        (50, "KB.1"),
        (1_536, "KiB.1"),
        (1_023, "KiB"),
        (512, "KiB"),
        (511, "KiB"),
        (10 << 20, "MiB.3"),
        (3 << 29, "GiB.1"),
        (1_500_000, "MB.1"),
        (u64::MAX, "GB.9"),
        (u64::MAX, "GiB.9"),
    ] {
        lines += &format!("{bytes} {name} -> {}\n", format(bytes, name));
    }
    expect![[r#"
        0 GB -> "0"
        499999999 GB -> "0"
        500000000 GB -> "1"
        1994999999 GB.2 -> "1.99"
        1995000000 GB.2 -> "2.00"
        999999999 GB.2 -> "1.00"
        1 GB.9 -> "0.000000001"
        1 KB.1 -> "0.0"
        50 KB.1 -> "0.1"
        1536 KiB.1 -> "1.5"
        1023 KiB -> "1"
        512 KiB -> "1"
        511 KiB -> "0"
        10485760 MiB.3 -> "10.000"
        1610612736 GiB.1 -> "1.5"
        1500000 MB.1 -> "1.5"
        18446744073709551615 GB.9 -> "18446744073.709551615"
        18446744073709551615 GiB.9 -> "17179869183.999999999"
    "#]]
    .assert_eq(&lines);
}

#[test]
fn doubled_braces_are_braces() {
    check(
        &[json!(["{{used}}", "{{{used}}}", "{{", "}}", "a{{b}}c"])],
        expect![[r#"
            ["{used}","{4850000000}","{","}","a{b}c"]
        "#]],
    );
}

#[test]
fn what_is_wrong_is_said_and_stays_as_it_is_written() {
    check(
        &[
            json!({"a": "{usd}", "b": ["x {} y", "{Used}", "{ used }"]}),
            json!([
                "{used:TB}",
                "{used:GB.}",
                "{used:GB.10}",
                "{used:}",
                "{used:GB.-1}",
                "{title:GB}",
                "{reset_at:KB}",
                "{used:words}",
                "{meter:Words}"
            ]),
            json!(["{used", "used}", "{used}}", "{us{used}", "}{", "{"]),
            json!("é".repeat(100) + "{"),
        ],
        expect![[r#"
            {"a":"{usd}","b":["x {} y","{Used}","{ used }"]}
                ! {usd} is no placeholder: write one of code, title, detail, limit, meter, maximum, used, remaining, needed, per, tier, subject, route, feature, retry_after_s, reset_s, reset_at, upgrade_url, or {{ for a brace
                ! {} is no placeholder: write one of code, title, detail, limit, meter, maximum, used, remaining, needed, per, tier, subject, route, feature, retry_after_s, reset_s, reset_at, upgrade_url, or {{ for a brace
                ! {Used} is no placeholder: write one of code, title, detail, limit, meter, maximum, used, remaining, needed, per, tier, subject, route, feature, retry_after_s, reset_s, reset_at, upgrade_url, or {{ for a brace
                ! { used } is no placeholder: write one of code, title, detail, limit, meter, maximum, used, remaining, needed, per, tier, subject, route, feature, retry_after_s, reset_s, reset_at, upgrade_url, or {{ for a brace
            ["{used:TB}","{used:GB.}","{used:GB.10}","{used:}","{used:GB.-1}","{title:GB}","{reset_at:KB}","{used:words}","{meter:Words}"]
                ! {used:TB} has no format that is known: write one of KB, MB, GB, KiB, MiB, GiB, and up to .9 for decimals, such as {used:GB.2}
                ! {used:GB.} has no format that is known: write one of KB, MB, GB, KiB, MiB, GiB, and up to .9 for decimals, such as {used:GB.2}
                ! {used:GB.10} has no format that is known: write one of KB, MB, GB, KiB, MiB, GiB, and up to .9 for decimals, such as {used:GB.2}
                ! {used:} has no format that is known: write one of KB, MB, GB, KiB, MiB, GiB, and up to .9 for decimals, such as {used:GB.2}
                ! {used:GB.-1} has no format that is known: write one of KB, MB, GB, KiB, MiB, GiB, and up to .9 for decimals, such as {used:GB.2}
                ! {title:GB} formats what is no number: write :words, or leave :GB out
                ! {reset_at:KB} formats what is no number: write :words, or leave :KB out
                ! {used:words} has no format that is known: write one of KB, MB, GB, KiB, MiB, GiB, and up to .9 for decimals, such as {used:GB.2}
                ! {meter:Words} formats what is no number: write :words, or leave :Words out
            ["{used","used}","4850000000}","{us4850000000","}{","{"]
                ! "{used" has a brace without its partner: write {{ or }} for a brace
                ! "used}" has a brace without its partner: write {{ or }} for a brace
                ! "{used}}" has a brace without its partner: write {{ or }} for a brace
                ! "{us{used}" has a brace without its partner: write {{ or }} for a brace
                ! "}{" has a brace without its partner: write {{ or }} for a brace
                ! "}{" has a brace without its partner: write {{ or }} for a brace
                ! "{" has a brace without its partner: write {{ or }} for a brace
            "éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé{"
                ! "éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé" has a brace without its partner: write {{ or }} for a brace
        "#]],
    );
}

/// JSON whose strings are made of what placeholders are made of.
fn templates() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        prop::sample::select(vec![
            "{used}",
            "{detail}",
            "{subject}",
            "{used:GB.2}",
            "{reset_at}",
            "{feature}",
            "{{",
            "}}",
            "{",
            "}",
            "\"",
            "\\",
            "{x}",
            "\u{0}",
            " "
        ])
        .prop_map(str::to_owned),
        "\\PC{0,3}",
    ];
    let string = prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat());
    let leaf = prop_oneof![
        4 => string.clone().prop_map(Value::String),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i64>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(string.clone(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn same_shape(template: &Value, rendered: &Value) -> bool {
    match (template, rendered) {
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same_shape(old, new))
        }
        (Value::Object(old), Value::Object(new)) => {
            old.keys().eq(new.keys()) && old.values().zip(new.values()).all(|(old, new)| same_shape(old, new))
        }
        (Value::String(_), new) => matches!(new, Value::String(_) | Value::Number(_) | Value::Null),
        (old, new) => old == new,
    }
}

proptest! {
    #[test]
    fn whatever_the_values_the_shape_stays(
        template in templates(),
        text in any::<String>(),
        hostile in prop::sample::select(vec!["\",\"admin\":true,\"x\":\"", "\\", "\u{2028}</script>", "{used}", "}}"]),
        number in any::<u64>(),
        ms in any::<i64>(),
        absent in any::<bool>(),
    ) {
        let values = Values {
            detail: Some(&text),
            subject: Some(hostile),
            used: (!absent).then_some(number),
            reset_at_ms: Some(ms),
            ..Values::default()
        };
        let json = Template::new(&template).render(&values);
        let rendered: Value = serde_json::from_str(json.as_str()).expect("it is JSON");
        prop_assert!(same_shape(&template, &rendered), "{template} became {rendered}");
    }

    #[test]
    fn a_text_alone_is_that_text(text in any::<String>()) {
        let values = Values { detail: Some(&text), ..Values::default() };
        let alone: Value =
            serde_json::from_str(Template::new(&json!("{detail}")).render(&values).as_str()).unwrap();
        prop_assert_eq!(alone, json!(text));
        let within: Value =
            serde_json::from_str(Template::new(&json!("<{detail}>")).render(&values).as_str()).unwrap();
        prop_assert_eq!(within, json!(format!("<{text}>")));
    }

    #[test]
    fn a_format_is_off_by_half_a_digit_at_most(bytes in any::<u64>(), decimals in 0_u32..=9) {
        let template = Template::new(&json!(format!("{{used:GB.{decimals}}}")));
        let json = template.render(&Values { used: Some(bytes), ..Values::default() }).into_string();
        let digits: u128 = json.replace(['"', '.'], "").parse().unwrap();
        let step = 10_u128.pow(9 - decimals);
        let (written, bytes) = (digits * step, u128::from(bytes));
        prop_assert!(2 * written.abs_diff(bytes) <= step);
    }
}
