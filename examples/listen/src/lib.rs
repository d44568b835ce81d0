//! How the examples' applications are started: they listen on the loopback address, on the port of their own `envoy.yaml`
//! or at the address that their first argument names.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use axum::Router;

/// Serves `application` until the process ends; a failure is one line on standard error.
pub async fn serve(name: &str, port_default: u16, application: Router) -> ExitCode {
    match listen(port_default, application).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{name}: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn listen(port_default: u16, application: Router) -> Result<(), String> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, port_default));
    let address = match std::env::args().nth(1) {
        None => default,
        Some(given) => {
            given.parse().map_err(|error| format!("the address to listen on, such as {default}: {error}"))?
        }
    };
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    axum::serve(listener, application).await.map_err(|error| error.to_string())
}
