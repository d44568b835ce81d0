//! The few DER structures (ITU-T X.690) that a proxy's native verifier asks for: public keys as SPKI, ECDSA signatures
//! as a sequence of two integers.
//!
//! It only writes. It knows nothing of the numbers' meaning: what is a usable key is settled in `super::keys`.

/// `SEQUENCE`, `INTEGER` and `BIT STRING` (X.690 8.9, 8.3, 8.6).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// `AlgorithmIdentifier { rsaEncryption, NULL }` (RFC 3279 2.3.1).
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// An SPKI up to its uncompressed point on P-256: `id-ecPublicKey`, `secp256r1`, a bit string (RFC 5480 2.1.1).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// An SPKI up to its uncompressed point on P-384: `id-ecPublicKey`, `secp384r1`, a bit string (RFC 5480 2.1.1).
const P384_PREFIX: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];

/// An RSA public key as PKCS#1 (RFC 8017 A.1.1), from its big-endian modulus and exponent.
pub(super) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let content = integer_len(modulus) + integer_len(exponent);
    let mut out = Vec::with_capacity(content + 5);
    write_head(&mut out, SEQUENCE, content);
    write_integer(&mut out, modulus);
    write_integer(&mut out, exponent);
    out
}

/// The SPKI (RFC 5280 4.1) around an RSA public key in PKCS#1, which is its last part.
pub(super) fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    let bits = pkcs1.len() + 1;
    let content = RSA_ALGORITHM.len() + head_len(bits) + bits;
    let mut out = Vec::with_capacity(content + head_len(content));
    write_head(&mut out, SEQUENCE, content);
    out.extend_from_slice(RSA_ALGORITHM);
    write_head(&mut out, BIT_STRING, bits);
    // No bit of the last byte is unused.
    out.push(0);
    out.extend_from_slice(pkcs1);
    out
}

/// The SPKI around an uncompressed point (SEC 1 2.3.3) on P-256 or P-384, told apart by its length; the point is its
/// last part. `None` for anything else.
pub(super) fn ec_spki(point: &[u8]) -> Option<Vec<u8>> {
    let prefix = match (point.len(), point.first()) {
        (65, Some(4)) => P256_PREFIX,
        (97, Some(4)) => P384_PREFIX,
        _ => return None,
    };
    let mut out = Vec::with_capacity(prefix.len() + point.len());
    out.extend_from_slice(prefix);
    out.extend_from_slice(point);
    Some(out)
}

/// An ECDSA signature of two numbers of equal, fixed length (RFC 7518 3.4) as `Ecdsa-Sig-Value` (RFC 3279 2.2.3).
pub(super) fn ecdsa_signature(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let content = integer_len(r) + integer_len(s);
    let mut out = Vec::with_capacity(content + head_len(content));
    write_head(&mut out, SEQUENCE, content);
    write_integer(&mut out, r);
    write_integer(&mut out, s);
    out
}

/// The bytes of a number that DER writes: no leading zeros (X.690 8.3.2), but one byte for zero itself.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// A leading byte of zero keeps a number positive when its highest bit is set, and is all there is of zero.
fn needs_zero(significant: &[u8]) -> bool {
    significant.first().is_none_or(|byte| byte & 0x80 != 0)
}

fn integer_len(number: &[u8]) -> usize {
    let significant = significant(number);
    let content = significant.len() + usize::from(needs_zero(significant));
    head_len(content) + content
}

fn write_integer(out: &mut Vec<u8>, number: &[u8]) {
    let significant = significant(number);
    let zero = needs_zero(significant);
    write_head(out, INTEGER, significant.len() + usize::from(zero));
    if zero {
        out.push(0);
    }
    out.extend_from_slice(significant);
}

/// Length of a tag and a length (X.690 8.1.3): short form below 128, else the fewest bytes that hold it.
fn head_len(content: usize) -> usize {
    if content < 0x80 { 2 } else { 2 + significant(&content.to_be_bytes()).len() }
}

fn write_head(out: &mut Vec<u8>, tag: u8, content: usize) {
    out.push(tag);
    let bytes = content.to_be_bytes();
    let length = significant(&bytes);
    match (length, content < 0x80) {
        ([], _) => out.push(0),
        ([short], true) => out.push(*short),
        // A length has at most eight bytes, so its count fits in the low bits.
        (long, _) => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::tests::{decode, vectors};

    #[test]
    fn public_keys_are_written_as_openssl_writes_them() {
        let pkcs1 = rsa_public_key(&decode(vectors::RSA_N), &decode("AQAB"));
        assert_eq!(rsa_spki(&pkcs1), decode(vectors::RSA_SPKI));
        assert!(rsa_spki(&pkcs1).ends_with(&pkcs1));
        for (x, y, spki) in [
            (vectors::P256_X, vectors::P256_Y, vectors::P256_SPKI),
            (vectors::P384_X, vectors::P384_Y, vectors::P384_SPKI),
        ] {
            let point = [vec![4], decode(x), decode(y)].concat();
            assert_eq!(ec_spki(&point), Some(decode(spki)));
            assert_eq!(ec_spki(&point[1..]), None);
        }
    }

    #[test]
    fn the_point_must_be_uncompressed() {
        assert_eq!(ec_spki(&[2; 65]), None);
        assert_eq!(ec_spki(&[]), None);
    }

    #[test]
    fn integers_are_minimal_and_positive() {
        let signature = |r: &[u8], s: &[u8]| ecdsa_signature(&[r, s].concat());
        assert_eq!(signature(&[0, 1], &[0, 2]), [0x30, 6, 2, 1, 1, 2, 1, 2]);
        assert_eq!(signature(&[0, 0x80], &[0x7f, 0]), [0x30, 8, 2, 2, 0, 0x80, 2, 2, 0x7f, 0]);
        assert_eq!(signature(&[0, 0], &[0, 0]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        assert_eq!(ecdsa_signature(&[]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn lengths_take_the_fewest_bytes() {
        let head = |content| {
            let mut out = Vec::new();
            write_head(&mut out, SEQUENCE, content);
            assert_eq!(out.len(), head_len(content));
            out
        };
        assert_eq!(head(0), [0x30, 0]);
        assert_eq!(head(127), [0x30, 127]);
        assert_eq!(head(128), [0x30, 0x81, 128]);
        assert_eq!(head(255), [0x30, 0x81, 255]);
        assert_eq!(head(256), [0x30, 0x82, 1, 0]);
    }
}
