//! Invoices: `/v1/subjects/{subject}/invoices` previews and closes them, `/v1/invoices` shows the closed ones, as JSON, CSV
//! or a page to print.

mod html;
mod table;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tollgate_policy::price::{Line, Money};
use utoipa::{IntoParams, ToSchema};

use super::csv;
use super::extract::{self, Path, Query, cursor_number, page_limit};
use super::policy::next_cursor;
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::service::invoices::InvoiceView;
use crate::store::audit::Author;

/// An invoice.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoiceBody {
    /// Rises by one with each closed invoice, without gaps; missing in a preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    /// Who is charged.
    subject: String,
    /// ISO 4217 code of all amounts.
    currency: String,
    /// Start of the time that it is for, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// When it was closed, RFC 3339; missing in a preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    /// The name of the token that closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<String>,
    /// The version of the policy whose prices they are.
    policy_version: i64,
    /// Its lines; their amounts make up the total.
    lines: Vec<LineBody>,
    /// The sum of the lines of its own time, minor units.
    subtotal_minor: i64,
    /// The sum of the lines that adjust earlier invoices, minor units.
    adjustments_minor: i64,
    /// The sum of all lines, minor units.
    total_minor: i64,
    /// The total for people, such as `1,234.50 EUR`.
    total: String,
}

/// A line of an invoice.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineBody {
    /// What is charged for.
    title: String,
    /// The tier.
    tier: String,
    /// Start of the time that it is for, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// Units or packages; 1 of a flat price; 0 of a fee.
    quantity: i64,
    /// What one of them costs, exact, such as `0.25 USD per 1,000`.
    unit_price: String,
    /// Minor units.
    amount_minor: i64,
    /// The amount for people, such as `12.00 EUR`.
    amount: String,
    /// The number of the closed invoice that it adjusts, for usage that came late.
    #[serde(skip_serializing_if = "Option::is_none")]
    adjusts: Option<i64>,
}

/// A closed invoice in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoiceSummary {
    /// Its number.
    number: i64,
    /// Who is charged.
    subject: String,
    /// ISO 4217 code of the amount.
    currency: String,
    /// Start of the time that it is for, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// When it was closed, RFC 3339.
    closed_at: String,
    /// Minor units.
    total_minor: i64,
    /// The total for people, such as `1,234.50 EUR`.
    total: String,
}

/// A page of closed invoices, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoicePage {
    /// The invoices.
    items: Vec<InvoiceSummary>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// For people: what a line is for, and which invoice it adjusts.
fn title(line: &Line) -> String {
    match line.adjusts {
        Some(number) => format!("Adjustment of invoice {number}: {}", line.title),
        None => line.title.clone(),
    }
}

impl From<InvoiceView> for InvoiceBody {
    fn from(invoice: InvoiceView) -> Self {
        let currency = invoice.currency;
        let money = |minor: i64| Money { minor, currency }.to_string();
        let lines = invoice.lines.iter().map(|line| LineBody {
            title: title(line),
            tier: line.tier.clone(),
            from: rfc3339(line.from_ms),
            to: rfc3339(line.to_ms),
            quantity: line.quantity,
            unit_price: line.unit_price.clone(),
            amount_minor: line.amount_minor,
            amount: money(line.amount_minor),
            adjusts: line.adjusts,
        });
        Self {
            lines: lines.collect(),
            number: invoice.closed.as_ref().map(|closed| closed.number),
            closed_at: invoice.closed.as_ref().map(|closed| rfc3339(closed.at_ms)),
            closed_by: invoice.closed.map(|closed| closed.by),
            subject: invoice.subject,
            currency: currency.code().to_owned(),
            from: rfc3339(invoice.from_ms),
            to: rfc3339(invoice.to_ms),
            policy_version: invoice.policy_version,
            subtotal_minor: invoice.subtotal_minor,
            adjustments_minor: invoice.adjustments_minor,
            total_minor: invoice.total_minor,
            total: money(invoice.total_minor),
        }
    }
}

/// Of which time, and in which form.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PreviewQuery {
    /// RFC 3339. Default: the start of the billing month.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// RFC 3339. Default: the end of the billing month that holds `from`.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Default: `json`.
    #[param(inline)]
    format: Option<Format>,
}

/// In which form an invoice is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// CSV.
    Csv,
    /// A page to print.
    Html,
}

