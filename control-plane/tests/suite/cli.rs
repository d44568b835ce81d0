//! The commands, as a person types them, against a control plane that serves.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tollgate_policy::document::parse;
use tollgate_policy::jwt::Keyring;

use super::events::Receiver;
use super::support::{ADMIN, POLICY, START_MS, Served, TestDatabase, eventually, session, sync_body};

/// Runs a command; answers whether it succeeded, and what it said.
async fn run(served: &Served, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .env("TOLLGATE_SERVER", format!("http://{}", served.address))
        .env("TOLLGATE_ADMIN_TOKEN", ADMIN)
        .output()
        .await
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

pub async fn good(served: &Served, arguments: &[&str]) -> String {
    let (succeeded, said) = run(served, arguments).await;
    assert!(succeeded, "{arguments:?}: {said}");
    said
}

pub async fn bad(served: &Served, arguments: &[&str]) -> String {
    let (succeeded, said) = run(served, arguments).await;
    assert!(!succeeded, "{arguments:?}: {said}");
    said
}

pub fn write(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn policies_are_checked_applied_shown_and_rolled_back() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let directory = TempDir::new().unwrap();
    let file = write(&directory, "policy.yaml", POLICY);
    assert!(good(&served, &["policy", "check", &file]).await.contains("is a good policy: 2 tiers"));
    assert!(
        good(&served, &["policy", "apply", &file, "--dry-run"]).await.contains("Version 1 would be in force")
    );
    assert!(
        good(&served, &["policy", "apply", &file, "--note", "the first"])
            .await
            .contains("Version 1 is in force")
    );
    assert!(good(&served, &["policy", "apply", &file]).await.contains("Nothing to change"));
    assert!(good(&served, &["policy", "show"]).await.ends_with(POLICY), "as it was written");
    let more = write(&directory, "more.yaml", &POLICY.replace("quota: 5", "quota: 6"));
    assert!(bad(&served, &["policy", "apply", &more, "--expect", "7"]).await.contains("(version-conflict)"));
    assert!(good(&served, &["policy", "apply", &more]).await.contains("changed  tiers.free"));
    assert!(good(&served, &["policy", "rollback", "1"]).await.contains("Version 3 is in force"));
    let versions = good(&served, &["policy", "versions"]).await;
    assert_eq!(versions.lines().count(), 4, "{versions}");
    assert!(versions.contains("the first"));
    let wrong = write(&directory, "wrong.yaml", &POLICY.replace("per: hour", "per: fortnight"));
    let said = bad(&served, &["policy", "check", &wrong]).await;
    assert!(said.contains("has 2 faults") && said.contains("line 9: tiers.free.limits[0].per"), "{said}");
    let said = bad(&served, &["policy", "check", "no-such-file.yaml"]).await;
    assert!(said.contains("cannot read no-such-file.yaml"), "{said}");
    let schema: Value = serde_json::from_str(&good(&served, &["policy", "schema"]).await).unwrap();
    assert!(schema["properties"]["tiers"].is_object());
    served.stop().await;
}

#[tokio::test]
async fn subscriptions_subjects_and_usage_are_shown() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let set = ["subscription", "set", "user:a b/c", "--tier", "free", "--override", "calls.hour=7"];
    let said = good(&served, &[&set[..], &["--expires", "2030-01-01T00:00:00Z"]].concat()).await;
    assert!(said.contains("user:a b/c has free (active)") && said.contains("calls.hour = 7"), "{said}");
    let said = good(&served, &[&set[..], &["--override", "calls.60s=unlimited"]].concat()).await;
    assert!(said.contains("calls.hour = 7") && said.contains("calls.60s = unlimited"), "{said}");
    let said = bad(&served, &[&set[..], &["--override", "calls.60s=much"]].concat()).await;
    assert!(said.contains("a whole number, or unlimited"), "{said}");
    let said = good(&served, &[&set[..], &["--expires", "2030-01-01T00:00:00Z"]].concat()).await;
    assert!(!said.contains("unlimited"), "overrides replace all there were: {said}");
    assert!(
        good(&served, &["subscription", "list", "--tier", "free"]).await.contains("2030-01-01T00:00:00Z")
    );
    let json = good(&served, &["subscription", "show", "user:a b/c", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["anchor_ms"], START_MS);
    served.sync(sync_body(&session(1), "user:a b/c", 2, 3)).await;
    served.clock.pass(1);
    assert!(good(&served, &["usage", "user:a b/c", "--by", "total"]).await.contains("calls"));
    let subject = good(&served, &["subject", "user:a b/c"]).await;
    assert!(subject.contains("from its subscription") && subject.contains("calls.hour"), "{subject}");
    let said = bad(&served, &["subscription", "set", "user:a", "--tier", "gold"]).await;
    assert!(
        said.contains("no tier \"gold\"; it has: free, pro") && said.contains("(tier-unknown)"),
        "{said}"
    );
    let said = bad(&served, &["usage", "user:a", "--server", "http://127.0.0.1:1"]).await;
    assert!(said.contains("no control plane answers at http://127.0.0.1:1/"), "{said}");
    let said = bad(&served, &["usage", "user:a", "--token", "wrong"]).await;
    assert!(said.contains("(token-invalid)"), "{said}");
    good(&served, &["subscription", "delete", "user:a b/c"]).await;
    served.stop().await;
}

#[tokio::test]
async fn a_bypass_is_set_shown_and_cleared() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let set = ["bypass", "set", "user:a b/c", "--reason", "load test", "--expires", "2027-03-02T00:00:00Z"];
    let said = good(&served, &set).await;
    assert!(said.contains("user:a b/c passes without limits until 2027-03-02T00:00:00Z"), "{said}");
    assert!(said.contains("load test") && said.contains("by admin"), "{said}");
    assert!(good(&served, &["subject", "user:a b/c"]).await.contains("It passes without limits until"));
    served.clock.pass(24 * 3_600_000);
    let said = good(&served, &["bypass", "show", "user:a b/c"]).await;
    assert!(said.contains("its limits are in force again"), "{said}");
    good(&served, &["bypass", "clear", "user:a b/c"]).await;
    assert!(bad(&served, &["bypass", "show", "user:a b/c"]).await.contains("(bypass-missing)"));
    let said = bad(&served, &["bypass", "set", "user:a", "--reason", "load test"]).await;
    assert!(said.contains("--expires"), "an end is required: {said}");
    served.stop().await;
}

