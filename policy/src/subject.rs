//! Subjects that are made of others: the member of an organisation, who has limits of his own within it.

/// The subject of an organisation's member: `member:<organisation>/<user>`, where `%` and `/` in the organisation's name
/// are percent-encoded, so that no two members share a subject.
pub fn member(organization: &str, user: &str) -> String {
    let organization = organization.replace('%', "%25").replace('/', "%2F");
    format!("member:{organization}/{user}")
}

/// The names of the organisation and the user of a member's subject, or `None` when this is none: neither may be empty,
/// and what [`member`] would have written in another way would be a second name of one member.
pub fn parts_of_member(subject: &str) -> Option<(String, &str)> {
    let (organization, user) = subject.strip_prefix("member:")?.split_once('/')?;
    let named = !organization.is_empty() && !user.is_empty();
    Some((decode(organization).filter(|_| named)?, user))
}

/// The subject of the organisation that a member belongs to, or `None` when this is no member.
pub fn organization_of(subject: &str) -> Option<String> {
    parts_of_member(subject).map(|(organization, _)| format!("org:{organization}"))
}

/// Decodes what [`member`] encodes, and nothing else.
fn decode(encoded: &str) -> Option<String> {
    let mut parts = encoded.split('%');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("25"), part.strip_prefix("2F")) {
            (Some(rest), _) => ('%', rest),
            (_, Some(rest)) => ('/', rest),
            (None, None) => return None,
        };
        name.push(character);
        name.push_str(rest);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_leads_back_to_its_organisation_whatever_the_names_are() {
        for organization in ["acme", "a/b", "a%2Fb", "%", "/", "a%25/b", "ü"] {
            for user in ["alice", "a/b", "%2F"] {
                assert_eq!(
                    organization_of(&member(organization, user)),
                    Some(format!("org:{organization}")),
                    "{organization} {user}"
                );
            }
        }
        assert_ne!(member("a/b", "c"), member("a", "b/c"));
        for subject in
            ["user:alice", "org:acme/alice", "member:acme", "member:/alice", "member:acme/", "member:"]
        {
            assert_eq!(organization_of(subject), None, "{subject}");
        }
    }
}
