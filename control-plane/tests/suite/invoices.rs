//! Invoices: what is charged for time and usage, that closed ones stay as they are, and how they look.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_control_plane::service::usage::retention::Keeper;
use tollgate_control_plane::store::StoreError;
use tollgate_control_plane::store::usage::{self, UsageWrite, fold};

use super::support::{ADMIN, START_MS, Served, TestDatabase, answer, author, on_each_database};

const DAY: u64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

const PRICED: &str = "
version: 1
meters: {calls: {unit: requests}, tokens: {by: [provider, model]}}
default_tier: free
default_route: {auth: none}
billing: {currency: USD}
tiers:
  free: {}
  basic:
    title: Basic
    prices: [{flat: 1000}, {meter: calls, included: 100, unit: {amount: 10}}]
  pro:
    title: Pro
    prices:
      - {title: '=HYPERLINK(\"http://evil.example\")<script>', flat: 3100}
      - {meter: calls, included: 500, unit: {amount: 5}}
      - meter: tokens
        costs:
          - {labels: {provider: anthropic, model: 'claude-3-haiku*'}, amount: 25, units: 1000000}
          - {labels: {provider: openai}, amount: 3, units: 1000}
        fee_basis_points: 2000
";

async fn start(url: &str) -> Served {
    let served = Served::start(url).await;
    served.plane.apply_policy(&author(&served.plane), PRICED, None, None).await.unwrap();
    served
}

async fn record(served: &Served, hour_ms: i64, meter: &str, labels: &str, taken: i64) {
    let written =
        &[UsageWrite { subject: "user:a", hour_ms: START_MS + hour_ms, meter, labels, taken, freed: 0 }];
    let added = served
        .plane
        .database
        .transact("test", |tx| Box::pin(async move { usage::add(tx, "recorded", written).await }));
    let added: Result<i64, StoreError> = added.await;
    added.unwrap();
}

/// The titles, quantities and amounts of an invoice's lines, and its total.
fn shown(invoice: &Value) -> Vec<(String, i64, i64)> {
    let lines = invoice["lines"].as_array().unwrap();
    let of = |line: &Value, name: &str| line[name].as_i64().unwrap();
    let sum: i64 = lines.iter().map(|line| of(line, "amount_minor")).sum();
    assert_eq!(sum, of(invoice, "total_minor"), "{invoice}");
    assert_eq!(of(invoice, "subtotal_minor") + of(invoice, "adjustments_minor"), sum, "{invoice}");
    lines
        .iter()
        .map(|line| {
            (line["title"].as_str().unwrap().to_owned(), of(line, "quantity"), of(line, "amount_minor"))
        })
        .collect()
}

fn line(title: &str, quantity: i64, amount: i64) -> (String, i64, i64) {
    (title.to_owned(), quantity, amount)
}

async fn close(served: &Served, body: Value) -> (u16, Value) {
    let (status, answer) = served.send(Method::POST, "/v1/subjects/user:a/invoices", Some(body)).await;
    (status.as_u16(), answer)
}

const PREVIEW: &str = "/v1/subjects/user:a/invoices/preview";

