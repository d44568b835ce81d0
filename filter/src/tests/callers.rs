//! Verified tokens are remembered, within a bound.

use std::rc::Rc;

use tollgate_policy::document::PolicyDocument;
use tollgate_policy::jwt::Keyring;

use super::proxy::{Proxy, Worker};
use super::*;
use crate::identity::{CALLER_BYTES, REMEMBERED_BYTES_MAX, Tokens};
use crate::records::Records;

/// The issuer's keys, and none at all: who is known without them was remembered.
fn keyrings() -> (Keyring, Keyring) {
    provider::install(None);
    let ring = |keys: &Value| {
        let mut policy = daily(1);
        policy["issuers"][0]["keys"] = json!({"jwks": keys});
        let document = serde_json::from_value::<PolicyDocument>(policy).unwrap();
        Keyring::from_issuers(&document.issuers).unwrap()
    };
    let with_keys = ring(&daily(1)["issuers"][0]["keys"]["jwks"]);
    (with_keys, ring(&json!({"keys": []})))
}

fn records() -> Records {
    Records::open(&*Worker::new(&Proxy::new(Rc::default(), START_MS, 1)))
}

fn token_of(number: usize, padding: usize) -> Vec<u8> {
    let mut claims = claims(&format!("u{number}"));
    claims["padding"] = json!("x".repeat(padding));
    sign("k1", &claims).into_bytes()
}

fn remembered(tokens: &mut Tokens, records: &Records, nothing: &Keyring, all: &[Vec<u8>]) -> usize {
    all.iter().filter(|token| tokens.identify(records, nothing, token, START_MS).is_ok()).count()
}

#[test]
fn all_callers_are_remembered_while_they_fit_in_whatever_order_they_come() {
    let (ring, nothing) = keyrings();
    let (records, mut tokens) = (records(), Tokens::default());
    let all: Vec<_> = (0..12_000).map(|number| token_of(number, 400)).collect();
    for token in &all {
        tokens.identify(&records, &ring, token, START_MS).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(remembered(&mut tokens, &records, &nothing, &all), all.len());
    }
}

#[test]
fn what_is_remembered_is_bounded_and_what_is_used_again_and_again_stays() {
    let (ring, nothing) = keyrings();
    let (records, mut tokens) = (records(), Tokens::default());
    let all: Vec<_> = (0..6_000).map(|number| token_of(number, 5_000)).collect();
    let (often, once) = all.split_at(500);
    for token in often {
        tokens.identify(&records, &ring, token, START_MS).unwrap();
    }
    for part in once.chunks(500) {
        assert_eq!(remembered(&mut tokens, &records, &nothing, often), often.len());
        for token in part {
            tokens.identify(&records, &ring, token, START_MS).unwrap();
        }
    }
    let kept = remembered(&mut tokens, &records, &nothing, &all) as u64;
    let cost = all[0].len() as u64 + CALLER_BYTES;
    assert!(kept * cost <= REMEMBERED_BYTES_MAX && kept * cost > REMEMBERED_BYTES_MAX / 2, "{kept}");
}

#[test]
fn a_token_that_is_over_is_forgotten_and_verified_anew() {
    let (ring, nothing) = keyrings();
    let (records, mut tokens) = (records(), Tokens::default());
    let token = token_of(1, 0);
    assert!(tokens.identify(&records, &ring, &token, START_MS).is_ok());
    assert!(tokens.identify(&records, &nothing, &token, START_MS + 999_999_000).is_ok());
    assert!(tokens.identify(&records, &ring, &token, START_MS + 1_000_100_000).is_err());
    assert!(tokens.is_empty());
}
