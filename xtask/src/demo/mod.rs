//! `cargo xtask demo`: sets everything up, starts the quickstart, and walks through what Tollgate does.

use anyhow::Result;

use crate::progress::{heading, note, step};
use crate::tools::envoy;
use crate::{build, wasm};

mod http;
mod stack;
mod tour;

use stack::{Ports, Stack};

/// How to run it.
#[derive(clap::Args)]
pub struct Options {
    /// End after the tour, with an error if anything in it was not as it should be
    #[arg(long)]
    once: bool,
    /// First of the four neighbouring ports to listen on
    #[arg(long, value_name = "PORT", default_value_t = stack::PORT_BASE_DEFAULT)]
    port_base: u16,
}

/// Runs the demo.
pub fn run(options: &Options) -> Result<()> {
    let ports = Ports::from_base(options.port_base)?;
    // Before minutes of building.
    ports.check_free()?;

    let envoy = step("Envoy", || {
        let envoy = envoy::provide()?;
        note(&envoy.display().to_string());
        Ok(envoy)
    })?;
    step("Building the filter's module", wasm::build_filter)?;
    step("Building the control plane and the application", build::programs)?;
    let stack =
        step("Starting the control plane, the application and Envoy", || Stack::start(&envoy, ports))?;
    heading("The tour");
    tour::run(&stack)?;
    if options.once {
        return Ok(());
    }
    print_curl_lines(&stack)?;
    stack.wait_until_one_ends()
}

/// The demo as a test, on ports that no demo uses.
pub fn run_once() -> Result<()> {
    run(&Options { once: true, port_base: Ports::free_base()? })
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