/// What an invoice would say now. Writes nothing.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}/invoices/preview", tag = "invoices",
    params(("subject" = String, Path), PreviewQuery),
    responses(
        (status = 200, content(
            (InvoiceBody = "application/json"), (String = "text/csv"), (String = "text/html"),
        )),
        (status = 409, body = ProblemBody, description = "no-prices"),
        (status = 422, body = ProblemBody, description = "amount-too-large"),
    )
)]
pub async fn preview(
    State(api): State<Api>,
    Path(subject): Path<String>,
    Query(query): Query<PreviewQuery>,
) -> Result<Response, Problem> {
    let ms = |moment: Option<Timestamp>| moment.map(Timestamp::as_millisecond);
    let invoice = api.plane.preview_invoice(&subject, ms(query.from), ms(query.to)).await?;
    answer(invoice, query.format.unwrap_or_default())
}

/// Which time to close.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseWish {
    /// RFC 3339. Default: the end of the subject's last invoice, else the start of its last billing month that is over.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// RFC 3339. Default: the end of the billing month that holds `from`.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// Closes a time that is over: from then on the invoice never changes. One that is closed already is answered again.
#[utoipa::path(
    post, path = "/v1/subjects/{subject}/invoices", tag = "invoices", params(("subject" = String, Path)),
    request_body = CloseWish,
    responses(
        (status = 200, body = InvoiceBody, description = "It was closed already"),
        (status = 201, body = InvoiceBody),
        (status = 409, body = ProblemBody, description = "no-prices, invoice-overlap or period-open"),
    )
)]
pub async fn close(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(wish): extract::Json<CloseWish>,
) -> Result<(StatusCode, Json<InvoiceBody>), Problem> {
    let ms = |moment: Option<Timestamp>| moment.map(Timestamp::as_millisecond);
    let (invoice, is_new) = api.plane.close_invoice(&author, &subject, ms(wish.from), ms(wish.to)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(invoice.into())))
}

/// Which invoices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only those of this subject.
    subject: Option<String>,
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Closed invoices, the newest first.
#[utoipa::path(
    get, path = "/v1/invoices", tag = "invoices", params(ListQuery),
    responses((status = 200, body = InvoicePage))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<Json<InvoicePage>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = cursor_number(query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let rows = api.plane.invoices(before, query.subject.as_deref(), limit + 1).await?;
    let mut items: Vec<InvoiceSummary> = rows.into_iter().filter_map(summary).collect();
    let next_cursor = next_cursor(&mut items, limit, |item| item.number.to_string());
    Ok(Json(InvoicePage { items, next_cursor }))
}

/// Those of a list are closed.
fn summary(invoice: InvoiceView) -> Option<InvoiceSummary> {
    let closed = invoice.closed?;
    Some(InvoiceSummary {
        number: closed.number,
        subject: invoice.subject,
        currency: invoice.currency.code().to_owned(),
        from: rfc3339(invoice.from_ms),
        to: rfc3339(invoice.to_ms),
        closed_at: rfc3339(closed.at_ms),
        total_minor: invoice.total_minor,
        total: Money { minor: invoice.total_minor, currency: invoice.currency }.to_string(),
    })
}

/// A closed invoice: `7` as JSON, `7.csv` as a table, `7.html` as a page to print.
#[utoipa::path(
    get, path = "/v1/invoices/{number}", tag = "invoices",
    params(("number" = String, Path, description = "The number; `.csv` or `.html` after it for another form")),
    responses(
        (status = 200, content(
            (InvoiceBody = "application/json"), (String = "text/csv"), (String = "text/html"),
        )),
        (status = 404, body = ProblemBody, description = "invoice-missing"),
    )
)]
pub async fn show(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, Problem> {
    let (number, format) = match name.split_once('.') {
        None => (name.as_str(), Format::Json),
        Some((number, "csv")) => (number, Format::Csv),
        Some((number, "html")) => (number, Format::Html),
        Some(_) => ("", Format::Json),
    };
    let Ok(number) = number.parse() else {
        let detail = "Name an invoice by its number, such as 7, 7.csv or 7.html.";
        return Err(Problem::new(ProblemKind::PathMalformed, detail));
    };
    answer(api.plane.invoice(number).await?, format)
}

fn answer(invoice: InvoiceView, format: Format) -> Result<Response, Problem> {
    let name =
        invoice.closed.as_ref().map_or_else(|| "preview".to_owned(), |closed| closed.number.to_string());
    Ok(match format {
        Format::Json => Json(InvoiceBody::from(invoice)).into_response(),
        Format::Csv => {
            let table = table::table(&invoice);
            let disposition = format!("attachment; filename=\"invoice-{name}.csv\"");
            let headers = [
                (header::CONTENT_TYPE, csv::MEDIA_TYPE.to_owned()),
                (header::CONTENT_DISPOSITION, disposition),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            (headers, table).into_response()
        }
        Format::Html => {
            let page = html::page(&invoice).map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "a page cannot be written");
                Problem::new(ProblemKind::Internal, "The control plane's log says what is wrong.")
            })?;
            // The page runs nothing and fetches nothing, whatever stands in it.
            let headers = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, page).into_response()
        }
    })
}
