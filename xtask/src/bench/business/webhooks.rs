//! Webhooks of Stripe, signed, as fast as the control plane acknowledges them; then the same again, and a kill in the
//! middle. What was acknowledged must be there afterwards, and have had its effect.

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
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// What was seen.
pub struct Told {
    pub per_second: f64,
    pub acknowledged: usize,
    pub lost: usize,
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
            scope.spawn(|| send(plane.port, &next, DONE_WITHIN, || killed.load(Ordering::Relaxed) > 0));
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
    Ok(Told { per_second, acknowledged: acknowledged.len(), lost })
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

/// A subscription of a customer of its own, with the members of Stripe's documentation that matter.
fn event(number: usize) -> Value {
    let now_s = now_s();
    json!({
        "id": format!("evt_{number:08}"), "object": "event", "api_version": "2026-07-29", "created": now_s,
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

/// How many of what was acknowledged have had no effect by the time that all is worked off.
fn missing(plane: &Plane, acknowledged: &BTreeSet<usize>) -> Result<usize> {
    let deadline = Instant::now() + DONE_WITHIN;
    loop {
        let paying = subscribers(plane)?;
        let lost =
            acknowledged.iter().filter(|number| !paying.contains(&format!("user:payer-{number}"))).count();
        if lost == 0 || Instant::now() > deadline {
            return Ok(lost);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn subscribers(plane: &Plane) -> Result<BTreeSet<String>> {
    let agent = ureq::agent();
    let (mut found, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let url = format!("http://127.0.0.1:{}/v1/subscriptions?tier=pro&limit=500{cursor}", plane.port);
        let text = agent
            .get(&url)
            .header("authorization", format!("Bearer {ADMIN_TOKEN}"))
            .call()?
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string()?;
        let page: Value = serde_json::from_str(&text)?;
        let items = page.get("items").and_then(Value::as_array).context("a page without items")?;
        found.extend(items.iter().filter_map(|item| item.get("subject")?.as_str().map(str::to_owned)));
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
