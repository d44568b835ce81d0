//! `/v1/usage/export`: the ledger of all subjects, as a stream.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tollgate_policy::labels;
use utoipa::{IntoParams, ToSchema};

use super::By;
use crate::api::csv;
use crate::api::extract::Query;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::calendar::rfc3339;
use crate::service::ServiceError;
use crate::service::usage::cloudevents::{BATCH_MEDIA_TYPE, event_of};
use crate::service::usage::export::{Export, ExportQuery};
use crate::store::usage::UsageSum;

/// Which usage, and how it is written.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExportParameters {
    /// Only this meter.
    meter: Option<String>,
    /// RFC 3339, rounded down to the hour. Default: the start of this month (UTC).
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// RFC 3339, rounded up to the hour. Default: now.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// `hour`, `day` (default), `month` or `total`.
    #[serde(default)]
    by: By,
    /// `csv` (default), `jsonl` or `cloudevents`.
    #[serde(default)]
    format: Format,
}

/// How usage is written.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated values with a heading.
    #[default]
    Csv,
    /// A JSON object a line.
    Jsonl,
    /// A batch of CloudEvents 1.0 in JSON.
    Cloudevents,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => csv::MEDIA_TYPE,
            Self::Jsonl => "application/jsonl",
            Self::Cloudevents => BATCH_MEDIA_TYPE,
        }
    }

    fn begin(self) -> &'static str {
        match self {
            Self::Csv => "subject,meter,labels,start,end,taken,freed,used\r\n",
            Self::Jsonl => "",
            Self::Cloudevents => "[",
        }
    }

    fn end(self, is_empty: bool) -> &'static str {
        match (self, is_empty) {
            (Self::Cloudevents, true) => "]\n",
            (Self::Cloudevents, false) => "\n]\n",
            _ => "",
        }
    }

    fn write(self, text: &mut String, is_first: bool, subject: &str, sum: &UsageSum) {
        let (start, end) = (rfc3339(sum.start_ms), rfc3339(sum.end_ms));
        match self {
            Self::Csv => text.push_str(&csv::row(&[
                csv::text(subject),
                csv::text(&sum.meter),
                csv::text(&sum.labels),
                start,
                end,
                sum.taken.to_string(),
                sum.freed.to_string(),
                sum.used().to_string(),
            ])),
            Self::Jsonl => {
                let line = json!({
                    "subject": subject, "meter": sum.meter, "start": start, "end": end,
                    "labels": labels::parse(&sum.labels).unwrap_or_default(),
                    "taken": sum.taken, "freed": sum.freed, "used": sum.used(),
                });
                text.push_str(&format!("{line}\n"));
            }
            Self::Cloudevents => {
                let separator = if is_first { "\n" } else { ",\n" };
                text.push_str(&format!("{separator}{}", event_of(subject, sum)));
            }
        }
    }
}

/// What is still to be written.
struct Writing {
    api: Api,
    export: Export,
    format: Format,
    /// What was read already, before the answer began.
    first: Option<Vec<(String, UsageSum)>>,
    is_empty: bool,
    is_done: bool,
}

impl Writing {
    async fn next(mut self) -> Result<Option<(String, Self)>, ServiceError> {
        if self.is_done {
            return Ok(None);
        }
        let (piece, mut text) = match self.first.take() {
            Some(piece) => (Some(piece), self.format.begin().to_owned()),
            None => (self.api.plane.export_piece(&mut self.export).await?, String::new()),
        };
        let Some(piece) = piece else {
            self.is_done = true;
            return Ok(Some((self.format.end(self.is_empty).to_owned(), self)));
        };
        for (subject, sum) in &piece {
            self.format.write(&mut text, self.is_empty, subject, sum);
            self.is_empty = false;
        }
        Ok(Some((text, self)))
    }
}

/// The usage of all subjects in a range, by subject. It is read while it is written: what is reported meanwhile may be in it
/// or not. An answer that ends early was broken off by an error.
#[utoipa::path(
    get, path = "/v1/usage/export", tag = "usage", params(ExportParameters),
    responses((status = 200, description = "The usage, in the format that was asked for", content(
        (String = "text/csv"), (String = "application/jsonl"),
        (Vec<Object> = "application/cloudevents-batch+json"),
    )))
)]
pub async fn export(
    State(api): State<Api>,
    Query(parameters): Query<ExportParameters>,
) -> Result<Response, Problem> {
    let ExportParameters { meter, from, to, by, format } = parameters;
    let mut export = api.plane.begin_export(ExportQuery { meter, from, to, by: by.into() })?;
    // Before the answer begins, so that a database that is away is a problem and not half an answer.
    let first = api.plane.export_piece(&mut export).await?.unwrap_or_default();
    let writing = Writing { api, export, format, first: Some(first), is_empty: true, is_done: false };
    let pieces = stream::try_unfold(writing, |writing| async move {
        writing.next().await.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "an export was broken off");
        })
    });
    Ok(([(header::CONTENT_TYPE, format.media_type())], Body::from_stream(pieces)).into_response())
}
