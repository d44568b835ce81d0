//! Members of organisations: `member:<organisation>/<user>`, with `%` and `/` of the organisation's name percent-encoded.
//! A member is a subject with a book of its own; what its limits are, its organisation's subscription says.

use tollgate_policy::subject::parts_of_member;

use super::sync::is_name_of_subject;

/// The organisation of a member (`org:acme` of `member:acme/alice`); none of any other subject, or of what cannot be one.
pub fn organization_of(subject: &str) -> Option<String> {
    let (name, user) = parts_of_member(subject)?;
    (is_name_of_subject(&name) && is_name_of_subject(user)).then(|| format!("org:{name}"))
}

#[cfg(test)]
mod tests {
    use super::organization_of;

    #[test]
    fn a_member_names_its_organisation() {
        for (subject, organization) in [
            ("member:acme/alice", Some("org:acme")),
            ("member:acme/a/b", Some("org:acme")),
            ("member:a%2Fb%25/alice", Some("org:a/b%")),
            ("member:a%2fb/alice", None),
            ("member:a%20b/alice", None),
            ("member:a b/alice", Some("org:a b")),
            ("member:acme", None),
            ("member:/alice", None),
            ("member:acme/", None),
            ("org:acme", None),
        ] {
            assert_eq!(organization_of(subject).as_deref(), organization, "{subject}");
        }
    }
}
