//! A filter that only makes the calls which Tollgate makes to read a request's headers and the response's status, and to tell
//! the application who calls and the client what is left: what these cost on their own, without a token, a limit, or a
//! decision. A floor in `cargo xtask bench edge`.

#![allow(missing_docs, reason = "the macro's entry point has none")]
#![allow(unsafe_code, reason = "the SDK's way to read all headers copies each once more")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MapType, Status};

/// As long as those that the measured policy makes.
const POLICY: &[u8] = b"\"api_calls.60s\";q=1000000000;w=60, \"api_calls.month\";q=1000000000";
const LEFT: &[u8] = b"\"api_calls.60s\";r=999999995;t=61, \"api_calls.month\";r=999999995;t=725573";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Floor));
}}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: MapType, data: *mut *mut u8, size: *mut usize) -> Status;
}

/// All request headers, as the proxy writes them.
fn headers() -> Vec<u8> {
    let (mut data, mut size) = (std::ptr::null_mut(), 0);
    // Safety: the proxy writes both numbers; on success `data` is a block of `size` bytes that the proxy allocated with this
    // module's own allocator and left to us.
    unsafe {
        match proxy_get_header_map_pairs(MapType::HttpRequestHeaders, &raw mut data, &raw mut size) {
            Status::Ok if !data.is_null() => Vec::from_raw_parts(data, size, size),
            _ => Vec::new(),
        }
    }
}

struct Floor;

impl Context for Floor {}

impl HttpContext for Floor {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        std::hint::black_box(headers());
        for (name, value) in [("x-tollgate-subject", &b"user:bench-0"[..]), ("x-tollgate-tier", b"free")] {
            // Refused only when the stream is gone; the same below.
            let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, Some(value));
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        let _ = hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, ":status");
        for (name, value) in [("ratelimit-policy", POLICY), ("ratelimit", LEFT)] {
            let _ = hostcalls::set_map_value_bytes(MapType::HttpResponseHeaders, name, Some(value));
        }
        Action::Continue
    }
}

impl RootContext for Floor {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Floor))
    }
}
