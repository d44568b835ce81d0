//! What `tollgate subscription` does with one: another tier, an end, a pause, a trial, and what is scheduled.

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::subscription::{State, tell};

/// What is done with a subscription.
#[derive(Debug, Subcommand)]
pub(super) enum ActionCommand {
    /// Give it another tier: a higher one at once, a lower one at the end of its period.
    Change {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// A tier of the policy in force.
        #[arg(long)]
        tier: String,
        /// `now`, `period_end` or an RFC 3339 time.
        #[arg(long)]
        when: Option<String>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// End it. Of what was scheduled before that only what takes away happens.
    Cancel {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// `now`, `period_end` or an RFC 3339 time.
        #[arg(long, default_value = "period_end")]
        when: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Let its tier not be in force for a while.
    Pause {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// `now`, `period_end` or an RFC 3339 time.
        #[arg(long, default_value = "now")]
        when: String,
        /// When it goes on, RFC 3339. Default: when it is resumed.
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Let it go on: paused, cancelled or past due before.
    Resume {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Say that a payment failed: the tier stays in force for a while, and then no more.
    PastDue {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// For how many days. Default: as the policy says.
        #[arg(long, value_name = "DAYS")]
        grace_days: Option<u16>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Let a subject try a tier that has had no trial.
    Trial {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// A tier of the policy in force.
        #[arg(long)]
        tier: String,
        /// For how many days. Default: the tier's `trial_days`.
        #[arg(long)]
        days: Option<u16>,
        /// What comes after it.
        #[arg(long, value_enum, default_value_t = Then::Expired)]
        then: Then,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Let it change by itself at a moment. `show` tells what is scheduled.
    Schedule {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// When, RFC 3339.
        #[arg(long, value_name = "TIME")]
        at: Timestamp,
        /// The tier from then on.
        #[arg(long, required_unless_present = "state")]
        tier: Option<String>,
        /// The state from then on.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Forget all that is scheduled.
    Unschedule {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// What comes after a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Then {
    /// The tier is not in force any more.
    Expired,
    /// The subscription goes on.
    Active,
}

impl ActionCommand {
    /// Runs it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (subject, body, client) = match self {
            Self::Schedule { subject, at, tier, state, client } => {
                let state = state.map(State::name);
                let body = json!({ "at": at.to_string(), "tier": tier, "state": state });
                return send(Method::POST, &subject, "changes", Some(body), &client).await;
            }
            Self::Unschedule { subject, client } => {
                return send(Method::DELETE, &subject, "changes", None, &client).await;
            }
            Self::Change { subject, tier, when, client } => {
                (subject, json!({ "action": "change_tier", "tier": tier, "when": when }), client)
            }
            Self::Cancel { subject, when, client } => {
                (subject, json!({ "action": "cancel", "when": when }), client)
            }
            Self::Pause { subject, when, until, client } => {
                let until = until.map(|until| until.to_string());
                (subject, json!({ "action": "pause", "when": when, "until": until }), client)
            }
            Self::Resume { subject, client } => (subject, json!({ "action": "resume" }), client),
            Self::PastDue { subject, grace_days, client } => {
                (subject, json!({ "action": "past_due", "grace_days": grace_days }), client)
            }
            Self::Trial { subject, tier, days, then, client } => {
                let then = if then == Then::Active { "active" } else { "expired" };
                (subject, json!({ "action": "trial", "tier": tier, "days": days, "then": then }), client)
            }
        };
        send(Method::POST, &subject, "actions", Some(body), &client).await
    }
}

async fn send(
    method: Method,
    subject: &str,
    part: &str,
    body: Option<Json>,
    arguments: &ClientArguments,
) -> Result<(), CliError> {
    let client = Client::new(arguments)?;
    let mut request = client.request(method, &["v1", "subscriptions", subject, part]);
    if let Some(body) = &body {
        request = request.json(body);
    }
    tell(&client.send(request).await?, arguments);
    Ok(())
}
