//! The common suite of stores against each real server.

use super::places::{azure, google, s3, sftp, web_dav};
use super::suite::run_suite;

#[test]
fn radosgw_passes_the_suite() {
    run_suite(|| s3("radosgw").open());
}

#[test]
fn a_server_that_ignores_preconditions_passes_the_suite() {
    run_suite(|| s3("careless-s3").open());
}

#[test]
fn azurite_passes_the_suite() {
    run_suite(|| azure().open());
}

#[test]
fn google_passes_the_suite() {
    run_suite(|| google().open());
}

#[test]
fn web_dav_passes_the_suite() {
    run_suite(|| web_dav().open());
}

#[test]
fn sftp_passes_the_suite() {
    run_suite(|| sftp("host").open());
}

#[test]
fn sftp_over_a_jump_host_passes_the_suite() {
    run_suite(|| sftp("jump_host").open());
}
