//! Stores on other machines, against real servers on this one. `scripts/servers install` brings what they need.

#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/store_suite.rs"]
mod suite;

mod places;
mod suites;
