//! A response on its way to the caller: what it says of costs is read as it passes, and never held back.

use tollgate_policy::body::Unread;
use tollgate_policy::body::meter::ResponseReader;
use tollgate_policy::body::pointer::Pointer;
use tollgate_policy::compile::{Amount, CompiledRoute};
use tollgate_policy::decision::number;
use tollgate_policy::document::UNITS_MAX;
use tollgate_policy::label::LabelFrom;

use crate::host::Host;

/// What was seen of a response so far.
pub struct Watched {
    /// Its HTTP status, or what its gRPC status is in HTTP's terms, as soon as that is known.
    pub status: Option<u16>,
    is_grpc: bool,
    bytes: u64,
    headers: Vec<(Box<str>, Option<u64>)>,
    reader: Option<ResponseReader>,
    pointers: Vec<Pointer>,
    values: Vec<Result<u64, Unread>>,
    label_headers: Vec<(Box<str>, Option<Box<str>>)>,
    label_pointers: Vec<Pointer>,
    labels: Vec<Option<Box<str>>>,
}

impl Watched {
    /// Begins with the response's headers. `json_bytes_max` bounds what is read of a body.
    pub fn begin<'r>(
        host: &dyn Host,
        status: Option<u16>,
        routes: impl Iterator<Item = &'r CompiledRoute>,
        json_bytes_max: usize,
    ) -> Self {
        let (mut pointers, mut headers) = (Vec::new(), Vec::new());
        let (mut label_pointers, mut label_headers) = (Vec::new(), Vec::new());
        for charge in routes.flat_map(|route| &route.charges) {
            match &charge.amount {
                Amount::ResponseJson(pointer) if !pointers.contains(pointer) => {
                    pointers.push(pointer.clone())
                }
                Amount::ResponseHeader(name) => {
                    let value = host
                        .response_header(name)
                        .and_then(|value| number(&value))
                        .filter(|units| *units <= UNITS_MAX);
                    headers.push((name.clone(), value));
                }
                _ => {}
            }
            for pointer in charge.labels.response_pointers() {
                if !label_pointers.contains(pointer) {
                    label_pointers.push(pointer.clone());
                }
            }
            for name in charge.labels.response_headers() {
                let value = host.response_header(name);
                let value = value.map(|value| String::from_utf8_lossy(&value).into());
                label_headers.push((name.into(), value));
            }
        }
        let content_type = host.response_header("content-type");
        let is_grpc = content_type.as_deref().is_some_and(|name| name.starts_with(b"application/grpc"));
        // What is compressed cannot be read; the upstream was asked not to compress.
        let reads = !pointers.is_empty() || !label_pointers.is_empty();
        let plain = !reads
            || host
                .response_header("content-encoding")
                .is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
        let reader = (reads && plain).then(|| {
            ResponseReader::new(content_type.as_deref(), &pointers, &label_pointers, json_bytes_max)
        });
        let mut watched = Self {
            status,
            is_grpc,
            bytes: 0,
            headers,
            reader,
            pointers,
            values: Vec::new(),
            label_headers,
            label_pointers,
            labels: Vec::new(),
        };
        if is_grpc {
            // Only trailers tell how the call went, unless there is nothing but headers.
            watched.status = host.response_header("grpc-status").and_then(|status| grpc_as_http(&status));
        }
        watched
    }

    /// Whether the bytes of the body are read, and not only counted.
    pub fn reads(&self) -> bool {
        self.reader.as_ref().is_some_and(ResponseReader::wants_more)
    }

    /// A part of the body passes; `bytes` is given where it is read.
    pub fn body(&mut self, length: usize, bytes: Option<&[u8]>) {
        self.bytes = self.bytes.saturating_add(length as u64);
        if let (Some(reader), Some(bytes)) = (&mut self.reader, bytes) {
            reader.feed(bytes);
        }
    }

    /// The trailers are there.
    pub fn trailers(&mut self, host: &dyn Host) {
        if self.is_grpc {
            self.status =
                host.response_trailer("grpc-status").and_then(|status| grpc_as_http(&status)).or(self.status);
        }
    }

    /// The body is through, or cut: what was read is what it is.
    pub fn finish(&mut self) -> usize {
        let Some(reader) = self.reader.take() else { return 0 };
        let told = reader.finish();
        self.labels = told.texts;
        let bounded = |value: Result<u64, Unread>| match value {
            Ok(units) if units > UNITS_MAX => Err(Unread::NotANumber),
            told => told,
        };
        self.values = told.amounts.into_iter().map(bounded).collect();
        self.values.iter().filter(|value| value.is_err()).count()
    }

    /// A label that the response told.
    pub fn label(&self, from: &LabelFrom) -> Option<Box<str>> {
        match from {
            LabelFrom::ResponseHeader(name) => {
                self.label_headers.iter().find(|(known, _)| known == name)?.1.clone()
            }
            LabelFrom::ResponseJson(pointer) => {
                let at = self.label_pointers.iter().position(|known| known == pointer)?;
                self.labels.get(at).cloned().flatten()
            }
            LabelFrom::Fixed(_) | LabelFrom::RequestHeader(_) | LabelFrom::RequestJson(_) => None,
        }
    }

    /// An amount that the response told.
    pub fn amount(&self, amount: &Amount) -> Result<u64, Unread> {
        match amount {
            Amount::ResponseBytes => Ok(self.bytes),
            Amount::ResponseHeader(name) => {
                let found = self.headers.iter().find(|(known, _)| known == name);
                found.and_then(|(_, units)| *units).ok_or(Unread::Missing)
            }
            Amount::ResponseJson(pointer) => {
                let at = self.pointers.iter().position(|known| known == pointer);
                at.and_then(|at| self.values.get(at).copied()).unwrap_or(Err(Unread::Missing))
            }
            Amount::Units(_) | Amount::RequestBytes | Amount::RequestHeader(_) | Amount::RequestJson(_) => {
                Err(Unread::Missing)
            }
        }
    }
}

/// A gRPC status code in HTTP's terms, as google.rpc.Code documents the mapping.
fn grpc_as_http(status: &[u8]) -> Option<u16> {
    let code = match number(status)? {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        // 2 (unknown), 13 (internal), 15 (data loss), and whatever is no code at all.
        _ => 500,
    };
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_status_counts_as_its_http_equivalent() {
        let codes: Vec<Option<u16>> =
            (0..=17).map(|code: u8| grpc_as_http(code.to_string().as_bytes())).collect();
        let expected =
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
        assert_eq!(codes, expected.map(Some));
        assert_eq!(grpc_as_http(b"x"), None);
        assert_eq!(grpc_as_http(b"-1"), None);
    }
}
