//! `tollgate invoice`: preview, close, show, list.

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Most invoices that are listed at once.
const LIST_MAX: usize = 10_000;

/// Preview and close what subjects are charged, and look at it.
#[derive(Debug, Args)]
pub struct InvoiceArguments {
    #[command(subcommand)]
    command: InvoiceCommand,
}

#[derive(Debug, Subcommand)]
enum InvoiceCommand {
    /// Show what an invoice would say now. Writes nothing.
    Preview {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        range: Range,
        /// As text, CSV, or a page to print.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Close a time that is over: from then on its invoice never changes.
    Close {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Show a closed invoice.
    Show {
        /// Its number.
        number: i64,
        /// As text, CSV, or a page to print.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// List closed invoices, the newest first.
    List {
        /// Only those of this subject.
        #[arg(long)]
        subject: Option<String>,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Of which time.
#[derive(Debug, Args)]
struct Range {
    /// RFC 3339. Default: the start of the billing month; of a time to close, where the last invoice ends.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// RFC 3339. Default: the end of the billing month.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Csv,
    Html,
}

impl Format {
    /// What the REST interface calls it; nothing of text.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Csv => Some("csv"),
            Self::Html => Some("html"),
        }
    }
}

/// Runs a command.
pub async fn run(arguments: InvoiceArguments) -> Result<(), CliError> {
    match arguments.command {
        InvoiceCommand::Preview { subject, range, format, client: arguments } => {
            let client = Client::new(&arguments)?;
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(range.from.map(|from| ("from", from.to_string())));
            query.extend(range.to.map(|to| ("to", to.to_string())));
            query.extend(format.name().map(|name| ("format", name.to_owned())));
            let request = client.request(Method::GET, &["v1", "subjects", &subject, "invoices", "preview"]);
            let request = request.query(&query);
            match format {
                Format::Text => tell(&client.send(request).await?, &arguments),
                Format::Csv | Format::Html => print(&client.text(request).await?),
            }
        }
        InvoiceCommand::Close { subject, range, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "subjects", &subject, "invoices"]);
            let body = json!({ "from": range.from, "to": range.to });
            tell(&client.send(request.json(&body)).await?, &arguments);
        }
        InvoiceCommand::Show { number, format, client: arguments } => {
            let client = Client::new(&arguments)?;
            let name = match format.name() {
                Some(suffix) => format!("{number}.{suffix}"),
                None => number.to_string(),
            };
            let request = client.request(Method::GET, &["v1", "invoices", &name]);
            match format {
                Format::Text => tell(&client.send(request).await?, &arguments),
                Format::Csv | Format::Html => print(&client.text(request).await?),
            }
        }
        InvoiceCommand::List { subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            let query: Vec<(&str, &str)> =
                subject.iter().map(|subject| ("subject", subject.as_str())).collect();
            let invoices = client.list(&["v1", "invoices"], &query, LIST_MAX).await?;
            if arguments.json {
                print_json(&json!({ "items": invoices }));
                return Ok(());
            }
            let columns = ["number", "subject", "from", "to", "total"];
            let rows: Vec<Vec<String>> =
                invoices.iter().map(|invoice| columns.map(|name| cell(invoice, name)).to_vec()).collect();
            print(&table(&columns, &rows));
        }
    }
    Ok(())
}

fn tell(invoice: &Json, arguments: &ClientArguments) {
    if arguments.json {
        print_json(invoice);
        return;
    }
    let heading = match invoice.get("number") {
        Some(number) => format!("Invoice {number}"),
        None => "A preview".to_owned(),
    };
    let of = |name: &str| cell(invoice, name);
    print(&format!("{heading} of {} from {} to {}", of("subject"), of("from"), of("to")));
    let columns = ["title", "tier", "quantity", "unit_price", "amount"];
    let rows: Vec<Vec<String>> =
        items(invoice, "lines").iter().map(|line| columns.map(|name| cell(line, name)).to_vec()).collect();
    print(&table(&["item", "tier", "quantity", "price", "amount"], &rows));
    print(&format!("Total: {}", of("total")));
}
