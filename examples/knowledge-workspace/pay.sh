#!/usr/bin/env bash
# Plays Stripe: tells Tollgate that somebody has a subscription that is paid, signed with the secret of payments.yaml.
#
#   bash pay.sh ana@example.com pro
set -euo pipefail
user=$1 tier=$2
case $tier in pro) cents=499 ;; enterprise) cents=999 ;; esac
now=$(date +%s)
body=$(printf '%s' '{"id": "evt_'"$now-$RANDOM"'", "type": "customer.subscription.created", "created": '"$now"', "livemode": false,
 "data": {"object": {"id": "sub_'"$user"'", "object": "subscription", "customer": "cus_'"$user"'", "status": "active",
  "created": '"$now"', "start_date": '"$now"', "billing_cycle_anchor": '"$now"',
  "metadata": {"tollgate_subject": "user:'"$user"'"},
  "items": {"data": [{"id": "si_1", "current_period_start": '"$now"', "current_period_end": '"$((now + 30 * 86400))"',
   "price": {"id": "price_'"$tier"'", "unit_amount": '"$cents"', "currency": "usd"}}]}}}}')
signature=$(printf '%s.%s' "$now" "$body" | openssl dgst -sha256 -hmac whsec_demo | sed 's/^.* //')
curl --silent --show-error --fail --output /dev/null "$TOLLGATE_SERVER/webhooks/stripe" \
  --header "Stripe-Signature: t=$now,v1=$signature" --header 'Content-Type: application/json' --data-binary "$body"
echo "Stripe has told that $user pays for $tier"
