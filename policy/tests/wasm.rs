//! The pure code as WebAssembly: what holds natively must hold in Envoy's VM, where a `usize` has 32 bits and there is no
//! clock and no file. Run by `cargo xtask test --only wasm-tests`; natively there is nothing here.
#![cfg(target_arch = "wasm32")]

mod histories;

use serde_json::json;
use tollgate_policy::body::json::numbers;
use tollgate_policy::body::pointer::Pointer;
use tollgate_policy::compile::{Amount, CompiledPolicy, Head, Match};
use tollgate_policy::document::{Algorithm, ClaimNames, Issuer, KeySource, PolicyDocument};
use tollgate_policy::jwt::{Keyring, TokenFault};
use tollgate_policy::lease::{AccountKind, Demand, OnShort, Record, Verdict, decide};
use tollgate_policy::limit::LimitKind;
use tollgate_policy::subscription::{Subscription, SubscriptionState, effective_tier};
use tollgate_policy::window::Window;
use wasm_bindgen_test::wasm_bindgen_test;

/// RFC 7515 A.1.1: `{"iss": "joe", "exp": 1300819380, "http://example.com/is_root": true}`.
const RFC_7515_A1: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogI\
    mh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RFC_7515_A1_EXP_MS: i64 = 1_300_819_380_000;

fn joe() -> Keyring {
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let issuer = Issuer {
        issuer: "joe".to_owned(),
        audiences: Vec::new(),
        keys: KeySource { jwks: Some(json!({"keys": [{"kty": "oct", "k": key}]})), ..KeySource::default() },
        algorithms: vec![Algorithm::HS256],
        clock_tolerance_s: 0,
        require_typ: None,
        claims: ClaimNames { user: "iss".to_owned(), ..ClaimNames::default() },
    };
    Keyring::from_issuers(&[issuer]).expect("the key is good")
}

fn policy() -> CompiledPolicy {
    let document = json!({
        "version": 1,
        "issuers": [{"issuer": "joe", "keys": {"url": "https://joe.example/jwks.json"}}],
        "meters": {"calls": {}},
        "tiers": {"free": {"limits": [{"meter": "calls", "quota": 2, "per": "day", "zone": "Europe/Berlin"}]}},
        "default_tier": "free",
        "routes": [{"name": "item", "path": "/v1/items/{id}", "charges": {"calls": 3}}],
        "default_route": {"charges": {"calls": 1}},
    });
    let document: PolicyDocument = serde_json::from_value(document).expect("it is a policy");
    CompiledPolicy::compile(&document, 1).expect("it makes sense")
}

#[wasm_bindgen_test]
fn a_subscription_is_in_force_until_the_very_moment_of_its_expiry() {
    let pro = Subscription {
        tier: "pro".to_owned(),
        state: SubscriptionState::Cancelled,
        expires_at_ms: Some(RFC_7515_A1_EXP_MS),
        ..Default::default()
    };
    assert_eq!(effective_tier(Some(&pro), None, Some("free"), RFC_7515_A1_EXP_MS - 1), Some("pro"));
    assert_eq!(effective_tier(Some(&pro), Some("pro"), Some("free"), RFC_7515_A1_EXP_MS), Some("free"));
}

#[wasm_bindgen_test]
fn each_subscription_is_at_its_moments_what_it_is_natively() {
    histories::check_all();
}

#[wasm_bindgen_test]
fn a_token_is_verified_until_it_expires() {
    let caller =
        joe().verify(RFC_7515_A1.as_bytes(), RFC_7515_A1_EXP_MS - 1).expect("it is valid until it expires");
    assert_eq!(caller.subject, "user:joe");
    assert_eq!(caller.expires_at_ms, RFC_7515_A1_EXP_MS);
    assert_eq!(joe().verify(RFC_7515_A1.as_bytes(), RFC_7515_A1_EXP_MS), Err(TokenFault::Expired));
}

#[wasm_bindgen_test]
fn a_token_that_was_changed_is_refused() {
    let (rest, _) = RFC_7515_A1.split_at(RFC_7515_A1.len() - 4);
    let forged = format!("{rest}AAAA");
    assert!(joe().verify(forged.as_bytes(), 0).is_err());
}

#[wasm_bindgen_test]
fn a_day_starts_at_midnight_of_its_zone() {
    let policy = policy();
    let free = policy.tier("free").expect("the policy has it");
    let LimitKind::Quota { period, .. } = &free.limits[0].kind else { panic!("it is a quota") };
    // Noon of 2026-03-29, when Berlin's clocks go forward: a day of 23 hours, from 23:00 UTC.
    let window = period.window_at(1_774_778_400_000, 0);
    assert_eq!((window.start_ms, window.end_ms - window.start_ms), (1_774_738_800_000, 23 * 3_600_000));
}

#[wasm_bindgen_test]
fn a_path_finds_its_route_and_price() {
    let policy = policy();
    let price = |path| {
        let head = Head { method: "GET", path, host: "", headers: &|_| None };
        let Match::Route(route) = policy.route(&head) else { panic!("no route names JSON-RPC methods") };
        route.charges.iter().map(|charge| (charge.meter, charge.amount.clone())).collect::<Vec<_>>()
    };
    assert_eq!(price("/v1/items/7"), [(0, Amount::Units(3))]);
    assert_eq!(price("/v1/items"), [(0, Amount::Units(1))]);
}

#[wasm_bindgen_test]
fn units_beyond_32_bits_are_counted() {
    let many = u64::from(u32::MAX) + 2;
    for kind in [AccountKind::Quota, AccountKind::Capacity, AccountKind::Bucket { refill_ms: 1_000 }] {
        let mut record = Record::new("user:joe", Default::default(), 0);
        let account = record.open("calls", kind, Window { start_ms: 0, end_ms: 1_000 });
        record.accounts[account].hold_all(many);
        let demand =
            |units| [Demand { account, units, limit_units: many, window_ms: 0, on_short: OnShort::Refuse }];

        assert_eq!(decide(&mut record, &demand(many - 1), true, 0, 0), Verdict::Admit { over: 0 });
        assert_eq!(decide(&mut record, &demand(1), true, 0, 0), Verdict::Admit { over: 0 });
        assert!(
            matches!(decide(&mut record, &demand(1), true, 0, 0), Verdict::Refuse(refusal) if !refusal.never)
        );
    }
}

#[wasm_bindgen_test]
fn amounts_beyond_32_bits_are_read() {
    let pointer = Pointer::parse("/usage/bytes").expect("a pointer");
    let found = numbers(br#"{"usage": {"bytes": 18446744073709551615}}"#, &[pointer]);
    assert_eq!(found, Ok(vec![Ok(u64::MAX)]));
}
