//! The tour: what a caller and an operator see, step by step, each checked. The first that differs ends it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::http::Answer;
use super::stack::{ADMIN_TOKEN, Stack};
use crate::progress::note;

/// As in `examples/quickstart/policy.yaml`.
const FREE_QUOTA: u64 = 5;
const PRO_QUOTA: u64 = 1000;
const QUOTA: &str = "api_calls.hour";
const METER: &str = "api_calls";

/// An upgrade must be felt within this.
const UPGRADE_LIMIT: Duration = Duration::from_secs(1);
/// Edges report usage every second or so; this only bounds the wait.
const REPORT_LIMIT: Duration = Duration::from_secs(15);
/// The tour must not be under way when an hour, and with it the quota's window, begins anew.
const TOUR_TIME: Duration = Duration::from_secs(30);
const HOUR_S: u64 = 3600;

/// Walks through it.
pub fn run(stack: &Stack) -> Result<()> {
    wait_for_enough_of_the_hour();
    walk(stack).with_context(|| format!("the tour differs from what it should be\n{}", stack.log_tails()))
}

fn walk(stack: &Stack) -> Result<()> {
    let caller = Caller { stack, token: stack.sign_token("alice")? };

    say(1, "A request without a token is refused before it reaches the application");
    let answer = caller.hello_without_token()?;
    expect_problem(&answer, 401)?;

    say(2, &format!("alice, in tier `free`, has {FREE_QUOTA} calls an hour; RateLimit counts down"));
    for admitted in 1..=FREE_QUOTA {
        let answer = caller.hello()?;
        expect_status(&answer, 200)?;
        expect_remaining(&answer, FREE_QUOTA - admitted)?;
        expect_identity(&answer, "free")?;
    }

    say(3, "The next one is refused, with when to come back");
    let answer = caller.hello()?;
    expect_problem(&answer, 429)?;
    let wait_s = answer.header("retry-after").context("the 429 has no Retry-After")?;
    let wait_s: u64 = wait_s.parse().with_context(|| format!("Retry-After is `{wait_s}`, not seconds"))?;
    ensure!((1..=HOUR_S).contains(&wait_s), "Retry-After is {wait_s} s: not within the hour");

    say(4, "An upgrade by REST is felt within a second, in the middle of the hour, without a restart");
    let upgraded = Instant::now();
    set_tier(stack, "user:alice", "pro")?;
    let answer = loop {
        let answer = caller.ask("/hello", Some(&caller.token))?;
        match answer.status {
            200 => break answer,
            429 if upgraded.elapsed() < UPGRADE_LIMIT => std::thread::sleep(Duration::from_millis(20)),
            status => bail!("{status}, {} ms after the upgrade", upgraded.elapsed().as_millis()),
        }
    };
    let felt = upgraded.elapsed();
    show("GET /hello", &answer);
    note(&format!("admitted {} ms after the PUT was sent", felt.as_millis()));
    ensure!(felt < UPGRADE_LIMIT, "the upgrade took longer than a second");
    expect_identity(&answer, "pro")?;
    // What was used before the upgrade stays used.
    expect_remaining(&answer, PRO_QUOTA - FREE_QUOTA - 1)?;

    say(5, "A call that the application fails is not charged");
    let answer = caller.ask("/fail", Some(&caller.token))?;
    show("GET /fail", &answer);
    expect_status(&answer, 500)?;

    say(6, "The control plane's ledger has exactly what was admitted");
    let admitted = FREE_QUOTA + 1;
    let used = wait_for_usage(stack, "user:alice", admitted)?;
    note(&format!("{used} {METER} of user:alice in the ledger; {admitted} were admitted and answered"));
    Ok(())
}

struct Caller<'a> {
    stack: &'a Stack,
    token: String,
}

impl Caller<'_> {
    fn hello_without_token(&self) -> Result<Answer> {
        let answer = self.ask("/hello", None)?;
        show("GET /hello (no token)", &answer);
        Ok(answer)
    }

    fn hello(&self) -> Result<Answer> {
        let answer = self.ask("/hello", Some(&self.token))?;
        show("GET /hello", &answer);
        Ok(answer)
    }

    fn ask(&self, path: &str, token: Option<&str>) -> Result<Answer> {
        self.stack.client.get(&format!("{}{path}", self.stack.ports.gateway_url()), token)
    }
}

fn say(number: u32, text: &str) {
    println!("\n {number}. {text}");
}

fn show(request: &str, answer: &Answer) {
    let mut line = format!("{request:<24}{}", answer.status);
    for name in ["RateLimit", "Retry-After"] {
        if let Some(value) = answer.header(name) {
            line.push_str(&format!("  {name}: {value}"));
        }
    }
    if let Ok(problem) = answer.json()
        && let Some(code) = problem.get("code").and_then(Value::as_str)
    {
        line.push_str(&format!("  code: {code}"));
    }
    note(&line);
}

