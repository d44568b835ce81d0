//! Every error that a client can see: one table of kinds with their status, code and title, and one way to make a body
//! of RFC 9457 from them. No other file names a status of an error.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tollgate_policy::document::Fault;
use utoipa::ToSchema;

use crate::service::payments::NotTaken;
use crate::service::{Invalid, NotFound, ServiceError};
use crate::store::StoreError;

macro_rules! kinds {
    ($($kind:ident $status:ident $code:literal $title:literal;)*) => {
        /// A kind of problem. Codes are stable: clients decide by them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the titles say it")]
        pub enum ProblemKind { $($kind),* }

        impl ProblemKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its HTTP status.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),* }
            }

            /// Its stable code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),* }
            }

            /// What all problems of this kind have in common.
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),* }
            }
        }
    };
}

kinds! {
    JsonMalformed BAD_REQUEST "json-malformed" "The body is not JSON";
    TextMalformed BAD_REQUEST "text-malformed" "The body is not UTF-8 text";
    QueryMalformed BAD_REQUEST "query-malformed" "The query is not understood";
    PathMalformed BAD_REQUEST "path-malformed" "The path is not understood";
    HeaderMalformed BAD_REQUEST "header-malformed" "A header is not understood";
    CursorMalformed BAD_REQUEST "cursor-malformed" "The cursor was not given out here";
    SubjectMalformed BAD_REQUEST "subject-malformed" "This cannot be a subject";
    SessionMalformed BAD_REQUEST "session-malformed" "This cannot be an edge session";
    WireVersion BAD_REQUEST "wire-version" "The edge speaks another version";
    RangeInvalid BAD_REQUEST "range-invalid" "The range cannot be answered";
    TokenMissing UNAUTHORIZED "token-missing" "A token is needed";
    TokenInvalid UNAUTHORIZED "token-invalid" "The token is not known";
    RightMissing FORBIDDEN "right-missing" "The token may not do this";
    RouteUnknown NOT_FOUND "route-unknown" "There is nothing at this path";
    PolicyMissing NOT_FOUND "policy-missing" "No policy is in force";
    VersionUnknown NOT_FOUND "version-unknown" "The policy has no such version";
    TierMissing NOT_FOUND "tier-missing" "The policy in force has no such tier";
    SubscriptionMissing NOT_FOUND "subscription-missing" "The subject has no subscription";
    BypassMissing NOT_FOUND "bypass-missing" "The subject has no bypass";
    TokenUnknown NOT_FOUND "token-unknown" "There is no such token";
    IssuerUnknown NOT_FOUND "issuer-unknown" "The policy in force follows no such issuer";
    MethodUnknown METHOD_NOT_ALLOWED "method-unknown" "The path does not have this method";
    VersionConflict CONFLICT "version-conflict" "Another version is in force";
    NoPolicy CONFLICT "no-policy" "A policy must be applied first";
    BodyTooLarge PAYLOAD_TOO_LARGE "body-too-large" "The body is too large";
    SubjectsTooMany PAYLOAD_TOO_LARGE "subjects-too-many" "The sync names too many subjects";
    MediaType UNSUPPORTED_MEDIA_TYPE "media-type" "The body is of a type that is not read here";
    BodyInvalid UNPROCESSABLE_ENTITY "body-invalid" "The body does not have the right shape";
    PolicyInvalid UNPROCESSABLE_ENTITY "policy-invalid" "The policy has faults; the one in force stays";
    TierUnknown UNPROCESSABLE_ENTITY "tier-unknown" "The policy in force has no such tier";
    LimitUnknown UNPROCESSABLE_ENTITY "limit-unknown" "The tier has no such limit";
    SubscriptionInvalid UNPROCESSABLE_ENTITY "subscription-invalid" "The subscription makes no sense";
    BypassInvalid UNPROCESSABLE_ENTITY "bypass-invalid" "Such a bypass cannot be granted";
    ReasonInvalid UNPROCESSABLE_ENTITY "reason-invalid" "A reason is needed";
    ThingsInvalid UNPROCESSABLE_ENTITY "things-invalid" "Such things cannot be imported";
    CapacityInvalid UNPROCESSABLE_ENTITY "capacity-invalid" "So much cannot be in use";
    ExplainInvalid UNPROCESSABLE_ENTITY "explain-invalid" "Such a request cannot be explained";
    TokenUnmakeable UNPROCESSABLE_ENTITY "token-unmakeable" "Such a token cannot be made";
    EventEndpointMissing NOT_FOUND "event-endpoint-missing" "There is no such endpoint of events";
    EventMissing NOT_FOUND "event-missing" "There is no such event";
    EventEndpointInvalid UNPROCESSABLE_ENTITY "event-endpoint-invalid" "Events cannot be told like this";
    WebhookRefused BAD_REQUEST "webhook-refused" "The webhook is not believed";
    ProviderUnconfigured NOT_FOUND "provider-unconfigured" "This payment provider is not configured";
    WebhookMissing NOT_FOUND "webhook-missing" "There is no such webhook";
    WebhookInvalid UNPROCESSABLE_ENTITY "webhook-invalid" "This cannot be done with the webhook";
    Internal INTERNAL_SERVER_ERROR "internal" "Something is wrong with the control plane";
    DatabaseUnavailable SERVICE_UNAVAILABLE "database-unavailable" "The database does not answer";
    Busy SERVICE_UNAVAILABLE "busy" "The control plane is too busy";
    ActionRefused CONFLICT "action-refused" "The subscription is not in a state for this";
    GrantMissing NOT_FOUND "grant-missing" "The subject has no such grant";
    GrantConflict CONFLICT "grant-conflict" "Another grant has this id";
    GrantInvalid UNPROCESSABLE_ENTITY "grant-invalid" "Such a grant cannot be given";
    UserTokenMalformed UNAUTHORIZED "token-malformed" "The user's token cannot be read";
    UserTokenTooLarge UNAUTHORIZED "token-too-large" "The user's token is too long";
    UserTokenAlgorithm UNAUTHORIZED "token-algorithm" "The user's token is signed in a way that is not accepted";
    UserTokenUnknownIssuer UNAUTHORIZED "token-unknown-issuer" "The user's token is of an issuer that is not trusted";
    UserTokenUnknownKey UNAUTHORIZED "token-unknown-key" "The user's token is signed with an unknown key";
    UserTokenSignature UNAUTHORIZED "token-signature" "The user's token is not signed by its issuer";
    UserTokenExpired UNAUTHORIZED "token-expired" "The user's token has expired";
    UserTokenNotYetValid UNAUTHORIZED "token-not-yet-valid" "The user's token is not valid yet";
    UserTokenAudience UNAUTHORIZED "token-audience" "The user's token is for somebody else";
    UserTokenType UNAUTHORIZED "token-type" "The user's token is of another type";
    UserTokenCriticalHeader UNAUTHORIZED "token-critical-header" "The user's token asks for what is not understood";
    UserTokenClaims UNAUTHORIZED "token-claims" "The user's token lacks a claim";
    PaymentNotConfigured CONFLICT "payment-not-configured" "The tier cannot be paid here";
    InvoiceMissing NOT_FOUND "invoice-missing" "There is no such invoice";
    NoPrices CONFLICT "no-prices" "A policy with prices must be applied first";
    InvoiceOverlap CONFLICT "invoice-overlap" "A part of the time is in an invoice already";
    PeriodOpen CONFLICT "period-open" "The time is not over";
    AmountTooLarge UNPROCESSABLE_ENTITY "amount-too-large" "The amount cannot be told";
    IdempotencyConflict CONFLICT "idempotency-conflict" "The key names something else already";
    UsageInvalid UNPROCESSABLE_ENTITY "usage-invalid" "Such usage cannot be recorded";
    ImportInvalid UNPROCESSABLE_ENTITY "import-invalid" "Such rows cannot be imported";
    ArchiveMissing NOT_FOUND "archive-missing" "The subject has no such archive";
    ArchiveInvalid UNPROCESSABLE_ENTITY "archive-invalid" "This cannot be an archive";
    ViewMissing NOT_FOUND "view-missing" "The policy in force has no such view";
    BatchTooLarge PAYLOAD_TOO_LARGE "batch-too-large" "The batch asks for too much";
    ViewFailed INTERNAL_SERVER_ERROR "view-failed" "The view cannot be answered";
    ArchiveRestored CONFLICT "archive-restored" "The archive was given back already";
}

