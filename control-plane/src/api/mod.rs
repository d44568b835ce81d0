//! The HTTP interface: REST for people and programs under `/v1`, the edges' under `/edge/v1`. Endpoints translate, and
//! decide nothing: a request into a call of the service, its answer into JSON, its error into a problem.

mod analytics;
mod archives;
mod audit;
mod auth;
mod bypass;
mod capacity;
mod csv;
mod described;
mod edge;
mod event_endpoints;
mod events;
mod explain;
mod extract;
mod grants;
mod import;
mod invoices;
mod lifecycle;
mod me;
mod observe;
mod operations;
mod organization;
mod plans;
mod policy;
mod preview;
pub mod problem;
mod state;
mod subjects;
mod subscriptions;
mod things;
mod tiers;
mod tokens;
mod usage;
mod views;
mod webhooks;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware;
use tollgate_policy::document::DOCUMENT_BYTES_MAX;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::{
    BODY_BYTES_MAX, EXPLAIN_BODY_BYTES_MAX, IMPORT_BODY_BYTES_MAX, SYNC_BODY_BYTES_MAX,
    THINGS_BODY_BYTES_MAX, USAGE_BODY_BYTES_MAX, WEBHOOK_BODY_BYTES_MAX,
};
use problem::{Problem, ProblemKind};
pub use state::Api;

/// How long a browser may remember what it may ask.
const PREFLIGHT_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(3_600);

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tollgate control plane",
        description = "Tiers, subscriptions, usage and policies of an API behind Envoy. Errors are \
                       application/problem+json (RFC 9457) with a stable `code`."
    ),
    components(schemas(problem::ProblemBody)),
    tags(
        (name = "policy", description = "The policy: versions, rollback, tiers"),
        (name = "subscriptions", description = "What subjects have bought"),
        (name = "subjects", description = "What subjects have and used"),
        (name = "invoices", description = "What subjects are charged"),
        (name = "usage", description = "The ledger: recording, correcting and exporting usage"),
        (name = "moving", description = "Users of another system, and what they had there"),
        (name = "tokens", description = "Who may use this API"),
        (name = "audit", description = "Who changed what"),
        (name = "events", description = "What other systems are told"),
        (name = "webhooks", description = "What payment providers tell"),
        (name = "me", description = "For end users, with the token that their issuer gave them"),
        (name = "analytics", description = "What became of subscriptions, limits and usage"),
        (name = "edge", description = "For Tollgate's filter in Envoy"),
        (name = "operations", description = "For operators; no token"),
    )
)]
struct Description;

/// The whole interface.
pub fn router(api: Api) -> Router {
    let (router, _) = documented(&api).split_for_parts();
    let router = router.fallback(unknown_route).method_not_allowed_fallback(unknown_method);
    // Around all, since a preflight asks with a method that no route has; the layer itself looks at the path.
    let router = match cors(&api.plane.settings.allow_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(middleware::from_fn_with_state(api.clone(), observe::observe)).with_state(api)
}

/// The description of the whole interface.
pub fn openapi(api: &Api) -> OpenApi {
    let mut openapi = documented(api).into_openapi();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    openapi.components.get_or_insert_default().add_security_scheme("token", bearer);
    for (path, item) in &mut openapi.paths.paths {
        let has_token = (path.starts_with("/v1/") && path != "/v1/plans") || path.starts_with("/edge/");
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            described::complete(operation, has_token);
        }
    }
    openapi
}

