//! What `bygone backup` prints when it is done.

use serde::Serialize;

use super::context::Context;
use super::output::{counted, local_time, of_two, size, text_of};
use super::point_object::{PointObject, committed};
use crate::base::{PointId, Result};
use crate::format::{Figures, Point};
use crate::ops::backup::{BackupOptions, BackupReport};

/// What came, or would have come, of a backup that made no point.
#[derive(Serialize)]
struct WithoutPoint<'a> {
    dry_run: bool,
    unchanged_since: Option<PointId>,
    kind: &'static str,
    parent: Option<PointId>,
    set: &'a str,
    partial: bool,
    warnings: u64,
    #[serde(flatten)]
    figures: Figures,
}

/// Prints what `report` says of a backup with `options`.
pub(super) fn print(
    report: &BackupReport,
    options: &BackupOptions,
    context: &Context,
) -> Result<()> {
    let output = context.output();
    if context.json() {
        return match &report.point {
            Some(point) => output.document(&PointObject::from(point)),
            None => output.document(&WithoutPoint {
                dry_run: options.dry_run,
                unchanged_since: report.unchanged_since,
                kind: report.kind.word(),
                parent: report.parent,
                set: &report.set,
                partial: report.partial,
                warnings: report.warnings,
                figures: report.figures,
            }),
        };
    }
    if context.quiet() {
        return Ok(());
    }
    output.line(heading(report, options))?;
    for line in summary(report) {
        output.line(format_args!("  {line}"))?;
    }
    Ok(())
}

fn heading(report: &BackupReport, options: &BackupOptions) -> String {
    let kind = report.kind.word();
    let because = match report.kind == options.kind {
        true => "",
        false => ", as there is no point of its set to stand on",
    };
    match (&report.point, report.unchanged_since) {
        (Some(point), _) => committed_line(point, kind, because),
        (None, Some(latest)) if options.dry_run => {
            format!("Dry run: nothing differs from point {latest}, so that no point would be made.")
        }
        (None, Some(latest)) => {
            format!("Nothing differs from point {latest}: no point was made.")
        }
        (None, None) => format!("Dry run: it would be {kind}{because}. Nothing was written."),
    }
}

fn committed_line(point: &Point, kind: &str, because: &str) -> String {
    let stands_on = match point.parent {
        Some(parent) => format!(" on {parent}"),
        None => String::new(),
    };
    format!(
        "Committed point {}, {}: {kind}{stands_on}{because}.",
        point.id,
        text_of(local_time(committed(point)).as_bytes()),
    )
}

fn summary(report: &BackupReport) -> Vec<String> {
    let figures = &report.figures;
    let mut lines = vec![
        format!(
            "{} in {} and {}; {} recorded",
            size(figures.bytes),
            counted(figures.files, "file"),
            of_two(figures.directories, "directory", "directories"),
            of_two(figures.entries_recorded, "entry", "entries"),
        ),
        format!("{} read from the source", size(figures.read_bytes)),
        format!(
            "{} newly uploaded, {} stored",
            size(figures.newly_uploaded_bytes),
            size(figures.newly_uploaded_stored_bytes)
        ),
    ];
    if figures.reuploaded_bytes > 0 {
        lines.push(format!(
            "{} re-uploaded, {} stored",
            size(figures.reuploaded_bytes),
            size(figures.reuploaded_stored_bytes)
        ));
    }
    if report.point.is_some() {
        lines.push(format!(
            "{} added to the repository in {:.1} s",
            size(figures.stored_bytes),
            figures.duration_seconds
        ));
    }
    if report.warnings > 0 {
        lines.push(match report.partial {
            true => format!(
                "{}; what could not be read was carried from the point before, or left out",
                counted(report.warnings, "warning")
            ),
            false => counted(report.warnings, "warning"),
        });
    }
    lines
}
