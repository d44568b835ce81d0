//! What a document becomes.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn policy() -> CompiledPolicy {
    let document = json!({
        "version": 1,
        "issuers": [{"issuer": "i", "keys": {"file": "f"}}],
        "meters": {"tokens": {}, "api_calls": {}},
        "tiers": {
            "free": {"limits": [
                {"meter": "api_calls", "quota": 100, "per": "day", "zone": "Europe/Berlin"},
                {"name": "burst", "meter": "tokens", "rate": 5, "per": "60s"},
            ]},
            "pro": {"features": ["sso", "export"], "limits": [{"meter": "tokens", "quota": 0, "per": "billing_month"}]},
        },
        "default_tier": "free",
        "routes": [
            {"path": "/health", "auth": "none"},
            {"path": "/v1/{id}", "methods": ["GET", "HEAD"], "charges": {"api_calls": 1, "tokens": 0}},
            {"name": "writes", "path": "/v1/{*rest}", "charges": {"api_calls": 2, "tokens": 3}, "features": ["sso"],
             "refund": ["404"]},
        ],
        "denials": {"upgrade_url": "https://example.com"},
        "on_control_plane_loss": "open",
    });
    CompiledPolicy::compile(&document_of(document), 7).unwrap()
}

fn document_of(json: Value) -> PolicyDocument {
    serde_json::from_value(json).unwrap()
}

fn shown_limits(policy: &CompiledPolicy, limits: &[CompiledLimit]) -> String {
    let shown = limits.iter().map(|limit| {
        format!("{}: {} {} per {}", limit.name, limit.units, policy.meters[limit.meter], limit.per())
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn check_tier(name: &str, expected: Expect) {
    let policy = policy();
    let tier = policy.tier(name).unwrap();
    let limits = shown_limits(&policy, &tier.limits);
    expected.assert_eq(&format!("{} [{}] {:?}\n{limits}", tier.name, tier.features_header, tier.features));
}

fn check_route(method: &str, path: &str, expected: Expect) {
    let policy = policy();
    let route = policy.route(method, path);
    let charges: Vec<String> =
        route.charges.iter().map(|(meter, units)| format!("{units} {}", policy.meters[*meter])).collect();
    let refund = [404, 500].map(|status| route.refund.contains(status));
    expected.assert_eq(&format!(
        "{}: auth {:?}, charges {charges:?}, features {:?}, refunds 404 and 500 {refund:?}",
        route.name, route.auth, route.features
    ));
}

fn check_overrides(tier: &str, overrides: &[(&str, u64)], expected: Expect) {
    let policy = policy();
    let overrides = overrides.iter().map(|(name, units)| ((*name).to_owned(), *units)).collect();
    expected.assert_eq(&shown_limits(&policy, &policy.limits_of(policy.tier(tier).unwrap(), &overrides)));
}

#[test]
fn a_policy_keeps_what_denials_need() {
    let policy = policy();
    assert_eq!((policy.revision, policy.default_tier.as_deref()), (7, Some("free")));
    assert_eq!(policy.on_control_plane_loss, OnControlPlaneLoss::Open);
    assert_eq!(policy.denials.upgrade_url.as_deref(), Some("https://example.com"));
    assert!(policy.tier("gold").is_none());
}

#[test]
fn tiers_have_limits_in_order_and_features_sorted() {
    check_tier(
        "free",
        expect![[r#"
        free [] {}
        api_calls.day: 100 api_calls per day
        burst: 5 tokens per 1m"#]],
    );
    check_tier(
        "pro",
        expect![[r#"
        pro [export,sso] {"export", "sso"}
        tokens.billing_month: 0 tokens per billing_month"#]],
    );
}

#[test]
fn a_request_takes_the_first_route_that_matches() {
    check_route(
        "GET",
        "/health",
        expect!["/health: auth None, charges [], features [], refunds 404 and 500 [false, true]"],
    );
    check_route(
        "GET",
        "/v1/a",
        expect![[
            r#"GET,HEAD /v1/{id}: auth Required, charges ["1 api_calls"], features [], refunds 404 and 500 [false, true]"#
        ]],
    );
    check_route(
        "POST",
        "/v1/a",
        expect![[
            r#"writes: auth Required, charges ["2 api_calls", "3 tokens"], features ["sso"], refunds 404 and 500 [true, false]"#
        ]],
    );
    check_route(
        "GET",
        "/v2",
        expect!["default: auth Required, charges [], features [], refunds 404 and 500 [false, true]"],
    );
}

#[test]
fn overrides_replace_maximums_by_name() {
    check_overrides(
        "free",
        &[],
        expect![[r#"
        api_calls.day: 100 api_calls per day
        burst: 5 tokens per 1m"#]],
    );
    check_overrides(
        "free",
        &[("burst", 9), ("unknown", 1)],
        expect![[r#"
        api_calls.day: 100 api_calls per day
        burst: 9 tokens per 1m"#]],
    );
    check_overrides(
        "free",
        &[("burst", 0), ("api_calls.day", u64::MAX)],
        expect![[r#"
        api_calls.day: 9007199254740991 api_calls per day
        burst: 0 tokens per 1m"#]],
    );
}

#[test]
fn a_document_with_faults_is_not_compiled() {
    let faults = CompiledPolicy::compile(&document_of(json!({"version": 2, "meters": {}, "tiers": {}})), 1);
    let lines: Vec<String> = faults.unwrap_err().iter().map(Fault::to_string).collect();
    expect![[r#"
        version: write `version: 1`, the only version of this format
        issuers: add an issuer, or write `auth: none` in default_route: a token is required there and no issuer could have signed it"#]].assert_eq(&lines.join("\n"));
}
