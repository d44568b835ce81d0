//! Texts that are read, and what is said of those that are not.

use expect_test::{Expect, expect};

use super::*;

/// Shows the faults of a text with line and column, or `good`.
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&match parse(text) {
        Ok(_) => "good".to_owned(),
        Err(faults) => {
            let shown = faults.iter().map(|fault| match fault.column {
                Some(column) => format!("{fault} [column {column}]"),
                None => fault.to_string(),
            });
            shown.collect::<Vec<_>>().join("\n")
        }
    });
}

/// A document that is good.
pub(crate) const GOOD: &str = r#"
version: 1
issuers:
  - issuer: https://issuer.example
    audiences: [api]
    keys: { url: https://issuer.example/jwks.json }
    claims: { organization: org, tier: /tollgate/tier }
meters:
  api_calls: { description: Calls of the API, unit: requests }
  tokens: {}
tiers:
  free: &free
    limits:
      - { meter: api_calls, quota: 1000, per: month }
      - { name: burst, meter: api_calls, rate: 10, per: 1s }
  pro:
    features: [export]
    limits:
      - { meter: api_calls, quota: 100_000, per: month }
      - { name: burst, meter: api_calls, rate: 100, per: 1s }
      - { meter: tokens, quota: 5000000, per: billing_month }
  staging: *free
default_tier: free
routes:
  - { path: /health, auth: none, methods: [GET] }
  - path: /v1/export
    methods: [POST]
    charges: { api_calls: 10 }
    features: [export]
    refund: [5xx, 404, "500-503"]
  - path: /v1/{*rest}
    charges: { api_calls: 1 }
on_control_plane_loss: open
denials: { upgrade_url: https://example.com/pricing }
"#;

/// A document that says all that can be said.
pub(crate) const FULL: &str = r#"
version: 1
enforcement: enforce
on_control_plane_loss: closed
anonymous: {tier: anon, trusted_hops: 1}
bodies: {json_bytes_max: 262144, over: unmetered}
route_by_tier: true
issuers:
- {issuer: https://issuer.example, keys: {file: issuer.jwks.json}, claims: {organization: org}}
meters: {api_calls: {}, documents: {}, storage_bytes: {}, tokens: {by: [provider, model]}}
billing: {currency: XOF, grace_days: 3}
tiers:
  anon: {}
  pro:
    prices:
    - {title: {en: Pro, fr: Pro}, flat: 7000, per: month}
    - {meter: documents, included: 100, unit: {amount: 5}}
    - {meter: storage_bytes, package: {amount: 100, units: 1073741824}}
    - {meter: tokens, labels: {provider: local}, graduated: [{up_to: 1000000, amount: 2, units: 1000}, {amount: 1, units: 1000}]}
    - {meter: api_calls, overage_of: daily, volume: [{up_to: 1000, amount: 2}, {amount: 1}]}
    - meter: tokens
      costs: [{labels: {provider: anthropic, model: "claude-3-haiku*"}, amount: 25, units: 1000000}, {amount: 1, units: 1000}]
      fee_basis_points: 2000
    features: [search]
    limits:
    - {meter: api_calls, quota: 10000, per: month, soft: true, zone: Europe/Berlin}
    - {name: daily, meter: api_calls, quota: 500, per: day, soft: true}
    - {meter: api_calls, rate: 60, per: 60s, enforcement: shadow, on_control_plane_loss: open}
    - {meter: api_calls, rate: 10, per: 1s, burst: 20}
    - {meter: documents, capacity: 1000, status: 413}
    - {meter: storage_bytes, capacity: unlimited}
    - {concurrency: 5, routes: [chat]}
    - {size: 10485760, routes: [chat, default]}
    - {meter: api_calls, quota: 100, per: day, scope: member}
    - {meter: tokens, quota: unlimited, per: lifetime, routes: [chat]}
routes:
- name: chat
  methods: [POST]
  path: /v1/chat/{room}
  hosts: [api.example.com, "*.example.com"]
  headers: {x-api-version: "2", x-beta: "*"}
  jsonrpc: [executeAIRequest, "tools/*"]
  auth: required
  features: [search]
  enforcement: shadow
  charges:
    api_calls: 1
    documents: {units: -1, id: path.room, on: success}
    storage_bytes: {body_bytes: request, release: true}
    tokens:
      response_json: /usage/total_tokens
      estimate: {request_json: /max_tokens, default: 1000}
      default: 500
  refund: [5xx]
  success: [2xx, 3xx]
  denials:
    quota-exceeded:
      status: 429
      content_type: application/json
      body: {error: "Limit of {maximum} reached", used: "{used}"}
- path: /mcp
  mcp_tools: [search, "admin.*"]
  proxy_route: true
  auth: optional
  charges:
    api_calls: {request_json: /params/cost, default: 1, per: request}
    documents: {units: 1, id: header.x-document}
    tokens: {response_header: x-tokens, estimate: 100, on: success}
- {path: /upload, charges: {storage_bytes: {body_bytes: request, estimate: {request_header: x-length}}}}
default_route: {charges: {api_calls: {request_header: x-cost}, tokens: {body_bytes: response}}}
views:
  quota: {body: '{"used": {{ limit("daily").used }}}'}
  tiers: {public: true, jsonrpc: true, body: "{{ plans }}"}
denials:
  type_base: https://example.com/problems/
  upgrade_url: https://example.com/pricing
  legacy_headers: true
  warn_at: [80, 95]
  templates: {rate-exceeded: {body: "Slow down: {{ {retry_after_s} s"}}
  jsonrpc:
    status: 200
    codes: {quota-exceeded: -32001, rate-exceeded: -32002, default: -32000}
    data: {quota-exceeded: {limit: "{limit}", left: "{remaining}"}}
"#;

/// The good document with one text in it replaced.
fn changed(old: &str, new: &str) -> String {
    assert_eq!(GOOD.matches(old).count(), 1, "{old}");
    GOOD.replace(old, new)
}

#[test]
fn yaml_and_json_are_read_alike() {
    check(GOOD, expect!["good"]);
    let document = parse(GOOD).unwrap();
    for json in [serde_json::to_string(&document).unwrap(), serde_json::to_string_pretty(&document).unwrap()]
    {
        assert_eq!(parse(&json).unwrap(), document);
        assert_eq!(serde_json::from_str::<PolicyDocument>(&json).unwrap(), document);
    }
}

#[test]
fn faults_of_meaning_are_told_at_once_with_their_places() {
    check(
        r#"version: 2
issuers: []
meters:
  api.calls:
    unit: ""
tiers:
  free:
    limits:
      - meter: calls
        quota: 5
        per: fortnight
      - { meter: api.calls, rate: 5, per: 1s, zone: UTC }
default_tier: gold
routes:
  - path: v1
    charges:
      api.calls: 9007199254740992
"#,
        expect![[r#"
            line 1: version: write `version: 1`, the only version of this format [column 1]
            line 2: issuers: add an issuer, or write `auth: none` in routes[0] (and 1 more): a token is required there and no issuer could have signed it [column 1]
            line 5: meters["api.calls"].unit: write 1 to 2048 bytes of text without control characters [column 5]
            line 9: tiers.free.limits[0].meter: name one of the meters, or define calls under `meters` [column 9]
            line 11: tiers.free.limits[0].per: use hour, day, week, month, year, billing_month or lifetime [column 9]
            line 12: tiers.free.limits[1].zone: leave `zone` out: a rate's window slides and has no calendar [column 47]
            line 13: default_tier: name one of the tiers, or define gold under `tiers` [column 1]
            line 15: routes[0].path: start the path with a slash [column 5]
            line 17: routes[0].charges["api.calls"]: use at most 9007199254740991 units (2^53 - 1) [column 7]"#]],
    );
}

#[test]
fn json_has_lines_too() {
    check(
        "{\n  \"version\": 1, \"meters\": {},\n  \"tiers\": {\"Free\": {}},\n  \"default_route\": {\"auth\": \"none\"}\n}",
        expect![
            "line 3: tiers.Free: name the tier with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all [column 13]"
        ],
    );
}

#[test]
fn an_alias_is_at_fault_where_it_is_used() {
    let text = changed("staging: *free", "staging: *free\n  Bad: *free");
    check(
        &text,
        expect![
            "line 23: tiers.Bad: name the tier with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all [column 3]"
        ],
    );
}

#[test]
fn key_ids_stay_text() {
    let text =
        changed("{ url: https://issuer.example/jwks.json }", "{ jwks: { keys: [{ kty: oct, kid: no }] } }");
    let jwks = parse(&text).unwrap().issuers[0].keys.jwks.clone().unwrap();
    assert_eq!(jwks["keys"][0]["kid"], "no");
}

#[test]
fn unknown_members_are_refused_everywhere() {
    check(
        &changed("version: 1", "version: 1\nextra: 1"),
        expect![
            "line 3: extra: remove `extra`, or write one of version, enforcement, issuers, anonymous, bodies, route_by_tier, meters, tiers, default_tier, billing, routes, default_route, on_control_plane_loss, denials, views [column 1]"
        ],
    );
    check(
        &changed("    audiences: [api]", "    audience: api"),
        expect![
            "line 5: issuers[0].audience: remove `audience`, or write one of issuer, audiences, keys, algorithms, clock_tolerance_s, require_typ, claims [column 5]"
        ],
    );
    check(
        &changed("auth: none, ", "auth: none, charge: 1, "),
        expect![
            "line 25: routes[0].charge: remove `charge`, or write one of name, methods, path, hosts, headers, jsonrpc, mcp_tools, proxy_route, auth, enforcement, charges, features, refund, success, denials [column 34]"
        ],
    );
    check(
        &changed("default_tier: free", "default_route: { path: / }"),
        expect![
            "line 23: default_route.path: remove `path`, or write one of auth, enforcement, charges, features, refund, success, denials [column 18]"
        ],
    );
    check(
        &changed("quota: 1000,", "quotas: 1000,"),
        expect![
            "line 14: tiers.free.limits[0].quotas: remove `quotas`, or write one of name, meter, quota, rate, capacity, concurrency, size, per, zone, soft, burst, status, scope, enforcement, on_control_plane_loss, routes [column 29]"
        ],
    );
}

#[test]
fn a_member_that_comes_twice_is_refused() {
    check(
        &changed("version: 1", "version: 1\nversion: 1"),
        expect!["line 3: version: remove this or the other `version` [column 1]"],
    );
    check(
        &changed("  tokens: {}", "  tokens: {}\n  tokens: {}"),
        expect!["line 11: meters.tokens: remove this or the other `tokens` [column 3]"],
    );
    check(
        &changed("{ api_calls: 10 }", "{ api_calls: 10, \"api_calls\": 0 }"),
        expect!["line 28: routes[1].charges.api_calls: remove this or the other `api_calls` [column 31]"],
    );
    check(
        r#"{"version": 1, "meters": {}, "meters": {}, "tiers": {}}"#,
        expect!["line 1: meters: remove this or the other `meters` [column 30]"],
    );
    let jwks = changed("url: https://issuer.example/jwks.json", "jwks: {keys: [], keys: []}");
    check(&jwks, expect!["line 6: issuers[0].keys.jwks.keys: remove this or the other `keys` [column 30]"]);
}

#[test]
fn a_value_of_another_type_is_refused_with_its_place() {
    check(
        &changed("quota: 1000,", "quota: many,"),
        expect![
            "line 14: tiers.free.limits[0].quota: write a whole number, 0 or more, or `unlimited` [column 29]"
        ],
    );
    check(
        &changed("quota: 1000,", "quota: -1,"),
        expect![
            "line 14: tiers.free.limits[0].quota: write a whole number, 0 or more, or `unlimited` [column 29]"
        ],
    );
    check(
        &changed("quota: 1000,", "quota: 1.5,"),
        expect![
            "line 14: tiers.free.limits[0].quota: write a whole number, 0 or more, or `unlimited` [column 29]"
        ],
    );
    check(
        &changed("on_control_plane_loss: open", "on_control_plane_loss: ajar"),
        expect!["line 33: on_control_plane_loss: write one of closed, open; there is no `ajar` [column 24]"],
    );
    check(
        &changed(", per: billing_month", ""),
        expect![
            "line 21: tiers.pro.limits[2]: add `per`: hour, day, week, month, year, billing_month or lifetime [column 9]"
        ],
    );
    check(&changed("rate: 10, per: 1s", "{}: 1"), expect!["line 15: expected string scalar [column 42]"]);
    check(
        &changed("      - { name: burst, meter: api_calls, rate: 10, per: 1s }", "      - {}"),
        expect![[r#"
            line 15: tiers.free.limits[1]: give `quota` (units per calendar or billing window), `rate` (units in any window of a length), `capacity` (units at once), `concurrency` (requests at once) or `size` (bytes of a body) [column 9]
            line 22: tiers.staging.limits[1]: give `quota` (units per calendar or billing window), `rate` (units in any window of a length), `capacity` (units at once), `concurrency` (requests at once) or `size` (bytes of a body) [column 12]"#]],
    );
    check(
        &changed("    keys: { url: https://issuer.example/jwks.json }\n", ""),
        expect!["line 4: issuers[0]: add `keys` [column 5]"],
    );
    check(
        &changed("  tokens: {}", "  tokens:\n"),
        expect!["line 10: meters.tokens: write a mapping, such as {} [column 9]"],
    );
    check(
        &changed("[5xx, 404,", "[5xx, null,"),
        expect!["line 30: routes[1].refund[1]: write a text, or leave the member out [column 19]"],
    );
    check(
        &changed("  free: &free\n    limits:", "  free: &free\n    limits: []\n    rest:"),
        expect![
            "line 14: tiers.free.rest: remove `rest`, or write one of description, title, visible, order, trial_days, prices, free, earlier, features, limits [column 5]"
        ],
    );
    check(
        &changed("[export]\n    refund", "export\n    refund"),
        expect!["line 29: routes[1].features: write a list, such as [] [column 15]"],
    );
    check("", expect!["line 1: unexpected end of input [column 1]"]);
    check("- 1", expect!["line 1: write a mapping, such as {} [column 1]"]);
    check("version: 1", expect!["line 1: add `meters` [column 1]"]);
}

#[test]
fn numbers_may_be_a_word_or_a_mapping() {
    check(&changed("quota: 1000,", "quota: unlimited,"), expect!["good"]);
    check(
        &changed("quota: 1000,", "quota: endless,"),
        expect![
            "line 14: tiers.free.limits[0].quota: write a whole number, 0 or more, or `unlimited` [column 29]"
        ],
    );
    check(
        &changed("quota: 1000,", "quota: \"1000\","),
        expect![
            "line 14: tiers.free.limits[0].quota: write a whole number, 0 or more, or `unlimited` [column 29]"
        ],
    );
    check(
        &changed("quota: 1000,", "quota: 99999999999999999999999,"),
        expect![
            "line 14: tiers.free.limits[0].quota: write a whole number, 0 or more, or `unlimited` [column 29]"
        ],
    );
    check(
        &changed("quota: 1000,", "quota: [1],"),
        expect![
            "line 14: tiers.free.limits[0].quota: write a whole number, 0 or more, or `unlimited` [column 29]"
        ],
    );
    check(&changed("{ api_calls: 10 }", "{ api_calls: { units: 10 } }"), expect!["good"]);
    check(
        &changed("{ api_calls: 10 }", "{ api_calls: ten }"),
        expect!["line 28: routes[1].charges.api_calls: write a whole number or a mapping [column 16]"],
    );
    check(
        &changed("{ api_calls: 10 }", "{ api_calls: 99999999999999999999 }"),
        expect!["line 28: routes[1].charges.api_calls: write a whole number or a mapping [column 16]"],
    );
    check(
        &changed("{ api_calls: 10 }", "{ api_calls: { unit: 10 } }"),
        expect![
            "line 28: routes[1].charges.api_calls.unit: remove `unit`, or write one of units, body_bytes, request_header, response_header, request_json, response_json, release, on, default, estimate, per, id, labels [column 29]"
        ],
    );
    check(
        &changed("{ api_calls: 10 }", "{ api_calls: { units: 10, units: 11 } }"),
        expect!["line 28: routes[1].charges.api_calls.units: remove this or the other `units` [column 40]"],
    );
    check(
        &changed("{ api_calls: 10 }", "{ api_calls: { units: 1.5 } }"),
        expect!["line 28: routes[1].charges.api_calls.units: write a whole number [column 36]"],
    );
    check(
        &changed("{ api_calls: 10 }", "{ api_calls: { body_bytes: both } }"),
        expect![
            "line 28: routes[1].charges.api_calls.body_bytes: write one of request, response; there is no `both` [column 41]"
        ],
    );
    check(
        &changed("{ api_calls: 10 }", "\n      api_calls:\n        response_json: /a\n        estimate: -1"),
        expect![
            "line 31: routes[1].charges.api_calls.estimate: write a whole number, 0 or more, or a mapping [column 9]"
        ],
    );
    check(
        &changed(
            "{ api_calls: 10 }",
            "\n      api_calls:\n        response_json: /a\n        estimate:\n          default: x",
        ),
        expect![
            "line 32: routes[1].charges.api_calls.estimate.default: write a whole number, 0 or more [column 20]"
        ],
    );
    check(
        &changed("{ api_calls: 10 }", "\n      api_calls:\n        response_json: a\n        on: request"),
        expect![
            "line 30: routes[1].charges.api_calls.response_json: start the pointer with a slash, such as /usage/total_tokens [column 9]"
        ],
    );
}

#[test]
fn all_that_a_policy_can_say_is_read() {
    check(FULL, expect!["good"]);
    let document = parse(FULL).unwrap();
    let json = serde_json::to_string(&document).unwrap();
    assert_eq!(parse(&json).unwrap(), document);
    assert_eq!(serde_json::from_str::<PolicyDocument>(&json).unwrap(), document);
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    check("version: 1\nmeters: {a: {}", expect!["line 2: unclosed bracket '{' [column 9]"]);
    check("version: 1\n  meters: {}", expect!["line 1: write a whole number, 0 or more [column 10]"]);
    check(
        "version: 1\n\tmeters: {}",
        expect!["line 1: while scanning a plain scalar, found a tab [column 10]"],
    );
    check(
        "{\"version\": 1,,}",
        expect!["line 1: unexpected EOF while parsing an implicit flow mapping [column 15]"],
    );
    check(
        &format!("{GOOD}---\nversion: 1\n"),
        expect!["line 35: end the text here: a policy is one document, and `---` starts another [column 1]"],
    );
    check("version: 1\n---\nversion: 1\n", expect!["line 1: add `meters` [column 1]"]);
}

#[test]
fn text_that_grows_when_read_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
    }
    // Where an unknown member is skipped the aliases are not followed; where any value goes they are.
    check(
        &text,
        expect![
            "line 1: remove `a0`, or write one of version, enforcement, issuers, anonymous, bodies, route_by_tier, meters, tiers, default_tier, billing, routes, default_route, on_control_plane_loss, denials, views [column 1]"
        ],
    );
    let inner = text.lines().map(|line| format!("        {line}\n")).collect::<String>();
    let text = format!(
        "version: 1\nissuers:\n  - issuer: i\n    keys:\n      jwks:\n        keys: []\n{inner}meters: {{}}\ntiers: {{}}\n"
    );
    check(&text, expect!["line 11: write values out: aliases repeat more than 100000 of them [column 53]"]);
    check(&"[".repeat(100_000), expect!["line 1: recursion limit exceeded [column 65]"]);
    check(&"{a: ".repeat(100_000), expect!["line 1: recursion limit exceeded [column 257]"]);
    check(&" ".repeat(DOCUMENT_BYTES_MAX + 1), expect!["shorten the document to 4194304 bytes"]);
}

#[test]
fn the_largest_document_is_read() {
    check(&format!("{GOOD}{}", "\n".repeat(DOCUMENT_BYTES_MAX - GOOD.len())), expect!["good"]);
    let routes: String =
        (0..997).map(|index| format!("  - {{ path: /r{index}, charges: {{ api_calls: 1 }} }}\n")).collect();
    let text = GOOD.replace("on_control_plane_loss", &format!("{routes}on_control_plane_loss"));
    let tier = |tier: usize| {
        let limits: String = (0..64)
            .map(|limit| format!("      - {{ name: n{limit}, meter: tokens, quota: {limit}, per: day, zone: Europe/Berlin }}\n"))
            .collect();
        format!("  t{tier}:\n    limits:\n{limits}")
    };
    let tiers: String = (0..197).map(tier).collect();
    let text = text.replace("default_tier:", &format!("{tiers}default_tier:"));
    check(&text, expect!["good"]);
}
