//! Stores on other machines, against real servers on this one, and whole repositories in them, with and without a proxy
//! between that does what networks do at their worst. `scripts/servers install` brings what the servers need.

#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/encryption.rs"]
mod encryption;
#[path = "../support/fault_proxy.rs"]
mod fault_proxy;
#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/servers.rs"]
mod servers;
#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../support/snapshot.rs"]
mod snapshot;
#[path = "../support/store_suite.rs"]
mod suite;

mod faults;
mod places;
mod suites;
mod whole;
