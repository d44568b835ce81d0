//! Requests of people, timed one by one: as many at once as a control plane has cores to answer them with.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::plane::{ADMIN_TOKEN, Plane};

/// Callers whose own view is asked for.
pub const CALLERS: usize = 10_000;

const AT_ONCE: usize = 2;
const REQUESTS: usize = 4_000;
const PREVIEWS: usize = 400;
/// Each page is asked for so often; the slowest counts.
const TIMES: usize = 10;

/// Lists and analytics that people look at.
const PAGES: &[&str] = &[
    "/v1/subscriptions?limit=100",
    "/v1/subscriptions?tier=pro&limit=100",
    "/v1/subscriptions?state=cancelled&limit=500",
    "/v1/audit?limit=100",
    "/v1/analytics/subscriptions",
    "/v1/analytics/churn",
    "/v1/analytics/conversion",
    "/v1/analytics/revenue",
    "/v1/analytics/subjects",
    "/v1/analytics/denials",
    "/v1/analytics/limits",
];

/// The 99th percentile of `GET /v1/me`, of different callers.
pub fn me(plane: &Plane, tokens: &[String]) -> Result<Duration> {
    percentile_99(plane.port, REQUESTS, |number| {
        // Spread over all subjects, so that what was read for one is of little use to the next.
        let token = tokens.get(number * 7_919 % tokens.len()).map(String::as_str).unwrap_or_default();
        ("/v1/me".to_owned(), token.to_owned())
    })
}

/// Each page, and the slowest of its answers.
pub fn pages(plane: &Plane) -> Result<Vec<(&'static str, Duration)>> {
    PAGES
        .iter()
        .map(|path| {
            let mut slowest = Duration::ZERO;
            let agent = ureq::agent();
            for _ in 0..TIMES {
                slowest = slowest.max(timed(&agent, plane.port, path, ADMIN_TOKEN)?);
            }
            Ok((*path, slowest))
        })
        .collect()
}

/// The 99th percentile of an invoice's preview, of different subjects.
pub fn previews(plane: &Plane) -> Result<Duration> {
    percentile_99(plane.port, PREVIEWS, |number| {
        let subject = number * 7_919 % CALLERS;
        (format!("/v1/subjects/user:bench-{subject}/invoices/preview"), ADMIN_TOKEN.to_owned())
    })
}

fn percentile_99(
    port: u16,
    requests: usize,
    request: impl Fn(usize) -> (String, String) + Sync,
) -> Result<Duration> {
    let request = &request;
    let mut took = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|thread| {
                scope.spawn(move || {
                    let agent = ureq::agent();
                    (thread..requests)
                        .step_by(AT_ONCE)
                        .map(|number| {
                            let (path, token) = request(number);
                            timed(&agent, port, &path, &token)
                        })
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut took = Vec::new();
        for thread in threads {
            took.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok::<_, anyhow::Error>(took)
    })?;
    took.sort();
    took.get(took.len().saturating_sub(1) * 99 / 100).copied().context("nothing was asked")
}

fn timed(agent: &ureq::Agent, port: u16, path: &str, token: &str) -> Result<Duration> {
    let start = Instant::now();
    let url = format!("http://127.0.0.1:{port}{path}");
    let mut answer = agent
        .get(&url)
        .header("authorization", format!("Bearer {token}"))
        .call()
        .with_context(|| format!("GET {path}"))?;
    let text = answer.body_mut().read_to_string()?;
    ensure!(!text.is_empty(), "GET {path} answered nothing");
    Ok(start.elapsed())
}
