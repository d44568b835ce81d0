//! What the end-to-end tests share: a real Envoy with the shipped configuration, a real control plane, an application
//! that does what it is told, callers, and tokens.
//!
//! Nothing here knows how Tollgate works inside. A test that needs a program which is not built fails and says which
//! command builds it; none is skipped. Waiting is always for a state, with a deadline (`wait`).

pub mod artefacts;
pub mod client;
pub mod control_plane;
pub mod envoy;
pub mod http;
pub mod http2;
pub mod moment;
pub mod policy;
pub mod port;
pub mod process;
pub mod relay;
pub mod scene;
pub mod server;
pub mod stage;
pub mod token;
pub mod upstream;
pub mod wait;
