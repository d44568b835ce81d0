//! What paths become, and which are refused.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// Shows what each of some paths becomes, with `copied` where it was not borrowed.
fn check(paths: &[&str], expected: Expect) {
    let mut lines = String::new();
    for path in paths {
        lines += &match normalise(path) {
            Ok(Cow::Borrowed(normal)) => format!("{path:?} -> {normal}\n"),
            Ok(Cow::Owned(normal)) => format!("{path:?} -> {normal} (copied)\n"),
            Err(error) => format!("{path:?}: {error:?}\n"),
        };
    }
    expected.assert_eq(&lines);
}

#[test]
fn query_and_fragment_are_cut() {
    check(
        &["/v1/items?a=/../b", "/v1#x?y", "/?", "/v1?%zz\\"],
        expect![[r#"
        "/v1/items?a=/../b" -> /v1/items
        "/v1#x?y" -> /v1
        "/?" -> /
        "/v1?%zz\\" -> /v1
    "#]],
    );
}

#[test]
fn a_clean_path_is_borrowed() {
    check(
        &["/", "/v1/items/42", "/a.b/..c/d..", "/~user/a-b_c:@!$&'()*+,=", "/v1/items/"],
        expect![[r#"
        "/" -> /
        "/v1/items/42" -> /v1/items/42
        "/a.b/..c/d.." -> /a.b/..c/d..
        "/~user/a-b_c:@!$&'()*+,=" -> /~user/a-b_c:@!$&'()*+,=
        "/v1/items/" -> /v1/items
    "#]],
    );
}

#[test]
fn printable_characters_are_decoded_and_other_escapes_kept() {
    check(
        &[
            "/%761/items",
            "/a%2Db%2eC%5f%7E",
            "/caf%c3%a9",
            "/a%20b",
            "/100%25",
            "/a%3bb",
            "/a%3Fb%23c",
            "/%41%5a%61%7a%30%39/",
            "/items%3aexport",
            "/%21%7e%7B",
        ],
        expect![[r#"
            "/%761/items" -> /v1/items (copied)
            "/a%2Db%2eC%5f%7E" -> /a-b.C_~ (copied)
            "/caf%c3%a9" -> /caf%C3%A9 (copied)
            "/a%20b" -> /a%20b (copied)
            "/100%25" -> /100%25 (copied)
            "/a%3bb" -> /a%3Bb (copied)
            "/a%3Fb%23c" -> /a%3Fb%23c (copied)
            "/%41%5a%61%7a%30%39/" -> /AZaz09 (copied)
            "/items%3aexport" -> /items:export (copied)
            "/%21%7e%7B" -> /!~{ (copied)
        "#]],
    );
}

#[test]
fn dot_segments_are_refused_however_they_are_written() {
    check(
        &["/.", "/..", "/a/./b", "/a/../b", "/a/%2e%2E/b", "/a/.%2e", "/a/%2e", "/../", "/a/..?x"],
        expect![[r#"
        "/.": DotSegment
        "/..": DotSegment
        "/a/./b": DotSegment
        "/a/../b": DotSegment
        "/a/%2e%2E/b": DotSegment
        "/a/.%2e": DotSegment
        "/a/%2e": DotSegment
        "/../": DotSegment
        "/a/..?x": DotSegment
    "#]],
    );
}

#[test]
fn empty_segments_are_refused() {
    check(
        &["//", "//a", "/a//b", "/a//", "//evil.example/a"],
        expect![[r#"
        "//": EmptySegment
        "//a": EmptySegment
        "/a//b": EmptySegment
        "/a//": EmptySegment
        "//evil.example/a": EmptySegment
    "#]],
    );
}

#[test]
fn bytes_that_servers_read_in_two_ways_are_refused() {
    check(
        &[
            "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", "/a\\b", "/a;b=c", "/;", "/a\0b", "/a%00b", "/a%1Fb",
            "/a\x1fb", "/a%7fb", "/a\x7fb", "/a b", "/a\tb", "/é", "/\u{80}",
        ],
        expect![[r#"
            "/a%2fb": EncodedSlash
            "/a%2Fb": EncodedSlash
            "/a%5cb": Backslash
            "/a%5Cb": Backslash
            "/a\\b": Backslash
            "/a;b=c": PathParameter
            "/;": PathParameter
            "/a\0b": Control
            "/a%00b": Control
            "/a%1Fb": Control
            "/a\u{1f}b": Control
            "/a%7fb": Control
            "/a\u{7f}b": Control
            "/a b": Control
            "/a\tb": Control
            "/é": NotAscii
            "/\u{80}": NotAscii
        "#]],
    );
}

#[test]
fn malformed_escapes_are_refused() {
    check(
        &["/%", "/%4", "/%4g", "/%g4", "/a%", "/%é", "/%+1", "/%%41"],
        expect![[r#"
        "/%": Escape
        "/%4": Escape
        "/%4g": Escape
        "/%g4": Escape
        "/a%": Escape
        "/%é": Escape
        "/%+1": Escape
        "/%%41": Escape
    "#]],
    );
}

#[test]
fn what_is_no_absolute_path_is_refused() {
    check(
        &["", "*", "?a", "#", "v1", "http://host/v1", "%2fv1"],
        expect![[r##"
        "": NotAbsolute
        "*": NotAbsolute
        "?a": NotAbsolute
        "#": NotAbsolute
        "v1": NotAbsolute
        "http://host/v1": NotAbsolute
        "%2fv1": NotAbsolute
    "##]],
    );
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(path in "/[a-z.%/2eEfF5cC;0-9?#\\\\ ]{0,24}") {
        if let Ok(normal) = normalise(&path) {
            prop_assert_eq!(normalise(&normal).unwrap(), normal.as_ref());
        }
    }

    #[test]
    fn any_text_is_answered(path in any::<String>()) {
        let _ = normalise(&path);
        let _ = normalise(&format!("/%{path}"));
    }

    /// A path with any of its characters encoded, but for slashes, is the same path.
    #[test]
    fn encoding_makes_no_difference(path in "/[a-z]{1,4}(/[A-Za-z0-9~_:@!$&'()*+,={}|^`<>\"-]{1,4}){0,3}", mask in any::<u32>()) {
        let spelled: String = path.chars().enumerate().map(|(index, character)| {
            if character != '/' && mask >> (index % 32) & 1 == 1 {
                format!("%{:02x}", u32::from(character))
            } else {
                character.to_string()
            }
        }).collect();
        prop_assert_eq!(normalise(&spelled).unwrap(), path);
    }
}
