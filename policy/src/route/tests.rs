//! Templates by example, the router against a scan of the whole table.

mod conditions;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Shows what is wrong with a template, or its segments.
fn check_template(text: &str, expected: Expect) {
    expected.assert_eq(&match Template::parse(text) {
        Ok(Template(segments)) => format!("{segments:?}"),
        Err(message) => message,
    });
}

/// Shows the first route of `table` (lines `[METHOD,METHOD] TEMPLATE`) for each of the requests `METHOD PATH`.
fn check(table: &[&str], requests: &[&str], expected: Expect) {
    let router = router(table);
    let mut lines = String::new();
    for request in requests {
        let (method, path) = request.split_once(' ').unwrap();
        let found = find(&router, method, path).map_or("none", |route| table[route]);
        lines += &format!("{request} -> {found}\n");
    }
    expected.assert_eq(&lines);
}

fn row(line: &str) -> (Vec<String>, &str) {
    let (methods, template) = line.split_once(' ').unwrap_or(("", line));
    (methods.split(',').filter(|method| !method.is_empty()).map(str::to_owned).collect(), template)
}

fn router(table: &[&str]) -> Router {
    let mut router = Router::default();
    for line in table {
        let (methods, template) = row(line);
        let route = json!({"path": template, "methods": methods});
        router.push(
            &Template::parse(template).unwrap(),
            Conditions::of(&serde_json::from_value(route).unwrap()),
        );
    }
    router
}

fn find(router: &Router, method: &str, path: &str) -> Option<usize> {
    router.find(&Head { method, path, host: "", headers: &|_| None }, Call::Read(None))
}

