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

#[test]
fn conditions_can_hold() {
    check_route(
        json!({
            "hosts": ["api.example.com", "*.example.com", "localhost", "127.0.0.1"],
            "headers": {"x-api-version": "2", "x-beta": "*"},
            "jsonrpc": ["call", "tools/*", "*"],
        }),
        expect![[""]],
    );
    check_route(
        json!({"hosts": ["API.example.com", "api.example.com:443", "*", "*example.com", "a..b", "", "*.", "https://a", "a.*.b"]}),
        expect![[r#"
            routes[0].hosts[0]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[1]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[2]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[3]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[4]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[5]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[6]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[7]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it
            routes[0].hosts[8]: write a host in small letters and without port, such as api.example.com, or "*.example.com" for all below it"#]],
    );
    check_route(
        json!({"headers": {"X-A": "1", ":path": "1", "x-tollgate-tier": "1", "x-b": ""}}),
        expect![[r#"
        routes[0].headers[":path"]: write the name of a header in small letters, such as x-api-version, at most 64 bytes
        routes[0].headers.X-A: write the name of a header in small letters, such as x-api-version, at most 64 bytes
        routes[0].headers.x-b: write 1 to 2048 bytes of text without control characters
        routes[0].headers.x-tollgate-tier: use another header: those that start with x-tollgate- are Tollgate's own"#]],
    );
    check_route(
        json!({"jsonrpc": ["", "a*b", "**", "a\nb"]}),
        expect![[r#"
        routes[0].jsonrpc[0]: write a name of 1 to 256 bytes, or the start of names and one `*` at the end
        routes[0].jsonrpc[1]: write a name of 1 to 256 bytes, or the start of names and one `*` at the end
        routes[0].jsonrpc[2]: write a name of 1 to 256 bytes, or the start of names and one `*` at the end
        routes[0].jsonrpc[3]: write a name of 1 to 256 bytes, or the start of names and one `*` at the end"#]],
    );
    check_route(
        json!({"mcp_tools": ["", "search", "a*b"]}),
        expect![[r#"
        routes[0].mcp_tools[0]: write a name of 1 to 256 bytes, or the start of names and one `*` at the end
        routes[0].mcp_tools[2]: write a name of 1 to 256 bytes, or the start of names and one `*` at the end"#]],
    );
    check_route(
        json!({"mcp_tools": ["search"], "jsonrpc": ["tools/call"]}),
        expect![
            "routes[0].mcp_tools: write two routes, one with `jsonrpc` and one with `mcp_tools`: a call of a tool has the method tools/call"
        ],
    );
    check_route(
        json!({"success": ["2xx", "abc"]}),
        expect![[
            r#"routes[0].success[1]: write a status ("404"), a class (5xx) or a range ("500-503") within 100 to 599"#
        ]],
    );
}

#[test]
fn a_route_that_the_proxy_goes_by_has_a_name_that_a_header_can_hold() {
    check_route(json!({"proxy_route": true}), expect![[""]]);
    check_route(json!({"proxy_route": true, "name": "usage-stats"}), expect![[""]]);
    check_route(
        json!({"proxy_route": true, "name": "verbrauch-für-alle"}),
        expect!["routes[0].proxy_route: give the route a `name` of ASCII characters: it is sent in a header"],
    );
}

#[test]
fn a_view_has_a_name_and_a_template() {
    check(
        json!({"views": {"Quota": {"body": " "}}}),
        expect![[r#"
        views.Quota: name the view with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all
        views.Quota.body: write a template of 1 to 65536 bytes"#]],
    );
}