/// After how many seconds a client may try again where the problem may have passed by then.
const RETRY_AFTER_S: u64 = 1;

/// One problem, ready to be answered.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    faults: Vec<Fault>,
}

/// The body of a problem (RFC 9457), `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// The code again, as a URI reference.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// What all problems of this code have in common.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code: decide by this.
    pub code: String,
    /// A sentence on this one: what to do.
    pub detail: String,
    /// All that is wrong with a policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultBody>,
}

/// One thing that is wrong with a policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultBody {
    /// Such as `tiers.free.limits[0].per`. Empty: the document as a whole.
    pub path: String,
    /// Line in the text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Column in that line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// A sentence that says what to do.
    pub message: String,
}

impl Problem {
    /// A problem with a sentence that says what to do.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), faults: Vec::new() }
    }

    /// Its body.
    pub fn into_body(self) -> ProblemBody {
        let faults = self.faults.into_iter().map(|fault| FaultBody {
            path: fault.path,
            line: fault.line,
            column: fault.column,
            message: fault.message,
        });
        ProblemBody {
            type_uri: format!("about:blank#{}", self.kind.code()),
            title: self.kind.title().to_owned(),
            status: self.kind.status().as_u16(),
            code: self.kind.code().to_owned(),
            detail: self.detail,
            faults: faults.collect(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // The one place where a failed request is logged.
        match &error {
            StoreError::Conflict(_) | StoreError::Unavailable(_) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database does not answer");
                let detail = "The database is locked or away; nothing was changed. Try again in a moment.";
                Self::new(ProblemKind::DatabaseUnavailable, detail)
            }
            StoreError::Corrupt { .. } | StoreError::Backup { .. } => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the database holds something unexpected"
                );
                Self::new(
                    ProblemKind::Internal,
                    "Nothing was changed. The control plane's log says what is wrong.",
                )
            }
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Invalid { rule, message } => Self::new(invalid_kind(rule), message),
            ServiceError::PolicyInvalid(faults) => Self {
                kind: ProblemKind::PolicyInvalid,
                detail: "Correct the faults and apply it again.".to_owned(),
                faults,
            },
            ServiceError::NotFound(what) => Self::new(not_found_kind(what), not_found_detail(what)),
            ServiceError::VersionConflict { expected, found } => Self::new(
                ProblemKind::VersionConflict,
                format!(
                    "Version {found} is in force, not {expected}. Look at it, and apply your change to it."
                ),
            ),
            ServiceError::KeyConflict(key) => Self::new(
                ProblemKind::IdempotencyConflict,
                format!("The key {key:?} was used with other values. Repeat those, or choose another key."),
            ),
            ServiceError::Busy(message) => Self::new(ProblemKind::Busy, message),
            ServiceError::Token(fault) => {
                let kind = ProblemKind::ALL.iter().find(|kind| kind.code() == fault.code());
                Self::new(kind.copied().unwrap_or(ProblemKind::TokenInvalid), fault.to_string())
            }
            ServiceError::NotAdministrator => Self::new(
                ProblemKind::RightMissing,
                "Only an administrator of the organisation may do this. Ask one.",
            ),
            ServiceError::PaymentNotConfigured => Self::new(
                ProblemKind::PaymentNotConfigured,
                "This tier has a price, and no payment provider sells it here. Ask who runs this API.",
            ),
            ServiceError::View(fault) => {
                // It may be due to what was sent, which the template has not thought of.
                tracing::warn!(
                    view = fault.view,
                    line = fault.line,
                    cause = fault.cause,
                    "a view cannot be answered"
                );
                Self::new(
                    ProblemKind::ViewFailed,
                    "Its template makes no answer of this. Tell who runs this API: the log says why.",
                )
            }
            ServiceError::Store(error) => error.into(),
        }
    }
}

