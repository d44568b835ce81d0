//! Lines by example, and that chunks make no difference.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// The lines of `chunks`, each with `!` if it was too long, and `~` before the last if it has no end.
fn lines<'c>(end: LineEnd, bytes_max: usize, chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<String> {
    let show = |line: Line<'_>| {
        format!("{}{}", String::from_utf8_lossy(&line.text), if line.too_long { "!" } else { "" })
    };
    let mut reader = Lines::new(end, bytes_max);
    let mut shown = Vec::new();
    for mut chunk in chunks {
        while let Some(line) = reader.next(&mut chunk) {
            shown.push(show(line));
        }
        assert!(chunk.is_empty());
    }
    shown.extend(reader.last().map(|line| format!("~{}", show(line))));
    shown
}

fn check(chunks: &[&str], expected: Expect) {
    let split = |end| lines(end, 4, chunks.iter().map(|chunk| chunk.as_bytes()));
    expected.assert_eq(&format!("any: {:?}\nlf: {:?}\n", split(LineEnd::Any), split(LineEnd::Lf)));
}

#[test]
fn every_kind_of_line_end_counts_once() {
    check(
        &["a\nb\rc\r\n\r\n\n\rd"],
        expect![[r#"
        any: ["a", "b", "c", "", "", "", "~d"]
        lf: ["a", "b\rc\r", "\r", "", "~\rd"]
    "#]],
    );
    check(
        &["a\r", "", "\nb\r", "c", "\r", "\r\n"],
        expect![[r#"
        any: ["a", "b", "c", ""]
        lf: ["a\r", "b\rc\r!"]
    "#]],
    );
    check(
        &["", "\n", ""],
        expect![[r#"
        any: [""]
        lf: [""]
    "#]],
    );
    check(
        &[],
        expect![[r#"
        any: []
        lf: []
    "#]],
    );
}

#[test]
fn only_the_beginning_of_a_long_line_is_kept() {
    check(
        &["abcd\nabcde\nab\n"],
        expect![[r#"
        any: ["abcd", "abcd!", "ab"]
        lf: ["abcd", "abcd!", "ab"]
    "#]],
    );
    check(
        &["ab", "cd", "", "e", "f\n", "a", "b", "cd", "\n", "abcde"],
        expect![[r#"
        any: ["abcd!", "abcd", "~abcd!"]
        lf: ["abcd!", "abcd", "~abcd!"]
    "#]],
    );
    assert_eq!(lines(LineEnd::Lf, 0, [&b"a\n\nb"[..]]), ["!", "", "~!"]);
}

#[test]
fn a_line_within_a_chunk_is_not_copied() {
    let mut reader = Lines::new(LineEnd::Any, 10);
    let mut chunk = &b"ab\r\ncd"[..];
    let first = reader.next(&mut chunk).unwrap();
    assert!(matches!(first.text, Cow::Borrowed(b"ab")));
    assert_eq!(reader.next(&mut chunk), None);
    let second = reader.next(&mut &b"e\n"[..]).unwrap();
    assert!(matches!(&second.text, Cow::Owned(text) if text == b"cde"));
}

/// A text cut into chunks anywhere.
pub(crate) fn split<'t>(text: &'t [u8], cuts: &[prop::sample::Index]) -> Vec<&'t [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        text in "[ab\r\n]{0,24}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        any_end in any::<bool>(),
        bytes_max in 0_usize..6,
    ) {
        let end = if any_end { LineEnd::Any } else { LineEnd::Lf };
        let whole = lines(end, bytes_max, [text.as_bytes()]);
        prop_assert_eq!(&lines(end, bytes_max, split(text.as_bytes(), &cuts)), &whole);
        prop_assert_eq!(&lines(end, bytes_max, text.as_bytes().chunks(1)), &whole);
        // Unbounded, they are what the standard library makes of the text.
        let text = if any_end { text.replace("\r\n", "\n").replace('\r', "\n") } else { text };
        let expected: Vec<String> = text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
            Some(line) => line.to_owned(),
            None => format!("~{line}"),
        }).collect();
        prop_assert_eq!(lines(end, usize::MAX, split(text.as_bytes(), &[])), expected);
    }
}
