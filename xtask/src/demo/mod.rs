//! `cargo xtask demo [EXAMPLE]`: sets everything up, starts the quickstart or another example, and walks through what
//! Tollgate does there.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::progress::{heading, note, step};
use crate::tools::envoy;
use crate::{build, wasm, workspace};

mod example;
mod http;
mod readme;
mod stack;
mod tour;

use example::Example;
use stack::{Plan, Ports, Stack};

/// How to run it.
#[derive(clap::Args)]
pub struct Options {
    /// Which example of `examples/`; without a name the quickstart
    #[arg(value_name = "EXAMPLE")]
    example: Option<String>,
    /// End after the tour, with an error if anything in it was not as it should be
    #[arg(long)]
    once: bool,
    /// First of the neighbouring ports to listen on. Default: those of the example's own envoy.yaml
    #[arg(long, value_name = "PORT")]
    port_base: Option<u16>,
}

/// Runs the demo.
pub fn run(options: &Options) -> Result<()> {
    let example = options.example.as_deref().map(Example::open).transpose()?;
    let plan = example.as_ref().map_or_else(Plan::quickstart, Example::plan);
    let ports = Ports::from_base(options.port_base.unwrap_or(plan.port_base))?;
    // Before minutes of building.
    ports.check_free()?;

    let envoy = step("Envoy", provide)?;
    step("Building the filter's module", wasm::build_filter)?;
    step("Building the control plane and the applications", build::programs)?;
    let stack =
        step("Starting the control plane, the application and Envoy", || Stack::start(&envoy, ports, &plan))?;
    if let Some(example) = &example {
        example.wait_for_its_hour();
    }
    heading("The tour");
    match &example {
        None => tour::run(&stack)?,
        Some(example) => example.tour(&stack, true)?,
    }
    if options.once {
        return Ok(());
    }
    match &example {
        None => print_curl_lines(&stack)?,
        Some(example) => print_addresses(&stack, example),
    }
    stack.wait_until_one_ends()
}

/// The quickstart's tour as a test, on ports that no demo uses.
pub fn run_once() -> Result<()> {
    run(&Options { example: None, once: true, port_base: Some(Ports::free_base()?) })
}

/// Every example's tour as a test, and all that the READMEs tell their readers to type.
pub fn run_examples() -> Result<()> {
    let envoy = provide()?;
    wasm::build_filter()?;
    build::programs()?;
    for name in Example::names()? {
        let start = Instant::now();
        let example = Example::open(&name)?;
        let plan = example.plan();
        // Its own ports: they stand in its README.
        let ports = Ports::from_base(plan.port_base)?;
        ports.check_free()?;
        let stack = Stack::start(&envoy, ports, &plan)?;
        example.wait_for_its_hour();
        example.tour(&stack, false)?;
        let toured = start.elapsed();
        readme::run(&[example.readme()], &envoy).with_context(|| stack.log_tails())?;
        let read = start.elapsed() - toured;
        note(&format!("{name}: tour {:.1} s, README {:.1} s", toured.as_secs_f64(), read.as_secs_f64()));
    }
    // These start what they need themselves. The first leaves the quickstart running for the others.
    let readmes = ["examples/quickstart/README.md", "docs/moving-in.md", "README.md"];
    readme::run(&readmes.map(|path| workspace::root().join(path)), &envoy)
}

fn provide() -> Result<PathBuf> {
    let envoy = envoy::provide()?;
    note(&envoy.display().to_string());
    Ok(envoy)
}

fn print_addresses(stack: &Stack, example: &Example) {
    heading("It stays up until Ctrl-C");
    println!("What to try:            {}", example.readme().display());
    println!("The API, behind Envoy:  {}", stack.ports.gateway_url());
    println!("The control plane:      {} (token: {})", stack.ports.control_plane_url(), stack::ADMIN_TOKEN);
    println!("Envoy's metrics:        {}/stats?filter=tollgate", stack.ports.admin_url());
    println!("Logs:                   {}", stack.dir().display());
}

fn print_curl_lines(stack: &Stack) -> Result<()> {
    let gateway = stack.ports.gateway_url();
    let control_plane = stack.ports.control_plane_url();
    heading("It stays up until Ctrl-C. In another terminal, try:");
    println!();
    println!("TOKEN={}", stack.sign_token("bob")?);
    println!(
        "curl -i {gateway}/hello -H \"Authorization: Bearer $TOKEN\"          # `bob` is in the free tier: 5 an hour"
    );
    println!(
        "curl -i {gateway}/export -H \"Authorization: Bearer $TOKEN\"         # 403: a feature of the pro tier"
    );
    println!("curl -i {gateway}/status                                          # a route without a token");
    println!();
    println!("ADMIN={}", stack::ADMIN_TOKEN);
    println!(
        "curl -X PUT {control_plane}/v1/subscriptions/user:bob -H \"Authorization: Bearer $ADMIN\" \\\n     \
         -H 'Content-Type: application/json' -d '{{\"tier\": \"pro\"}}'"
    );
    println!("curl {control_plane}/v1/subjects/user:bob/usage -H \"Authorization: Bearer $ADMIN\"");
    println!(
        "curl -s {}/stats?filter=tollgate                          # Envoy's metrics",
        stack.ports.admin_url()
    );
    println!();
    println!("Logs: {}", stack.dir().display());
    Ok(())
}
