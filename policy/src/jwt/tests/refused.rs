//! Tokens that are refused, and with which code.

use super::*;

fn good() -> Draft {
    draft("RS256", "rsa")
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<_> = token.split('.').collect();
    parts.try_into().expect("three parts")
}

#[test]
fn what_is_not_a_token_is_malformed() {
    let token = good().sign();
    let [header, claims, signature] = parts(&token);
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{signature}"),
        format!("{token}="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        format!("{header}.{claims}.{signature}\n"),
        format!(" {token}"),
        format!("Bearer {token}"),
        token.replace('_', "/").replace('-', "+"),
        format!("{}.{claims}.{signature}", encode("[]")),
        format!("{}.{claims}.{signature}", encode("{}")),
        format!("{}.{claims}.{signature}", encode(r#"{"alg":256}"#)),
        format!("{}.{claims}.{signature}", encode(r#"{"alg":null}"#)),
        sign(r#"{"alg":"RS256","kid":7}"#, &good().claims.to_string()),
        sign(r#"{"alg":"RS256","typ":7}"#, &good().claims.to_string()),
        sign(r#"{"alg":"RS256"}"#, r#""alice""#),
        sign(r#"{"alg":"RS256"}"#, "{} {}"),
    ] {
        check(bad, "token-malformed");
    }
    check(b"\xff\xfe.\x80.\xff", "token-malformed");
    let binary = format!("{}.{}.{signature}", encode(b"\xff"), encode(b"\xff"));
    check(binary, "token-malformed");
    // Stray bits in the last character of a part would give one token two spellings (RFC 4648 3.5).
    let last = signature.chars().last().expect("not empty");
    let stray = char::from_u32(last as u32 + 1).expect("a character");
    check(format!("{}{stray}", &token[..token.len() - 1]), "token-malformed");
}

#[test]
fn names_given_twice_are_malformed() {
    let header = r#"{"alg":"RS256","kid":"rsa"}"#;
    let claims = good().claims.to_string();
    check(sign(header, &claims), "user:alice");
    for twice in
        [r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#, r#"{"alg":"RS256","kid":"p256","kid":"rsa"}"#]
    {
        check(sign(twice, &claims), "token-malformed");
    }
    for name in ["iss", "aud", "exp", "sub", "nbf", "other"] {
        let twice = format!("{},\"{name}\":1,\"{name}\":1}}", claims.trim_end_matches('}'));
        check(sign(header, &twice), "token-malformed");
    }
}

#[test]
fn long_tokens_are_not_looked_at() {
    check(vec![b'a'; TOKEN_BYTES_MAX], "token-malformed");
    check(vec![b'a'; TOKEN_BYTES_MAX + 1], "token-too-large");
    check(vec![b'.'; 64 * 1024], "token-too-large");
}

#[test]
fn a_token_chooses_only_among_its_keys_algorithms() {
    for algorithm in ["none", "None", "NONE", "", "HS384", "HS512", "ES512", "PS384", "PS512", "RS1", "rs256"]
    {
        check(good().header("alg", algorithm).sign(), "token-algorithm");
    }
    for (algorithm, kid) in [
        ("ES256", "rsa"),
        ("PS256", "rs256"),
        ("RS512", "rs256"),
        ("ES384", "p256"),
        ("ES256", "p384"),
        ("RS256", "p256"),
        ("EdDSA", "p256"),
        ("HS256", "ed"),
        ("RS256", "oct"),
        ("HS256", "shared"),
    ] {
        check(draft(algorithm, kid).sign(), "token-algorithm");
    }
    // The issuer's own list leaves RSA out, though it has such a key.
    let typed = |algorithm, kid| draft(algorithm, kid).claim("iss", TYPED_ISSUER).header("typ", "at+jwt");
    check(typed("ES256", "p256").sign(), "user:alice");
    check(typed("RS256", "rsa").sign(), "token-algorithm");
    check(typed("RS256", "rsa").header("kid", Value::Null).sign(), "token-algorithm");
}

/// The classic confusion: a public key is public, so whoever takes it for a secret can sign (RFC 8725 2.1).
#[test]
fn a_public_key_is_no_secret() {
    let draft = draft("HS256", "rsa");
    let message = format!("{}.{}", encode(draft.header.to_string()), encode(draft.claims.to_string()));
    let keyless = draft.clone().header("kid", Value::Null);
    let keyless = format!("{}.{}", encode(keyless.header.to_string()), encode(keyless.claims.to_string()));
    for public in [decode(vectors::RSA_N), decode(vectors::RSA_SPKI), vectors::RSA_SPKI.as_bytes().to_vec()] {
        for (message, code) in [(&message, "token-algorithm"), (&keyless, "token-signature")] {
            let key = EncodingKey::from_secret(&public);
            let signer = (PROVIDER.signer_factory)(&Algorithm::HS256, &key).expect("any bytes are a secret");
            let signature = signer.try_sign(message.as_bytes()).expect("it signs");
            check(format!("{message}.{}", encode(signature)), code);
        }
    }
}

#[test]
fn issuers_are_known_by_their_exact_name() {
    for iss in [
        json!("https://issuer.example/"),
        json!("https://ISSUER.example"),
        json!(""),
        json!(1),
        json!([ISSUER]),
    ] {
        check(good().claim("iss", iss).sign(), "token-unknown-issuer");
    }
    check(good().claim("iss", Value::Null).sign(), "token-unknown-issuer");
}

#[test]
fn keys_are_known_by_their_exact_id() {
    for kid in ["RSA", "", "rsa2"] {
        check(good().header("kid", kid).sign(), "token-unknown-key");
    }
    let keyless = good().claim("iss", KEYLESS_ISSUER);
    let unknown = Err(TokenFault::UnknownKey { issuer: 2 });
    assert_eq!(verify(&KEYRING, keyless.sign().as_bytes(), NOW_MS), unknown);
    assert_eq!(verify(&KEYRING, keyless.header("kid", Value::Null).sign().as_bytes(), NOW_MS), unknown);
    // The key of one issuer does not vouch for another.
    check(
        draft("EdDSA", "ed").claim("iss", TYPED_ISSUER).header("typ", "at+jwt").sign(),
        "token-unknown-key",
    );
}

#[test]
fn critical_extensions_are_refused() {
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!("b64"), json!({})] {
        check(good().header("crit", crit).header("b64", false).sign(), "token-critical-header");
    }
    check(sign(r#"{"alg":"RS256","crit":null}"#, &good().claims.to_string()), "token-critical-header");
}

#[test]
fn types_are_checked_where_the_issuer_asks() {
    let typed = draft("ES256", "p256").claim("iss", TYPED_ISSUER);
    check(typed.sign(), "token-type");
    for typ in
        ["JWT", "", "at", "x/at+jwt", "application/", "application/application/at+jwt", "äpplication/at+jwt"]
    {
        check(typed.clone().header("typ", typ).sign(), "token-type");
    }
    check(good().header("typ", "anything").sign(), "user:alice");
}

#[test]
fn the_audience_must_be_ours() {
    for (aud, code) in [
        (Value::Null, "token-audience"),
        (json!(""), "token-audience"),
        (json!("API"), "token-audience"),
        (json!([]), "token-audience"),
        (json!(["other", "api-3"]), "token-audience"),
        (json!(7), "token-claims"),
        (json!(["api", 7]), "token-claims"),
        (json!({"api": true}), "token-claims"),
    ] {
        check(good().claim("aud", aud).sign(), code);
    }
}

#[test]
fn times_must_be_times() {
    check(good().claim("exp", Value::Null).sign(), "token-claims");
    for name in ["exp", "nbf", "iat"] {
        for bad in [
            json!("1700000600"),
            json!(-1),
            json!(-0.5),
            json!(253_402_300_800_i64),
            json!(253_402_300_800.0),
            json!(1e300),
            json!(u64::MAX),
            json!(true),
            json!([NOW_S]),
        ] {
            check(good().claim(name, bad).sign(), "token-claims");
        }
        let null = format!(
            "{{\"{name}\":null,{}",
            good().claim(name, Value::Null).claims.to_string().trim_start_matches('{')
        );
        check(sign(r#"{"alg":"RS256"}"#, &null), "token-claims");
    }
}

#[test]
fn names_must_be_names() {
    let long = "x".repeat(257);
    for bad in [
        json!(""),
        json!(" alice"),
        json!("alice "),
        json!("al\nice"),
        json!("al\u{0}ice"),
        json!("al\u{7f}ice"),
        json!("al\u{85}ice"),
        json!("alice\u{a0}"),
        json!(long),
        json!(1.0),
        json!(true),
        json!(["alice"]),
        json!({"id": "alice"}),
    ] {
        check(good().claim("sub", bad.clone()).sign(), "token-claims");
        check(good().claim("org", json!({"id": bad})).sign(), "token-claims");
        check(good().claim("https://issuer.example/tier", bad).sign(), "token-claims");
    }
    for number in [json!(1), json!(null)] {
        check(good().claim("org", json!({"id": number})).sign(), "token-claims");
    }
    check(good().claim("sub", Value::Null).sign(), "token-claims");
    // No organization there: the user is the subject.
    check(good().claim("org", json!({"name": "acme"})).sign(), "user:alice");
    check(good().claim("org", "acme").sign(), "user:alice");
}

#[test]
fn the_fault_says_which_claim() {
    for (name, sentence) in [("exp", "`exp` claim"), ("sub", "user claim")] {
        let fault = verify(&KEYRING, good().claim(name, Value::Null).sign().as_bytes(), NOW_MS).unwrap_err();
        assert!(fault.to_string().contains(sentence), "{fault}");
    }
    assert!(TokenFault::TooLarge.to_string().contains("8192"));
}

#[test]
fn claims_are_not_read_before_the_signature_holds() {
    let token = good().claim("exp", 1).claim("aud", "other").sign();
    let [header, claims, _] = parts(&token);
    check(format!("{header}.{claims}.{}", encode([1; 256])), "token-signature");
}

#[test]
fn one_flipped_bit_in_any_part_is_noticed() {
    for (algorithm, kid) in
        [("RS256", "rsa"), ("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed"), ("HS256", "oct")]
    {
        let token = draft(algorithm, kid).sign();
        let [header, claims, signature] = parts(&token);
        let flip = |part: &str, index: usize| {
            let mut bytes = decode(part);
            bytes[index] ^= 1;
            encode(bytes)
        };
        // The last letter of the user, so that all else still parses.
        let user = claims_index(&decode(claims), b"alice") + 4;
        check(format!("{header}.{}.{signature}", flip(claims, user)), "token-signature");
        for index in [0, decode(signature).len() / 2, decode(signature).len() - 1] {
            check(format!("{header}.{claims}.{}", flip(signature, index)), "token-signature");
        }
        let spaced = encode(draft(algorithm, kid).header.to_string() + " ");
        check(format!("{spaced}.{claims}.{signature}"), "token-signature");
    }
}

fn claims_index(claims: &[u8], part: &[u8]) -> usize {
    claims.windows(part.len()).position(|window| window == part).expect("it is there")
}
