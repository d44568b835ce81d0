//! The Envoy configurations that are compared. They differ in their HTTP filters alone.

use std::path::Path;

use serde_json::{Value, json};

use super::tokens::{AUDIENCE, ISSUER};
use crate::bench::plane::EDGE_TOKEN;

const TEMPLATE: &str = include_str!("native.yaml");

/// A limit that the measurement never reaches: what an admitted request costs is the question.
const UNITS: u64 = 1_000_000_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Nothing between client and answer.
    NoFilter,
    /// The same, 10,000 callers: what their requests alone cost the proxy, whose memory they turn over.
    NoFilterMany,
    /// The module of `filter/examples/noop.rs`.
    Noop,
    /// That of `filter/examples/floor.rs`: the calls that Tollgate's headers cost, and nothing else.
    Floor,
    /// Envoy's `jwt_authn`, verifying each request, and `local_ratelimit`.
    Native,
    /// The same with `jwt_authn`'s cache of verified tokens.
    NativeCached,
    /// Tollgate with a control plane, one caller.
    TollgateOne,
    /// Tollgate with a control plane, 10,000 callers.
    TollgateMany,
    /// Tollgate with a control plane, a route with one limit.
    TollgateOneLimit,
    /// Tollgate with a control plane, a route with three limits on two meters.
    TollgateThreeLimits,
}

impl Subject {
    /// All, in the order of each round.
    pub const ALL: [Self; 10] = [
        Self::NoFilter,
        Self::NoFilterMany,
        Self::Noop,
        Self::Floor,
        Self::Native,
        Self::NativeCached,
        Self::TollgateOne,
        Self::TollgateMany,
        Self::TollgateOneLimit,
        Self::TollgateThreeLimits,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFilter => "no filter",
            Self::NoFilterMany => "no filter, 10,000 callers",
            Self::Noop => "do-nothing Wasm filter",
            Self::Floor => "Wasm filter that reads all headers and sets Tollgate's",
            Self::Native => "jwt_authn (no cache) + local_ratelimit",
            Self::NativeCached => "jwt_authn (cache) + local_ratelimit",
            Self::TollgateOne => "Tollgate, 1 subject",
            Self::TollgateMany => "Tollgate, 10,000 subjects",
            Self::TollgateOneLimit => "Tollgate, 1 limit",
            Self::TollgateThreeLimits => "Tollgate, 3 limits on 2 meters",
        }
    }

    /// Whether it looks at tokens; then it must refuse a bad one.
    pub fn verifies(self) -> bool {
        !matches!(self, Self::NoFilter | Self::NoFilterMany | Self::Noop | Self::Floor)
    }

    /// How many callers, each with a token of its own.
    pub fn callers(self) -> usize {
        if matches!(self, Self::NoFilterMany | Self::TollgateMany) { 10_000 } else { 1 }
    }

    /// The Envoy without a filter that it is compared with: that of as many callers.
    pub fn bare(self) -> Self {
        if self.callers() == 1 { Self::NoFilter } else { Self::NoFilterMany }
    }

    /// Whether it needs a control plane.
    pub fn is_tollgate(self) -> bool {
        matches!(
            self,
            Self::TollgateOne | Self::TollgateMany | Self::TollgateOneLimit | Self::TollgateThreeLimits
        )
    }

    /// What its requests ask for: the policy's routes differ in their limits.
    pub fn path(self) -> &'static str {
        match self {
            Self::TollgateOneLimit => "/v1/pages/7",
            Self::TollgateThreeLimits => "/v1/files/7",
            _ => "/v1/items/7",
        }
    }
}

/// Where things are, for a configuration.
pub struct Places<'a> {
    pub port: u16,
    pub admin_port: u16,
    pub control_plane_port: u16,
    pub filter_wasm: &'a Path,
    pub noop_wasm: &'a Path,
    pub floor_wasm: &'a Path,
    pub jwks: &'a Value,
}