fn expect_status(answer: &Answer, status: u16) -> Result<()> {
    ensure!(answer.status == status, "expected {status}, got {}: {}", answer.status, answer.body);
    Ok(())
}

fn expect_problem(answer: &Answer, status: u16) -> Result<()> {
    expect_status(answer, status)?;
    let kind = answer.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("application/problem+json"), "expected a problem document, got `{kind}`");
    let problem = answer.json()?;
    ensure!(problem.get("status") == Some(&json!(status)), "the problem's status is another: {problem}");
    ensure!(problem.get("code").is_some_and(Value::is_string), "the problem has no code: {problem}");
    Ok(())
}

fn expect_remaining(answer: &Answer, expected: u64) -> Result<()> {
    let header = answer.header("ratelimit").context("the answer has no RateLimit header")?;
    let remaining =
        remaining(&header, QUOTA).with_context(|| format!("RateLimit has no {QUOTA}: {header}"))?;
    ensure!(remaining == expected, "RateLimit says {remaining} of {QUOTA} remain, expected {expected}");
    Ok(())
}

/// Reads `r` of one item of `"api_calls.hour";r=4;t=1200, "api_calls.60s";r=59;t=60`.
fn remaining(header: &str, limit: &str) -> Option<u64> {
    let item = header.split(',').map(str::trim).find(|item| item.starts_with(&format!("\"{limit}\"")))?;
    item.split(';').find_map(|parameter| parameter.trim().strip_prefix("r=")).and_then(|r| r.parse().ok())
}

fn expect_identity(answer: &Answer, tier: &str) -> Result<()> {
    let seen = answer.json()?;
    let identity = seen.get("identity").context("the application did not answer this")?;
    let header = |name: &str| identity.get(name).and_then(Value::as_str);
    ensure!(
        header("x-tollgate-subject") == Some("user:alice"),
        "the application saw another subject: {seen}"
    );
    ensure!(header("x-tollgate-tier") == Some(tier), "the application saw another tier: {seen}");
    Ok(())
}

fn set_tier(stack: &Stack, subject: &str, tier: &str) -> Result<()> {
    let path = format!("/v1/subscriptions/{subject}");
    let document = json!({ "tier": tier });
    let answer =
        stack.client.put(&format!("{}{path}", stack.ports.control_plane_url()), ADMIN_TOKEN, &document)?;
    note(&format!("PUT {path} {document}  {}", answer.status));
    ensure!((200..300).contains(&answer.status), "expected success, got {}: {}", answer.status, answer.body);
    Ok(())
}

/// The ledger follows within a sync; the numbers must then be equal, and stay.
fn wait_for_usage(stack: &Stack, subject: &str, expected: u64) -> Result<u64> {
    let url = format!("{}/v1/subjects/{subject}/usage", stack.ports.control_plane_url());
    let deadline = Instant::now() + REPORT_LIMIT;
    loop {
        let answer = stack.client.get(&url, Some(ADMIN_TOKEN))?;
        expect_status(&answer, 200)?;
        let used = used(&answer.json()?, METER);
        match used {
            Some(used) if used == expected => return Ok(used),
            _ if Instant::now() > deadline => {
                bail!("expected {expected} {METER}, the ledger has {}", answer.body)
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// The sum of a meter's units over the hours of a usage page.
fn used(page: &Value, meter: &str) -> Option<u64> {
    let rows = page.get("usage")?.as_array()?;
    let of_meter = rows.iter().filter(|row| row.get("meter").and_then(Value::as_str) == Some(meter));
    of_meter.map(|row| row.get("used").and_then(Value::as_u64)).sum()
}

fn wait_for_enough_of_the_hour() {
    #[allow(
        clippy::disallowed_methods,
        reason = "the tour watches a real system, whose windows follow the real clock"
    )]
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let left_s = HOUR_S - now_s % HOUR_S;
    if left_s < TOUR_TIME.as_secs() {
        note(&format!("waiting {left_s} s: the quota counts by the hour, and this one is nearly over"));
        std::thread::sleep(Duration::from_secs(left_s + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::{remaining, used};
    use serde_json::json;

    #[test]
    fn remaining_is_that_of_the_named_limit() {
        let header = r#""api_calls.60s";r=59;t=60, "api_calls.hour";r=4;t=1200"#;
        assert_eq!(remaining(header, "api_calls.hour"), Some(4));
        assert_eq!(remaining(header, "api_calls.day"), None);
    }

    #[test]
    fn usage_is_summed_over_the_hours_of_one_meter() {
        let page = json!({"usage": [
            {"meter": "api_calls", "hour": 0, "used": 2},
            {"meter": "api_calls", "hour": 3_600_000, "used": 3},
            {"meter": "tokens", "hour": 0, "used": 50},
        ]});
        assert_eq!(used(&page, "api_calls"), Some(5));
    }
}
