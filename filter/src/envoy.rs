//! The one module that names proxy-wasm: [`Host`] answered by the proxy, and the proxy's callbacks handed on.
//!
//! Uses the `_bytes` calls only, since the others panic on bytes that are not UTF-8, and sets or reads nothing in the
//! wrong phase, since that panics too. `on_configure` always answers true: a filter that answers false is not refused but
//! left out, and requests pass; a bad configuration makes a state that denies everything.

#![allow(unsafe_code, reason = "the module's entry point, and the monotonic clock of WASI")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType, Status};
use tollgate_policy::jwt::provider::{self, Hash};

use crate::clock::Offset;
use crate::edge::Edge;
use crate::host::{Call, CallRefused, Cas, CasMismatch, HeaderMap, Host, Level, Now, Reply};
use crate::request::{Flow, Request};
use crate::verify;

/// A swap with this number inserts a missing key, and fails when another worker was faster: real numbers count up from 1
/// and do not get here.
const INSERT: u32 = u32::MAX;

/// The queue of touched subjects.
const QUEUE: &str = "tollgate.touched";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| {
        provider::install(Some(verify_signature));
        Box::new(Root { edge: None })
    });
}}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: MapType, data: *mut *mut u8, size: *mut usize) -> Status;
}

struct Envoy {
    queue: Option<u32>,
    /// Read anew on each tick, so that a request reads one clock.
    offset: Cell<Offset>,
}

impl Envoy {
    fn new(queue: Option<u32>) -> Self {
        let envoy = Self { queue, offset: Cell::new(Offset::default()) };
        envoy.read_wall_clock();
        envoy
    }
}

impl Host for Envoy {
    fn now(&self) -> Now {
        let mono_ns = monotonic_ns();
        Now { wall_ms: self.offset.get().wall_ms(mono_ns), mono_ms: mono_ns / 1_000_000 }
    }

