//! What all operations have in common, put into the description in one place, so that none has to name it.

use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::problem::ProblemKind;

/// Completes the description of an operation.
pub fn complete(operation: &mut Operation, has_token: bool) {
    add_problems(operation, has_token);
    as_problems(operation);
    describe_subject(operation);
}

/// Problems that every operation can answer.
fn add_problems(operation: &mut Operation, has_token: bool) {
    let mut statuses = vec![405_u16, 500, 503];
    if has_token {
        statuses.extend([400, 401, 403]);
    }
    if operation.request_body.is_some() {
        statuses.extend([413, 415, 422]);
    }
    for status in statuses {
        let codes: Vec<&str> = ProblemKind::ALL
            .iter()
            .filter(|kind| kind.status().as_u16() == status)
            .map(|kind| kind.code())
            .collect();
        let schema = RefOr::Ref(Ref::from_schema_name("ProblemBody"));
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(format!("A problem; its code is one of {}", codes.join(", ")))
            .content("application/problem+json", content)
            .build();
        operation.responses.responses.entry(status.to_string()).or_insert(RefOr::T(response));
    }
    if has_token {
        let requirement = utoipa::openapi::SecurityRequirement::new("token", Vec::<String>::new());
        operation.security.get_or_insert_default().push(requirement);
    }
}

/// Whatever is answered with a status of an error is a problem, also where an operation names only its body.
fn as_problems(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (is_error(status), response)
            && let Some(content) = response.content.shift_remove("application/json")
        {
            response.content.insert("application/problem+json".to_owned(), content);
        }
    }
}

fn is_error(status: &str) -> bool {
    status.starts_with(['4', '5'])
}

/// What can stand for a subject in a path.
fn describe_subject(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if parameter.name != "subject" || parameter.parameter_in != ParameterIn::Path {
            continue;
        }
        let subject = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^(user|org|anon|member):[^\\u0000-\\u001f\\u007f]{1,256}$"));
        parameter.schema = Some(subject.into());
        parameter.description = Some("Such as `user:alice` or `org:acme`.".to_owned());
    }
}
