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
        let meter = limit.meter.map_or("requests", |meter| &policy.meters[meter]);
        format!("{}: {} {meter} per {}", limit.name, limit.units, limit.per())
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
    let head = Head { method, path, host: "", headers: &|_| None };
    let Match::Route(route) = policy.route(&head) else { panic!("no route names JSON-RPC methods") };
    let shown = |charge: &CompiledCharge| format!("{:?} {}", charge.amount, policy.meters[charge.meter]);
    let charges: Vec<String> = route.charges.iter().map(shown).collect();
    let refund = [404, 500].map(|status| route.refund.contains(status));
    expected.assert_eq(&format!(
        "{}: auth {:?}, charges {charges:?}, features {:?}, refunds 404 and 500 {refund:?}",
        route.name, route.auth, route.features
    ));
}

fn check_overrides(tier: &str, overrides: &[(&str, Maximum)], expected: Expect) {
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
            r#"GET,HEAD /v1/{id}: auth Required, charges ["Units(1) api_calls"], features [], refunds 404 and 500 [false, true]"#
        ]],
    );
    check_route(
        "POST",
        "/v1/a",
        expect![[
            r#"writes: auth Required, charges ["Units(2) api_calls", "Units(3) tokens"], features ["sso"], refunds 404 and 500 [true, false]"#
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
        &[("burst", Maximum::Units(9)), ("unknown", Maximum::Units(1))],
        expect![[r#"
        api_calls.day: 100 api_calls per day
        burst: 9 tokens per 1m"#]],
    );
    check_overrides(
        "free",
        &[("burst", Maximum::Units(0)), ("api_calls.day", Maximum::Units(u64::MAX))],
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

/// What a charge on `tokens` means, in a policy where `tokens` has a capacity.
fn check_charge(charge: Value, expected: Expect) {
    let document = json!({
        "version": 1,
        "meters": {"tokens": {}},
        "tiers": {"free": {"limits": [{"meter": "tokens", "capacity": 1}]}},
        "anonymous": {"tier": "free"},
        "default_route": {"auth": "none"},
        "routes": [{"path": "/{id}", "auth": "optional", "charges": {"tokens": charge}}],
    });
    let policy = CompiledPolicy::compile(&document_of(document), 1).unwrap();
    let shown = policy.routes[0].charges.iter().map(|charge| {
        let CompiledCharge { meter: _, amount, on, release, default, estimate, id, per_request, .. } = charge;
        let Estimate { source, default: otherwise } = estimate;
        let sign = if *release { "-" } else { "" };
        let per = if *per_request { "request" } else { "call" };
        format!(
            "{sign}{amount:?} per {per}, on {on:?}, default {default:?}, estimate {source:?} or {otherwise}, id {id:?}"
        )
    });
    expected.assert_eq(&shown.collect::<Vec<_>>().join("\n"));
}

#[test]
fn charges_mean_what_they_leave_out() {
    check_charge(
        json!(3),
        expect!["Units(3) per call, on Request, default None, estimate None or 0, id None"],
    );
    check_charge(json!(0), expect![[""]]);
    check_charge(json!({"units": 0, "id": "path.id"}), expect![[""]]);
    check_charge(
        json!(-3),
        expect!["-Units(3) per call, on Success, default None, estimate None or 0, id None"],
    );
    check_charge(
        json!({"units": 3, "per": "request", "on": "success", "id": "path.id"}),
        expect![[
            r#"Units(3) per request, on Success, default None, estimate None or 0, id Some(Path("id"))"#
        ]],
    );
    check_charge(
        json!({"units": 3, "release": true, "id": "header.x-id"}),
        expect![[
            r#"-Units(3) per call, on Success, default None, estimate None or 0, id Some(Header("x-id"))"#
        ]],
    );
    check_charge(
        json!({"body_bytes": "request"}),
        expect!["RequestBytes per request, on Request, default None, estimate None or 0, id None"],
    );
    check_charge(
        json!({"body_bytes": "response", "estimate": 9}),
        expect!["ResponseBytes per request, on Response, default None, estimate None or 9, id None"],
    );
    check_charge(
        json!({"request_header": "x-cost", "default": 4}),
        expect![[
            r#"RequestHeader("x-cost") per request, on Request, default Some(4), estimate None or 0, id None"#
        ]],
    );
    check_charge(
        json!({"response_header": "x-cost", "on": "success"}),
        expect![[
            r#"ResponseHeader("x-cost") per request, on Success, default None, estimate None or 0, id None"#
        ]],
    );
    check_charge(
        json!({"request_json": "/n"}),
        expect![[
            r#"RequestJson(Pointer("/n")) per call, on Request, default None, estimate None or 0, id None"#
        ]],
    );
    check_charge(
        json!({"request_json": "/n", "per": "request"}),
        expect![[
            r#"RequestJson(Pointer("/n")) per request, on Request, default None, estimate None or 0, id None"#
        ]],
    );
    check_charge(
        json!({"response_json": "/n", "default": 5, "estimate": {"request_json": "/max", "default": 7}}),
        expect![[
            r#"ResponseJson(Pointer("/n")) per request, on Response, default Some(5), estimate Some(RequestJson(Pointer("/max"))) or 7, id None"#
        ]],
    );
    check_charge(
        json!({"response_json": "/n", "estimate": {"request_header": "x-max"}}),
        expect![[
            r#"ResponseJson(Pointer("/n")) per request, on Response, default None, estimate Some(RequestHeader("x-max")) or 0, id None"#
        ]],
    );
}

fn switches() -> CompiledPolicy {
    let document = json!({
        "version": 1,
        "enforcement": "shadow",
        "route_by_tier": true,
        "bodies": {"json_bytes_max": 9, "over": "unmetered"},
        "anonymous": {"tier": "free", "trusted_hops": 2},
        "meters": {"calls": {}},
        "tiers": {"free": {"limits": [
            {"meter": "calls", "quota": 1, "per": "day", "soft": true, "enforcement": "enforce"},
            {"meter": "calls", "capacity": "unlimited", "on_control_plane_loss": "open", "routes": ["one"]},
            {"concurrency": 3, "enforcement": "off"},
            {"size": 4},
            {"meter": "calls", "rate": 2, "per": "1s", "burst": 4},
        ]}},
        "routes": [
            {"name": "one", "path": "/{id}", "auth": "optional", "charges": {"calls": 1}, "enforcement": "enforce",
             "denials": {"rate-exceeded": {"status": 503}}, "success": ["201"]},
            {"name": "two", "path": "/v1/two", "methods": ["POST"], "auth": "optional", "jsonrpc": ["a"]},
        ],
        "default_route": {"auth": "none", "enforcement": "off"},
    });
    CompiledPolicy::compile(&document_of(document), 1).unwrap()
}

#[test]
fn limits_keep_what_their_denials_need() {
    let policy = switches();
    let shown = policy.tier("free").unwrap().limits.iter().map(|limit| {
        let CompiledLimit { name, meter, units, kind, scope, enforcement, open, status, routes } = limit;
        let units = if *units == UNLIMITED { "unlimited".to_owned() } else { units.to_string() };
        let kind = kind.name();
        format!("{name}: {meter:?} {kind} {units} {scope:?} {enforcement:?} open {open} {status} {routes:?}")
    });
    expect![[r#"
        calls.day: Some(0) quota 1 Subject Some(Enforce) open false 429 []
        calls: Some(0) capacity unlimited Subject None open true 403 ["one"]
        concurrency: None concurrency 3 Subject Some(Off) open false 429 []
        size: None size 4 Subject None open false 413 []
        calls.1s.burst: Some(0) rate 4 Subject None open false 429 []"#]]
    .assert_eq(&shown.collect::<Vec<_>>().join("\n"));
    assert!(policy.route_by_tier);
    assert_eq!(policy.bodies.json_bytes_max, 9);
    assert_eq!(policy.anonymous.as_ref().unwrap().trusted_hops, 2);
    assert_eq!(policy.routes[0].denials["rate-exceeded"].status, Some(503));
    assert!(policy.routes[0].success.contains(201) && !policy.routes[0].success.contains(200));
    assert!(policy.routes[1].success.contains(200) && policy.routes[1].success.contains(302));
}

#[test]
fn the_most_lenient_of_route_and_limit_holds_and_else_the_policys() {
    let policy = switches();
    let limits = &policy.tier("free").unwrap().limits;
    let [one, two] = [&policy.routes[0], &policy.routes[1]];
    assert_eq!(policy.enforcement_of(one, None), Enforcement::Enforce);
    assert_eq!(policy.enforcement_of(one, Some(&limits[0])), Enforcement::Enforce);
    assert_eq!(policy.enforcement_of(one, Some(&limits[2])), Enforcement::Off);
    assert_eq!(policy.enforcement_of(two, None), Enforcement::Shadow);
    assert_eq!(policy.enforcement_of(two, Some(&limits[0])), Enforcement::Enforce);
    assert_eq!(policy.enforcement_of(two, Some(&limits[1])), Enforcement::Shadow);
    assert_eq!(policy.enforcement_of(&policy.default_route, Some(&limits[0])), Enforcement::Off);
    assert!(limits[1].is_of_route(one) && !limits[1].is_of_route(two) && limits[0].is_of_route(two));
}

#[test]
fn unlimited_and_back_by_an_override() {
    let policy = switches();
    let limits = |name: &str, maximum| {
        let overrides = [(name.to_owned(), maximum)].into();
        policy.limits_of(policy.tier("free").unwrap(), &overrides)
    };
    assert_eq!(limits("calls.day", Maximum::Unlimited)[0].units, UNLIMITED);
    assert_eq!(limits("calls", Maximum::Units(5))[1].units, 5);
    let bucket = &limits("calls.1s.burst", Maximum::Units(8))[4];
    assert_eq!(bucket.units, 8);
    assert_eq!(bucket.kind, LimitKind::Bucket { units_per: 2, per_ms: 1_000, refill_ms: 4_000 });
}

#[test]
fn a_route_of_calls_needs_the_body() {
    let policy = switches();
    let head = |path| Head { method: "POST", path, host: "", headers: &|_| None };
    let name = |path, method: Option<&str>| {
        let call = method.map(|method| CallName { method, tool: None });
        policy.route_of_call(&head(path), call).name.to_string()
    };
    assert_eq!(policy.route(&head("/v1/two")), Match::NeedsBody);
    assert_eq!(name("/v1/two", Some("a")), "two");
    assert_eq!(name("/v1/two", Some("b")), DEFAULT_ROUTE_NAME);
    assert_eq!(name("/v1/two", None), DEFAULT_ROUTE_NAME);
    assert_eq!(policy.route(&head("/7")), Match::Route(&policy.routes[0]));
    assert_eq!(policy.routes[0].path_parameter("/7", "id"), Some("7"));
    assert_eq!(policy.default_route.path_parameter("/7", "id"), None);
    assert!(matches!(policy.route(&head("/v1/three")), Match::Route(route) if route.auth == Auth::None));
}

fn versions() -> CompiledPolicy {
    let document = json!({
        "version": 1,
        "issuers": [{"issuer": "i", "keys": {"file": "f"}}],
        "meters": {"calls": {}},
        "tiers": {
            "free": {"limits": [{"meter": "calls", "quota": 1, "per": "day"}]},
            "pro": {
                "limits": [{"meter": "calls", "quota": 30, "per": "day"}],
                "earlier": [
                    {"subscribed_before_ms": 100, "limits": [{"meter": "calls", "quota": 10, "per": "day"}]},
                    {"subscribed_before_ms": 200, "features": ["sso"],
                     "limits": [{"meter": "calls", "quota": 20, "per": "day"}]},
                ],
            },
        },
        "default_tier": "free",
        "default_route": {"charges": {"calls": 1}},
    });
    CompiledPolicy::compile(&document_of(document), 1).unwrap()
}

fn check_version(subscription: &Subscription, now_ms: i64, expected: &str) {
    let policy = versions();
    let tier = policy.tier_in_force(Some(subscription), None, now_ms).unwrap();
    let shown =
        format!("{} version {} [{}] {}", tier.name, tier.version, tier.features_header, tier.limits[0].units);
    assert_eq!(shown, expected);
}

#[test]
fn a_subscription_has_its_tier_as_it_was_when_it_began() {
    let since = |tier_since_ms| Subscription {
        tier: "pro".to_owned(),
        tier_since_ms: Some(tier_since_ms),
        ..Subscription::default()
    };
    check_version(&since(i64::MIN), 500, "pro version 0 [] 10");
    check_version(&since(99), 500, "pro version 0 [] 10");
    check_version(&since(100), 500, "pro version 1 [sso] 20");
    check_version(&since(199), 500, "pro version 1 [sso] 20");
    check_version(&since(200), 500, "pro version 2 [] 30");
}

#[test]
fn one_that_does_not_say_since_when_has_its_tier_since_its_anchor() {
    let anchored = Subscription { tier: "pro".to_owned(), anchor_ms: 150, ..Subscription::default() };
    check_version(&anchored, 500, "pro version 1 [sso] 20");
}

#[test]
fn who_leaves_a_tier_and_comes_back_has_its_newest_version() {
    let change = |at_ms, tier: &str| crate::subscription::ScheduledChange {
        at_ms,
        tier: Some(tier.to_owned()),
        state: None,
    };
    let back = Subscription {
        tier: "pro".to_owned(),
        changes: vec![change(300, "free"), change(400, "pro")],
        ..Subscription::default()
    };
    check_version(&back, 299, "pro version 0 [] 10");
    check_version(&back, 300, "free version 0 [] 1");
    check_version(&back, 400, "pro version 2 [] 30");
}

#[test]
fn a_claim_has_the_newest_version_and_must_name_a_tier() {
    let policy = versions();
    let claimed = |claim| policy.tier_in_force(None, Some(claim), 0).map(|t| (t.name.as_str(), t.version));
    assert_eq!(claimed("pro"), Some(("pro", 2)));
    assert_eq!(claimed("gold"), Some(("free", 0)));
    let gone = Subscription { tier: "gold".to_owned(), ..Subscription::default() };
    assert!(policy.tier_in_force(Some(&gone), Some("pro"), 0).is_none(), "its tier is gone, not another's");
}
