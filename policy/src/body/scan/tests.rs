//! The grammar by example, and against serde_json.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn scan(text: &[u8]) -> Result<(), JsonFault> {
    let mut scanner = Scanner::new(text);
    scanner.skip()?;
    scanner.end()
}

/// Shows of each text whether it is JSON.
fn check(texts: &[&str], expected: Expect) {
    let lines: Vec<String> =
        texts.iter().map(|text| format!("{text:?} -> {:?}\n", scan(text.as_bytes()))).collect();
    expected.assert_eq(&lines.concat());
}

#[test]
fn what_ends_early_is_told_from_what_is_wrong() {
    check(
        &[
            "",
            " ",
            "[",
            "[1",
            "[1,",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "\"\\",
            "\"\\u12",
            "tru",
            "-",
            "1.",
            "1e",
            "1e+",
            "nul",
            "[1}",
            "{]",
            "{1:2}",
            "[,]",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "+1",
            ".5",
            "truth",
            "1 2",
            "[] []",
            "'a'",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\u{1}\"",
            "NaN",
            "/**/1",
            "\u{feff}1",
            "1\u{feff}",
        ],
        expect![[r#"
            "" -> Err(Cut)
            " " -> Err(Cut)
            "[" -> Err(Cut)
            "[1" -> Err(Cut)
            "[1," -> Err(Cut)
            "{\"a" -> Err(Cut)
            "{\"a\"" -> Err(Cut)
            "{\"a\":" -> Err(Cut)
            "{\"a\":1" -> Err(Cut)
            "{\"a\":1," -> Err(Cut)
            "\"\\" -> Err(Cut)
            "\"\\u12" -> Err(Cut)
            "tru" -> Err(Cut)
            "-" -> Err(Cut)
            "1." -> Err(Cut)
            "1e" -> Err(Cut)
            "1e+" -> Err(Cut)
            "nul" -> Err(Cut)
            "[1}" -> Err(Malformed)
            "{]" -> Err(Malformed)
            "{1:2}" -> Err(Malformed)
            "[,]" -> Err(Malformed)
            "[1,]" -> Err(Malformed)
            "{\"a\":1,}" -> Err(Malformed)
            "01" -> Err(Malformed)
            "+1" -> Err(Malformed)
            ".5" -> Err(Malformed)
            "truth" -> Err(Malformed)
            "1 2" -> Err(Malformed)
            "[] []" -> Err(Malformed)
            "'a'" -> Err(Malformed)
            "\"\\x\"" -> Err(Malformed)
            "\"\\u12g4\"" -> Err(Malformed)
            "\"\u{1}\"" -> Err(Malformed)
            "NaN" -> Err(Malformed)
            "/**/1" -> Err(Malformed)
            "\u{feff}1" -> Ok(())
            "1\u{feff}" -> Err(Malformed)
        "#]],
    );
}

#[test]
fn nesting_is_bounded_wherever_it_is() {
    let nested = |depth: usize, open: &str, close: &str| {
        scan(format!("{}1{}", open.repeat(depth), close.repeat(depth)).as_bytes())
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[[],{\"a\":", "}]")] {
        assert_eq!(nested(32, open, close), Ok(()));
        assert_eq!(nested(65, open, close), Err(JsonFault::TooDeep));
        assert_eq!(nested(1_000_000, open, ""), Err(JsonFault::TooDeep));
    }
    assert_eq!(nested(64, "[", "]"), Ok(()));
    assert_eq!(scan("[{}],".repeat(1_000_000).as_bytes()), Err(JsonFault::Malformed));
}

#[test]
fn strings_that_nobody_asked_for_may_be_no_unicode() {
    assert_eq!(scan(b"[\"\xff\xfe\",\"\\ud800\",\"\\udc00x\"]"), Ok(()));
    assert_eq!(unescape(b"\"a\\u00e9\\n\""), "a\u{e9}\n");
    assert_eq!(unescape(b"\"\\ud83d\\ude00\""), "\u{1f600}");
    assert_eq!(unescape(b"\"a\xff\""), "a\u{fffd}");
    assert!(unescape(b"\"a\\ud800\"").starts_with("a\u{fffd}"));
}

/// JSON with something wrong in it, more often than not.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "00e9", "true", "null", "false", "-", "0", "12",
        ".", "e", "+", " ", "\n", "\"a\"", "\"a\":", "[]", "{}", "\u{e9}", "\u{1}",
    ]);
    let value = super::super::json::tests::values().prop_map(|value| value.to_string().into_bytes()).boxed();
    prop_oneof![
        prop::collection::vec(word, 0..12).prop_map(|words| words.concat().into_bytes()),
        (value.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut text, at, byte)| {
            let at = at.index(text.len());
            text[at] = byte;
            text
        }),
        (value, any::<prop::sample::Index>())
            .prop_map(|(text, at)| text[..at.index(text.len() + 1)].to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn json_is_what_serde_json_takes_for_it(text in texts()) {
        prop_assert_eq!(scan(&text).is_ok(), serde_json::from_slice::<IgnoredAny>(&text).is_ok());
    }

    /// What is cut can be completed; what is malformed is so from its first bytes on.
    #[test]
    fn only_the_beginning_of_json_is_cut(text in texts(), more in texts()) {
        if scan(&text) == Err(JsonFault::Malformed) {
            prop_assert_eq!(scan(&[text, more].concat()), Err(JsonFault::Malformed));
        }
    }
}
