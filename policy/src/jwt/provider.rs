//! The cryptography: a provider for `jsonwebtoken` that lets the host verify what it verifies natively, and is pure Rust
//! (`rust_crypto`) for all else.
//!
//! RS256, RS384, RS512, ES256 and ES384 go to the host first: in Envoy 22 to 54 µs where pure Rust in Wasm takes over
//! 1,000. PSS, Ed25519, HMAC and signing never do. It decides nothing but whether a signature holds.

use std::sync::OnceLock;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils, rust_crypto::DEFAULT_PROVIDER};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, errors};

use super::der;

/// The hash of a signature that the host is asked to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of FIPS 180-4")]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// The host's verifier: hash, public key as SPKI in DER, signature (RSA PKCS#1 v1.5 as it is, ECDSA in DER), message.
/// `None`: the host cannot tell, and pure Rust must.
pub type HostVerify = fn(Hash, &[u8], &[u8], &[u8]) -> Option<bool>;

/// Tollgate's provider for `jsonwebtoken`.
pub static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: DEFAULT_PROVIDER.signer_factory,
    verifier_factory: |algorithm, key| verifier(host(), algorithm, key),
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_private_key,
        rsa_pub_components_from_public_key: DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key,
        ec_pub_components_from_private_key: DEFAULT_PROVIDER.key_utils.ec_pub_components_from_private_key,
        ed_pub_components_from_private_key: DEFAULT_PROVIDER.key_utils.ed_pub_components_from_private_key,
        compute_digest: DEFAULT_PROVIDER.key_utils.compute_digest,
    },
};

static HOST: OnceLock<HostVerify> = OnceLock::new();

/// Makes [`PROVIDER`] the one that `jsonwebtoken` uses in this process, with the host's verifier if there is one. May be
/// called again: the first host stays.
pub fn install(host: Option<HostVerify>) {
    if let Some(host) = host {
        HOST.get_or_init(|| host);
    }
    // It fails when something is installed already: this one, by an earlier call. A keyring asks this provider in any
    // case, so a foreign one would only change how others in the process sign and verify.
    let _ = PROVIDER.install_default();
}

/// The host's verifier, once one is installed.
pub(super) fn host() -> Option<HostVerify> {
    HOST.get().copied()
}

/// The verifier for a key: the host's where there is a host and it can, else pure Rust's.
pub(super) fn verifier(
    host: Option<HostVerify>,
    algorithm: &Algorithm,
    key: &DecodingKey,
) -> errors::Result<Box<dyn JwtVerifier>> {
    match host.and_then(|host| HostVerifier::new(host, *algorithm, key)) {
        Some(verifier) => Ok(Box::new(verifier)),
        None => (DEFAULT_PROVIDER.verifier_factory)(algorithm, key),
    }
}

struct HostVerifier {
    host: HostVerify,
    algorithm: Algorithm,
    hash: Hash,
    family: AlgorithmFamily,
    spki: Vec<u8>,
    /// Length of the key that ends the SPKI: what pure Rust reads, should the host not answer.
    key_len: usize,
}

impl HostVerifier {
    /// `None` where the host cannot help: another algorithm, or a key that does not fit it.
    fn new(host: HostVerify, algorithm: Algorithm, key: &DecodingKey) -> Option<Self> {
        let (hash, family) = match algorithm {
            Algorithm::RS256 => (Hash::Sha256, AlgorithmFamily::Rsa),
            Algorithm::RS384 => (Hash::Sha384, AlgorithmFamily::Rsa),
            Algorithm::RS512 => (Hash::Sha512, AlgorithmFamily::Rsa),
            Algorithm::ES256 => (Hash::Sha256, AlgorithmFamily::Ec),
            Algorithm::ES384 => (Hash::Sha384, AlgorithmFamily::Ec),
            _ => return None,
        };
        if key.family() != family {
            return None;
        }
        let (spki, key_len) = match (family, key.kind()) {
            (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(pkcs1)) => {
                (der::rsa_spki(pkcs1), pkcs1.len())
            }
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let pkcs1 = der::rsa_public_key(n, e);
                (der::rsa_spki(&pkcs1), pkcs1.len())
            }
            // The curve is the algorithm's (RFC 7518 3.4): a P-384 key does not verify ES256.
            (_, DecodingKeyKind::SecretOrDer(point)) if Some(point.len()) == point_len(algorithm) => {
                (der::ec_spki(point)?, point.len())
            }
            _ => return None,
        };
        Some(Self { host, algorithm, hash, family, spki, key_len })
    }

    fn ask_host(&self, message: &[u8], signature: &[u8]) -> Option<bool> {
        match self.family {
            AlgorithmFamily::Rsa => (self.host)(self.hash, &self.spki, signature, message),
            // Two numbers of the curve's size (RFC 7518 3.4). DER would hide another length from the host.
            _ if point_len(self.algorithm) != Some(signature.len() + 1) => Some(false),
            _ => (self.host)(self.hash, &self.spki, &der::ecdsa_signature(signature), message),
        }
    }

    /// The same question to pure Rust.
    fn fall_back(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        let start = self.spki.len().saturating_sub(self.key_len);
        let key = self.spki.get(start..).unwrap_or_default();
        let key = match self.family {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_der(key),
            _ => DecodingKey::from_ec_der(key),
        };
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &key)
            .map_err(Error::from_source)?
            .verify(message, signature)
    }
}

/// Length of an uncompressed point: a tag and two coordinates, as a signature is two numbers of that size.
fn point_len(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        Algorithm::ES256 => Some(65),
        Algorithm::ES384 => Some(97),
        _ => None,
    }
}

impl Verifier<Vec<u8>> for HostVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        match self.ask_host(message, signature) {
            Some(true) => Ok(()),
            Some(false) => Err(Error::new()),
            None => self.fall_back(message, signature),
        }
    }
}

impl JwtVerifier for HostVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
