//! Verified tokens are remembered, within a bound.

use std::rc::Rc;

use tollgate_policy::document::PolicyDocument;
use tollgate_policy::jwt::Keyring;

use super::proxy::{Proxy, Worker};
use super::*;
use crate::identity::{TOKEN_BYTES_MAX, TOKENS_MAX, Tokens};
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
fn all_callers_are_remembered_that_fit_whoever_came_before_them() {
    let (ring, nothing) = keyrings();
    let (records, mut tokens) = (records(), Tokens::default());
    // As many again, who come twice and never more.
    for number in 100_000..100_000 + TOKENS_MAX {
        let token = token_of(number, 0);
        for _ in 0..2 {
            tokens.identify(&records, &ring, &token, START_MS).unwrap();
        }
    }
    let all: Vec<_> = (0..12_000).map(|number| token_of(number, 400)).collect();
    // Some of the first make room once more, while those before them are still passed over.
    for token in all.iter().chain(&all) {
        tokens.identify(&records, &ring, token, START_MS).unwrap();
    }
    for order in [all.iter().collect::<Vec<_>>(), all.iter().rev().collect()] {
        for token in order {
            tokens.identify(&records, &nothing, token, START_MS).unwrap();
        }
    }
}

#[test]
fn what_is_remembered_is_bounded_and_what_is_used_again_and_again_stays() {
    let (ring, nothing) = keyrings();
    for (count, padding, few) in [(40_000, 0, 500), (6_000, 5_000, 500)] {
        let (records, mut tokens) = (records(), Tokens::default());
        let all: Vec<_> = (0..count).map(|number| token_of(number, padding)).collect();
        let (often, once) = all.split_at(few);
        for token in often {
            tokens.identify(&records, &ring, token, START_MS).unwrap();
        }
        for part in once.chunks(few) {
            assert_eq!(remembered(&mut tokens, &records, &nothing, often), often.len());
            for token in part {
                tokens.identify(&records, &ring, token, START_MS).unwrap();
                assert!(tokens.bytes() <= TOKEN_BYTES_MAX);
            }
        }
        let kept = remembered(&mut tokens, &records, &nothing, &all);
        let fit = TOKENS_MAX.min(TOKEN_BYTES_MAX / all[count - 1].len());
        assert!(kept <= TOKENS_MAX && kept >= fit - 1, "{kept} of {fit}");
    }
}

#[test]
fn one_more_token_is_soon_remembered_though_all_others_are_in_use() {
    let (ring, nothing) = keyrings();
    let (records, mut tokens) = (records(), Tokens::default());
    let all: Vec<_> = (0..TOKENS_MAX).map(|number| token_of(number, 0)).collect();
    for keys in [&ring, &nothing] {
        for token in &all {
            tokens.identify(&records, keys, token, START_MS).unwrap();
        }
    }
    let more = token_of(TOKENS_MAX, 0);
    tokens.identify(&records, &ring, &more, START_MS).unwrap();
    assert!(tokens.identify(&records, &nothing, &more, START_MS).is_ok());
    assert_eq!(remembered(&mut tokens, &records, &nothing, &all), TOKENS_MAX - 1);
}

#[test]
fn a_token_that_is_over_is_verified_anew() {
    let (ring, nothing) = keyrings();
    let (records, mut tokens) = (records(), Tokens::default());
    let token = token_of(1, 0);
    assert!(tokens.identify(&records, &ring, &token, START_MS).is_ok());
    assert!(tokens.identify(&records, &nothing, &token, START_MS + 999_999_000).is_ok());
    assert!(tokens.identify(&records, &ring, &token, START_MS + 1_000_100_000).is_err());
}