fn documented(api: &Api) -> OpenApiRouter<Api> {
    let admin = OpenApiRouter::new()
        .routes(routes!(policy::apply, policy::show))
        .routes(routes!(policy::versions))
        .routes(routes!(policy::version))
        .routes(routes!(policy::roll_back))
        .routes(routes!(preview::preview))
        .layer(DefaultBodyLimit::max(DOCUMENT_BYTES_MAX + 1))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(things::import))
                .layer(DefaultBodyLimit::max(THINGS_BODY_BYTES_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(explain::explain))
                .layer(DefaultBodyLimit::max(EXPLAIN_BODY_BYTES_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(usage::record::record))
                .layer(DefaultBodyLimit::max(USAGE_BODY_BYTES_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(import::import))
                .layer(DefaultBodyLimit::max(IMPORT_BODY_BYTES_MAX)),
        )
        .merge(small())
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::admin));
    let edge = OpenApiRouter::new()
        .routes(routes!(edge::sync))
        .routes(routes!(edge::watch))
        .routes(routes!(edge::policy))
        .routes(routes!(edge::keys))
        .layer(DefaultBodyLimit::max(SYNC_BODY_BYTES_MAX))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::edge));
    let user = OpenApiRouter::new()
        .routes(routes!(me::show))
        .routes(routes!(me::usage))
        .routes(routes!(me::upgrade))
        .routes(routes!(me::downgrade))
        .routes(routes!(me::cancel))
        .routes(routes!(organization::show))
        .routes(routes!(organization::usage))
        .routes(routes!(organization::members))
        .routes(routes!(organization::show_member))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::user))
        .routes(routes!(plans::list))
        // Whether a view needs a token is told by the policy.
        .routes(routes!(views::show, views::ask))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let open = OpenApiRouter::new()
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::openapi))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(webhooks::stripe))
                .routes(routes!(webhooks::lemonsqueezy))
                .routes(routes!(webhooks::cinetpay, webhooks::ping))
                .layer(DefaultBodyLimit::max(WEBHOOK_BODY_BYTES_MAX)),
        );
    OpenApiRouter::with_openapi(Description::openapi()).merge(admin).merge(edge).merge(user).merge(open)
}

fn small() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(tiers::list))
        .routes(routes!(tiers::show))
        .routes(routes!(subscriptions::list))
        .routes(routes!(
            subscriptions::show,
            subscriptions::set,
            subscriptions::change,
            subscriptions::delete
        ))
        .routes(routes!(lifecycle::act))
        .routes(routes!(lifecycle::changes, lifecycle::schedule, lifecycle::clear))
        .routes(routes!(grants::list, grants::add))
        .routes(routes!(grants::remove))
        .routes(routes!(subjects::show))
        .routes(routes!(usage::usage))
        .routes(routes!(usage::export::export))
        .routes(routes!(usage::corrections::list, usage::corrections::correct))
        .routes(routes!(bypass::show, bypass::set, bypass::clear))
        .routes(routes!(capacity::show, capacity::set))
        .routes(routes!(audit::list))
        .routes(routes!(invoices::list))
        .routes(routes!(invoices::show))
        .routes(routes!(invoices::close))
        .routes(routes!(invoices::preview))
        .routes(routes!(analytics::denials))
        .routes(routes!(analytics::subjects))
        .routes(routes!(analytics::subscriptions))
        .routes(routes!(analytics::churned))
        .routes(routes!(analytics::converted))
        .routes(routes!(analytics::revenue))
        .routes(routes!(analytics::limits))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(event_endpoints::list, event_endpoints::create))
        .routes(routes!(event_endpoints::show, event_endpoints::change, event_endpoints::delete))
        .routes(routes!(event_endpoints::rotate))
        .routes(routes!(event_endpoints::test))
        .routes(routes!(event_endpoints::recover))
        .routes(routes!(event_endpoints::deliveries))
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(events::redeliver))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::show))
        .routes(routes!(webhooks::replay))
        .routes(routes!(webhooks::link))
        .routes(routes!(archives::list))
        .routes(routes!(archives::show))
        .routes(routes!(archives::restore))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// What browsers of other origins may ask: nothing, or what end users may.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let allowed = origins.to_vec();
    let may_ask = move |origin: &HeaderValue, asked: &Parts| {
        let path = asked.uri.path();
        let for_users = ["/v1/plans", "/v1/me"].contains(&path)
            || ["/v1/me/", "/v1/views/"].iter().any(|below| path.starts_with(below));
        for_users && allowed.contains(origin)
    };
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(may_ask))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::ETAG, header::CONTENT_LANGUAGE, header::RETRY_AFTER])
        .max_age(PREFLIGHT_MAX_AGE);
    (!origins.is_empty()).then_some(layer)
}

async fn unknown_route(uri: Uri) -> Problem {
    Problem::new(
        ProblemKind::RouteUnknown,
        format!("Nothing is at {}. GET /openapi.json lists what is.", uri.path()),
    )
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let detail =
        format!("{} does not have the method {method}. GET /openapi.json lists what it has.", uri.path());
    Problem::new(ProblemKind::MethodUnknown, detail)
}
