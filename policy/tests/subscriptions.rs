//! What holds of subscriptions at their moments, natively; `wasm.rs` holds the edge's build to the same table.
#![cfg(not(target_arch = "wasm32"))]

mod histories;

#[test]
fn each_history_is_told_alike_at_every_moment() {
    histories::check_all();
}