/// The configuration as YAML; the filters are JSON, which is YAML too.
pub fn render(subject: Subject, places: &Places) -> String {
    let filters: Vec<Value> = match subject {
        Subject::NoFilter | Subject::NoFilterMany => Vec::new(),
        Subject::Noop => vec![wasm("noop", places.noop_wasm, "")],
        Subject::Floor => vec![wasm("floor", places.floor_wasm, "")],
        Subject::Native => vec![jwt_authn(places.jwks, false), local_ratelimit()],
        Subject::NativeCached => vec![jwt_authn(places.jwks, true), local_ratelimit()],
        Subject::TollgateOne
        | Subject::TollgateMany
        | Subject::TollgateOneLimit
        | Subject::TollgateThreeLimits => vec![tollgate(&connected(), places.filter_wasm)],
    };
    render_filters(&filters, subject.is_tollgate(), places)
}

/// The plugin configuration of an edge with a control plane.
pub fn connected() -> Value {
    json!({"control_plane": {"cluster": "tollgate", "token": EDGE_TOKEN}})
}

/// Tollgate's filter.
pub fn tollgate(plugin: &Value, module: &Path) -> Value {
    wasm("tollgate", module, &plugin.to_string())
}

/// The configuration with these filters, and with or without the control plane's cluster.
pub fn render_filters(filters: &[Value], connected: bool, places: &Places) -> String {
    let filters: String = filters.iter().map(|filter| format!("          - {filter}\n")).collect();
    let clusters = if connected {
        let address =
            json!({"socket_address": {"address": "127.0.0.1", "port_value": places.control_plane_port}});
        let cluster = json!({
            "name": "tollgate",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": "tollgate",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        });
        format!("  clusters: [{cluster}]")
    } else {
        String::new()
    };
    TEMPLATE
        .replace("@FILTERS@\n", &filters)
        .replace("@CLUSTERS@", &clusters)
        .replace("@PORT@", &places.port.to_string())
        .replace("@ADMIN@", &places.admin_port.to_string())
}

fn wasm(name: &str, module: &Path, configuration: &str) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": name,
                "root_id": name,
                "failure_policy": "FAIL_RELOAD",
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration},
                "vm_config": {
                    "vm_id": name,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
            },
        },
    })
}

fn jwt_authn(jwks: &Value, cache: bool) -> Value {
    let mut provider = json!({
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": jwks.to_string()},
        // Tollgate gives the upstream a subject and a tier; this is what Envoy has for that.
        "claim_to_headers": [{"header_name": "x-subject", "claim_name": "sub"}],
    });
    if cache && let Some(provider) = provider.as_object_mut() {
        provider.insert(
            "jwt_cache_config".to_owned(),
            json!({"jwt_cache_size": 20_000, "jwt_max_token_size": 8192}),
        );
    }
    json!({
        "name": "jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"bench": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}],
        },
    })
}

fn local_ratelimit() -> Value {
    json!({
        "name": "local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "bench",
            "token_bucket": {"max_tokens": UNITS, "tokens_per_fill": UNITS, "fill_interval": "1s"},
            "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
            "filter_enforced": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        },
    })
}

/// Tollgate's policy for the measurement, as YAML: a quota and a rate, as a real tier has.
pub fn policy(jwks: &Value) -> String {
    let policy = json!({
        "version": 1,
        "issuers": [{"issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"jwks": jwks}}],
        "meters": {"api_calls": {}, "pages": {}, "bytes": {}},
        "tiers": {"free": {"limits": [
            {"meter": "api_calls", "quota": UNITS, "per": "month"},
            {"meter": "api_calls", "rate": UNITS, "per": "60s"},
            {"meter": "pages", "quota": UNITS, "per": "month"},
            {"meter": "bytes", "quota": UNITS, "per": "month"},
        ]}},
        "default_tier": "free",
        "routes": [
            {"name": "items", "path": "/v1/items/{id}", "charges": {"api_calls": 1}},
            {"name": "pages", "path": "/v1/pages/{id}", "charges": {"pages": 1}},
            {"name": "files", "path": "/v1/files/{id}", "charges": {"api_calls": 1, "bytes": 100}},
        ],
    });
    policy.to_string()
}
