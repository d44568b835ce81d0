//! Tokens of the issuer that the tests' policies trust, good and bad. The keys are published ones: the quickstart's, and
//! examples of RFCs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::artefacts;

/// The issuer.
pub const ISSUER: &str = "https://issuer.example";

/// The audience.
pub const AUDIENCE: &str = "api";

/// The secret of RFC 7515 A.1.1.
const HMAC_SECRET: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

/// A private key, and the JWK of its public part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// RSA of 2048 bits, for RS256.
    Rs256,
    /// The same for PS256, with a `kid` of its own.
    Ps256,
    /// P-256 (RFC 7515 A.3).
    Es256,
    /// P-256 (RFC 7517 A.2): another one.
    Es256Other,
    /// Ed25519 (RFC 8037 A).
    EdDsa,
    /// A shared secret (RFC 7515 A.1).
    Hs256,
}

/// A token that is being made. It is good unless it is told otherwise.
#[derive(Debug, Clone)]
pub struct Token {
    key: Key,
    header: Header,
    claims: Value,
}

/// Seconds since 1970.
pub fn now_s() -> i64 {
    now_ms().div_euclid(1_000)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    #[allow(clippy::disallowed_methods, reason = "tokens for a real filter carry the real time")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// A good token of this user, by RS256.
pub fn of(user: &str) -> String {
    Token::of(user).sign()
}

impl Token {
    /// A good token of this user, by RS256.
    pub fn of(user: &str) -> Self {
        let now_s = now_s();
        let claims =
            json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now_s - 10, "exp": now_s + 3_600});
        Self { key: Key::Rs256, header: Header::new(Algorithm::RS256), claims }.key(Key::Rs256)
    }

    /// With these claims, and a good signature by RS256.
    pub fn with_claims(claims: Value) -> Self {
        Self { claims, ..Self::of("") }
    }

    /// Signed with this key, and naming it.
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self.header.alg = key.algorithm();
        self.header.kid = Some(key.id().to_owned());
        self
    }

    /// Naming this key in its header, whatever it is signed with.
    pub fn kid(mut self, kid: &str) -> Self {
        self.header.kid = Some(kid.to_owned());
        self
    }

    /// With this claim; null removes it.
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        if value.is_null() {
            self.claims.as_object_mut().expect("claims are an object").remove(name);
        } else {
            self.claims[name] = value;
        }
        self
    }

    /// Its text.
    pub fn sign(&self) -> String {
        jsonwebtoken::encode(&self.header, &self.claims, &self.key.private()).expect("the key signs")
    }

    /// Its text, with this header in place of its own, so that the signature fits neither.
    pub fn with_raw_header(&self, header: &Value) -> String {
        let token = self.sign();
        let (_, rest) = token.split_once('.').expect("a token has parts");
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
    }
}

impl Key {
    /// All that the tests' policies trust.
    pub const TRUSTED: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa, Self::Hs256];

    /// Its `kid`.
    pub fn id(self) -> &'static str {
        match self {
            Self::Rs256 => "rs256",
            Self::Ps256 => "ps256",
            Self::Es256 => "es256",
            Self::Es256Other => "es256-other",
            Self::EdDsa => "eddsa",
            Self::Hs256 => "hs256",
        }
    }

    /// What it signs with.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Ps256 => Algorithm::PS256,
            Self::Es256 | Self::Es256Other => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Hs256 => Algorithm::HS256,
        }
    }

    /// Its public part (or, for a shared secret, all of it), as a JWK.
    pub fn jwk(self) -> Value {
        let mut jwk = match self {
            Self::Rs256 | Self::Ps256 => {
                let set = artefacts::shipped("examples/quickstart/issuer.jwks.json");
                let set: Value = serde_json::from_str(&set).expect("the quickstart's keys are JSON");
                json!({"kty": "RSA", "n": set["keys"][0]["n"], "e": set["keys"][0]["e"]})
            }
            Self::Es256 => json!({
                "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            Self::Es256Other => json!({
                "kty": "EC", "crv": "P-256",
                "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            }),
            Self::EdDsa => json!({
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }),
            Self::Hs256 => json!({"kty": "oct", "k": HMAC_SECRET}),
        };
        jwk["kid"] = json!(self.id());
        jwk["alg"] = json!(format!("{:?}", self.algorithm()));
        jwk
    }

    fn private(self) -> EncodingKey {
        match self {
            Self::Rs256 | Self::Ps256 => {
                let pem = artefacts::shipped("examples/quickstart/issuer.key.pem");
                EncodingKey::from_rsa_pem(pem.as_bytes())
                    .expect("the quickstart's key is a PEM of an RSA key")
            }
            Self::Es256 => p256("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"),
            Self::Es256Other => p256("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"),
            Self::EdDsa => {
                let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
                // PKCS #8 (RFC 8410 7) around the 32 bytes.
                let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
                der.extend(seed.expect("it is base64url"));
                EncodingKey::from_ed_der(&der)
            }
            Self::Hs256 => {
                EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(HMAC_SECRET).expect("it is base64url"))
            }
        }
    }
}

/// PKCS #8 around a P-256 key of 32 bytes.
fn p256(private: &str) -> EncodingKey {
    let mut der =
        b"\x30\x41\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\
                    \x03\x01\x07\x04\x27\x30\x25\x02\x01\x01\x04\x20"
            .to_vec();
    der.extend(URL_SAFE_NO_PAD.decode(private).expect("it is base64url"));
    EncodingKey::from_ec_der(&der)
}
