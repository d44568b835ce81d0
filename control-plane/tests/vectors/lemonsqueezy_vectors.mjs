// @ts-check
// Makes lemonsqueezy.json. How to run it:
//
//     npm install @lemonsqueezy/lemonsqueezy.js@4.0.0 typescript@5.9.3 @types/node@24
//     npx tsc --noEmit --allowJs --checkJs --strict --module nodenext lemonsqueezy_vectors.mjs
//     node lemonsqueezy_vectors.mjs > lemonsqueezy.json
//
// The library has no function that checks webhooks, but it has the types of what they carry: `tsc` holds the payloads below to
// them, field by field. Signatures are made and judged by what LemonSqueezy's documentation shows for Node:
// https://docs.lemonsqueezy.com/help/webhooks/signing-requests
import { createHmac, timingSafeEqual } from "node:crypto";

const SECRET = "secret-of-the-vectors";

/** @type {import("@lemonsqueezy/lemonsqueezy.js").Subscription["data"]["attributes"]} */
const subscription = {
  store_id: 1, customer_id: 7, order_id: 2, order_item_id: 3, product_id: 4, variant_id: 11, product_name: "API",
  variant_name: "Pro", user_name: "Élodie", user_email: "elodie@example.com", status: "active", status_formatted: "Active",
  card_brand: "visa", card_last_four: "4242", pause: null, cancelled: false, trial_ends_at: null, billing_anchor: 1,
  first_subscription_item: null,
  urls: {
    update_payment_method: "https://shop.example/a?expires=1&signature=b",
    customer_portal: "https://shop.example/b?expires=1&signature=c",
    customer_portal_update_subscription: "https://shop.example/c?expires=1&signature=d",
  },
  renews_at: "2027-04-01T00:00:00.000000Z", ends_at: null, created_at: "2027-03-01T00:00:00.000000Z",
  updated_at: "2027-03-01T00:00:02.000000Z", test_mode: true,
};

/** @type {import("@lemonsqueezy/lemonsqueezy.js").SubscriptionInvoice["data"]["attributes"]} */
const invoice = {
  store_id: 1, subscription_id: 21, customer_id: 7, user_name: "Élodie", user_email: "elodie@example.com",
  billing_reason: "initial", card_brand: "visa", card_last_four: "4242", currency: "EUR", currency_rate: "1.00000000",
  status: "paid", status_formatted: "Paid", refunded: false, refunded_at: null, subtotal: 2900, discount_total: 0, tax: 0,
  tax_inclusive: false, total: 2900, refunded_amount: 0, refunded_amount_usd: 0, refunded_amount_formatted: "€0.00",
  subtotal_usd: 3100, discount_total_usd: 0, tax_usd: 0, total_usd: 3100, subtotal_formatted: "€29.00",
  discount_total_formatted: "€0.00", tax_formatted: "€0.00", total_formatted: "€29.00", urls: { invoice_url: null },
  created_at: "2027-03-01T00:00:01.000000Z", updated_at: "2027-03-01T00:00:01.000000Z", test_mode: true,
};

/** @param {string} name @param {string} type @param {string} id @param {object} attributes */
const event = (name, type, id, attributes) => JSON.stringify({
  meta: { test_mode: true, event_name: name, webhook_id: "4f0b", custom_data: { subject: "user:élodie" } },
  data: { type, id, attributes, relationships: {}, links: {} },
});

/** @param {string} body @param {string} secret */
const sign = (body, secret) => createHmac("sha256", secret).update(body).digest("hex");

/** @param {string} body @param {string} signature */
const isRight = (body, signature) => {
  const [mac, given] = [Buffer.from(sign(body, SECRET), "utf8"), Buffer.from(signature, "utf8")];
  return mac.length === given.length && timingSafeEqual(mac, given);
};

const created = event("subscription_created", "subscriptions", "21", subscription);
const paid = event("subscription_payment_success", "subscription-invoices", "31", invoice);
const cases = [
  ["a subscription", created, sign(created, SECRET)],
  ["an invoice", paid, sign(paid, SECRET)],
  ["by another secret", created, sign(created, "another-secret")],
  ["of another body", created, sign(paid, SECRET)],
  ["of a body cut short", created.slice(0, -1), sign(created, SECRET)],
  ["of a body with a line more", created + "\n", sign(created, SECRET)],
  ["with half a MAC", created, sign(created, SECRET).slice(0, 32)],
  ["in capitals", created, sign(created, SECRET).toUpperCase()],
  ["empty", created, ""],
];
const vectors = cases.map(([name, body, header]) => ({ name, body, header, accepted: isRight(body, header) }));
console.log(JSON.stringify({ library: "@lemonsqueezy/lemonsqueezy.js 4.0.0", secret: SECRET, vectors }, null, 1));
