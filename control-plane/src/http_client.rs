//! HTTP clients: how they are made, once, for fetching keys and for the command line.

use std::time::Duration;

/// A client whose requests take at most `timeout`. Fails when the system's certificates cannot be read.
pub fn http_client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    client(timeout, reqwest::redirect::Policy::limited(3))
}

/// As [`http_client`], following no redirect: for what is sent to one address and nowhere else.
pub fn http_client_that_stays(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    client(timeout, reqwest::redirect::Policy::none())
}

fn client(
    timeout: Duration,
    redirects: reqwest::redirect::Policy,
) -> Result<reqwest::Client, reqwest::Error> {
    // reqwest is built without a provider of its own. A second call finds the first and is ignored.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(timeout)
        .redirect(redirects)
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .build()
}
