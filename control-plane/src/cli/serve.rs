//! `tollgate serve`: the control plane itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::http::HeaderValue;
use clap::{Args, ValueEnum};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_control_plane::clock::SystemClock;
use tollgate_control_plane::config::{EventSettings, Settings, SinkSettings, UsageSettings};
use tollgate_control_plane::server::Server;
use tollgate_control_plane::service::ControlPlane;
use tollgate_control_plane::service::jwks::Fetcher;
use tollgate_control_plane::service::payments::PaymentSettings;
use tollgate_control_plane::service::tokens::{ConfiguredTokens, TOKEN_BYTES_MIN};
use tollgate_control_plane::store::Database;
use tollgate_policy::document::TRUSTED_HOPS_MAX;
use tracing_subscriber::EnvFilter;

use super::CliError;

/// Run the control plane.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Where to listen.
    #[arg(long, env = "TOLLGATE_LISTEN", default_value = "127.0.0.1:8700", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// `sqlite://FILE` for one node, `postgres://…` for several.
    #[arg(
        long,
        env = "TOLLGATE_DATABASE_URL",
        default_value = "sqlite://tollgate.db",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: String,
    /// The token of whoever may change things, 16 characters or more.
    #[arg(long, env = "TOLLGATE_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// The token of the edges. Without it, make edges' tokens with POST /v1/tokens.
    #[arg(long, env = "TOLLGATE_EDGE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    edge_token: Option<String>,
    /// How long an edge may use its leases while it cannot reach a control plane, ms. The same on all replicas.
    #[arg(long, env = "TOLLGATE_LEASE_TTL_MS", default_value_t = 30_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1_000..=3_600_000))]
    lease_ttl_ms: u64,
    /// How much longer a silent edge's leases stay reserved, for clocks that drift, ms. The same on all replicas.
    #[arg(long, env = "TOLLGATE_LEASE_MARGIN_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(100..=600_000))]
    lease_margin_ms: u64,
    /// How long an edge's watch waits before it is answered without a change, ms.
    #[arg(long, env = "TOLLGATE_WATCH_MAX_MS", default_value_t = 25_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(100..=300_000))]
    watch_max_ms: u64,
    /// How many days usage is kept by hour; then by day. The same on all replicas.
    #[arg(long, env = "TOLLGATE_USAGE_HOURS_DAYS", default_value_t = 7, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(1..=3_650))]
    usage_hours_days: u32,
    /// How many days usage is kept by day; then by month, for good. The same on all replicas.
    #[arg(long, env = "TOLLGATE_USAGE_DAYS_DAYS", default_value_t = 400, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(62..=36_500))]
    usage_days_days: u32,
    /// How many days what edges refused is kept. The same on all replicas.
    #[arg(long, env = "TOLLGATE_DENIALS_DAYS", default_value_t = 90, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(1..=3_650))]
    denials_days: u32,
    /// Where usage is sent as CloudEvents, by POST: `https://…`. The same on all replicas.
    #[arg(long, env = "TOLLGATE_USAGE_SINK_URL", hide_env_values = true, value_name = "URL")]
    usage_sink_url: Option<String>,
    /// What is sent there as `Authorization: Bearer`.
    #[arg(long, env = "TOLLGATE_USAGE_SINK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    usage_sink_token: Option<String>,
    /// Let events be sent to private addresses and to this machine. Whoever administers events can then reach them.
    #[arg(long, env = "TOLLGATE_EVENTS_ALLOW_PRIVATE")]
    events_allow_private: bool,
    /// For how long events and the log of their deliveries are kept, days.
    #[arg(long, env = "TOLLGATE_EVENTS_RETENTION_DAYS", default_value_t = 30, value_name = "DAYS",
          value_parser = clap::value_parser!(u16).range(7..=3_650))]
    events_retention_days: u16,
    /// A file that says which payment providers there are, and which tier is bought by what (docs/payments.md).
    #[arg(long, env = "TOLLGATE_PAYMENTS", value_name = "FILE")]
    payments: Option<PathBuf>,
    /// An origin whose pages may ask for plans, views and, with a user's token, for /v1/me from a browser, such as
    /// `https://app.example.com`. May be given again.
    #[arg(long, env = "TOLLGATE_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    allow_origin: Vec<HeaderValue>,
    /// How many proxies in front of this program are trusted to have added an address to x-forwarded-for: the audit log then has
    /// the address that the outermost of them wrote. 0: the address of the connection. Nobody else may reach this program then.
    #[arg(long, env = "TOLLGATE_TRUSTED_HOPS", default_value_t = 0, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=i64::from(TRUSTED_HOPS_MAX)))]
    trusted_hops: u32,
    /// What is logged: a level, or directives such as `info,tollgate_control_plane=debug`.
    #[arg(long, env = "TOLLGATE_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How it is logged.
    #[arg(long, env = "TOLLGATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// How is logged.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(arguments: ServeArguments) -> Result<(), CliError> {
    begin_log(&arguments)?;
    let tokens = tokens(&arguments)?;
    let failed = |what: &str, source: Box<dyn std::error::Error + Send + Sync>| CliError::Serve {
        what: what.to_owned(),
        source,
    };
    // Listen first: a taken port is told before a database is touched.
    let listener = TcpListener::bind(arguments.listen).await.map_err(|source| CliError::Serve {
        what: format!("cannot listen on {}; choose another address with --listen", arguments.listen),
        source: source.into(),
    })?;
    let database = Database::open(&arguments.database_url)
        .await
        .map_err(|source| failed("cannot open the database; look at --database-url", source.into()))?;
    let settings = Settings {
        lease_ttl_ms: arguments.lease_ttl_ms,
        lease_margin_ms: arguments.lease_margin_ms,
        watch_max_ms: arguments.watch_max_ms,
        usage: UsageSettings {
            hours_days: arguments.usage_hours_days,
            days_days: arguments.usage_days_days.max(arguments.usage_hours_days),
            denials_days: arguments.denials_days,
            sink: sink(&arguments)?,
        },
        events: EventSettings {
            allow_private: arguments.events_allow_private,
            retention_days: arguments.events_retention_days,
        },
        payments: payments(arguments.payments.as_deref())?.into(),
        allow_origins: arguments.allow_origin.clone(),
        trusted_hops: arguments.trusted_hops,
    };
    let kind = database.kind();
    let plane = ControlPlane::start(database, SystemClock::shared(), settings, tokens)
        .await
        .map_err(|source| failed("cannot read the database", source.into()))?;
    let fetcher =
        Fetcher::new().map_err(|source| failed("cannot read this machine's certificates", source.into()))?;
    let server =
        Server::start(plane, listener, fetcher).map_err(|source| failed("cannot listen", source.into()))?;
    tracing::info!(address = %server.address(), database = kind, "serving");
    until_told().await.map_err(|source| failed("cannot wait for signals", source.into()))?;
    tracing::info!("stopping: finishing what was begun");
    server.stop().await;
    Ok(())
}