#[tokio::test]
async fn every_kind_of_limit_is_shown_and_capacities_are_set() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let directory = TempDir::new().unwrap();
    let policy = write(&directory, "kinds.yaml", super::support::KINDS);
    good(&served, &["policy", "apply", &policy]).await;
    let set = ["capacity", "set", "user:a", "documents", "12", "--reason", "imported"];
    let said = good(&served, &set).await;
    assert!(said.contains("documents") && said.contains("12"), "{said}");
    let said = good(&served, &["subject", "user:a"]).await;
    let row = |name: &str| {
        let row = said.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default();
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("documents"), "documents capacity 10 12 0 0 - 2 over");
    assert_eq!(row("calls.month"), "calls.month quota 1000 0 0 1000 2027-04-01T00:00:00Z soft");
    assert_eq!(row("calls.1s.burst"), "calls.1s.burst rate 20 - 0 20 - fills in 2 s");
    assert_eq!(row("calls.lifetime"), "calls.lifetime quota unlimited 0 0 unlimited -");
    assert_eq!(row("size"), "size size 1000 - - - -");
    let said = good(&served, &["subject", "member:acme/alice"]).await;
    assert!(said.contains("a member of org:acme") && said.contains("calls.day.member"), "{said}");
    let said = bad(&served, &["capacity", "show", "user:a", "calls"]).await;
    assert!(
        said.contains("no capacity \"calls\"; it has: documents") && said.contains("(limit-unknown)"),
        "{said}"
    );
    served.stop().await;
}

