//! Pointers by example, those of RFC 6901 section 5 among them.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Shows the names in each pointer, or what is wrong with it.
fn check(pointers: &[&str], expected: Expect) {
    let mut lines = String::new();
    for text in pointers {
        lines += &match Pointer::parse(text) {
            Ok(pointer) => format!("{text:?} -> {:?}\n", pointer.tokens()),
            Err(fault) => format!("{text:?} -> {fault}\n"),
        };
    }
    expected.assert_eq(&lines);
}

#[test]
fn the_pointers_of_rfc_6901_are_read() {
    check(
        &["", "/foo", "/foo/0", "/", "/a~1b", "/c%d", "/e^f", "/g|h", "/i\\j", "/k\"l", "/ ", "/m~0n"],
        expect![[r#"
            "" -> []
            "/foo" -> ["foo"]
            "/foo/0" -> ["foo", "0"]
            "/" -> [""]
            "/a~1b" -> ["a/b"]
            "/c%d" -> ["c%d"]
            "/e^f" -> ["e^f"]
            "/g|h" -> ["g|h"]
            "/i\\j" -> ["i\\j"]
            "/k\"l" -> ["k\"l"]
            "/ " -> [" "]
            "/m~0n" -> ["m~n"]
        "#]],
    );
}

#[test]
fn escapes_are_read_once() {
    check(
        &["/~01", "/~00", "/~10~1", "/~", "/a~", "/~2", "/~é", "/a/~/b"],
        expect![[r#"
            "/~01" -> ["~1"]
            "/~00" -> ["~0"]
            "/~10~1" -> ["/0/"]
            "/~" -> write ~0 for ~ and ~1 for / within a name
            "/a~" -> write ~0 for ~ and ~1 for / within a name
            "/~2" -> write ~0 for ~ and ~1 for / within a name
            "/~é" -> write ~0 for ~ and ~1 for / within a name
            "/a/~/b" -> write ~0 for ~ and ~1 for / within a name
        "#]],
    );
}

#[test]
fn what_is_no_pointer_is_refused() {
    check(
        &["usage", "#/usage", " /usage", &"/a".repeat(17), &"/a".repeat(9_999)[..40]],
        expect![[r##"
            "usage" -> start the pointer with a slash, such as /usage/total_tokens
            "#/usage" -> start the pointer with a slash, such as /usage/total_tokens
            " /usage" -> start the pointer with a slash, such as /usage/total_tokens
            "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a" -> use at most 16 names
            "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a" -> use at most 16 names
        "##]],
    );
    assert!(Pointer::parse(&"/a".repeat(16)).is_ok());
}

proptest! {
    /// Escaping a name and reading it again gives the name; `serde_json` agrees on what it names.
    #[test]
    fn any_name_can_be_written(names in prop::collection::vec("[a/~01\"\u{e9}]{0,4}", 0..6)) {
        let text: String =
            names.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect();
        let pointer = Pointer::parse(&text).unwrap();
        let read: Vec<&str> = pointer.tokens().iter().map(|token| &**token).collect();
        prop_assert_eq!(&read, &names);
        prop_assert_eq!(pointer.as_str(), &text);
        let value = names.iter().rev().fold(json!(7), |value, name| json!({ name: value }));
        prop_assert_eq!(value.pointer(&text), Some(&json!(7)));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[/~01a]*") {
        let _ = Pointer::parse(&text);
    }
}
