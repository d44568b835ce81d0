//! Tollgate in Envoy.
