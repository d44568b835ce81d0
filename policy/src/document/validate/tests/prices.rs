//! What is refused of prices.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

/// Shows the faults of the free tier with one price.
fn check_price(price: Value, expected: Expect) {
    check(
        json!({
            "billing": {"currency": "EUR"},
            "meters": {"tokens": {"by": ["model"]}},
            "tiers": {"free": {"prices": [price], "limits": [
                {"name": "soft", "meter": "tokens", "quota": 10, "per": "billing_month", "soft": true},
                {"name": "hard", "meter": "tokens", "quota": 10, "per": "year"},
                {"name": "zoned", "meter": "tokens", "quota": 10, "per": "day", "zone": "Asia/Tokyo", "soft": true},
            ]}},
        }),
        expected,
    );
}

#[test]
fn prices_of_each_kind_are_good() {
    for price in [
        json!({"flat": 1900}),
        json!({"flat": 0, "per": "year", "title": {"en": "Base", "fr": "Base"}}),
        json!({"meter": "tokens", "unit": {"amount": 25, "units": 1_000_000}, "included": 5}),
        json!({"meter": "tokens", "package": {"amount": 500, "units": 1000}, "labels": {"model": "gpt-4*"}}),
        json!({"meter": "tokens", "graduated": [{"up_to": 10, "amount": 3}, {"amount": 2, "units": 7}]}),
        json!({"meter": "tokens", "volume": [{"amount": 2}], "overage_of": "soft"}),
        json!({"meter": "tokens", "costs": [{"labels": {"model": "a"}, "amount": 1}, {"amount": 2}], "fee_basis_points": 2000}),
    ] {
        check_price(price, expect![[""]]);
    }
}

#[test]
fn a_price_means_one_thing() {
    check_price(
        json!({"meter": "tokens"}),
        expect![
            "tiers.free.prices[0]: give `flat` (for a month or a year), `unit`, `graduated`, `volume`, `package` or `costs` (of a meter's units)"
        ],
    );
    check_price(
        json!({"flat": 1, "meter": "tokens", "unit": {"amount": 1}}),
        expect!["tiers.free.prices[0]: give `flat` or `unit`, not both; write two prices to have both"],
    );
    check_price(
        json!({"flat": 1, "meter": "tokens", "included": 1, "fee_basis_points": 1}),
        expect![[r#"
            tiers.free.prices[0].meter: leave `meter` out: a flat price is for no units
            tiers.free.prices[0].included: leave `included` out: a flat price is for no units
            tiers.free.prices[0].fee_basis_points: leave `fee_basis_points` out: a flat price is for no units"#]],
    );
    check_price(
        json!({"unit": {"amount": 1}, "per": "month"}),
        expect![[r#"
            tiers.free.prices[0].per: leave `per` out: units are counted in each billing month
            tiers.free.prices[0].meter: add the `meter` whose units are charged for"#]],
    );
    check_price(
        json!({"meter": "calls", "unit": {"amount": 1, "units": 0}, "fee_basis_points": 0}),
        expect![[r#"
            tiers.free.prices[0].meter: name one of the meters, or define calls under `meters`
            tiers.free.prices[0].fee_basis_points: use 1 to 100000 hundredths of a percent
            tiers.free.prices[0].unit.units: use 1 to 9007199254740991 units (2^53 - 1)"#]],
    );
    check_price(
        json!({"meter": "tokens", "unit": {"amount": UNITS_MAX + 1}, "labels": {"provider": "x"}}),
        expect![[r#"
            tiers.free.prices[0].labels.provider: add provider to `by` of the meter tokens: its units are not told apart by it
            tiers.free.prices[0].unit.amount: use at most 9007199254740991 units (2^53 - 1)"#]],
    );
    check_price(
        json!({"meter": "tokens", "costs": [{"amount": 1}], "included": 3}),
        expect![
            "tiers.free.prices[0]: leave `included` and `overage_of` out beside `costs`: write a price for each cost"
        ],
    );
}

#[test]
fn steps_rise_and_the_last_is_open() {
    check_price(
        json!({"meter": "tokens", "graduated": [{"up_to": 5, "amount": 1}, {"up_to": 5, "amount": 1}, {"amount": 1}, {"up_to": 9, "amount": 1}]}),
        expect![[r#"
            tiers.free.prices[0].graduated[1].up_to: use more than 5, up to which the steps before go, and at most 9007199254740991
            tiers.free.prices[0].graduated[2].up_to: add the step's last unit: only the last step has none
            tiers.free.prices[0].graduated[3].up_to: leave `up_to` out of the last step: it is for all further units"#]],
    );
    check_price(
        json!({"meter": "tokens", "volume": []}),
        expect!["tiers.free.prices[0].volume: give at least one step"],
    );
}

#[test]
fn overage_is_of_a_soft_quota_that_whole_days_make_up() {
    for name in ["hard", "zoned", "none"] {
        check_price(
            json!({"meter": "tokens", "unit": {"amount": 1}, "overage_of": name}),
            expect![
                "tiers.free.prices[0].overage_of: name a limit of this tier that is a `quota` with `soft: true` of the same meter, per `billing_month`, or per `day` without a `zone`"
            ],
        );
    }
    check_price(
        json!({"meter": "tokens", "unit": {"amount": 1}, "overage_of": "soft", "included": 1}),
        expect![
            "tiers.free.prices[0]: give `included` or `overage_of`, not both: what a quota allows is included"
        ],
    );
}

#[test]
fn prices_have_a_currency() {
    let priced = |billing: Value| json!({"billing": billing, "tiers": {"free": {"prices": [{"flat": 1}]}}});
    let missing = "billing.currency: name the currency of all prices by its ISO 4217 code, such as EUR";
    let lines = |patch: Value| faults(patch).iter().map(Fault::to_string).collect::<Vec<_>>();
    assert_eq!(lines(priced(json!({}))), [missing]);
    let earlier = json!([{"subscribed_before_ms": 5, "prices": [{"flat": 1}]}]);
    assert_eq!(lines(json!({"tiers": {"free": {"earlier": earlier}}})), [missing], "of earlier versions too");
    check(
        json!({"billing": {"currency": "euro"}}),
        expect!["billing.currency: use an ISO 4217 code of a currency with minor units, such as EUR"],
    );
    check(json!({"billing": {"currency": "XOF", "grace_days": 0}}), expect![[""]]);
}

#[test]
fn what_costs_something_is_not_free() {
    let tier = |prices: Value| json!({"billing": {"currency": "EUR"}, "tiers": {"pro": {"free": true, "prices": prices}}});
    check(tier(json!([])), expect![[""]]);
    check(
        tier(json!([{"flat": 0}])),
        expect!["tiers.pro.free: leave `free` out: who takes a tier with `prices` pays for it first"],
    );
}