#[tokio::test]
async fn a_month_with_a_change_of_tier_is_charged_by_the_moment() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "basic"})).await;
        record(&served, 24 * HOUR_MS, "calls", "", 150).await;
        served.clock.pass(10 * DAY + 5 * DAY / 24);
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        // Ten units in the hour before, in a day that the change cuts; then the new tier's.
        record(&served, (10 * 24 + 4) * HOUR_MS, "calls", "", 10).await;
        record(&served, (10 * 24 + 5) * HOUR_MS, "calls", "", 350).await;
        let haiku = "model=claude-3-haiku-20240307&provider=anthropic";
        record(&served, (11 * 24) * HOUR_MS, "tokens", haiku, 4_500_000).await;
        record(&served, (11 * 24) * HOUR_MS, "tokens", "model=gpt-4&provider=openai", 301).await;
        record(&served, (11 * 24) * HOUR_MS, "tokens", "model=%2A&provider=%2A", 7).await;
        let preview = served.get(PREVIEW).await;
        let title = "=HYPERLINK(\"http://evil.example\")<script>";
        let expected = [
            line("Basic", 1, 329),
            line("calls", 60, 600),
            line(title, 1, 2079),
            line("calls", 10, 50),
            line("tokens (claude-3-haiku*, anthropic)", 4_500_000, 113),
            line("tokens (openai)", 301, 1),
            line("tokens (no cost fits)", 7, 0),
            line("tokens (fee)", 0, 23),
        ];
        assert_eq!(shown(&preview), expected);
        assert_eq!(preview["currency"], "USD");
        assert_eq!(preview["total"], "31.95 USD");
        assert_eq!(preview["from"], "2027-03-01T00:00:00Z");
        assert_eq!(preview["to"], "2027-04-01T00:00:00Z");
        assert_eq!(preview["lines"][4]["unit_price"], "0.25 USD per 1,000,000");
        assert!(preview.get("number").is_none(), "nothing is closed by looking");
        assert_eq!(served.get("/v1/invoices").await["items"], json!([]));
        // Its halves make up the whole.
        let half = async |range: &str| {
            served.get(&format!("{PREVIEW}?{range}")).await["total_minor"].as_i64().unwrap()
        };
        let first = half("from=2027-03-01T00:00:00Z&to=2027-03-11T17:00:00Z").await;
        let second = half("from=2027-03-11T17:00:00Z&to=2027-04-01T00:00:00Z").await;
        assert_eq!(first + second, 3195);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_closed_invoice_stays_and_late_usage_is_in_the_next() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "basic"})).await;
        record(&served, 0, "calls", "", 150).await;
        let march = json!({"from": "2027-03-01T00:00:00Z", "to": "2027-04-01T00:00:00Z"});
        let (status, problem) = close(&served, march.clone()).await;
        assert_eq!((status, problem["code"].as_str()), (409, Some("period-open")), "{problem}");
        served.clock.pass(31 * DAY);
        let (status, closed) = close(&served, json!({})).await;
        assert_eq!(status, 201, "{closed}");
        assert_eq!(closed["number"], 1);
        assert_eq!(shown(&closed), [line("Basic", 1, 1000), line("calls", 50, 500)]);
        let (status, again) = close(&served, march).await;
        assert_eq!((status, &again), (200, &closed), "closed once");
        // Late usage, a correction, new prices and another tier: the closed one stays.
        record(&served, 5 * HOUR_MS, "calls", "", 7).await;
        record(&served, 6 * HOUR_MS, "tokens", "", 7).await;
        let dearer = PRICED.replace("included: 100, unit: {amount: 10}", "unit: {amount: 99}");
        served.plane.apply_policy(&author(&served.plane), &dearer, None, None).await.unwrap();
        assert_eq!(served.get("/v1/invoices/1").await, closed);
        let next = served.get(PREVIEW).await;
        let late = line("Adjustment of invoice 1: calls", 7, 70);
        assert_eq!(shown(&next), [line("Basic", 1, 1000), late.clone()], "by the price of its time");
        assert_eq!(next["lines"][1]["adjusts"], 1);
        served.clock.pass(30 * DAY);
        let (status, second) = close(&served, json!({})).await;
        assert_eq!((status, second["number"].as_i64()), (201, Some(2)), "{second}");
        assert_eq!(shown(&second), [line("Basic", 1, 1000), late]);
        assert_eq!(served.get(PREVIEW).await["adjustments_minor"], 0, "it is charged once");
        // Corrected to less than was charged: given back, to what the first invoice had without it.
        record(&served, 7 * HOUR_MS, "calls", "", -57).await;
        let third = served.get(PREVIEW).await;
        assert_eq!(shown(&third)[1], line("Adjustment of invoice 1: calls", -57, -570));
        let (status, problem) =
            close(&served, json!({"from": "2027-03-15T00:00:00Z", "to": "2027-03-16T00:00:00Z"})).await;
        assert_eq!((status, problem["code"].as_str()), (409, Some("invoice-overlap")), "{problem}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn hours_that_become_days_adjust_no_invoice() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        // The month, and the change of tier in it, begin within days.
        served.clock.pass(5 * DAY + DAY / 2);
        served.put("/v1/subscriptions/user:a", json!({"tier": "basic"})).await;
        for hour in [5 * 24 + 11, 5 * 24 + 12, 5 * 24 + 13, 9 * 24 + 17, 9 * 24 + 18, 9 * 24 + 19] {
            record(&served, hour * HOUR_MS, "calls", "", 90).await;
        }
        served.clock.pass(4 * DAY + DAY / 4);
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        let preview = served.get(PREVIEW).await;
        served.clock.pass(27 * DAY);
        let (status, closed) = close(&served, json!({"from": "2027-03-06T12:00:00Z"})).await;
        assert_eq!(status, 201, "{closed}");
        assert_eq!(shown(&closed), shown(&preview));
        served.clock.pass(30 * DAY);
        record(&served, 60 * 24 * HOUR_MS, "calls", "", 1).await;
        let mut keeper = Keeper::default();
        // The control plane folds by itself too; whoever did, in the end they are days.
        while keeper.fold(&served.plane).await.unwrap() > 0 {}
        let with_days = fold::subjects_with_days(&served.plane.database, i64::MAX, 100).await.unwrap();
        assert_eq!(with_days, ["user:a"]);
        assert_eq!(served.get("/v1/invoices/1").await, closed);
        assert_eq!(served.get(PREVIEW).await["adjustments_minor"], 0);
        let range = "from=2027-03-06T12:00:00Z&to=2027-04-06T12:00:00Z";
        assert_eq!(shown(&served.get(&format!("{PREVIEW}?{range}")).await), shown(&closed));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn numbers_have_no_gaps_however_many_close_at_once() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        for subject in ["user:a", "user:b", "user:c", "user:d"] {
            served.put(&format!("/v1/subscriptions/{subject}"), json!({"tier": "basic"})).await;
        }
        served.clock.pass(31 * DAY);
        let close = async |subject: &str| {
            let path = format!("/v1/subjects/{subject}/invoices");
            let march = json!({"from": "2027-03-01T00:00:00Z", "to": "2027-04-01T00:00:00Z"});
            served.send(Method::POST, &path, Some(march)).await.0.as_u16()
        };
        // Twice each: the second finds it closed, or is told to come again.
        let statuses = tokio::join!(
            close("user:a"),
            close("user:b"),
            close("user:c"),
            close("user:d"),
            close("user:a"),
            close("user:b"),
            close("user:c"),
            close("user:d"),
        );
        let statuses: [u16; 8] = statuses.into();
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 4, "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 201, 503].contains(status)), "{statuses:?}");
        let first = served.get("/v1/invoices?limit=3").await;
        let cursor = first["next_cursor"].as_str().unwrap();
        let rest = served.get(&format!("/v1/invoices?limit=3&cursor={cursor}")).await;
        let numbers = |page: &Value| -> Vec<i64> {
            page["items"].as_array().unwrap().iter().map(|item| item["number"].as_i64().unwrap()).collect()
        };
        assert_eq!([numbers(&first), numbers(&rest)].concat(), [4, 3, 2, 1]);
        assert_eq!(numbers(&served.get("/v1/invoices?subject=user:b").await).len(), 1);
        let audit = served.get("/v1/audit?target=user:a").await;
        assert_eq!(audit["items"][0]["action"], "invoice.close");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_invoice_is_a_table_and_a_page_in_which_nothing_runs() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    served.put("/v1/subscriptions/user:=a%22%3Cb%3E", json!({"tier": "pro"})).await;
    served.clock.pass(31 * DAY);
    let (status, _) =
        served.send(Method::POST, "/v1/subjects/user:=a%22%3Cb%3E/invoices", Some(json!({}))).await;
    assert_eq!(status, 201);
    let get = async |path: &str| {
        let response = served.request(Method::GET, path, ADMIN).send().await.unwrap();
        let of = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let headers = (of("content-type").unwrap(), of("content-security-policy"));
        (headers, response.text().await.unwrap())
    };
    let (headers, table) = get("/v1/invoices/1.csv").await;
    assert_eq!(headers.0, "text/csv; charset=utf-8; header=present");
    let rows: Vec<&str> = table.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(
        rows[1]
            .starts_with("1,\"user:=a\"\"<b>\",1,pro,\"'=HYPERLINK(\"\"http://evil.example\"\")<script>\","),
        "{table}"
    );
    assert!(rows[1].ends_with(",1,31.00 USD per month,31.00,3100,USD"), "{table}");
    assert!(rows[2].ends_with(",31.00,3100,USD"), "{table}");
    for path in ["/v1/invoices/1.html", "/v1/subjects/user:=a%22%3Cb%3E/invoices/preview?format=html"] {
        let (headers, page) = get(path).await;
        assert_eq!(headers.0, "text/html; charset=utf-8");
        assert!(headers.1.is_some_and(|policy| policy.contains("default-src 'none'")));
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(page.contains("31.00 USD") && page.contains("&#60;script&#62;"), "{page}");
    }
    served.stop().await;
}

