//! A header map as the proxy hands it over, read in place: one call and one allocation for all headers.
//!
//! The form is proxy-wasm's: a count, the lengths of all names and values, then names and values, each with a zero byte
//! behind it. What is not of that form reads as a map that ends there.

/// All headers of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// The proxy's bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Makes the proxy's bytes of pairs.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let (mut lengths, mut data, mut count) = (Vec::new(), Vec::new(), 0_u32);
        for (name, value) in pairs {
            count += 1;
            for part in [name.as_bytes(), value] {
                lengths.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                data.extend_from_slice(part);
                data.push(0);
            }
        }
        Self([count.to_le_bytes().to_vec(), lengths, data].concat())
    }

    /// Names, in lower case, and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let count = u32_at(&self.0, 0).unwrap_or(0);
        let mut lengths_at = 4;
        let mut data = self.0.get(4 + count.saturating_mul(8)..).unwrap_or(&[]);
        (0..count).map_while(move |_| {
            let name = part(&mut data, u32_at(&self.0, lengths_at)?)?;
            let value = part(&mut data, u32_at(&self.0, lengths_at + 4)?)?;
            lengths_at += 8;
            Some((name, value))
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

/// Takes a part and the zero byte behind it.
fn part<'a>(data: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, rest) = data.split_at_checked(length)?;
    *data = rest.get(1..)?;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &[(&str, &[u8])]) {
        let map = HeaderMap::new(bytes.to_vec());
        let read: Vec<_> = map.iter().collect();
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn the_proxy_s_form_is_read_in_place() {
        check(
            b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0a\0\xff\x01\0b\0\0",
            &[("a", b"\xff\x01"), ("b", b"")],
        );
        let pairs: [(&str, &[u8]); 3] = [(":path", b"/x"), ("cookie", b""), ("x", b"\0")];
        let map = HeaderMap::of(pairs);
        check(&map.0, &pairs);
    }

    #[test]
    fn a_map_that_is_cut_ends_there() {
        let whole = HeaderMap::of([("a", &b"1"[..]), ("b", b"2")]).0;
        for length in 0..whole.len() {
            let cut = HeaderMap::new(whole[..length].to_vec());
            assert!(cut.iter().count() < 2, "{length}");
        }
        check(b"", &[]);
        check(b"\xff\xff\xff\xff", &[]);
    }
}