#[test]
fn templates_are_literals_parameters_and_a_rest() {
    check_template("/", expect!["[]"]);
    check_template(
        "/v1/items/{id}/{*rest}",
        expect![[r#"[Literal("v1"), Literal("items"), Any("id"), Rest("rest")]"#]],
    );
    check_template("/a%20b", expect![[r#"[Literal("a%20b")]"#]]);
}

#[test]
fn a_template_that_no_request_could_match_is_refused() {
    check_template("v1", expect!["start the path with a slash"]);
    check_template("", expect!["start the path with a slash"]);
    check_template("/v1/", expect!["drop the slash at the end: requests match with it and without it"]);
    check_template(
        "/v1//a",
        expect![[
            r#"change the segment "", no request could match it: the path must not have an empty segment"#
        ]],
    );
    check_template(
        "/v1/../a",
        expect![[
            r#"change the segment "..", no request could match it: the path must not have the segments `.` and `..`"#
        ]],
    );
    check_template("/%761", expect!["write v1 for %761: requests are matched in that form"]);
    check_template(
        "/a b",
        expect![[
            r#"change the segment "a b", no request could match it: the path must not have spaces or control characters"#
        ]],
    );
    check_template("/a?b", expect!["leave out query and fragment: only the path is matched"]);
    check_template(
        "/a;b",
        expect![[
            r#"change the segment "a;b", no request could match it: the path must not have path parameters (`;`)"#
        ]],
    );
}

#[test]
fn parameters_are_whole_segments_with_names_of_their_own() {
    check_template(
        "/v1/{id}.json",
        expect!["write a parameter as a whole segment, such as {id}, and not within one ({id}.json)"],
    );
    check_template(
        "/v1/{}",
        expect!["name the parameter {} with letters, digits and underscores, such as {id} or {*rest}"],
    );
    check_template(
        "/v1/{1a}",
        expect!["name the parameter {1a} with letters, digits and underscores, such as {id} or {*rest}"],
    );
    check_template(
        "/v1/{*}",
        expect!["name the parameter {*} with letters, digits and underscores, such as {id} or {*rest}"],
    );
    check_template("/v1/*", expect!["name what the star stands for: {*rest}"]);
    check_template("/v1/{*rest}/a", expect!["write {*rest} last: it stands for all that follows"]);
    check_template("/v1/{id}/{id}", expect!["give each parameter its own name: id comes twice"]);
}

#[test]
fn parameter_names_are_words() {
    check_template("/v1/{item_id}/{_2}", expect![[r#"[Literal("v1"), Any("item_id"), Any("_2")]"#]]);
    check_template(
        "/v1/{item-id}",
        expect!["name the parameter {item-id} with letters, digits and underscores, such as {id} or {*rest}"],
    );
}

#[test]
fn a_parameter_is_what_stands_in_its_place() {
    let value = |template: &str, path: &'static str, name: &str| {
        Template::parse(template).unwrap().value_in(path, name).unwrap_or("none")
    };
    assert_eq!(value("/v1/{id}/{*rest}", "/v1/a/b/c", "id"), "a");
    assert_eq!(value("/v1/{id}/{*rest}", "/v1/a/b/c", "rest"), "b/c");
    assert_eq!(value("/v1/{id}/{*rest}", "/v1/a/b", "rest"), "b");
    assert_eq!(value("/v1/{id}", "/v1/a", "other"), "none");
    assert_eq!(value("/v1/{id}", "/v1", "id"), "none");
    assert_eq!(value("/", "/", "id"), "none");
}

#[test]
fn a_template_has_a_bound() {
    let segments = |count: usize| Template::parse(&"/a".repeat(count)).is_ok();
    assert!(segments(TEMPLATE_SEGMENTS_MAX));
    assert!(!segments(TEMPLATE_SEGMENTS_MAX + 1));
}

#[test]
fn the_first_route_in_the_documents_order_wins() {
    check(
        &["/v1/{id}", "/v1/me"],
        &["GET /v1/me", "GET /v1/x"],
        expect![[r#"
        GET /v1/me -> /v1/{id}
        GET /v1/x -> /v1/{id}
    "#]],
    );
    check(
        &["/v1/me", "/v1/{id}"],
        &["GET /v1/me", "GET /v1/x"],
        expect![[r#"
        GET /v1/me -> /v1/me
        GET /v1/x -> /v1/{id}
    "#]],
    );
    check(
        &["/{*rest}", "/v1/me"],
        &["GET /v1/me", "GET /", "GET /a/b/c"],
        expect![[r#"
        GET /v1/me -> /{*rest}
        GET / -> none
        GET /a/b/c -> /{*rest}
    "#]],
    );
}

#[test]
fn a_route_of_other_methods_is_passed_over() {
    check(
        &["GET,HEAD /v1/{id}", "POST /v1/{other}", "/v1/{*rest}"],
        &["GET /v1/a", "HEAD /v1/a", "POST /v1/a", "PUT /v1/a", "get /v1/a", "GET /v1/a/b", "GET /v1"],
        expect![[r#"
            GET /v1/a -> GET,HEAD /v1/{id}
            HEAD /v1/a -> GET,HEAD /v1/{id}
            POST /v1/a -> POST /v1/{other}
            PUT /v1/a -> /v1/{*rest}
            get /v1/a -> /v1/{*rest}
            GET /v1/a/b -> /v1/{*rest}
            GET /v1 -> none
        "#]],
    );
}

#[test]
fn a_rest_is_one_segment_or_more() {
    check(
        &["/{*rest}"],
        &["GET /", "GET /a", "GET /a/b"],
        expect![[r#"
        GET / -> none
        GET /a -> /{*rest}
        GET /a/b -> /{*rest}
    "#]],
    );
    check(
        &["/"],
        &["GET /", "GET /a"],
        expect![[r#"
        GET / -> /
        GET /a -> none
    "#]],
    );
}

fn tables() -> impl Strategy<Value = Vec<String>> {
    let segment = prop::sample::select(vec!["a", "b", "c", "{}"]);
    let route = (
        prop::sample::select(vec!["", "GET ", "POST ", "GET,POST "]),
        prop::collection::vec(segment, 0..5),
        any::<bool>(),
    );
    let route = route.prop_map(|(methods, segments, rest)| {
        let mut path: String = segments
            .iter()
            .enumerate()
            .map(|(index, segment)| format!("/{}", segment.replace("{}", &format!("{{p{index}}}"))))
            .collect();
        if rest {
            path += "/{*rest}";
        }
        format!("{methods}{}", if path.is_empty() { "/" } else { &path })
    });
    prop::collection::vec(route, 0..12)
}

/// The meaning of a table, without a tree.
fn scan(table: &[String], method: &str, path: &str) -> Option<usize> {
    let matches = |template: &str| {
        let template: Vec<&str> = template[1..].split('/').collect();
        let path: Vec<&str> = path[1..].split('/').collect();
        let rest = template.last().is_some_and(|last| last.starts_with("{*"));
        let fixed = if rest { template.len() - 1 } else { template.len() };
        let long_enough = if rest { path.len() > fixed && path != [""] } else { path.len() == fixed };
        let same = |(template, path): (&&str, &&str)| {
            if template.starts_with('{') { !path.is_empty() } else { template == path }
        };
        long_enough && template[..fixed].iter().zip(&path).all(same)
    };
    table.iter().position(|line| {
        let (methods, template) = row(line);
        (methods.is_empty() || methods.iter().any(|allowed| allowed == method)) && matches(template)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_router_finds_what_a_scan_finds(
        table in tables(),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 0..6),
    ) {
        let path = format!("/{}", path.join("/"));
        let lines: Vec<&str> = table.iter().map(String::as_str).collect();
        prop_assert_eq!(find(&router(&lines), method, &path), scan(&table, method, &path));
    }
}
