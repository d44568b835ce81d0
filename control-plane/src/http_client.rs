//! HTTP clients: how they are made, once, for fetching keys, for sending events and for the command line.

use std::sync::Arc;
use std::time::Duration;

/// A client whose requests take at most `timeout`. Fails when the system's certificates cannot be read.
pub fn http_client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(timeout).redirect(reqwest::redirect::Policy::limited(3)).build()
}

/// As [`http_client`], for requests that hold secrets: it follows no redirect to somewhere else.
pub fn http_client_without_redirects(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(timeout).redirect(reqwest::redirect::Policy::none()).build()
}

/// A client for addresses that others chose: it follows no redirect and asks no proxy, and resolves names with `resolver`
/// where one is given. Fails when the system's certificates cannot be read.
pub fn sending_client<R: reqwest::dns::Resolve + 'static>(
    timeout: Duration,
    resolver: Option<Arc<R>>,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = builder(timeout).redirect(reqwest::redirect::Policy::none()).no_proxy();
    match resolver {
        Some(resolver) => builder.dns_resolver(resolver).build(),
        None => builder.build(),
    }
}

fn builder(timeout: Duration) -> reqwest::ClientBuilder {
    // reqwest is built without a provider of its own. A second call finds the first and is ignored.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(timeout).user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
}
