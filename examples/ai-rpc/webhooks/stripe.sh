# Sends a file as Stripe does: signed at this moment, with the secret that payments.yaml names.
#   bash webhooks/stripe.sh webhooks/stripe-subscription.json
at=$(date +%s)
signature=$({ printf '%s.' "$at"; cat "$1"; } | openssl dgst -sha256 -hmac "${STRIPE_WEBHOOK_SECRET:-demo-stripe-secret}" -r | cut -d' ' -f1)
curl -sS -o /dev/null -w '%{http_code}\n' "$TOLLGATE_SERVER/webhooks/stripe" \
  -H 'Content-Type: application/json' -H "Stripe-Signature: t=$at,v1=$signature" --data-binary "@$1"
