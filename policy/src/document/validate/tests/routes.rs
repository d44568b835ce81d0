//! What is refused of routes.

use expect_test::expect;
use serde_json::json;

use super::*;

#[test]
fn a_route_without_a_token_charges_nobody() {
    check_route(
        json!({"auth": "none", "features": ["export"]}),
        expect![[r#"
        routes[0].charges: remove the charges or `auth: none`: without a token there is nobody to charge
        routes[0].features: remove the features or `auth: none`: without a token there is no tier to have them"#]],
    );
    check_route(json!({"auth": "none", "charges": null}), expect![[""]]);
}

#[test]
fn routes_can_match() {
    check_route(
        json!({"path": "v1", "methods": ["GET", "M-SEARCH", "get", "", "A B"], "name": ""}),
        expect![[r#"
        routes[0].name: write 1 to 2048 bytes of text without control characters
        routes[0].methods[2]: write an HTTP method in capitals, such as GET
        routes[0].methods[3]: write an HTTP method in capitals, such as GET
        routes[0].methods[4]: write an HTTP method in capitals, such as GET
        routes[0].path: start the path with a slash"#]],
    );
    check_route(json!({"path": format!("/{}", "a".repeat(TEXT_BYTES_MAX - 1))}), expect![[""]]);
    check_route(
        json!({"path": format!("/{}", "a".repeat(TEXT_BYTES_MAX))}),
        expect!["routes[0].path: use at most 2048 bytes"],
    );
}

#[test]
fn refunds_name_statuses() {
    check_route(json!({"refund": ["404", "5xx", "500-503"]}), expect![[""]]);
    check_route(
        json!({"refund": ["404", "oops", "600"]}),
        expect![[r#"
        routes[0].refund[1]: write a status ("404"), a class (5xx) or a range ("500-503") within 100 to 599
        routes[0].refund[2]: write a status ("404"), a class (5xx) or a range ("500-503") within 100 to 599"#]],
    );
}
