//! Bodies by media type, however they are cut into chunks.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::super::lines::tests::split;
use super::*;

fn pointers() -> Vec<Pointer> {
    ["/n", "/m"].map(|text| Pointer::parse(text).unwrap()).to_vec()
}

fn read<'c>(
    content_type: &str,
    bytes_max: usize,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Vec<Result<u64, Unread>> {
    let mut reader = ResponseReader::new(Some(content_type.as_bytes()), &pointers(), &[], bytes_max);
    for chunk in chunks {
        reader.feed(chunk);
    }
    reader.finish().amounts
}

/// Shows the amounts in each body, of at most 20 bytes (or lines, or events of so many).
fn check(content_type: &str, bodies: &[&str], expected: Expect) {
    let mut lines = String::new();
    for body in bodies {
        let amounts = read(content_type, 20, [body.as_bytes()]);
        assert_eq!(amounts, read(content_type, 20, body.as_bytes().chunks(1)), "{body:?}");
        lines += &format!("{body:?} -> {amounts:?}\n");
    }
    expected.assert_eq(&lines);
}

#[test]
fn a_media_type_says_how_a_body_is_read() {
    let mut lines = String::new();
    for content_type in [
        "application/json",
        "Application/JSON; charset=utf-8",
        " application/problem+json ;x",
        "text/json",
        "text/event-stream;charset=utf-8",
        "application/x-ndjson",
        "application/jsonl",
        "application/json-seq",
        "text/html",
        "application/json, text/html",
        "",
        "\u{e9}",
    ] {
        lines += &format!("{content_type:?} -> {:?}\n", BodyForm::of(content_type.as_bytes()));
    }
    expect![[r#"
        "application/json" -> Json
        "Application/JSON; charset=utf-8" -> Json
        " application/problem+json ;x" -> Json
        "text/json" -> Json
        "text/event-stream;charset=utf-8" -> Events
        "application/x-ndjson" -> JsonLines
        "application/jsonl" -> JsonLines
        "application/json-seq" -> Other
        "text/html" -> Other
        "application/json, text/html" -> Other
        "" -> Other
        "é" -> Other
    "#]]
    .assert_eq(&lines);
}

#[test]
fn a_json_body_is_read_whole_or_not_at_all() {
    check(
        "application/json",
        &[
            "{\"n\":1}",
            " {\"n\": \"2\", \"m\":3}",
            "{\"n\":1,\"m\":22222222}",
            "{\"n\":1,\"m\":222222222}",
            "",
            " \n",
            "{\"n\":1",
            "{\"n\":1}x",
            "[{\"n\":1},{\"n\":2}]",
        ],
        expect![[r#"
            "{\"n\":1}" -> [Ok(1), Err(Missing)]
            " {\"n\": \"2\", \"m\":3}" -> [Err(NotANumber), Ok(3)]
            "{\"n\":1,\"m\":22222222}" -> [Ok(1), Ok(22222222)]
            "{\"n\":1,\"m\":222222222}" -> [Err(TooLong), Err(TooLong)]
            "" -> [Err(Missing), Err(Missing)]
            " \n" -> [Err(Missing), Err(Missing)]
            "{\"n\":1" -> [Err(Cut), Err(Cut)]
            "{\"n\":1}x" -> [Err(Malformed), Err(Malformed)]
            "[{\"n\":1},{\"n\":2}]" -> [Ok(3), Err(Missing)]
        "#]],
    );
}

#[test]
fn the_last_line_that_tells_an_amount_counts() {
    check(
        "application/x-ndjson",
        &[
            "{\"n\":1}\n{\"n\":2}\r\n\n{\"m\":3}",
            "{\"n\":1}\n{\"m\":3}\n{\"m\":null}\n",
            "{\"n\":1}\n{\"m\":11111111111111111}\n{}",
            "{\"n\":1}\n{\"m\":\n{}",
            "{\"n\":1}\n{\"m\":",
            "{\"n\":1}\nm=1\n",
            "{\"n\":\r1}\n",
            "",
        ],
        expect![[r#"
            "{\"n\":1}\n{\"n\":2}\r\n\n{\"m\":3}" -> [Ok(2), Ok(3)]
            "{\"n\":1}\n{\"m\":3}\n{\"m\":null}\n" -> [Ok(1), Ok(3)]
            "{\"n\":1}\n{\"m\":11111111111111111}\n{}" -> [Ok(1), Err(TooLong)]
            "{\"n\":1}\n{\"m\":\n{}" -> [Ok(1), Err(Malformed)]
            "{\"n\":1}\n{\"m\":" -> [Ok(1), Err(Cut)]
            "{\"n\":1}\nm=1\n" -> [Ok(1), Err(Malformed)]
            "{\"n\":\r1}\n" -> [Ok(1), Err(Missing)]
            "" -> [Err(Missing), Err(Missing)]
        "#]],
    );
}

#[test]
fn events_are_read_as_they_pass() {
    check(
        "text/event-stream",
        &[
            "data: {\"n\":1}\n\ndata: {\"m\":2}\n\ndata: [DONE]\n\n",
            "data: {\"n\":1}\n\ndata: {\"m\"",
            "data: {\"n\":11111111111111111}\n\n",
        ],
        expect![[r#"
            "data: {\"n\":1}\n\ndata: {\"m\":2}\n\ndata: [DONE]\n\n" -> [Ok(1), Ok(2)]
            "data: {\"n\":1}\n\ndata: {\"m\"" -> [Ok(1), Err(Cut)]
            "data: {\"n\":11111111111111111}\n\n" -> [Err(TooLong), Err(TooLong)]
        "#]],
    );
}

#[test]
fn nothing_else_is_read() {
    check(
        "text/html",
        &["{\"n\":1}", ""],
        expect![[r#"
        "{\"n\":1}" -> [Err(NotJson), Err(NotJson)]
        "" -> [Err(NotJson), Err(NotJson)]
    "#]],
    );
    let mut reader = ResponseReader::new(None, &pointers(), &[], 20);
    assert!(!reader.wants_more());
    reader.feed(b"{\"n\":1}");
    assert_eq!(reader.finish().amounts, [Err(Unread::NotJson); 2]);
}

#[test]
fn a_body_that_can_tell_no_more_is_not_asked_for() {
    let json = Some(&b"application/json"[..]);
    assert!(!ResponseReader::new(json, &[], &[], 20).wants_more());
    assert_eq!(ResponseReader::new(json, &[], &[], 20).finish().amounts, []);
    let mut reader = ResponseReader::new(json, &pointers(), &[], 20);
    reader.feed(&[b' '; 20]);
    assert!(reader.wants_more());
    reader.feed(b" ");
    assert!(!reader.wants_more());
    reader.feed(&[b' '; 20]);
    assert_eq!(reader.finish().amounts, [Err(Unread::TooLong); 2]);
}

#[test]
fn a_stream_without_end_is_read_within_the_bound() {
    for content_type in ["application/json", "text/event-stream", "application/jsonl"] {
        let mut reader = ResponseReader::new(Some(content_type.as_bytes()), &pointers(), &[], 1_000);
        let chunk = [b"data: ", &b"x".repeat(4_090)[..]].concat();
        let cost = work::of(|| (0..2_560).for_each(|_| reader.feed(&chunk)));
        // 10 MiB, of which no more than the bound is copied.
        assert!(cost <= 2_560 * chunk.len() + 2_000, "{content_type}: {cost}");
        assert_eq!(reader.finish().amounts, [Err(Unread::TooLong); 2], "{content_type}");
    }
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        content_type in prop::sample::select(vec!["application/json", "text/event-stream", "application/jsonl", "text/html"]),
        words in prop::collection::vec(
            prop::sample::select(vec!["{\"n\":1}", "{\"m\":", "2", "}", "\n", "\r\n", "data: ", "[", "]", ",", " "]), 0..16),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        bytes_max in 0_usize..40,
    ) {
        let body = words.concat();
        let whole = read(content_type, bytes_max, [body.as_bytes()]);
        prop_assert_eq!(whole.len(), 2);
        prop_assert_eq!(&read(content_type, bytes_max, split(body.as_bytes(), &cuts)), &whole);
        prop_assert_eq!(&read(content_type, bytes_max, body.as_bytes().chunks(1)), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(
        content_type in prop::collection::vec(any::<u8>(), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for content_type in [&content_type[..], b"application/json", b"text/event-stream", b"application/jsonl"] {
            let mut reader = ResponseReader::new(Some(content_type), &pointers(), &[], 40);
            body.chunks(5).for_each(|chunk| reader.feed(chunk));
            prop_assert_eq!(reader.finish().amounts.len(), 2);
        }
    }
}

/// The texts at `/model` and `/usage/tier` of a body, whatever chunks it comes in.
fn check_texts(content_type: &str, body: &str, expected: [Option<&str>; 2]) {
    let texts = ["/model", "/usage/tier"].map(|text| Pointer::parse(text).unwrap());
    for size in [1, 3, 7, 1_000] {
        let mut reader = ResponseReader::new(Some(content_type.as_bytes()), &pointers(), &texts, 1_000);
        body.as_bytes().chunks(size).for_each(|chunk| reader.feed(chunk));
        let told = reader.finish();
        assert_eq!(told.amounts.len(), pointers().len());
        let texts: Vec<Option<&str>> = told.texts.iter().map(Option::as_deref).collect();
        assert_eq!(texts, expected, "{body:?} in chunks of {size}");
    }
}

#[test]
fn texts_are_read_beside_amounts() {
    let json = "application/json";
    check_texts(json, r#"{"model": "m\u00e9", "usage": {"tier": "a"}}"#, [Some("mé"), Some("a")]);
    check_texts(json, r#"{"model": 12.50, "usage": {"tier": true}}"#, [Some("12.50"), Some("true")]);
    check_texts(json, r#"{"model": null, "usage": {"tier": {}}}"#, [None, None]);
    check_texts(json, r#"{"model": "a", "model": "b"}"#, [Some("b"), None]);
    check_texts(
        json,
        r#"[{"model": "a"}, {}, {"model": "a", "usage": {"tier": "x"}}]"#,
        [Some("a"), Some("x")],
    );
    check_texts(json, r#"[{"model": "a"}, {"model": "b"}, {"model": "b"}]"#, [None, None]);
    check_texts(json, r#"{"model": "a""#, [None, None]);
    check_texts("text/plain", r#"{"model": "a"}"#, [None, None]);
    let events = "data: {\"model\":\"a\"}\n\ndata: {\"model\":\"b\",\"usage\":{\"tier\":\"t\"}}\n\ndata: {\"model\":null}\n\ndata: [DONE]\n\n";
    check_texts("text/event-stream", events, [Some("b"), Some("t")]);
    check_texts("application/x-ndjson", "{\"model\":\"a\"}\n{\"model\":\"b\"}\n", [Some("b"), None]);
}

#[test]
fn of_a_text_no_more_is_kept_than_tells_that_it_is_long() {
    let texts = [Pointer::parse("/model").unwrap()];
    let mut reader = ResponseReader::new(Some(b"application/json"), &[], &texts, 100_000);
    reader.feed(format!(r#"{{"model": "{}"}}"#, "é".repeat(10_000)).as_bytes());
    let told = reader.finish().texts;
    assert_eq!(told[0].as_ref().map(|text| text.len()), Some(super::super::json::TEXT_BYTES_MAX));
}
