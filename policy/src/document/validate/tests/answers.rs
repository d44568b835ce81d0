//! What is refused of how denials are worded.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn check_denials(denials: Value, expected: Expect) {
    check(json!({"denials": denials}), expected);
}

#[test]
fn warnings_are_percentages_in_rising_order() {
    check_denials(json!({"warn_at": [1, 80, 100]}), expect![[""]]);
    check_denials(
        json!({"warn_at": [0, 101]}),
        expect![[r#"
        denials.warn_at[0]: write a percentage from 1 to 100
        denials.warn_at[1]: write a percentage from 1 to 100"#]],
    );
    check_denials(
        json!({"warn_at": [95, 80]}),
        expect!["denials.warn_at: write the percentages in rising order, each once"],
    );
    check_denials(
        json!({"warn_at": [80, 80]}),
        expect!["denials.warn_at: write the percentages in rising order, each once"],
    );
}

#[test]
fn templates_are_of_codes_that_exist() {
    check_denials(json!({"templates": {"quota-exceeded": {"body": "{limit}"}}}), expect![[""]]);
    check_denials(
        json!({"templates": {"quota": {"body": "{limit}"}}}),
        expect![
            "denials.templates.quota: write the code of a denial, such as quota-exceeded or feature-required; there is no quota"
        ],
    );
    check_route(
        json!({"denials": {"quota": {}}}),
        expect![
            "routes[0].denials.quota: write the code of a denial, such as quota-exceeded or feature-required; there is no quota"
        ],
    );
    check(
        json!({"default_route": {"denials": {"quota": {}}}}),
        expect![
            "default_route.denials.quota: write the code of a denial, such as quota-exceeded or feature-required; there is no quota"
        ],
    );
}

#[test]
fn templates_have_statuses_of_answers_and_media_types() {
    let with = |template: Value| json!({"templates": {"quota-exceeded": template}});
    check_denials(with(json!({"status": 200})), expect![[""]]);
    check_denials(with(json!({"status": 599, "content_type": "text/html; charset=utf-8"})), expect![[""]]);
    check_denials(
        with(json!({"status": 302})),
        expect!["denials.templates.quota-exceeded.status: write 200, or a status from 400 to 599"],
    );
    check_denials(
        with(json!({"status": 99, "content_type": "json"})),
        expect![[r#"
        denials.templates.quota-exceeded.status: write 200, or a status from 400 to 599
        denials.templates.quota-exceeded.content_type: write a media type, such as application/json or text/html; charset=utf-8"#]],
    );
    check_denials(
        with(json!({"content_type": "a/b\r\nx: y"})),
        expect![
            "denials.templates.quota-exceeded.content_type: write a media type, such as application/json or text/html; charset=utf-8"
        ],
    );
    check_denials(
        with(json!({"content_type": ""})),
        expect![
            "denials.templates.quota-exceeded.content_type: write a media type, such as application/json or text/html; charset=utf-8"
        ],
    );
}

#[test]
fn placeholders_name_what_is_known() {
    let of = |body: Value| json!({"templates": {"quota-exceeded": {"body": body}}});
    for name in [
        "code",
        "title",
        "detail",
        "limit",
        "meter",
        "maximum",
        "used",
        "remaining",
        "needed",
        "per",
        "tier",
        "subject",
        "route",
        "feature",
        "retry_after_s",
        "reset_s",
        "reset_at",
        "upgrade_url",
    ] {
        check_denials(of(json!(format!("{{{name}}}"))), expect![[""]]);
    }
    let refused = |body: Value, place: &str| {
        let path = format!("{place}: ");
        let found = faults(json!({"denials": of(body)}));
        assert!(found.len() == 1 && found[0].to_string().starts_with(&path), "{found:?}");
    };
    refused(json!("{owner}"), "denials.templates.quota-exceeded.body");
    refused(json!({"a": [{"b": "used: {user}"}]}), "denials.templates.quota-exceeded.body");
}

#[test]
fn json_rpc_errors_have_numbers_by_code() {
    let with = |jsonrpc: Value| json!({"jsonrpc": jsonrpc});
    check_denials(
        with(json!({"status": 429, "codes": {"default": -32000, "quota-exceeded": 1}})),
        expect![[""]],
    );
    check_denials(
        with(json!({"status": 302})),
        expect!["denials.jsonrpc.status: write 200, or a status from 400 to 599"],
    );
    check_denials(
        with(json!({"codes": {"quota": 1, "rate-exceeded": UNITS_MAX + 1}})),
        expect![[r#"
            denials.jsonrpc.codes.quota: write the code of a denial, such as quota-exceeded or feature-required; there is no quota
            denials.jsonrpc.codes.rate-exceeded: use a number from -2147483648 to 2147483647"#]],
    );
    check_denials(
        with(json!({"data": {"default": {}}})),
        expect![
            "denials.jsonrpc.data.default: write the code of a denial, such as quota-exceeded or feature-required; there is no default"
        ],
    );
    assert_eq!(faults(json!({"denials": with(json!({"data": {"quota-exceeded": ["{nothing}"]}}))})).len(), 1);
}
