//! What things come to: examples worked out by hand, and what holds of every price.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::compile::CompiledPolicy;
use crate::document::{Billing, Meter, PolicyDocument, Price, Tier};
use crate::subscription::{Subscription, SubscriptionState};

/// 2027-03-01T00:00:00Z, and the end of that month: 31 days.
const MARCH: i64 = 1_803_859_200_000;
const APRIL: i64 = MARCH + 31 * DAY;
const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn document(tiers: Value) -> PolicyDocument {
    let document = json!({
        "version": 1,
        "meters": {"calls": {}, "tokens": {"by": ["provider", "model", "direction"]}},
        "default_route": {"auth": "none"},
        "billing": {"currency": "USD"},
        "tiers": tiers,
        "default_tier": "free",
    });
    serde_json::from_value(document).unwrap()
}

fn subscribed(tier: &str) -> Subscription {
    Subscription { tier: tier.to_owned(), anchor_ms: MARCH, ..Subscription::default() }
}

fn used(at_ms: i64, meter: &str, labels: &[(&str, &str)], units: i64) -> Used {
    let labels = labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Used { at_ms, meter: meter.to_owned(), labels, units }
}

fn bill(
    document: &PolicyDocument,
    history: &[(i64, Option<Subscription>)],
    used: &[Used],
    (from_ms, to_ms): (i64, i64),
) -> Vec<Line> {
    let compiled = CompiledPolicy::compile(document, 1).unwrap();
    let stretches = stretches(document, &compiled, history, None, from_ms - 32 * DAY, to_ms);
    let currency = Currency::from_code(document.billing.currency.as_deref().unwrap()).unwrap();
    lines(currency, &stretches, used, from_ms, to_ms).unwrap()
}

fn total(lines: &[Line]) -> i64 {
    lines.iter().map(|line| line.amount_minor).sum()
}

fn shown(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let Line { title, quantity, unit_price, amount_minor, .. } = line;
        text.push_str(&format!("{title}: {quantity} x {unit_price} = {amount_minor}\n"));
    }
    text + &format!("total {}", total(lines))
}

/// Shows the invoice of March of a subject on a tier with these prices since its beginning.
fn check(prices: Value, limits: Value, uses: &[Used], expected: Expect) {
    let document = document(json!({"free": {}, "pro": {"prices": prices, "limits": limits}}));
    let lines = bill(&document, &[(MARCH, Some(subscribed("pro")))], uses, (MARCH, APRIL));
    expected.assert_eq(&shown(&lines));
}

fn check_calls(price: Value, units: i64, expected: Expect) {
    let mut price = price;
    price["meter"] = json!("calls");
    check(json!([price]), json!([]), &[used(MARCH + HOUR, "calls", &[], units)], expected);
}