async fn until_told() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn tokens(arguments: &ServeArguments) -> Result<ConfiguredTokens, CliError> {
    let Some(admin) = arguments.admin_token.as_deref().filter(|token| !token.is_empty()) else {
        return Err(CliError::Usage(
            "an admin token is needed: set TOLLGATE_ADMIN_TOKEN to a secret of your own, for instance with\n  \
             export TOLLGATE_ADMIN_TOKEN=$(openssl rand -hex 32)"
                .to_owned(),
        ));
    };
    let edge = arguments.edge_token.as_deref().filter(|token| !token.is_empty());
    for (name, token) in [("TOLLGATE_ADMIN_TOKEN", Some(admin)), ("TOLLGATE_EDGE_TOKEN", edge)] {
        let wrong =
            |token: &str| token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.is_some_and(wrong) {
            return Err(CliError::Usage(format!(
                "{name} must have {TOKEN_BYTES_MIN} or more characters without spaces; `openssl rand -hex 32` makes one"
            )));
        }
    }
    if edge == Some(admin) {
        return Err(CliError::Usage(
            "TOLLGATE_EDGE_TOKEN must differ from TOLLGATE_ADMIN_TOKEN: whoever reads an edge's configuration must not \
             be able to change tiers"
                .to_owned(),
        ));
    }
    Ok(ConfiguredTokens::new(admin, edge))
}

fn sink(arguments: &ServeArguments) -> Result<Option<SinkSettings>, CliError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let Some(url) = given(&arguments.usage_sink_url) else {
        return Ok(None);
    };
    let is_http = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_http {
        return Err(CliError::Usage(
            "--usage-sink-url is no address; give one such as https://usage.example.com/events".to_owned(),
        ));
    }
    let token = given(&arguments.usage_sink_token);
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(CliError::Usage("TOLLGATE_USAGE_SINK_TOKEN must have no spaces".to_owned()));
    }
    Ok(Some(SinkSettings { url, token }))
}

/// An origin as browsers send it (RFC 6454 6.2): what is spelled in another way would never be met.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let url: Option<Url> = text.parse().ok();
    match url.filter(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == text) {
        Some(_) => HeaderValue::from_str(text).map_err(|error| error.to_string()),
        None => {
            Err("write an origin as browsers send it: scheme, host and perhaps a port, no slash at the end"
                .to_owned())
        }
    }
}

fn payments(file: Option<&Path>) -> Result<PaymentSettings, CliError> {
    let Some(file) = file else { return Ok(PaymentSettings::default()) };
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| CliError::Serve {
        what: format!("cannot use the payments file {}", file.display()),
        source,
    };
    let text = std::fs::read_to_string(file).map_err(|source| failed(source.into()))?;
    PaymentSettings::parse(&text, &|name| std::env::var(name).ok()).map_err(|source| failed(source.into()))
}

fn begin_log(arguments: &ServeArguments) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&arguments.log)
        .map_err(|_| CliError::Usage(format!("{:?} is no log filter; try --log info", arguments.log)))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
