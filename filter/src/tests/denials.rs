//! What is refused before any limit is looked at.

use super::*;

#[test]
fn nothing_comes_without_a_token() {
    let mut w = world(&daily(5));
    let sending =
        w.send(0, headers("/x", "").into_iter().filter(|(name, _)| name != "authorization").collect());
    assert_eq!(w.shown(sending), "401 token-missing");
}
