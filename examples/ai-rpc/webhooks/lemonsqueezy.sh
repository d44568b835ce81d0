# Sends a file as LemonSqueezy does: signed, with the secret that payments.yaml names.
#   bash webhooks/lemonsqueezy.sh webhooks/lemonsqueezy-created.json
signature=$(openssl dgst -sha256 -hmac "${LEMONSQUEEZY_WEBHOOK_SECRET:-demo-lemonsqueezy-secret}" -r < "$1" | cut -d' ' -f1)
curl -sS -o /dev/null -w '%{http_code}\n' "$TOLLGATE_SERVER/webhooks/lemonsqueezy" \
  -H 'Content-Type: application/json' -H "X-Signature: $signature" --data-binary "@$1"
