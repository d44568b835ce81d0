//! The file in a form (RFC 7578). Nested parts and encodings, which browsers and curl do not send, are not read.

/// The part called `file`.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its file name, or empty.
    pub name: String,
    /// The file.
    pub content: &'a [u8],
}

/// The boundary, if this is the media type of a form.
pub fn boundary(media_type: &str) -> Option<&str> {
    let parameters = media_type.strip_prefix("multipart/form-data")?;
    parameter(parameters, "boundary")
}

/// The part called `file`, if the body has one that is whole.
pub fn file<'a>(body: &'a [u8], boundary: &str) -> Option<Part<'a>> {
    // The first one has no line break before it (RFC 2046, 5.1.1).
    let separator = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(&separator.as_bytes()[2..])?;
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, separator.as_bytes())?;
        let (head, content) = split(&part[..end])?;
        let head = String::from_utf8_lossy(head);
        if parameter(&head, "name") == Some("file") {
            let name = parameter(&head, "filename").unwrap_or_default().to_owned();
            return Some(Part { name, content });
        }
        rest = &part[end + separator.len()..];
    }
    None
}

fn split(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find(part, b"\r\n\r\n")?;
    Some((&part[..end], &part[end + 4..]))
}

fn find(text: &[u8], sought: &[u8]) -> Option<usize> {
    text.windows(sought.len()).position(|window| window == sought)
}

/// The value of `name=value` or `name="value"` after a semicolon.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = |parameter: &'a str| parameter.trim_start().strip_prefix(name)?.strip_prefix('=');
    let value = text.split(';').skip(1).find_map(value)?;
    let value = value.lines().next().unwrap_or_default().trim();
    Some(value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Option<(&str, &str)>) {
        let boundary = boundary("multipart/form-data; boundary=\"b-1\"").unwrap();
        let found = file(body.as_bytes(), boundary);
        let found = found.map(|part| (part.name, String::from_utf8_lossy(part.content).into_owned()));
        assert_eq!(found, expected.map(|(name, content)| (name.to_owned(), content.to_owned())), "{body:?}");
    }

    #[test]
    fn the_part_called_file_is_found_among_others_and_is_what_was_sent() {
        let field = "--b-1\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nfile\r\n";
        let file = "--b-1\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n\
                    content-type: application/pdf\r\n\r\none\r\n\r\ntwo\r\n";
        let expected = Some(("a.pdf", "one\r\n\r\ntwo"));
        check(&format!("{file}--b-1--\r\n"), expected);
        check(&format!("{field}{file}--b-1--\r\n"), expected);
        check(&format!("{file}{field}--b-1--"), expected);
        check(&format!("{field}--b-1--\r\n"), None);
    }

    #[test]
    fn a_part_that_is_not_whole_is_none() {
        check("--b-1\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\nhal", None);
        check("--b-1\r\ncontent-disposition: form-data; name=\"file\"\r\n--b-1--", None);
        check("", None);
    }

    #[test]
    fn other_media_types_have_no_boundary() {
        assert_eq!(boundary("application/octet-stream"), None);
        assert_eq!(boundary("multipart/form-data"), None);
    }
}
