//! The protocol as a whole: random histories of several edges and a control plane, and how limits are shared.

mod histories;
mod pools;
mod sharing;
mod topups;
mod world;