#[test]
fn units_cost_by_their_kind_of_price() {
    let unit = json!({"unit": {"amount": 25, "units": 1000}, "included": 100});
    check_calls(unit.clone(), 100, expect!["total 0"]);
    check_calls(
        unit.clone(),
        2_100,
        expect![[r#"
        calls: 2000 x 0.25 USD per 1,000 = 50
        total 50"#]],
    );
    check_calls(
        unit.clone(),
        119,
        expect![[r#"
        calls: 19 x 0.25 USD per 1,000 = 0
        total 0"#]],
    );
    check_calls(
        unit,
        120,
        expect![[r#"
        calls: 20 x 0.25 USD per 1,000 = 1
        total 1"#]],
    );
    let steps = json!([{"up_to": 10, "amount": 5}, {"up_to": 20, "amount": 3}, {"amount": 1}]);
    check_calls(
        json!({"graduated": steps}),
        10,
        expect![[r#"
        calls (1 to 10): 10 x 0.05 USD = 50
        total 50"#]],
    );
    check_calls(
        json!({"graduated": steps}),
        25,
        expect![[r#"
        calls (1 to 10): 10 x 0.05 USD = 50
        calls (11 to 20): 10 x 0.03 USD = 30
        calls (from 21): 5 x 0.01 USD = 5
        total 85"#]],
    );
    check_calls(
        json!({"volume": steps}),
        10,
        expect![[r#"
        calls: 10 x 0.05 USD = 50
        total 50"#]],
    );
    check_calls(
        json!({"volume": steps}),
        11,
        expect![[r#"
        calls: 11 x 0.03 USD = 33
        total 33"#]],
    );
    check_calls(
        json!({"volume": steps, "included": 5}),
        26,
        expect![[r#"
        calls: 21 x 0.01 USD = 21
        total 21"#]],
    );
    check_calls(
        json!({"package": {"amount": 500, "units": 100}}),
        100,
        expect![[r#"
        calls: 1 x 5.00 USD per package of 100 = 500
        total 500"#]],
    );
    check_calls(
        json!({"package": {"amount": 500, "units": 100}}),
        101,
        expect![[r#"
        calls: 2 x 5.00 USD per package of 100 = 1000
        total 1000"#]],
    );
}

#[test]
fn a_models_tokens_cost_what_its_provider_asks_and_a_fee() {
    let price = json!({
        "title": "AI", "meter": "tokens", "fee_basis_points": 2000,
        "costs": [
            {"labels": {"model": "claude-3-haiku*", "direction": "input"}, "amount": 25, "units": 1_000_000},
            {"labels": {"model": "claude-3-haiku*", "direction": "output"}, "amount": 125, "units": 1_000_000},
            {"labels": {"provider": "openai"}, "amount": 3, "units": 1000},
        ],
    });
    let of = |provider, model, direction, units| {
        used(
            MARCH + HOUR,
            "tokens",
            &[("provider", provider), ("model", model), ("direction", direction)],
            units,
        )
    };
    let uses = [
        of("anthropic", "claude-3-haiku-20240307", "input", 4_500_000),
        of("anthropic", "claude-3-haiku-20240307", "output", 1_200_000),
        of("openai", "gpt-4", "input", 45),
        of("openai", "*", "output", 256),
        of("*", "*", "*", 7),
    ];
    check(
        json!([price]),
        json!([]),
        &uses,
        expect![[r#"
        AI (input, claude-3-haiku*): 4500000 x 0.25 USD per 1,000,000 = 113
        AI (output, claude-3-haiku*): 1200000 x 1.25 USD per 1,000,000 = 150
        AI (openai): 301 x 0.03 USD per 1,000 = 1
        AI (no cost fits): 7 x 0.00 USD = 0
        AI (fee): 0 x 20.00 % = 53
        total 317"#]],
    );
}

#[test]
fn only_what_goes_beyond_a_soft_quota_costs() {
    let limits = json!([
        {"name": "monthly", "meter": "calls", "quota": 100, "per": "billing_month", "soft": true},
        {"name": "daily", "meter": "calls", "quota": 60, "per": "day", "soft": true},
    ]);
    let uses = [
        used(MARCH, "calls", &[], 50),
        used(MARCH + 23 * HOUR, "calls", &[], 30),
        used(MARCH + DAY, "calls", &[], 70),
    ];
    let monthly = json!([{"meter": "calls", "unit": {"amount": 2}, "overage_of": "monthly"}]);
    check(
        monthly,
        limits.clone(),
        &uses,
        expect![[r#"
        calls: 50 x 0.02 USD = 100
        total 100"#]],
    );
    let daily = json!([{"meter": "calls", "unit": {"amount": 2}, "overage_of": "daily"}]);
    check(
        daily.clone(),
        limits.clone(),
        &uses,
        expect![[r#"
        calls: 30 x 0.02 USD = 60
        total 60"#]],
    );
    // A subject's own maximum holds for its invoice too.
    let document = document(json!({"free": {}, "pro": {"prices": daily, "limits": limits}}));
    let mut own = subscribed("pro");
    own.overrides.insert("daily".to_owned(), 79.into());
    let lines = bill(&document, &[(MARCH, Some(own))], &uses, (MARCH, APRIL));
    expect![[r#"
        calls: 1 x 0.02 USD = 2
        total 2"#]]
    .assert_eq(&shown(&lines));
}

#[test]
fn a_maximum_of_the_subject_alone_holds_for_its_invoice_until_the_subscription_ends() {
    let limits = json!([{"name": "daily", "meter": "calls", "quota": 70, "per": "day", "soft": true}]);
    let prices = json!([{"meter": "calls", "unit": {"amount": 2}, "overage_of": "daily"}]);
    let document = document(
        json!({"free": {"limits": limits, "prices": prices}, "pro": {"limits": limits, "prices": prices}}),
    );
    // It ends on the third day, and what is in force from then on is everybody's tier.
    let mut own = subscribed("pro");
    own.overrides.insert("daily".to_owned(), 79.into());
    own.expires_at_ms = Some(MARCH + 2 * DAY);
    let uses: Vec<_> = (0..3).map(|day| used(MARCH + day * DAY + HOUR, "calls", &[], 80)).collect();
    let lines = bill(&document, &[(MARCH, Some(own))], &uses, (MARCH, APRIL));
    expect![[r#"
        calls: 2 x 0.02 USD = 4
        calls: 10 x 0.02 USD = 20
        total 24"#]]
    .assert_eq(&shown(&lines));
}

#[test]
fn currencies_without_minor_units_cost_whole_ones() {
    let mut document = document(json!({"free": {}, "pro": {"prices": [{"title": "PRO", "flat": 7000}]}}));
    document.billing.currency = Some("XOF".to_owned());
    let lines = bill(&document, &[(MARCH, Some(subscribed("pro")))], &[], (MARCH, APRIL));
    expect![[r#"
        PRO: 1 x 7,000 XOF per month = 7000
        total 7000"#]]
    .assert_eq(&shown(&lines));
    document.billing.currency = Some("KWD".to_owned());
    let lines = bill(&document, &[(MARCH, Some(subscribed("pro")))], &[], (MARCH, APRIL));
    expect![[r#"
        PRO: 1 x 7.000 KWD per month = 7000
        total 7000"#]]
    .assert_eq(&shown(&lines));
}

fn two_tiers() -> PolicyDocument {
    let calls = |amount: u64, included: u64| json!({"meter": "calls", "unit": {"amount": amount}, "included": included});
    document(json!({
        "free": {},
        "basic": {"prices": [{"flat": 1000}, calls(10, 100)]},
        "pro": {"prices": [{"flat": 3100}, calls(5, 500)]},
    }))
}

#[test]
fn a_change_of_tier_parts_the_month_by_time_and_usage_by_hours() {
    let change = MARCH + 10 * DAY + 5 * HOUR;
    let history = [(MARCH, Some(subscribed("basic"))), (change, Some(subscribed("pro")))];
    let uses = [
        used(MARCH + DAY, "calls", &[], 150),
        used(change - HOUR, "calls", &[], 10),
        // What basic included is not included again; of what pro includes 160 units are gone.
        used(change, "calls", &[], 350),
    ];
    expect![[r#"
        basic: 1 x 10.00 USD per month = 329
        calls: 60 x 0.10 USD = 600
        pro: 1 x 31.00 USD per month = 2079
        calls: 10 x 0.05 USD = 50
        total 3058"#]]
    .assert_eq(&shown(&bill(&two_tiers(), &history, &uses, (MARCH, APRIL))));
}

#[test]
fn what_is_scheduled_is_charged_from_its_very_moment() {
    let change = MARCH + 10 * DAY;
    let written = [(MARCH, Some(subscribed("basic"))), (change, Some(subscribed("pro")))];
    let mut scheduled = subscribed("basic");
    scheduled.changes.push(crate::subscription::ScheduledChange {
        at_ms: change,
        tier: Some("pro".to_owned()),
        state: None,
    });
    let told_late = scheduled.at(change + 7).into_owned();
    let uses = [used(MARCH, "calls", &[], 700), used(change, "calls", &[], 5)];
    let amounts = |history: &[(i64, Option<Subscription>)]| {
        bill(&two_tiers(), history, &uses, (MARCH, APRIL))
            .iter()
            .map(|line| line.amount_minor)
            .collect::<Vec<_>>()
    };
    assert_eq!(amounts(&written), amounts(&[(MARCH, Some(scheduled.clone()))]));
    assert_eq!(
        total(&bill(&two_tiers(), &written, &uses, (MARCH, APRIL))),
        amounts(&[(MARCH, Some(scheduled)), (change + 7, Some(told_late))]).iter().sum::<i64>()
    );
}

#[test]
fn nothing_is_charged_on_trial_nor_while_it_is_not_in_force() {
    let trial = Subscription {
        state: SubscriptionState::Trialing,
        trial_ends_at_ms: Some(MARCH + 14 * DAY),
        changes: vec![crate::subscription::ScheduledChange {
            at_ms: MARCH + 14 * DAY,
            tier: None,
            state: Some(SubscriptionState::Active),
        }],
        ..subscribed("basic")
    };
    let uses = [used(MARCH, "calls", &[], 700)];
    let lines = bill(&two_tiers(), &[(MARCH, Some(trial))], &uses, (MARCH, APRIL));
    expect![[r#"
        basic: 1 x 10.00 USD per month = 548
        total 548"#]]
    .assert_eq(&shown(&lines));
    let ends = Subscription { expires_at_ms: Some(MARCH + DAY), ..subscribed("basic") };
    let lines = bill(&two_tiers(), &[(MARCH, Some(ends))], &uses[..0], (MARCH, APRIL));
    expect![[r#"
        basic: 1 x 10.00 USD per month = 32
        total 32"#]]
    .assert_eq(&shown(&lines));
    assert!(bill(&two_tiers(), &[], &uses, (MARCH, APRIL)).is_empty(), "the default tier costs nothing");
}

#[test]
fn those_who_subscribed_before_pay_what_it_cost_then() {
    let document = document(json!({"free": {}, "pro": {
        "prices": [{"flat": 2000}],
        "earlier": [{"subscribed_before_ms": MARCH, "prices": [{"flat": 1000}]}],
    }}));
    let since = |tier_since_ms: i64| Subscription { tier_since_ms: Some(tier_since_ms), ..subscribed("pro") };
    let of =
        |since_ms: i64| total(&bill(&document, &[(since_ms, Some(since(since_ms)))], &[], (MARCH, APRIL)));
    assert_eq!(of(MARCH - 1), 1000);
    assert_eq!(of(MARCH), 2000);
}

#[test]
fn a_year_is_twelve_billing_months_whatever_their_lengths() {
    let document = document(json!({"free": {}, "pro": {"prices": [{"flat": 10_001, "per": "year"}]}}));
    let anchor_ms = ms("2027-01-31T10:00:00Z");
    let history = [(anchor_ms, Some(Subscription { anchor_ms, ..subscribed("pro") }))];
    let mut from_ms = anchor_ms;
    let mut sum = 0;
    for month in 0..24 {
        let month_end_ms = crate::window::Period::BillingMonth.window_at(from_ms, anchor_ms).end_ms;
        let lines = bill(&document, &history, &[], (from_ms, month_end_ms));
        assert_eq!(lines.len(), 1, "month {month}");
        sum += total(&lines);
        from_ms = month_end_ms;
        if month == 11 {
            assert_eq!(from_ms, ms("2028-01-31T10:00:00Z"));
            assert_eq!(sum, 10_001);
        }
    }
    assert_eq!(sum, 20_002);
}

#[test]
fn half_a_minor_unit_goes_up_and_no_amount_is_cut_off() {
    use super::function::rounded;
    for (value, by, whole) in [
        (5, 10, 1),
        (4, 10, 0),
        (-5, 10, -1),
        (-4, 10, 0),
        (15, 10, 2),
        (14, 10, 1),
        (0, 3, 0),
        (7, 1, 7),
        (1, 3, 0),
        (2, 3, 1),
    ] {
        assert_eq!(rounded(value, by), whole, "{value} / {by}");
    }
    let price = json!([{"meter": "calls", "unit": {"amount": (1_u64 << 53) - 1}}]);
    let document = document(json!({"free": {}, "pro": {"prices": price}}));
    let compiled = CompiledPolicy::compile(&document, 1).unwrap();
    let history = [(MARCH, Some(subscribed("pro")))];
    let stretches = stretches(&document, &compiled, &history, None, MARCH, APRIL);
    let uses = [used(MARCH, "calls", &[], i64::MAX)];
    let usd = Currency::from_code("USD").unwrap();
    assert_eq!(lines(usd, &stretches, &uses, MARCH, APRIL), Err(TooLarge));
}

#[test]
fn usage_is_cut_where_what_is_charged_changes() {
    let change = MARCH + 10 * DAY + 5 * HOUR;
    let document = two_tiers();
    let compiled = CompiledPolicy::compile(&document, 1).unwrap();
    let history = [(MARCH, Some(subscribed("basic"))), (change, Some(subscribed("pro")))];
    let stretches = stretches(&document, &compiled, &history, None, MARCH - 32 * DAY, APRIL);
    assert_eq!(cuts(&stretches, MARCH + 20 * DAY, APRIL), [MARCH, change, MARCH + 20 * DAY, APRIL]);
}

fn step_price() -> impl Strategy<Value = (u64, u64)> {
    (0..2_000_u64, 1..1_500_u64)
}

fn steps() -> impl Strategy<Value = Value> {
    proptest::collection::vec((1..400_u64, step_price()), 1..5).prop_map(|steps| {
        let (mut up_to, last) = (0, steps.len() - 1);
        let steps = steps.into_iter().enumerate().map(|(index, (length, (amount, units)))| {
            up_to += length;
            match index == last {
                true => json!({"amount": amount, "units": units}),
                false => json!({"up_to": up_to, "amount": amount, "units": units}),
            }
        });
        Value::Array(steps.collect())
    })
}

/// Any price of calls.
fn price() -> impl Strategy<Value = Price> {
    let one = || step_price().prop_map(|(amount, units)| json!({"amount": amount, "units": units}));
    let kind = prop_oneof![
        (0..100_000_u64).prop_map(|flat| json!({"flat": flat})),
        (0..100_000_u64).prop_map(|flat| json!({"flat": flat, "per": "year"})),
        one().prop_map(|one| json!({"meter": "calls", "unit": one})),
        one().prop_map(|one| json!({"meter": "calls", "package": one})),
        steps().prop_map(|steps| json!({"meter": "calls", "graduated": steps})),
        steps().prop_map(|steps| json!({"meter": "calls", "volume": steps})),
        (one(), one()).prop_map(|(mut one, other)| {
            one["labels"] = json!({"model": "a"});
            json!({"meter": "calls", "costs": [one, other]})
        }),
    ];
    (kind, 0..300_u64, 0..3_000_u32, 0..3_u8).prop_map(|(mut price, included, fee, what)| {
        if price.get("flat").is_none() {
            if fee > 0 {
                price["fee_basis_points"] = json!(fee);
            }
            match what {
                1 if price.get("costs").is_none() => price["included"] = json!(included),
                2 if price.get("costs").is_none() => price["overage_of"] = json!("daily"),
                _ => {}
            }
        }
        serde_json::from_value(price).unwrap()
    })
}

fn any_document() -> impl Strategy<Value = PolicyDocument> {
    let tier = || proptest::collection::vec(price(), 0..5);
    (tier(), tier()).prop_map(|(basic, pro)| {
        let limit = json!({"name": "daily", "meter": "calls", "quota": 70, "per": "day", "soft": true});
        let limits = vec![serde_json::from_value(limit).unwrap()];
        let tier = |prices: Vec<Price>| Tier { prices, limits: limits.clone(), ..Tier::default() };
        let mut document = document(json!({"free": {}}));
        document.billing = Billing { currency: Some("EUR".to_owned()), grace_days: None };
        document
            .meters
            .insert("calls".to_owned(), Meter { by: vec!["model".to_owned()], ..Meter::default() });
        document.tiers.insert("basic".to_owned(), tier(basic));
        document.tiers.insert("pro".to_owned(), tier(pro));
        document
    })
}

fn any_usage() -> impl Strategy<Value = Vec<Used>> {
    let one = (0..31 * 24_i64, prop_oneof![Just("a"), Just("b")], -20..200_i64);
    proptest::collection::vec(one, 0..40).prop_map(|uses| {
        let used = |(hour, model, units)| used(MARCH + hour * HOUR, "calls", &[("model", model)], units);
        uses.into_iter().map(used).collect()
    })
}

/// What the subject had: of one tier, then perhaps of another, perhaps written twice.
fn any_history() -> impl Strategy<Value = Vec<(i64, Option<Subscription>)>> {
    let tier = || prop_oneof![Just(Some("basic")), Just(Some("pro")), Just(None)];
    proptest::collection::vec((0..31 * DAY, tier()), 0..4).prop_map(|mut changes| {
        changes.sort();
        let mut history = vec![(MARCH - 3 * DAY, Some(subscribed("basic")))];
        history.extend(changes.into_iter().map(|(at_ms, tier)| (MARCH + at_ms, tier.map(subscribed))));
        history
    })
}

proptest! {
    #[test]
    fn splitting_a_period_changes_nothing(
        document in any_document(), uses in any_usage(), history in any_history(),
        mut cuts in proptest::collection::vec(0..31 * 24_i64, 0..4),
    ) {
        cuts.sort_unstable();
        let moments: Vec<i64> = [0].into_iter().chain(cuts).chain([31 * 24]).map(|hour| MARCH + hour * HOUR).collect();
        let whole = bill(&document, &history, &uses, (MARCH, APRIL));
        let parts: i64 = moments.windows(2).map(|pair| total(&bill(&document, &history, &uses, (pair[0], pair[1])))).sum();
        prop_assert_eq!(parts, total(&whole));
    }

    #[test]
    fn splitting_usage_and_its_order_change_nothing(
        document in any_document(), uses in any_usage(), history in any_history(), parts in 1..100_i64,
    ) {
        let split = uses.iter().rev().flat_map(|used| {
            let part = used.units / (parts + 1);
            [Used { units: part, ..used.clone() }, Used { units: used.units - part, ..used.clone() }]
        });
        let split: Vec<Used> = split.collect();
        prop_assert_eq!(
            bill(&document, &history, &split, (MARCH, APRIL)),
            bill(&document, &history, &uses, (MARCH, APRIL))
        );
    }

    #[test]
    fn writing_a_subscription_again_changes_nothing(
        document in any_document(), uses in any_usage(), history in any_history(), at in 0..31 * DAY,
    ) {
        let mut again = history.clone();
        let index = again.partition_point(|(at_ms, _)| *at_ms <= MARCH + at);
        let there = again[index - 1].1.clone();
        again.insert(index, (MARCH + at, there));
        prop_assert_eq!(
            bill(&document, &again, &uses, (MARCH, APRIL)),
            bill(&document, &history, &uses, (MARCH, APRIL))
        );
    }

    #[test]
    fn a_whole_month_is_quantity_times_price_rounded_once(units in 0..1_000_000_i64, (amount, per) in step_price()) {
        let price = json!([{"meter": "calls", "unit": {"amount": amount, "units": per}}]);
        let document = document(json!({"free": {}, "pro": {"prices": price}}));
        let uses = [used(MARCH, "calls", &[], units)];
        let lines = bill(&document, &[(MARCH, Some(subscribed("pro")))], &uses, (MARCH, APRIL));
        let exact = i128::from(units) * i128::from(amount);
        let twice = i128::from(total(&lines)) * 2 * i128::from(per);
        prop_assert!((twice - 2 * exact).abs() <= i128::from(per), "within half a minor unit");
    }
}
