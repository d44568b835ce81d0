//! From measurements to medians, ratios and a page.

use std::collections::BTreeMap;
use std::fmt;

use super::configs::Subject;

/// One configuration in one round.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU time per request, microseconds.
    pub cpu_us: f64,
    /// Calls to the control plane per 10,000 requests.
    pub calls_per_10_000: f64,
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests_per_second, p50_us, p99_us, cpu_us, .. } = self;
        write!(
            f,
            "{requests_per_second:>7.0} requests/s  p50 {p50_us:>5.0} us  p99 {p99_us:>5.0} us  CPU {cpu_us:>6.1} us"
        )
    }
}

/// All rounds.
#[derive(Debug, Default)]
pub struct Results {
    rounds: BTreeMap<usize, Vec<Measurement>>,
}

/// A target: its claim, the measured ratio, and the bound that it must keep.
struct Target {
    claim: &'static str,
    measured: Option<f64>,
    bound: f64,
    at_least: bool,
}

impl Results {
    /// Adds a measurement; those of a round come one after the other.
    pub fn add(&mut self, subject: Subject, measurement: Measurement) {
        self.rounds.entry(subject as usize).or_default().push(measurement);
    }

    /// A table of medians and one of targets.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| one Envoy worker on one core | requests/s | p50 µs | p99 µs | added CPU µs per request | control-plane calls per 10,000 |\n\
             | --- | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for subject in Subject::ALL {
            let median = |value: fn(&Measurement) -> f64| self.median(subject, value);
            let (Some(rate), Some(p50), Some(p99)) =
                (median(|m| m.requests_per_second), median(|m| m.p50_us), median(|m| m.p99_us))
            else {
                continue;
            };
            let added = match self.added_us(subject) {
                Some(added) if subject.bare() != subject => format!("{added:.1}"),
                _ => "–".to_owned(),
            };
            let calls = match median(|m| m.calls_per_10_000) {
                Some(calls) if subject.is_tollgate() => format!("{calls:.1}"),
                _ => "–".to_owned(),
            };
            let name = subject.name();
            text.push_str(&format!("| {name} | {rate:.0} | {p50:.0} | {p99:.0} | {added} | {calls} |\n"));
        }
        text.push_str("\n| target | measured | |\n| --- | ---: | --- |\n");
        for Target { claim, measured, bound, at_least } in self.targets() {
            let Some(measured) = measured else { continue };
            let sign = if at_least { "≥" } else { "≤" };
            let kept = if at_least { measured >= bound } else { measured <= bound };
            let verdict = if kept { "reached" } else { "**missed**" };
            text.push_str(&format!("| {claim} {sign} {bound} | {measured:.2} | {verdict} |\n"));
        }
        text
    }

    fn targets(&self) -> Vec<Target> {
        let added = |over, under| Some(self.added_us(over)? / self.added_us(under)?);
        let rate = |subject| self.median(subject, |m: &Measurement| m.requests_per_second);
        let rates = |over, under| Some(rate(over)? / rate(under)?);
        let medians = |value: fn(&Measurement) -> f64| {
            ratio(self.median(Subject::TollgateMany, value), self.median(Subject::TollgateOne, value))
        };
        vec![
            Target {
                claim: "added CPU, Tollgate / jwt_authn (no cache) + local_ratelimit",
                measured: added(Subject::TollgateOne, Subject::Native),
                bound: 0.5,
                at_least: false,
            },
            Target {
                claim: "added CPU, Tollgate / do-nothing Wasm filter",
                measured: added(Subject::TollgateOne, Subject::Noop),
                bound: 2.5,
                at_least: false,
            },
            Target {
                claim: "requests/s, Tollgate / jwt_authn (no cache) + local_ratelimit",
                measured: rates(Subject::TollgateOne, Subject::Native),
                bound: 1.4,
                at_least: true,
            },
            Target {
                claim: "requests/s, 10,000 subjects / 1 subject",
                measured: rates(Subject::TollgateMany, Subject::TollgateOne),
                bound: 0.8,
                at_least: true,
            },
            Target {
                claim: "requests/s, 10,000 subjects / 1 subject, each as a share of the bare Envoy's",
                measured: ratio(
                    rates(Subject::TollgateMany, Subject::NoFilterMany),
                    rates(Subject::TollgateOne, Subject::NoFilter),
                ),
                bound: 0.8,
                at_least: true,
            },
            Target {
                claim: "p50, 10,000 subjects / 1 subject",
                measured: medians(|m| m.p50_us),
                bound: 1.2,
                at_least: false,
            },
            Target {
                claim: "CPU in all, 10,000 subjects / 1 subject",
                measured: medians(|m| m.cpu_us),
                bound: 1.2,
                at_least: false,
            },
            Target {
                claim: "added CPU, 10,000 subjects / 1 subject",
                measured: added(Subject::TollgateMany, Subject::TollgateOne),
                bound: 1.2,
                at_least: false,
            },
            Target {
                claim: "added CPU, 3 limits on 2 meters / 1 limit",
                measured: added(Subject::TollgateThreeLimits, Subject::TollgateOneLimit),
                bound: 1.3,
                at_least: false,
            },
            Target {
                claim: "control-plane calls per 10,000 requests, 10,000 subjects",
                measured: self.median(Subject::TollgateMany, |m| m.calls_per_10_000),
                bound: 20.0,
                at_least: false,
            },
        ]
    }

    /// CPU time per request beyond that without a filter, of as many callers, in the same round; the median of the rounds.
    fn added_us(&self, subject: Subject) -> Option<f64> {
        let bare = self.rounds.get(&(subject.bare() as usize))?;
        let with = self.rounds.get(&(subject as usize))?;
        median(with.iter().zip(bare).map(|(with, bare)| with.cpu_us - bare.cpu_us).collect())
    }

    fn median(&self, subject: Subject, value: impl Fn(&Measurement) -> f64) -> Option<f64> {
        median(self.rounds.get(&(subject as usize))?.iter().map(value).collect())
    }
}

fn ratio(over: Option<f64>, under: Option<f64>) -> Option<f64> {
    Some(over? / under?)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values.get(middle).copied()
    } else {
        Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::configs::Subject;
    use super::{Measurement, Results, median};

    #[test]
    fn added_cpu_is_that_beyond_the_bare_envoy_of_the_same_round() {
        let mut results = Results::default();
        for (bare, noop) in [(30.0, 40.0), (60.0, 72.0), (31.0, 42.0)] {
            let with = |cpu_us| Measurement {
                requests_per_second: 1.0,
                p50_us: 1.0,
                p99_us: 1.0,
                cpu_us,
                calls_per_10_000: 0.0,
            };
            results.add(Subject::NoFilter, with(bare));
            results.add(Subject::Noop, with(noop));
        }
        assert_eq!(results.added_us(Subject::Noop), Some(11.0));
    }

    #[test]
    fn a_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
