//! What the filter asks of its host, and nothing else. `crate::envoy` answers with proxy-wasm; tests answer natively.
//!
//! Every call costs the hot path about a microsecond, so the trait has few of them, and they carry much.

use tollgate_policy::lease::SessionId;

pub use tollgate_policy::decision::Now;
pub use tollgate_policy::request::HeaderMap;

/// The number that a read of shared data gives and a swap must name. `None`: the key does not exist yet.
pub type Cas = Option<u32>;

/// A swap lost the race against another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CasMismatch;

/// A call to the control plane that could not even be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRefused;

/// The control plane's reply, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An HTTP response.
    Response {
        /// Its status.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// Reset, or out of time.
    Lost,
}

/// How grave a line in the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// The proxy.
pub trait Host {
    /// Both clocks.
    fn now(&self) -> Now;
    /// Notices a jump of the wall clock; `now` may take the monotonic clock's word for it until then.
    fn read_wall_clock(&self) {}
    /// 16 random bytes.
    fn random(&self) -> [u8; 16];

    /// All request headers of the current stream, pseudo-headers included, in order.
    fn request_headers(&self) -> HeaderMap;
    /// Replaces a request header of the current stream.
    fn set_request_header(&self, name: &str, value: &str);
    /// Removes a request header of the current stream.
    fn remove_request_header(&self, name: &str);
    /// The first `length` bytes that the proxy holds of the current stream's request body.
    fn request_body(&self, length: usize) -> Vec<u8>;
    /// The address that the proxy takes the current stream's client to have, perhaps with a port.
    fn client_address(&self) -> Option<String>;
    /// The status of the current stream's response; `None` when it has none or not a number.
    fn response_status(&self) -> Option<u16>;
    /// Replaces a response header of the current stream.
    fn set_response_header(&self, name: &str, value: &str);
    /// The first header of a name of the current stream's response.
    fn response_header(&self, name: &str) -> Option<Vec<u8>>;
    /// The first trailer of a name of the current stream's response.
    fn response_trailer(&self, name: &str) -> Option<Vec<u8>>;
    /// The part of the current stream's response body that passes, `length` bytes.
    fn response_body(&self, length: usize) -> Vec<u8>;
    /// Answers the current stream's request itself.
    fn respond(&self, status: u16, headers: &[(&str, &str)], body: &[u8]);
    /// Makes `stream` the current one, for a caller that acts on a stream outside its own callbacks.
    fn select_stream(&self, stream: u32);
    /// Lets the current stream's paused request go on.
    fn resume_request(&self);

    /// Has the proxy choose the current stream's route again, now that its request headers say more.
    fn choose_route_again(&self);

    /// A value of the memory that all workers of the proxy share.
    fn shared_get(&self, key: &str) -> (Option<Vec<u8>>, Cas);
    /// Swaps a value if nobody else did since `cas` was read.
    fn shared_swap(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), CasMismatch>;
    /// Puts a message into the queue that all workers share.
    fn enqueue(&self, message: &[u8]);
    /// Takes the oldest message out of it.
    fn dequeue(&self) -> Option<Vec<u8>>;

    /// Sends a request to the control plane; the reply comes to the root context with the token.
    fn call(&self, call: &Call<'_>) -> Result<u32, CallRefused>;
    /// The next `on_tick` of this root context comes after this, and then at this period; 0 stops it.
    fn set_tick(&self, period_ms: u64);

    /// Defines a metric; once per name and VM.
    fn define_counter(&self, name: &str) -> Option<u32>;
    /// Defines a gauge; once per name and VM.
    fn define_gauge(&self, name: &str) -> Option<u32>;
    /// Adds to a counter. `by` is positive.
    fn increment(&self, metric: u32, by: i64);
    /// Sets a gauge.
    fn record(&self, metric: u32, value: u64);
    /// Memory of this worker's VM, bytes. It never shrinks.
    fn memory_bytes(&self) -> u64;
    /// Writes to the proxy's log. Never a token, never a secret.
    fn log(&self, level: Level, message: &str);
}

/// A request to the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The proxy's name of the control plane's cluster.
    pub cluster: &'a str,
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// The edge token.
    pub token: &'a str,
    /// A JSON body; empty for GET.
    pub body: &'a [u8],
    /// After this the call is lost, ms.
    pub timeout_ms: u64,
}

/// A new session's id.
pub fn new_session(host: &dyn Host) -> SessionId {
    SessionId(host.random())
}
