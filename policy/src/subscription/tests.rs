//! Claims about what holds of a subscription at each moment.
