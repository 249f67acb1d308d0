//! What one step of a mount costs: `cargo bench`, or `cargo bench -- NAME` for some of them.
//!
//! Everything lies in memory, so that the figures are of processor time alone; they are for comparing a change with what
//! was before it, on one machine. How fast a mount is, `scripts/bench` tells.

#[path = "../support/written.rs"]
mod written;

mod content;
mod entries;

fn main() {
    divan::main();
}
