//! The commands, as a person types them, against a control plane that serves.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tollgate_policy::document::parse;
use tollgate_policy::jwt::Keyring;

use super::support::{ADMIN, POLICY, START_MS, Served, TestDatabase, session, sync_body};

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
