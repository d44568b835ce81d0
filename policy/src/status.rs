//! Sets of HTTP statuses, such as those that give quota units back.

/// A set of HTTP statuses from 100 to 599, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet([u64; 8]);

impl StatusSet {
    /// Whether `status` is in the set. Anything outside 100..=599 never is.
    pub fn contains(&self, status: u16) -> bool {
        bit(status).is_some_and(|(word, mask)| self.0[word] & mask != 0)
    }

    /// The union of `patterns`, which are known to be good: see [`status_range`].
    pub(crate) fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Self {
        let mut set = Self::default();
        for (first, last) in patterns.into_iter().filter_map(|pattern| status_range(pattern)) {
            for (word, mask) in (first..=last).filter_map(bit) {
                set.0[word] |= mask;
            }
        }
        set
    }
}

/// The first and the last status that a pattern means: `404`, `5xx` or `500-503`. `None`: it is none of these.
pub(crate) fn status_range(pattern: &str) -> Option<(u16, u16)> {
    if let Some((first, last)) = pattern.split_once('-') {
        let (first, last) = (status(first)?, status(last)?);
        return (first <= last).then_some((first, last));
    }
    if let Some(class) = pattern.strip_suffix("xx") {
        let first = status(&format!("{class}00"))?;
        return Some((first, first + 99));
    }
    status(pattern).map(|status| (status, status))
}

fn status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| digits && bit(*status).is_some())
}

fn bit(status: u16) -> Option<(usize, u64)> {
    let index = usize::from(status.checked_sub(100).filter(|index| *index < 500)?);
    Some((index / 64, 1 << (index % 64)))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Shows the runs of statuses in the set of some patterns, separated by commas.
    fn check(patterns: &str, expected: Expect) {
        let patterns: Vec<String> = patterns.split(',').map(str::to_owned).collect();
        let bad: Vec<&str> =
            patterns.iter().filter(|p| status_range(p).is_none()).map(String::as_str).collect();
        let set = StatusSet::from_patterns(&patterns);
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for status in (0..=u16::MAX).filter(|status| set.contains(*status)) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == status => *last = status,
                _ => runs.push((status, status)),
            }
        }
        let runs: Vec<String> = runs.iter().map(|(first, last)| format!("{first}..={last}")).collect();
        expected.assert_eq(&format!("{} bad: {}", runs.join(" "), bad.join(" ")));
    }

    #[test]
    fn classes_ranges_and_single_statuses_are_united() {
        check("5xx", expect!["500..=599 bad: "]);
        check("1xx", expect!["100..=199 bad: "]);
        check("404,410-412,503", expect!["404..=404 410..=412 503..=503 bad: "]);
        check("100-599", expect!["100..=599 bad: "]);
        check("163,164", expect!["163..=164 bad: "]);
        check("404-404", expect!["404..=404 bad: "]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        check(
            "99,0404,600,6xx,0xx,x,xx,5XX,+404,503-500,4040,500-600,,5x,404-",
            expect![[" bad: 99 0404 600 6xx 0xx x xx 5XX +404 503-500 4040 500-600  5x 404-"]],
        );
    }
}