#[tokio::test]
async fn bad_requests_for_invoices_are_refused_with_a_code() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let code = async |method: Method, path: &str, body: Option<Value>| {
        let mut request = served.request(method, path, ADMIN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let (status, answer) = answer(request).await;
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let of = |status: u16, code: &str| (status, code.to_owned());
    let get = async |path: &str| code(Method::GET, path, None).await;
    assert_eq!(get(PREVIEW).await, of(409, "no-prices"));
    assert_eq!(get("/v1/subjects/alice/invoices/preview").await, of(400, "subject-malformed"));
    assert_eq!(get("/v1/subjects/member:acme%2Fa/invoices/preview").await, of(400, "subject-malformed"));
    for range in [
        "from=2027-03-02T00:00:00Z&to=2027-03-01T00:00:00Z",
        "from=2027-03-02T00:00:00Z&to=2027-03-02T00:00:00Z",
        "from=2020-03-02T00:00:00Z&to=2027-03-02T00:00:00Z",
    ] {
        assert_eq!(get(&format!("{PREVIEW}?{range}")).await, of(400, "range-invalid"), "{range}");
    }
    assert_eq!(get(&format!("{PREVIEW}?from=yesterday")).await, of(400, "query-malformed"));
    assert_eq!(get(&format!("{PREVIEW}?format=pdf")).await, of(400, "query-malformed"));
    assert_eq!(get("/v1/invoices/1").await, of(404, "invoice-missing"));
    assert_eq!(get("/v1/invoices/1.pdf").await, of(400, "path-malformed"));
    assert_eq!(get("/v1/invoices/x").await, of(400, "path-malformed"));
    let wrong = Some(json!({"form": "2027-03-01T00:00:00Z"}));
    assert_eq!(code(Method::POST, "/v1/subjects/user:a/invoices", wrong).await, of(422, "body-invalid"));
    served.stop().await;
}

#[test]
fn no_statement_changes_or_deletes_what_is_only_ever_added_to() {
    // What became of a webhook is written into its row, and a clock that was ahead is put right in a history.
    let (never_changed, never_deleted) =
        (["invoices", "usage_corrections", "audit"], ["webhook_inbox", "subscription_history"]);
    let mut added = std::collections::BTreeSet::new();
    let mut directories = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let words: Vec<&str> = text.split_whitespace().collect();
            for words in words.windows(3) {
                let is_of = |table: &&str| words.contains(table);
                let is_change = words[0].ends_with("UPDATE") && never_changed.iter().any(is_of);
                let is_deletion = words[0].ends_with("DELETE")
                    && words[1] == "FROM"
                    && never_changed.iter().chain(&never_deleted).any(is_of);
                assert!(!is_change && !is_deletion, "{}: {words:?}", path.display());
                if words[0].ends_with("INSERT") {
                    added.extend(words[2].split('(').next().map(str::to_owned));
                }
            }
        }
    }
    for table in never_changed.iter().chain(&never_deleted) {
        assert!(added.contains(*table), "{table} is among what was looked at: {added:?}");
    }
}
