"""Makes stripe.json: webhooks signed and judged by Stripe's own library. How to run it:

    python3 -m venv venv && venv/bin/pip install stripe==16.1.0
    venv/bin/python stripe_vectors.py > stripe.json

`accepted` is what `stripe.Webhook.construct_event` says at `now_s`. The events have the fields of Stripe's API reference; one
has the period on the subscription, as before 2025-03-31, and one on its items, as since then.
"""

import json
import time

import stripe

SECRET, NEXT = "whsec_test_secret_of_the_vectors", "whsec_next_secret_of_the_vectors"
NOW = 1_803_859_200


def subscription(period_on_items):
    period = {"current_period_start": NOW, "current_period_end": NOW + 2_678_400}
    item = {
        "id": "si_1", "object": "subscription_item", "created": NOW, "metadata": {}, "quantity": 1, "subscription": "sub_1",
        "price": {
            "id": "price_pro", "object": "price", "active": True, "billing_scheme": "per_unit", "created": NOW, "currency": "eur",
            "livemode": False, "metadata": {}, "product": "prod_1", "recurring": {"interval": "month", "interval_count": 1},
            "type": "recurring", "unit_amount": 2900, "unit_amount_decimal": "2900",
        },
        **(period if period_on_items else {}),
    }
    return {
        "id": "sub_1", "object": "subscription", "billing_cycle_anchor": NOW, "cancel_at": None, "cancel_at_period_end": False,
        "canceled_at": None, "collection_method": "charge_automatically", "created": NOW, "currency": "eur",
        "customer": "cus_1", "ended_at": None, "livemode": False, "metadata": {"tollgate_subject": "user:élodie"},
        "pause_collection": None, "start_date": NOW, "status": "active", "trial_end": None, "trial_start": None,
        "items": {"object": "list", "data": [item], "has_more": False, "url": "/v1/subscription_items?subscription=sub_1"},
        **({} if period_on_items else period),
    }


def event(number, version, period_on_items):
    return {
        "id": f"evt_{number}", "object": "event", "api_version": version, "created": NOW, "livemode": False,
        "data": {"object": subscription(period_on_items)}, "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None}, "type": "customer.subscription.created",
    }


def verdict(payload, header, now):
    time.time = lambda: now
    try:
        stripe.Webhook.construct_event(payload, header, SECRET)
        return True
    except stripe.SignatureVerificationError:
        return False


def signed(payload, at=NOW, secret=SECRET):
    return stripe.WebhookSignature.generate_signature_header(payload, secret, timestamp=at)


def main():
    # Spaces and an accent written as it is: what is signed is bytes, not their meaning.
    old = json.dumps(event(1, "2024-06-20", False), indent=2, ensure_ascii=False)
    new = json.dumps(event(2, "2026-07-29", True), ensure_ascii=False)
    right = signed(old)
    mac = right.split("v1=")[1]
    cases = [
        ("signed", old, right, NOW),
        ("signed, with the period on the items", new, signed(new), NOW),
        ("as old as allowed", old, right, NOW + 300),
        ("too old", old, right, NOW + 301),
        ("of a clock that is ahead", old, right, NOW - 3_600),
        ("by another secret", old, signed(old, secret=NEXT), NOW),
        ("by two secrets, the first another", old, f"t={NOW},v1={signed(old, secret=NEXT).split('v1=')[1]},v1={mac}", NOW),
        ("by two secrets, the second another", old, f"t={NOW},v1={mac},v1={signed(old, secret=NEXT).split('v1=')[1]}", NOW),
        ("with another scheme beside", old, f"t={NOW},v0=00,v1={mac}", NOW),
        ("by another scheme only", old, f"t={NOW},v0={mac}", NOW),
        ("with another time", old, f"t={NOW + 1},v1={mac}", NOW),
        ("of another body", new, right, NOW),
        ("of a body cut short", old[:-1], right, NOW),
        ("of a body with a space more", old + " ", right, NOW),
        ("without a time", old, f"v1={mac}", NOW),
        ("with half a MAC", old, f"t={NOW},v1={mac[:32]}", NOW),
        ("in capitals", old, f"t={NOW},v1={mac.upper()}", NOW),
        ("empty", old, "", NOW),
    ]
    vectors = [
        {"name": name, "body": body, "header": header, "now_s": now, "accepted": verdict(body, header, now)}
        for name, body, header, now in cases
    ]
    print(json.dumps({"library": f"stripe {stripe.VERSION}", "secret": SECRET, "vectors": vectors}, indent=1))


main()