impl From<NotTaken> for Problem {
    fn from(error: NotTaken) -> Self {
        match error {
            NotTaken::NotConfigured => Self::new(
                ProblemKind::ProviderUnconfigured,
                "Name it in the file of `tollgate serve --payments`, and start again.",
            ),
            NotTaken::Refused(refusal) => Self::new(ProblemKind::WebhookRefused, refusal.to_string()),
            NotTaken::Busy => Self::new(ProblemKind::Busy, "It was not stored. Send it again."),
        }
    }
}

/// The kind of a broken rule.
pub fn invalid_kind(rule: Invalid) -> ProblemKind {
    match rule {
        Invalid::WireVersion => ProblemKind::WireVersion,
        Invalid::Session => ProblemKind::SessionMalformed,
        Invalid::Subject => ProblemKind::SubjectMalformed,
        Invalid::Report => ProblemKind::BodyInvalid,
        Invalid::TooManySubjects => ProblemKind::SubjectsTooMany,
        Invalid::NoPolicy => ProblemKind::NoPolicy,
        Invalid::TierUnknown => ProblemKind::TierUnknown,
        Invalid::LimitUnknown => ProblemKind::LimitUnknown,
        Invalid::Subscription => ProblemKind::SubscriptionInvalid,
        Invalid::Bypass => ProblemKind::BypassInvalid,
        Invalid::Reason => ProblemKind::ReasonInvalid,
        Invalid::Things => ProblemKind::ThingsInvalid,
        Invalid::Capacity => ProblemKind::CapacityInvalid,
        Invalid::Explain => ProblemKind::ExplainInvalid,
        Invalid::Range => ProblemKind::RangeInvalid,
        Invalid::Token => ProblemKind::TokenUnmakeable,
        Invalid::Action => ProblemKind::ActionRefused,
        Invalid::Grant => ProblemKind::GrantInvalid,
        Invalid::GrantConflict => ProblemKind::GrantConflict,
        Invalid::NoPrices => ProblemKind::NoPrices,
        Invalid::InvoiceOverlap => ProblemKind::InvoiceOverlap,
        Invalid::PeriodOpen => ProblemKind::PeriodOpen,
        Invalid::AmountTooLarge => ProblemKind::AmountTooLarge,
        Invalid::Usage => ProblemKind::UsageInvalid,
        Invalid::EventEndpoint => ProblemKind::EventEndpointInvalid,
        Invalid::Webhook => ProblemKind::WebhookInvalid,
        Invalid::Import => ProblemKind::ImportInvalid,
        Invalid::Archive => ProblemKind::ArchiveInvalid,
        Invalid::ArchiveRestored => ProblemKind::ArchiveRestored,
    }
}

