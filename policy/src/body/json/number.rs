//! A JSON number as an amount, exactly: never by way of a floating point number.

use super::super::{Unread, work};

/// What a scanned JSON value is as an amount.
pub(super) fn parse(text: &[u8]) -> Result<u64, Unread> {
    work::count(text.len());
    let (negative, digits) = match text {
        [b'n', ..] => return Err(Unread::Missing),
        [b'-', digits @ ..] => (true, digits),
        [b'0'..=b'9', ..] => (false, text),
        _ => return Err(Unread::NotANumber),
    };
    let (mantissa, exponent) = match digits.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&digits[..at], exponent(&digits[at + 1..])),
        None => (digits, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let length = whole.len() + fraction.len();
    let digit = |at: usize| if at < whole.len() { whole[at] } else { fraction[at - whole.len()] } - b'0';
    let Some(first) = (0..length).find(|&at| digit(at) != 0) else { return Ok(0) };
    let last = (first..length).rfind(|&at| digit(at) != 0).unwrap_or(first);
    if negative {
        return Err(Unread::NotANumber);
    }
    // The digits from `first` to `last`, times 10 to the power of `zeros`.
    let zeros = exponent.saturating_add_unsigned(whole.len() as u64).saturating_sub_unsigned(last as u64 + 1);
    let digits = (last - first + 1) as u64;
    let Ok(zeros) = u64::try_from(zeros) else { return Err(Unread::NotANumber) };
    // 2^64 has 20 digits.
    if digits.saturating_add(zeros) > 20 {
        return Err(Unread::NotANumber);
    }
    (first..=last)
        .map(digit)
        .chain((0..zeros).map(|_| 0))
        .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit)))
        .ok_or(Unread::NotANumber)
}

/// An exponent; one that no 64 bits hold is as good as the largest.
fn exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let exponent = digits
        .iter()
        .fold(0_i64, |exponent, byte| exponent.saturating_mul(10).saturating_add(i64::from(byte - b'0')));
    if negative { -exponent } else { exponent }
}
