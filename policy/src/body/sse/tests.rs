//! Streams by example, against the standard's own algorithm, and what reading them costs.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::super::lines::tests::split;
use super::*;

fn pointers() -> Vec<Pointer> {
    ["/n", "/usage/total"].map(|text| Pointer::parse(text).unwrap()).to_vec()
}

fn read<'c>(event_bytes_max: usize, chunks: impl IntoIterator<Item = &'c [u8]>) -> SseEnd {
    let mut reader = SseReader::new(&pointers(), &[], event_bytes_max);
    for chunk in chunks {
        reader.feed(chunk);
    }
    reader.finish()
}

/// Shows what each stream tells, whole and byte by byte.
fn check(event_bytes_max: usize, streams: &[&str], expected: Expect) {
    let mut lines = String::new();
    for stream in streams {
        let end = read(event_bytes_max, [stream.as_bytes()]);
        assert_eq!(end, read(event_bytes_max, stream.as_bytes().chunks(1)), "{stream:?}");
        let amounts: Vec<String> = end.amounts.iter().map(|amount| format!("{amount:?}")).collect();
        lines += &format!("{stream:?}\n    {}{}\n", amounts.join(" "), if end.cut { " cut" } else { "" });
    }
    expected.assert_eq(&lines);
}

#[test]
fn the_last_event_that_tells_an_amount_counts() {
    check(
        1_000,
        &[
            "data: {\"n\":1}\n\ndata: {\"n\":2,\"usage\":{\"total\":7}}\n\ndata: {\"usage\":null}\n\ndata: [DONE]\n\n",
            "event: a\ndata: {\"n\":1}\nid: 5\n\nevent: b\ndata: {\"n\":\"x\"}\n\n",
            "data: {\"n\":\"x\"}\n\ndata: {\"n\":1.5}\n\n",
            "data: {\"n\":-1}\n\ndata: {\"n\":3}\n\n",
            "data: ping\n\ndata: {\"n\":\n\ndata: {\"x\":1}\n\n",
            "",
        ],
        expect![[r#"
            "data: {\"n\":1}\n\ndata: {\"n\":2,\"usage\":{\"total\":7}}\n\ndata: {\"usage\":null}\n\ndata: [DONE]\n\n"
                Ok(2) Ok(7)
            "event: a\ndata: {\"n\":1}\nid: 5\n\nevent: b\ndata: {\"n\":\"x\"}\n\n"
                Ok(1) Err(Missing)
            "data: {\"n\":\"x\"}\n\ndata: {\"n\":1.5}\n\n"
                Err(NotANumber) Err(Missing)
            "data: {\"n\":-1}\n\ndata: {\"n\":3}\n\n"
                Ok(3) Err(Missing)
            "data: ping\n\ndata: {\"n\":\n\ndata: {\"x\":1}\n\n"
                Err(Missing) Err(Missing)
            ""
                Err(Missing) Err(Missing)
        "#]],
    );
}

#[test]
fn lines_end_in_every_way_and_comments_are_passed_over() {
    check(
        1_000,
        &[
            "\u{feff}data: {\"n\":1}\r\n\r\ndata: {\"n\":2}\r\rdata: {\"n\":3}\n\n",
            ": a comment\n:\ndata:{\"n\":1}\n: within\n\n: ping\n",
            "data: {\"n\":\ndata:  4\ndata: ,\"usage\"\ndata:: {\"total\": 5}\ndata\ndata:}\n\n",
            "data\n\ndata:\n\nDATA: {\"n\":1}\n\n data: {\"n\":2}\n\ndatum: {\"n\":3}\n\n",
            "data: {\"n\":\"a\ndata: \"}\n\n",
        ],
        expect![[r#"
            "\u{feff}data: {\"n\":1}\r\n\r\ndata: {\"n\":2}\r\rdata: {\"n\":3}\n\n"
                Ok(3) Err(Missing)
            ": a comment\n:\ndata:{\"n\":1}\n: within\n\n: ping\n"
                Ok(1) Err(Missing)
            "data: {\"n\":\ndata:  4\ndata: ,\"usage\"\ndata:: {\"total\": 5}\ndata\ndata:}\n\n"
                Ok(4) Ok(5)
            "data\n\ndata:\n\nDATA: {\"n\":1}\n\n data: {\"n\":2}\n\ndatum: {\"n\":3}\n\n"
                Err(Missing) Err(Missing)
            "data: {\"n\":\"a\ndata: \"}\n\n"
                Err(Missing) Err(Missing)
        "#]],
    );
}

#[test]
fn a_stream_that_ends_within_an_event_is_cut() {
    check(
        1_000,
        &[
            "data: {\"n\":1}",
            "data: {\"n\":1}\n",
            "data: {\"n\":1}\n\ndata: {\"n\":2",
            "data: {\"usage\":{\"total\":5}}\n\ndata: {\"n\":2}, ",
            "data: {\"n\":1}\n\nevent: message_stop\n",
            "data: {\"n\":1}\n\ndat",
            "data: {\"n\":1}\n\n: pin",
            "data: [DONE]",
            "data: 12",
        ],
        expect![[r#"
            "data: {\"n\":1}"
                Ok(1) Err(Missing)
            "data: {\"n\":1}\n"
                Ok(1) Err(Missing)
            "data: {\"n\":1}\n\ndata: {\"n\":2"
                Ok(1) Err(Cut) cut
            "data: {\"usage\":{\"total\":5}}\n\ndata: {\"n\":2}, "
                Err(Cut) Ok(5) cut
            "data: {\"n\":1}\n\nevent: message_stop\n"
                Ok(1) Err(Cut) cut
            "data: {\"n\":1}\n\ndat"
                Ok(1) Err(Cut) cut
            "data: {\"n\":1}\n\n: pin"
                Ok(1) Err(Missing)
            "data: [DONE]"
                Err(Cut) Err(Cut) cut
            "data: 12"
                Err(Cut) Err(Cut) cut
        "#]],
    );
    // A number may have lost digits, unless its line has ended.
    let root = [Pointer::parse("").unwrap()];
    for (stream, amount) in [("data: 12", Err(Unread::Cut)), ("data: 12\n", Ok(12)), ("data: 12\r", Ok(12))] {
        let mut reader = SseReader::new(&root, &[], 100);
        reader.feed(stream.as_bytes());
        assert_eq!(reader.finish().amounts, [amount], "{stream:?}");
    }
}

#[test]
fn an_event_over_the_bound_is_passed_over_and_reading_goes_on() {
    check(
        7,
        &[
            "data: {\"n\":1}\n\n",
            "data: {\"n\":10}\n\n",
            "data: {\"n\":10}\n\ndata: {\"n\":2}\n\n",
            "data: {\"n\":2}\n\ndata: {\"n\":10}\n\n",
            "data: {\"n\"\ndata: :1}\n\ndata: {}\n\n",
            "data: {\"n\":10}\ndata: {\"n\":3}\n\n",
            "data: {\"n\":10",
            ": a long, long comment\nevent: with_a_long_name\ndata:  {\"n\":1\n\n",
            "event: with_a_long_name\ndata:{\"n\":4}\n\n",
        ],
        expect![[r#"
            "data: {\"n\":1}\n\n"
                Ok(1) Err(Missing)
            "data: {\"n\":10}\n\n"
                Err(TooLong) Err(TooLong)
            "data: {\"n\":10}\n\ndata: {\"n\":2}\n\n"
                Ok(2) Err(TooLong)
            "data: {\"n\":2}\n\ndata: {\"n\":10}\n\n"
                Ok(2) Err(TooLong)
            "data: {\"n\"\ndata: :1}\n\ndata: {}\n\n"
                Err(TooLong) Err(TooLong)
            "data: {\"n\":10}\ndata: {\"n\":3}\n\n"
                Err(TooLong) Err(TooLong)
            "data: {\"n\":10"
                Err(Cut) Err(Cut) cut
            ": a long, long comment\nevent: with_a_long_name\ndata:  {\"n\":1\n\n"
                Err(Missing) Err(Missing)
            "event: with_a_long_name\ndata:{\"n\":4}\n\n"
                Ok(4) Err(Missing)
        "#]],
    );
}

/// Streams made of what events are made of.
fn streams() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "data: ",
        "data:",
        "data",
        "event: x",
        ": ping",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\r\n\r\n",
        "{\"n\":1}",
        "{\"n\":2}",
        "{\"n\":",
        "3",
        "}",
        "{\"usage\":{\"total\":4}}",
        "[DONE]",
        " ",
        "\u{feff}",
        "{\"n\":\"x\"}",
        "\u{e9}",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

/// The standard's algorithm on a whole stream, of which only complete events count.
fn model(stream: &str) -> Vec<Result<u64, Unread>> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let mut latest = Latest::new(&pointers(), &[]);
    let mut data = String::new();
    for line in stream.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        match field {
            "" if line.is_empty() => {
                if let Some(data) = std::mem::take(&mut data).strip_suffix('\n') {
                    let _ = latest.read(data.as_bytes());
                }
            }
            "data" => data += &format!("{}\n", value.strip_prefix(' ').unwrap_or(value)),
            _ => {}
        }
    }
    latest.finish(None).amounts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn chunks_make_no_difference(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        event_bytes_max in 0_usize..24,
    ) {
        let whole = read(event_bytes_max, [stream.as_bytes()]);
        prop_assert_eq!(&read(event_bytes_max, split(stream.as_bytes(), &cuts)), &whole);
        prop_assert_eq!(&read(event_bytes_max, stream.as_bytes().chunks(1)), &whole);
    }

    #[test]
    fn complete_events_are_those_of_the_standard(stream in streams()) {
        let stream = stream + "\n\n";
        prop_assert_eq!(read(usize::MAX, [stream.as_bytes()]), SseEnd { amounts: model(&stream), texts: Vec::new(), cut: false });
    }

    #[test]
    fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..16), 0..8)) {
        let _ = read(8, chunks.iter().map(Vec::as_slice));
    }
}

#[test]
fn work_grows_with_the_stream_and_no_faster() {
    let streams = |count: usize| {
        vec![
            ("events", "data: {\"n\":1,\"x\":\"aaaaaaaaaaaaaaaaaaaaaaaaa\"}\n\n".repeat(count)),
            ("one event", "data: {\"n\":1}\n".repeat(count)),
            ("one line", format!("data: {}", "[".repeat(8 * count))),
            ("empty lines", "\n".repeat(8 * count)),
            ("empty data", "data\n".repeat(8 * count)),
            ("comments", ":\n".repeat(8 * count)),
        ]
    };
    for chunk_bytes in [1, 7, usize::MAX] {
        for ((what, small), (_, large)) in streams(1_000).into_iter().zip(streams(8_000)) {
            let cost =
                |stream: &str| work::of(|| drop(read(usize::MAX, stream.as_bytes().chunks(chunk_bytes))));
            let (cost_small, cost_large) = (cost(&small), cost(&large));
            assert!(cost_small <= 6 * small.len(), "{what}: {cost_small} for {} bytes", small.len());
            assert!(cost_large <= 9 * cost_small, "{what}: {cost_small}, then {cost_large}");
        }
    }
}

#[test]
fn an_event_within_a_chunk_is_looked_at_twice_and_not_copied() {
    let event = "data: {\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n\n";
    let stream = event.repeat(100);
    let cost = work::of(|| drop(read(1_000, [stream.as_bytes()])));
    // Once for its lines, once for its JSON; the names are compared with the pointers'.
    assert!(cost <= 2 * stream.len(), "{cost} for {} bytes", stream.len());
}
