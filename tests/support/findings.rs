//! What a check of a whole repository, its bytes too, finds.

use std::sync::{Arc, Mutex};

use bygone::base::Silent;
use bygone::ops::check::{CheckOptions, Finding, check};
use bygone::repo::Repository;

/// Its findings, as they are told.
pub fn findings(repository: &Arc<Repository>) -> Vec<String> {
    let told = Mutex::new(Vec::new());
    let tell = |finding: &Finding| {
        told.lock().unwrap().push(format!("{finding:?}"));
        Ok(())
    };
    let options = CheckOptions {
        read_data: true,
        points: None,
    };
    let report = check(repository, &options, &tell, &Silent).unwrap();
    let told = told.into_inner().unwrap();
    assert_eq!(report.is_clean(), told.is_empty());
    told
}
