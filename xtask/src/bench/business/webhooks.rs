//! Webhooks of Stripe, signed, as fast as the control plane acknowledges them; then the same again, and a kill in the
//! middle. What was acknowledged must be there afterwards; it is worked off later, which is measured too.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::super::plane::{ADMIN_TOKEN, Plane};

const SECRET: &str = "whsec_benchmark_of_the_control_plane";
/// A provider sends from many machines at once.
const SENDERS: usize = 32;
const KILLED_AFTER: Duration = Duration::from_millis(1_500);
const WORKED_FOR: Duration = Duration::from_secs(10);
/// The longest that senders go on by themselves.
const SENT_FOR: Duration = Duration::from_secs(60);

/// What was seen.
pub struct Told {
    pub per_second: f64,
    pub acknowledged: usize,
    pub lost: usize,
    pub worked_off: f64,
}

/// Measures on a new SQLite database in `dir`.
pub fn run(dir: &Path, policy: &str, time: Duration) -> Result<Told> {
    let url = format!("sqlite://{}", dir.join("webhooks.db").display());
    let payments = dir.join("payments.yaml");
    std::fs::write(&payments, PAYMENTS.replace("SECRET", SECRET))?;
    let serve =
        |policy: &str| Plane::start_with(dir, &url, policy, &["--payments".as_ref(), payments.as_os_str()]);

    let plane = serve(policy)?;
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let mut acknowledged = send(plane.port, &next, time, || false);
    let per_second = acknowledged.len() as f64 / start.elapsed().as_secs_f64();

    // Again, and in the middle of it the process is killed: no time to finish anything.
    let killed = AtomicUsize::new(0);
    let more = std::thread::scope(|scope| {
        let senders =
            scope.spawn(|| send(plane.port, &next, SENT_FOR, || killed.load(Ordering::Relaxed) > 0));
        std::thread::sleep(KILLED_AFTER);
        plane.kill()?;
        killed.store(1, Ordering::Relaxed);
        senders.join().map_err(|_| anyhow::anyhow!("a sender panicked"))
    })?;
    ensure!(!more.is_empty(), "nothing was acknowledged before the kill");
    acknowledged.extend(more);
    drop(plane);
    let plane = serve(policy)?;
    let lost = missing(&plane, &acknowledged)?;
    let worked_off = worked_off_per_second(&plane)?;
    Ok(Told { per_second, acknowledged: acknowledged.len(), lost, worked_off })
}

const PAYMENTS: &str = "stripe: {signing_secrets: \"SECRET\", livemode: false, prices: {price_pro: pro}}\n";

/// Sends until `time` is over or `stop` says so; answers the numbers of what was acknowledged.
fn send(port: u16, next: &AtomicUsize, time: Duration, stop: impl Fn() -> bool + Sync) -> BTreeSet<usize> {
    let acknowledged = Mutex::new(BTreeSet::new());
    let (begun, stop, done) = (Instant::now(), &stop, &acknowledged);
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(move || {
                let agent = ureq::agent();
                while begun.elapsed() < time && !stop() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if post(&agent, port, number).is_ok() {
                        done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(number);
                    }
                }
            });
        }
    });
    acknowledged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn post(agent: &ureq::Agent, port: u16, number: usize) -> Result<()> {
    let body = event(number).to_string();
    let at_s = now_s();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(format!("{at_s}.{body}").as_bytes());
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    agent
        .post(format!("http://127.0.0.1:{port}/webhooks/stripe"))
        .header("stripe-signature", format!("t={at_s},v1={digest}"))
        .header("content-type", "application/json")
        .send(body)?;
    Ok(())
}

fn event_id(number: usize) -> String {
    format!("evt_{number:08}")
}

/// A subscription of a customer of its own, with the members of Stripe's documentation that matter.
fn event(number: usize) -> Value {
    let now_s = now_s();
    json!({
        "id": event_id(number), "object": "event", "api_version": "2026-07-29", "created": now_s,
        "livemode": false, "type": "customer.subscription.created",
        "data": {"object": {
            "id": format!("sub_{number:08}"), "object": "subscription", "customer": format!("cus_{number:08}"),
            "status": "active", "cancel_at_period_end": false, "created": now_s,
            "metadata": {"tollgate_subject": format!("user:payer-{number}")},
            "items": {"object": "list", "data": [{
                "id": format!("si_{number:08}"), "price": {"id": "price_pro"}, "quantity": 1,
                "current_period_start": now_s, "current_period_end": now_s + 30 * 86_400,
            }]},
        }},
    })
}

/// How many of what was acknowledged are not in the inbox.
fn missing(plane: &Plane, acknowledged: &BTreeSet<usize>) -> Result<usize> {
    let stored: BTreeSet<String> =
        rows(plane, "/v1/webhooks?limit=500")?.iter().filter_map(|row| text(row, "event_id")).collect();
    Ok(acknowledged.iter().filter(|number| !stored.contains(&event_id(**number))).count())
}

/// How many are worked off in a second: each is a transaction of its own, its effect and its being done.
fn worked_off_per_second(plane: &Plane) -> Result<f64> {
    let done = || -> Result<usize> {
        let subscribed = rows(plane, "/v1/subscriptions?tier=pro&limit=500")?;
        Ok(subscribed.len())
    };
    let (before, start) = (done()?, Instant::now());
    std::thread::sleep(WORKED_FOR);
    let after = done()?;
    Ok((after - before) as f64 / start.elapsed().as_secs_f64())
}

fn text(row: &Value, name: &str) -> Option<String> {
    row.get(name)?.as_str().map(str::to_owned)
}

/// All rows of a list, page by page.
fn rows(plane: &Plane, path: &str) -> Result<Vec<Value>> {
    let agent = ureq::agent();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let url = format!("http://127.0.0.1:{}{path}{cursor}", plane.port);
        let text = agent
            .get(&url)
            .header("authorization", format!("Bearer {ADMIN_TOKEN}"))
            .call()?
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string()?;
        let page: Value = serde_json::from_str(&text)?;
        found.extend(
            page.get("items").and_then(Value::as_array).context("a page without items")?.iter().cloned(),
        );
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(found),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "signatures carry the real time")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