#[tokio::test]
async fn endpoints_of_events_are_added_tried_and_removed() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let receiver = Receiver::start().await;
    let added = good(&served, &["events", "add", &receiver.url(), "--type", "limit.hit", "--json"]).await;
    let added: Value = serde_json::from_str(&added).unwrap();
    let (id, secret) = (added["id"].as_str().unwrap(), added["secret"].as_str().unwrap());
    let said = good(&served, &["events", "test", id]).await;
    let event = said.split(' ').next().unwrap().to_owned();
    let shown = eventually("the event", async || {
        let shown = good(&served, &["events", "show", &event]).await;
        shown.contains("answered 204").then_some(shown)
    })
    .await;
    assert!(shown.contains("delivered") && shown.contains("\"type\": \"test\""), "{shown}");
    assert!(receiver.received()[0].is_signed_with(&[secret]));
    assert!(good(&served, &["events", "list", "--type", "test"]).await.contains(&event));
    let rotated = good(&served, &["events", "rotate", id, "--overlap", "1"]).await;
    assert!(rotated.contains("whsec_") && rotated.contains("until 2027-03-01T01:00:00Z"), "{rotated}");
    assert!(good(&served, &["events", "redeliver", &event]).await.contains("has arrived everywhere"));
    let again = good(&served, &["events", "redeliver", &event, "--endpoint", id]).await;
    assert!(again.contains(&format!("is told again at {id}")), "{again}");
    assert!(good(&served, &["events", "disable", id]).await.contains("disabled: admin did so."));
    assert!(good(&served, &["events", "enable", id]).await.contains("enabled"));
    let said = good(&served, &["events", "recover", id, "--since", "2027-01-01T00:00:00Z"]).await;
    assert!(said.contains("0 events are told again"), "{said}");
    assert!(good(&served, &["events", "endpoints"]).await.contains("limit.hit"));
    good(&served, &["events", "remove", id]).await;
    let said = bad(&served, &["events", "test", id]).await;
    assert!(said.contains("(event-endpoint-missing)"), "{said}");
    let said = bad(&served, &["events", "add", "ftp://example.com"]).await;
    assert!(said.contains("http or https") && said.contains("(event-endpoint-invalid)"), "{said}");
    served.stop().await;
}

#[tokio::test]
async fn tokens_of_the_quickstart_are_good_under_its_policy() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    let policy = quickstart.join("policy.yaml").display().to_string();
    good(&served, &["policy", "apply", &policy]).await;
    let source = served.get("/v1/policy").await["source"].as_str().unwrap().to_owned();
    let document = parse(&source).unwrap();
    assert!(document.issuers[0].keys.jwks.is_some(), "the key file was put into the policy");
    let keyring = Keyring::from_issuers(&document.issuers).unwrap();
    let issuer = &document.issuers[0];
    let key = quickstart.join("issuer.key.pem").display().to_string();
    let sign = ["token", "--key", &key, "--issuer", &issuer.issuer, "--audience", &issuer.audiences[0]];
    let signed = good(&served, &[&sign[..], &["--subject", "bob", "--count", "2"]].concat()).await;
    let now_ms = tollgate_control_plane::clock::SystemClock::shared().now_ms();
    let subjects: Vec<String> =
        signed.lines().map(|token| keyring.verify(token.as_bytes(), now_ms).unwrap().subject).collect();
    assert_eq!(subjects, ["user:bob-0", "user:bob-1"]);
    let old =
        good(&served, &[&sign[..], &["--subject", "bob", "--ttl", "1s", "--claim", "exp=1"]].concat()).await;
    assert!(keyring.verify(old.trim().as_bytes(), now_ms).is_err(), "it expired long ago");
    let said = bad(&served, &[&sign[..], &["--subject", "bob", "--alg", "ES256"]].concat()).await;
    assert!(said.contains("is no private key for this algorithm"), "{said}");
    served.stop().await;
}

#[tokio::test]
async fn subscriptions_are_changed_cancelled_and_scheduled_and_units_granted() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let said = good(&served, &["subscription", "trial", "user:a", "--tier", "pro", "--days", "3"]).await;
    assert!(said.contains("pro (trialing)") && said.contains("trial ends   2027-03-04T00:00:00Z"), "{said}");
    let said = good(&served, &["subscription", "change", "user:a", "--tier", "free"]).await;
    assert!(said.contains("scheduled    2027-03-04T00:00:00Z: free, active"), "{said}");
    let schedule =
        ["subscription", "schedule", "user:a", "--at", "2027-03-09T00:00:00Z", "--state", "paused"];
    assert!(good(&served, &schedule).await.contains("scheduled    2027-03-09T00:00:00Z: paused"));
    assert!(!good(&served, &["subscription", "unschedule", "user:a"]).await.contains("scheduled"));
    assert!(good(&served, &["subscription", "pause", "user:a"]).await.contains("paused, not in force"));
    assert!(good(&served, &["subscription", "resume", "user:a"]).await.contains("(trialing)"));
    assert!(good(&served, &["subscription", "past-due", "user:a"]).await.contains("(past_due)"));
    let said = good(&served, &["subscription", "cancel", "user:a", "--when", "now"]).await;
    assert!(said.contains("(expired, not in force)"), "{said}");
    assert!(bad(&served, &["subscription", "resume", "user:a"]).await.contains("(action-refused)"));

    let grant = ["grant", "add", "user:a", "--id", "order-1", "--limit", "calls.hour", "--units", "50"];
    assert_eq!(good(&served, &grant).await.trim(), "user:a has 50 more units of calls.hour.");
    assert!(good(&served, &["grant", "list", "user:a"]).await.contains("order-1"));
    good(&served, &["grant", "remove", "user:a", "--id", "order-1"]).await;
    assert!(!good(&served, &["grant", "list", "user:a"]).await.contains("order-1"));

    let directory = TempDir::new().unwrap();
    good(&served, &["subscription", "set", "user:b", "--tier", "pro"]).await;
    let changed = write(&directory, "changed.yaml", &POLICY.replace("quota: 1000,", "quota: 7,"));
    let said = good(&served, &["policy", "preview", &changed]).await;
    assert!(said.contains("tier pro: 1 subscriptions affected, 0 kept"), "{said}");
    assert!(said.contains("calls.hour: 1000 → 7") && said.contains("affects  user:b"), "{said}");
    good(&served, &["policy", "apply", &changed, "--changed-tiers", "new_subscribers"]).await;
    assert!(good(&served, &["policy", "preview", &changed]).await.contains("No tier differs."));
}

