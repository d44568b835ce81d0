//! What a template may name, and how a value is written.

use std::borrow::Cow;

use jiff::Timestamp;

use super::placeholder::Format;

/// What is known of a denial. What is not known is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Values<'a> {
    /// `{code}`: the denial's stable code, such as `quota-exceeded`.
    pub code: Option<&'a str>,
    /// `{title}`: what the code means, in a few words.
    pub title: Option<&'a str>,
    /// `{detail}`: what happened and what to do, in a sentence.
    pub detail: Option<&'a str>,
    /// `{limit}`: the name of the limit that refused.
    pub limit: Option<&'a str>,
    /// `{meter}`: the meter that it limits.
    pub meter: Option<&'a str>,
    /// `{maximum}`: its units.
    pub maximum: Option<u64>,
    /// `{used}`: units used.
    pub used: Option<u64>,
    /// `{remaining}`: units left.
    pub remaining: Option<u64>,
    /// `{needed}`: units that the request asked for.
    pub needed: Option<u64>,
    /// `{per}`: the limit's window, such as `month` or `60s`.
    pub per: Option<&'a str>,
    /// `{tier}`: the subject's tier.
    pub tier: Option<&'a str>,
    /// `{subject}`: who would have been charged.
    pub subject: Option<&'a str>,
    /// `{route}`: the route's name.
    pub route: Option<&'a str>,
    /// `{feature}`: the feature that the tier lacks.
    pub feature: Option<&'a str>,
    /// `{retry_after_s}`: seconds until it makes sense to try again.
    pub retry_after_s: Option<u64>,
    /// `{reset_s}`: seconds until the window ends.
    pub reset_s: Option<u64>,
    /// `{reset_at}`: the moment when the window ends, in milliseconds since 1970; written as RFC 3339 in UTC, in whole
    /// seconds rounded up.
    pub reset_at_ms: Option<i64>,
    /// `{upgrade_url}`: where a caller can buy more.
    pub upgrade_url: Option<&'a str>,
}

/// A placeholder's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Code,
    Title,
    Detail,
    Limit,
    Meter,
    Maximum,
    Used,
    Remaining,
    Needed,
    Per,
    Tier,
    Subject,
    Route,
    Feature,
    RetryAfterS,
    ResetS,
    ResetAt,
    UpgradeUrl,
}

/// All names, as they are written.
pub(super) const NAMES: [(&str, Name); 18] = [
    ("code", Name::Code),
    ("title", Name::Title),
    ("detail", Name::Detail),
    ("limit", Name::Limit),
    ("meter", Name::Meter),
    ("maximum", Name::Maximum),
    ("used", Name::Used),
    ("remaining", Name::Remaining),
    ("needed", Name::Needed),
    ("per", Name::Per),
    ("tier", Name::Tier),
    ("subject", Name::Subject),
    ("route", Name::Route),
    ("feature", Name::Feature),
    ("retry_after_s", Name::RetryAfterS),
    ("reset_s", Name::ResetS),
    ("reset_at", Name::ResetAt),
    ("upgrade_url", Name::UpgradeUrl),
];

impl Name {
    /// Whether it can be formatted.
    pub(super) fn is_number(self) -> bool {
        matches!(
            self,
            Self::Maximum | Self::Used | Self::Remaining | Self::Needed | Self::RetryAfterS | Self::ResetS
        )
    }
}

/// A value that is there.
pub(super) enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(u64),
}

/// What is written for a placeholder.
pub(super) enum Written<'a> {
    Value(Scalar<'a>),
    Formatted(String),
    Absent,
}

impl<'a> Values<'a> {
    /// What is written for a name in a format.
    pub(super) fn write(&self, name: Name, format: Option<Format>) -> Written<'a> {
        match (self.get(name), format) {
            (None, _) => Written::Absent,
            (Some(Scalar::Number(number)), Some(Format::Bytes(bytes))) => {
                Written::Formatted(bytes.write(number))
            }
            (Some(Scalar::Text(text)), Some(Format::Words)) => Written::Formatted(text.replace('_', " ")),
            (Some(value), _) => Written::Value(value),
        }
    }

    fn get(&self, name: Name) -> Option<Scalar<'a>> {
        let text = |text: Option<&'a str>| text.map(|text| Scalar::Text(Cow::Borrowed(text)));
        let number = |number: Option<u64>| number.map(Scalar::Number);
        match name {
            Name::Code => text(self.code),
            Name::Title => text(self.title),
            Name::Detail => text(self.detail),
            Name::Limit => text(self.limit),
            Name::Meter => text(self.meter),
            Name::Maximum => number(self.maximum),
            Name::Used => number(self.used),
            Name::Remaining => number(self.remaining),
            Name::Needed => number(self.needed),
            Name::Per => text(self.per),
            Name::Tier => text(self.tier),
            Name::Subject => text(self.subject),
            Name::Route => text(self.route),
            Name::Feature => text(self.feature),
            Name::RetryAfterS => number(self.retry_after_s),
            Name::ResetS => number(self.reset_s),
            Name::ResetAt => self.reset_at_ms.and_then(moment).map(|moment| Scalar::Text(Cow::Owned(moment))),
            Name::UpgradeUrl => text(self.upgrade_url),
        }
    }
}

/// A moment as RFC 3339 writes it. `None` outside the years that it can write.
fn moment(ms: i64) -> Option<String> {
    // Rounded up, so that a caller who waits for this second does not come too early.
    let seconds = ms.div_euclid(1_000) + i64::from(ms.rem_euclid(1_000) > 0);
    Some(Timestamp::from_second(seconds).ok()?.to_string())
}
