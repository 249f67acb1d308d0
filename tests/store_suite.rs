//! The common suite over the stores that need nothing but this machine.

#[path = "support/store_suite.rs"]
mod suite;

use std::sync::Arc;

use bygone::base::ErrorKind;
use bygone::store::{Fault, FaultPlan, LocalStore, MemoryStore, Moment, Recording};

use suite::run_suite;

#[test]
fn a_store_in_memory_passes_the_suite() {
    run_suite(|| Arc::new(MemoryStore::new()));
}

#[test]
fn a_local_store_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    run_suite(|| {
        next.set(next.get() + 1);
        let root = folder.path().join(format!("store-{}", next.get()));
        Arc::new(LocalStore::create(&root).unwrap())
    });
}

#[test]
fn decorated_stores_pass_the_suite() {
    run_suite(|| {
        let never = FaultPlan::fail(Moment::Before, u64::MAX, ErrorKind::Failed);
        let faulty = Fault::new(Arc::new(MemoryStore::new()), never);
        Arc::new(Recording::new(Arc::new(faulty)))
    });
}