fn not_found_kind(what: NotFound) -> ProblemKind {
    match what {
        NotFound::Policy => ProblemKind::PolicyMissing,
        NotFound::Version => ProblemKind::VersionUnknown,
        NotFound::Tier => ProblemKind::TierMissing,
        NotFound::Subscription => ProblemKind::SubscriptionMissing,
        NotFound::Bypass => ProblemKind::BypassMissing,
        NotFound::Token => ProblemKind::TokenUnknown,
        NotFound::Issuer => ProblemKind::IssuerUnknown,
        NotFound::Grant => ProblemKind::GrantMissing,
        NotFound::EventEndpoint => ProblemKind::EventEndpointMissing,
        NotFound::Event => ProblemKind::EventMissing,
        NotFound::Webhook => ProblemKind::WebhookMissing,
        NotFound::Invoice => ProblemKind::InvoiceMissing,
        NotFound::Archive => ProblemKind::ArchiveMissing,
        NotFound::View => ProblemKind::ViewMissing,
    }
}

fn not_found_detail(what: NotFound) -> &'static str {
    match what {
        NotFound::Policy => "Apply a policy: PUT /v1/policy, or `tollgate policy apply FILE`.",
        NotFound::Version => "GET /v1/policy/versions lists the versions there are.",
        NotFound::Tier => "GET /v1/tiers lists the tiers there are.",
        NotFound::Subscription => "PUT /v1/subscriptions/{subject} makes one.",
        NotFound::Bypass => "PUT /v1/subjects/{subject}/bypass grants one.",
        NotFound::Token => "GET /v1/tokens lists the tokens there are.",
        NotFound::EventEndpoint => "GET /v1/event-endpoints lists the endpoints there are.",
        NotFound::Event => "GET /v1/events lists the events that are kept.",
        NotFound::Webhook => "GET /v1/webhooks lists the webhooks there are.",
        NotFound::Issuer => "Name an issuer of the policy in force whose keys come from a `url`.",
        NotFound::Grant => "GET /v1/subjects/{subject}/grants lists the grants there are.",
        NotFound::Invoice => "GET /v1/invoices lists the closed ones.",
        NotFound::View => "Name one of `views` in the policy in force.",
        NotFound::Archive => "GET /v1/archives lists the archives there are.",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let mut response = (status, axum::Json(self.into_body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
