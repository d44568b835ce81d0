//! The `tollgate` binary: reads the command line, sets up logging, and hands over. What it does is in the library
//! (serving) and in [`cli`] (everything else).

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Tokens are verified and signed with Tollgate's provider, the one that edges use.
    tollgate_policy::jwt::provider::install(None);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Serve(serve) => cli::serve::run(serve).await?,
            Command::Policy(policy) => cli::policy::run(policy).await?,
            Command::Subscription(subscription) => cli::subscription::run(subscription).await?,
            Command::Bypass(bypass) => cli::bypass::run(bypass).await?,
            Command::Capacity(capacity) => cli::capacity::run(capacity).await?,
            Command::Grant(grant) => cli::grant::run(grant).await?,
            Command::Subject(subject) => cli::subject::run(subject).await?,
            Command::Invoice(invoice) => cli::invoice::run(invoice).await?,
            Command::Usage(usage) => cli::usage::run(usage).await?,
            Command::Events(events) => cli::events::run(events).await?,
            Command::Explain(explain) => cli::explain::run(explain).await?,
            Command::Export(export) => cli::database::export(export).await?,
            Command::Database(database) => cli::database::run(database).await?,
            Command::Import(import) => cli::import::run(*import).await?,
            Command::Archive(archive) => cli::archive::run(archive).await?,
            Command::Token(token) => cli::token::run(&token)?,
            Command::Webhooks(webhooks) => cli::webhooks::run(webhooks).await?,
        }
        Ok(())
    })
}