    fn read_wall_clock(&self) {
        let wall = hostcalls::get_current_time().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let wall_ns = wall.map_or(0, |wall| wall.as_nanos());
        self.offset.set(Offset::of(wall_ns, monotonic_ns()));
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            // Not guessable is what matters, and unlike any other worker's.
            let now = self.now();
            bytes[..8].copy_from_slice(&now.wall_ms.to_le_bytes());
            bytes[8..].copy_from_slice(&monotonic_ns().to_le_bytes());
        }
        bytes
    }

    fn request_headers(&self) -> HeaderMap {
        let (mut data, mut size) = (std::ptr::null_mut(), 0);
        // Safety: the proxy writes both numbers; on success `data` is a block of `size` bytes that the proxy allocated
        // with this module's own allocator and left to us. The SDK's call would copy every header once more.
        unsafe {
            if proxy_get_header_map_pairs(MapType::HttpRequestHeaders, &raw mut data, &raw mut size)
                != Status::Ok
                || data.is_null()
            {
                return HeaderMap::default();
            }
            HeaderMap::new(Vec::from_raw_parts(data, size, size))
        }
    }

    fn set_request_header(&self, name: &str, value: &str) {
        gone(hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, Some(value.as_bytes())));
    }

    fn remove_request_header(&self, name: &str) {
        gone(hostcalls::remove_map_value(MapType::HttpRequestHeaders, name));
    }

    fn request_body(&self, length: usize) -> Vec<u8> {
        hostcalls::get_buffer(BufferType::HttpRequestBody, 0, length).ok().flatten().unwrap_or_default()
    }

    fn client_address(&self) -> Option<String> {
        let address = hostcalls::get_property(vec!["source", "address"]).ok().flatten()?;
        String::from_utf8(address).ok()
    }

    fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, name).ok().flatten()
    }

    fn response_trailer(&self, name: &str) -> Option<Vec<u8>> {
        hostcalls::get_map_value_bytes(MapType::HttpResponseTrailers, name).ok().flatten()
    }

    fn response_body(&self, length: usize) -> Vec<u8> {
        hostcalls::get_buffer(BufferType::HttpResponseBody, 0, length).ok().flatten().unwrap_or_default()
    }

    fn response_status(&self) -> Option<u16> {
        let status = hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, ":status").ok()??;
        std::str::from_utf8(&status).ok()?.parse().ok()
    }

    fn set_response_header(&self, name: &str, value: &str) {
        gone(hostcalls::set_map_value_bytes(MapType::HttpResponseHeaders, name, Some(value.as_bytes())));
    }

    fn respond(&self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        gone(hostcalls::send_http_response(u32::from(status), headers.to_vec(), Some(body)));
    }

    fn select_stream(&self, stream: u32) {
        gone(hostcalls::set_effective_context(stream));
    }

    fn resume_request(&self) {
        gone(hostcalls::resume_http_request());
    }

    fn choose_route_again(&self) {
        let cleared = hostcalls::call_foreign_function("clear_route_cache", None);
        gone(cleared.map(|_| ()));
    }

    fn shared_get(&self, key: &str) -> (Option<Vec<u8>>, Cas) {
        hostcalls::get_shared_data(key).unwrap_or((None, None))
    }

    fn shared_swap(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
        hostcalls::set_shared_data(key, Some(value), Some(cas.unwrap_or(INSERT))).map_err(|_| CasMismatch)
    }

    fn enqueue(&self, message: &[u8]) {
        if let Some(queue) = self.queue {
            gone(hostcalls::enqueue_shared_queue(queue, Some(message)));
        }
    }

    fn dequeue(&self) -> Option<Vec<u8>> {
        hostcalls::dequeue_shared_queue(self.queue?).ok()?
    }

    fn call(&self, call: &Call<'_>) -> Result<u32, CallRefused> {
        let authorization = format!("Bearer {}", call.token);
        let headers = vec![
            (":method", call.method),
            (":path", call.path),
            (":authority", call.cluster),
            ("authorization", &authorization),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        let body = (!call.body.is_empty()).then_some(call.body);
        let timeout = Duration::from_millis(call.timeout_ms);
        hostcalls::dispatch_http_call(call.cluster, headers, body, Vec::new(), timeout)
            .map_err(|_| CallRefused)
    }

    fn set_tick(&self, period_ms: u64) {
        gone(hostcalls::set_tick_period(Duration::from_millis(period_ms)));
    }

    fn define_counter(&self, name: &str) -> Option<u32> {
        hostcalls::define_metric(MetricType::Counter, name).ok()
    }

    fn define_gauge(&self, name: &str) -> Option<u32> {
        hostcalls::define_metric(MetricType::Gauge, name).ok()
    }

    fn increment(&self, metric: u32, by: i64) {
        gone(hostcalls::increment_metric(metric, by));
    }

    fn record(&self, metric: u32, value: u64) {
        gone(hostcalls::record_metric(metric, value));
    }

    fn memory_bytes(&self) -> u64 {
        // Pages of 64 KiB, by the specification of WebAssembly.
        core::arch::wasm32::memory_size::<0>() as u64 * 65_536
    }

    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        gone(hostcalls::log(level, message));
    }
}

/// The proxy refuses these calls only when their stream is gone; then they have nothing left to do.
fn gone(_: Result<(), Status>) {}

/// WASI's monotonic clock. `std::time::Instant` hides its number, and all workers must share it.
fn monotonic_ns() -> u64 {
    // Safety: the call writes one number to a place that the binding owns; it has no other precondition.
    unsafe { wasi::clock_time_get(wasi::CLOCKID_MONOTONIC, 1) }.unwrap_or(0)
}

/// The proxy's native verifier, as `tollgate_policy` wants it.
fn verify_signature(hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
    let question = verify::question(hash, spki, signature, message);
    let answer = hostcalls::call_foreign_function("verify_signature", Some(&question)).ok()?;
    Some(verify::is_yes(answer.as_deref().unwrap_or_default()))
}

struct Root {
    edge: Option<Rc<Edge>>,
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_bytes: usize, _: usize) {
        let Some(edge) = &self.edge else { return };
        // No headers: the call was reset, and reading one would panic.
        let status = if headers == 0 {
            None
        } else {
            hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status").ok().flatten()
        };
        let status = status.and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
        let reply = match status {
            Some(status) => {
                let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_bytes);
                Reply::Response { status, body: body.ok().flatten().unwrap_or_default() }
            }
            None => Reply::Lost,
        };
        edge.on_reply(token, reply);
    }
}