#[tokio::test]
async fn usage_is_recorded_corrected_and_exported() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    served.clock.pass(2 * 3_600_000);
    let at = "2027-03-01T01:30:00Z";
    let record =
        ["usage", "record", "user:a", "tokens", "7", "--key", "k1", "--at", at, "--label", "model=large"];
    assert_eq!(good(&served, &record).await, "Recorded 7 tokens of user:a\n");
    assert!(good(&served, &record).await.contains("counts once"));
    let other = ["usage", "record", "user:a", "tokens", "8", "--key", "k1", "--at", at];
    assert!(bad(&served, &other).await.contains("(idempotency-conflict)"));
    let correct = ["usage", "correct", "user:a", "tokens", "-2", "--reason", "twice", "--at", at];
    let said = good(&served, &correct).await;
    assert_eq!(said, format!("Correction 1 counts -2 tokens for user:a at {at}\n"));
    assert!(good(&served, &["usage", "corrections", "user:a"]).await.contains("twice"));
    let said = good(&served, &["usage", "user:a", "--by", "total", "--group", "model"]).await;
    assert!(said.contains("model=large") && said.contains("-2"), "{said}");
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("usage.csv").display().to_string();
    let range = ["--from", "2027-03-01T00:00:00Z", "--by", "hour"];
    good(&served, &[&["usage", "export", "--output", &file][..], &range].concat()).await;
    let csv = std::fs::read_to_string(&file).unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let lines = good(&served, &[&["usage", "export", "--format", "jsonl"][..], &range].concat()).await;
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
    let said = bad(&served, &["usage", "export", "--output", "/no/such/directory/file"]).await;
    assert!(said.contains("cannot write /no/such/directory/file"), "{said}");
    let said = bad(&served, &["usage"]).await;
    assert!(said.contains("<SUBJECT>"), "{said}");
}

#[tokio::test]
async fn invoices_are_previewed_closed_shown_and_listed() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let directory = TempDir::new().unwrap();
    let priced = POLICY
        .replace("tiers:\n", "billing: {currency: XOF}\ntiers:\n")
        .replace("  pro:\n", "  pro:\n    title: PRO\n    prices: [{flat: 7000}]\n");
    good(&served, &["policy", "apply", &write(&directory, "policy.yaml", &priced)]).await;
    good(&served, &["subscription", "set", "org:acme", "--tier", "pro"]).await;
    let said = good(&served, &["invoice", "preview", "org:acme"]).await;
    assert!(
        said.contains("A preview of org:acme from 2027-03-01") && said.contains("Total: 7,000 XOF"),
        "{said}"
    );
    assert!(
        bad(&served, &["invoice", "close", "org:acme", "--from", "2027-03-01T00:00:00Z"])
            .await
            .contains("(period-open)")
    );
    served.clock.pass(31 * 24 * 3_600_000);
    let said = good(&served, &["invoice", "close", "org:acme"]).await;
    assert!(said.contains("Invoice 1 of org:acme") && said.contains("7,000 XOF per month"), "{said}");
    assert!(good(&served, &["invoice", "list", "--subject", "org:acme"]).await.contains("7,000 XOF"));
    let csv = good(&served, &["invoice", "show", "1", "--format", "csv"]).await;
    assert!(csv.contains("7000,7000,XOF"), "{csv}");
    assert!(
        good(&served, &["invoice", "show", "1", "--format", "html"]).await.starts_with("<!doctype html>")
    );
    assert!(bad(&served, &["invoice", "show", "2", "--format", "html"]).await.contains("(invoice-missing)"));
    served.stop().await;
}
