//! The wall clock as the monotonic one tells it: a request reads one clock, and all workers count the same moments.

/// Unix time less monotonic time. In nanoseconds: both clocks cut off to milliseconds would be up to one apart from what
/// either says, and a tier would change a millisecond too early at one worker and too late at another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offset {
    ns: i64,
}

impl Offset {
    /// Of two readings at the same moment.
    pub fn of(wall_ns: u128, mono_ns: u64) -> Self {
        // Nanoseconds since 1970 fit until 2262.
        let wall_ns = i64::try_from(wall_ns).unwrap_or(i64::MAX);
        Self { ns: wall_ns.saturating_sub_unsigned(mono_ns) }
    }

    /// The wall clock at a monotonic moment, Unix ms: the last one that has begun.
    pub fn wall_ms(self, mono_ns: u64) -> i64 {
        self.ns.saturating_add_unsigned(mono_ns).div_euclid(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_begins_at_its_very_millisecond_wherever_between_two_the_clocks_were_read() {
        let moment_ms: i64 = 1_804_000_000_000;
        let moment_ns = u128::try_from(moment_ms).unwrap() * 1_000_000;
        for read_ns in [1, 400_000, 999_999, 5_000_000_007] {
            for mono_ns in [0, 1, 499_999, 999_999, 7_300_000_001] {
                let offset = Offset::of(moment_ns - read_ns, mono_ns);
                let mono_then_ns = mono_ns + u64::try_from(read_ns).unwrap();
                assert_eq!(offset.wall_ms(mono_then_ns - 1), moment_ms - 1, "{read_ns} {mono_ns}");
                assert_eq!(offset.wall_ms(mono_then_ns), moment_ms, "{read_ns} {mono_ns}");
            }
        }
    }

    #[test]
    fn clocks_that_say_nonsense_do_not_overflow() {
        assert_eq!(Offset::of(u128::MAX, 0).wall_ms(u64::MAX), i64::MAX / 1_000_000);
        assert_eq!(Offset::of(0, 2_500_000).wall_ms(1), -3, "before the first millisecond");
    }
}