impl Drop for Root {
    /// It was replaced, and its last stream is over; its timer would go on.
    fn drop(&mut self) {
        if let Some(edge) = &self.edge {
            edge.retire();
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, bytes: usize) -> bool {
        let configuration = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, bytes);
        let queue = hostcalls::register_shared_queue(QUEUE).ok();
        let edge = Edge::new(Rc::new(Envoy::new(queue)), &configuration.ok().flatten().unwrap_or_default());
        self.edge = Some(Rc::new(edge));
        true
    }

    fn on_tick(&mut self) {
        if let Some(edge) = &self.edge {
            edge.on_tick();
        }
    }

    fn create_http_context(&self, stream: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream(self.edge.as_ref().map(|edge| Request::new(edge.clone(), stream)))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A stream; without an edge (a state that cannot come up, since `on_configure` always makes one) it denies.
struct Stream(Option<Rc<Request>>);

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        match &self.0 {
            Some(request) => action(request.on_request_headers(end)),
            None => {
                gone(hostcalls::send_http_response(503, vec![("retry-after", "1")], None));
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, length: usize, end: bool) -> Action {
        self.0.as_ref().map_or(Action::Pause, |request| action(request.on_request_body(length, end)))
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.0.as_ref().map_or(Action::Pause, |request| action(request.on_request_trailers()))
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        if let Some(request) = &self.0 {
            request.on_response_headers(end);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, length: usize, end: bool) -> Action {
        if let Some(request) = &self.0 {
            request.on_response_body(length, end);
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if let Some(request) = &self.0 {
            request.on_response_trailers();
        }
        Action::Continue
    }
}

impl Drop for Stream {
    /// The stream is over, however it ended. The proxy also logs it, mostly just before; over HTTP/3 that may come after it is
    /// deleted, when the SDK knows it no more and panics. So `on_log` is not exported, nor is `on_done`, which would be one more
    /// call for nothing (`xtask/src/wasm_exports.rs`).
    fn drop(&mut self) {
        if let Some(request) = &self.0 {
            request.on_end();
        }
    }
}

fn action(flow: Flow) -> Action {
    HOLDS.set(flow == Flow::Hold);
    match flow {
        Flow::Continue => Action::Continue,
        Flow::Pause | Flow::Hold => Action::Pause,
    }
}

thread_local! {
    /// The callback that just ran wants the client to wait too.
    static HOLDS: Cell<bool> = const { Cell::new(false) };
}

/// Proxy-wasm's `StopAllIterationAndWatermark` for headers: the body stays with the client.
const HOLD_AT_HEADERS: u32 = 4;

/// Its `StopIterationAndWatermark` for a body: what has come is kept, and the client is slowed down. Where the body is only
/// paused, the proxy answers 413 by itself once its buffer is full.
const HOLD_AT_BODY: u32 = 2;

// The SDK's own callbacks, which know `Continue` and `Pause` alone.
unsafe extern "C" {
    fn proxy_on_request_headers(stream: u32, headers: usize, end: bool) -> u32;
    fn proxy_on_request_body(stream: u32, length: usize, end: bool) -> u32;
}

/// The build gives it the name that the proxy calls, in the place of the SDK's (`cargo xtask wasm`).
#[unsafe(export_name = "tollgate:proxy_on_request_headers")]
extern "C" fn on_request_headers(stream: u32, headers: usize, end: bool) -> u32 {
    HOLDS.set(false);
    // Safety: the SDK's callback, called as the proxy calls it.
    let action = unsafe { proxy_on_request_headers(stream, headers, end) };
    if HOLDS.get() { HOLD_AT_HEADERS } else { action }
}

/// As above.
#[unsafe(export_name = "tollgate:proxy_on_request_body")]
extern "C" fn on_request_body(stream: u32, length: usize, end: bool) -> u32 {
    HOLDS.set(false);
    // Safety: the SDK's callback, called as the proxy calls it.
    let action = unsafe { proxy_on_request_body(stream, length, end) };
    if HOLDS.get() { HOLD_AT_BODY } else { action }
}
