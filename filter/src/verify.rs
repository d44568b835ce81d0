//! The question that Envoy's native `verify_signature` is asked, and its answer: two small protobuf messages.
//!
//! Written by hand because each field is a tag and a length, and the hot path pays for a library's allocations. Asks
//! nothing itself.

use tollgate_policy::jwt::provider::Hash;

/// `hash_function = 1, public_key = 2 (SPKI, DER), signature = 3, text = 4`.
pub fn question(hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> Vec<u8> {
    let hash = match hash {
        Hash::Sha256 => "sha256",
        Hash::Sha384 => "sha384",
        Hash::Sha512 => "sha512",
    };
    let mut out = Vec::with_capacity(spki.len() + signature.len() + message.len() + 32);
    for (field, bytes) in [(1, hash.as_bytes()), (2, spki), (3, signature), (4, message)] {
        out.push((field << 3) | 2);
        varint(&mut out, bytes.len());
        out.extend_from_slice(bytes);
    }
    out
}

/// The answer is `{1: true}` when the signature holds; anything else says that it does not.
pub fn is_yes(answer: &[u8]) -> bool {
    answer.starts_with(&[0x08, 0x01])
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_the_protobuf_that_envoy_reads() {
        let message = [7; 300];
        let asked = question(Hash::Sha384, &[1, 2], &[3], &message);
        let mut expected = b"\x0a\x06sha384\x12\x02\x01\x02\x1a\x01\x03\x22\xac\x02".to_vec();
        expected.extend_from_slice(&message);
        assert_eq!(asked, expected);
    }

    #[test]
    fn only_true_is_yes() {
        assert!(is_yes(&[8, 1]));
        assert!(is_yes(&[8, 1, 18, 0]));
        for no in [&[][..], &[8, 0], &[8], &[8, 2], &[18, 1, b'x']] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
