//! `bygone check`: looks for damage.

use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::ls::hex_unless_utf8;
use super::outcome::Outcome;
use super::output::{counted, size, text_of};
use crate::base::{Error, ErrorKind, PointId, Result};
use crate::format::CONFIG_NAME;
use crate::ops::check::{CheckOptions, CheckReport, Finding, ObjectState, check};
use crate::repo::{Catalogue, Repository};

/// Look for damage: everything but the chunks' bytes, or those too
///
/// Config, points and their chains, every piece and every record of every manifest, the directories of packs and the
/// index are read and held against each other, and each chunk that a file needs must be where it should be. With
/// --read-data, every chunk is fetched, opened and verified as well, each once. Each object that is damaged or missing
/// is told, and each path of each point that this costs; the exit code is then 20. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone check
  bygone check --read-data
  bygone check --read-data latest
  bygone check --json | jq -r 'select(.type == \"path\") | .path'

JSON: one object a line. Findings come first, with a type of
  object   an object is damaged or missing: object (its name in the repository), state (damaged or
           missing), message
  path     a path that this costs a point: point, path, path_hex where it is not UTF-8, message
  part     a part of a point whose paths cannot be named: point, message
  and at the end there is one of the type
  summary  ok (true if nothing was found), points, runs, records, packs, chunks, index_runs,
           verified_chunks, verified_stored_bytes, objects_damaged, objects_missing, paths_lost,
           parts_lost")]
pub struct Arguments {
    /// Fetch, open and verify every chunk as well
    #[arg(long)]
    read_data: bool,

    /// Only this point, what it stands on and the packs that it uses
    #[arg(value_name = "POINT")]
    point: Option<String>,

    #[command(flatten)]
    filter: PointFilterArguments,
}

/// Checks, and prints what is found as it is found.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    // What the store has is in question, not what this machine keeps of it.
    context.cache().bypass();
    let repository = match context.open_repository() {
        Ok(repository) => repository,
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing) => {
            print(&config_finding(error.kind(), error.to_string()), context)?;
            return Ok(Outcome::Damage);
        }
        Err(error) => return Err(error),
    };
    let options = CheckOptions {
        read_data: arguments.read_data,
        points: points(arguments, context, &repository)?,
    };
    let monitor = context.monitor()?;
    let report = check(
        &repository,
        &options,
        &|finding| monitor.beside_the_line(|| print(finding, context)),
        &monitor,
    )?;
    monitor.finish();
    summarize(&report, context)?;
    Ok(if report.is_clean() {
        Outcome::Done
    } else {
        Outcome::Damage
    })
}

/// The points to check: the one that was named, or all that the filter leaves; None for the whole repository.
fn points(
    arguments: &Arguments,
    context: &Context,
    repository: &Repository,
) -> Result<Option<Vec<PointId>>> {
    if let Some(text) = &arguments.point {
        let point = context.point(repository, text, &arguments.filter)?;
        return Ok(Some(vec![point.id]));
    }
    let filter = arguments.filter.to_filter();
    if filter.is_empty() {
        return Ok(None);
    }
    let points = Catalogue::load(repository)?.points();
    let wanted: Vec<PointId> = points
        .iter()
        .filter(|point| filter.matches(point))
        .map(|point| point.id)
        .collect();
    // A name that is mistyped must not look like a repository without damage.
    if wanted.is_empty() {
        return Err(Error::new(
            ErrorKind::Usage,
            "no point is selected: --host, --set, --path or --label leaves all out",
        ));
    }
    Ok(Some(wanted))
}

fn config_finding(kind: ErrorKind, problem: String) -> Finding {
    Finding::Object {
        name: CONFIG_NAME.to_owned(),
        state: match kind {
            ErrorKind::Missing => ObjectState::Missing,
            _ => ObjectState::Damaged,
        },
        problem,
    }
}

/// A finding as JSON shows it.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum FindingObject<'a> {
    Object {
        object: &'a str,
        state: &'static str,
        message: &'a str,
    },
    Path {
        point: PointId,
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        message: &'a str,
    },
    Part {
        point: PointId,
        message: &'a str,
    },
}

#[derive(Serialize)]
struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    ok: bool,
    points: u64,
    runs: u64,
    records: u64,
    packs: u64,
    chunks: u64,
    index_runs: u64,
    verified_chunks: u64,
    verified_stored_bytes: u64,
    objects_damaged: u64,
    objects_missing: u64,
    paths_lost: u64,
    parts_lost: u64,
}

fn state_word(state: ObjectState) -> &'static str {
    match state {
        ObjectState::Damaged => "damaged",
        ObjectState::Missing => "missing",
    }
}

fn print(finding: &Finding, context: &Context) -> Result<()> {
    let output = context.output();
    if context.json() {
        output.object(&match finding {
            Finding::Object {
                name,
                state,
                problem,
            } => FindingObject::Object {
                object: name,
                state: state_word(*state),
                message: problem,
            },
            Finding::Path {
                point,
                key,
                problem,
            } => FindingObject::Path {
                point: *point,
                path: key.to_string(),
                path_hex: hex_unless_utf8(&key.to_path()),
                message: problem,
            },
            Finding::Part { point, problem } => FindingObject::Part {
                point: *point,
                message: problem,
            },
        })?;
    } else {
        output.line(match finding {
            Finding::Object {
                name,
                state,
                problem,
            } => {
                format!(
                    "{}: {name}: {}",
                    state_word(*state),
                    text_of(problem.as_bytes())
                )
            }
            Finding::Path {
                point,
                key,
                problem,
            } => {
                let path = text_of(&key.to_path());
                format!("lost: {point} /{path}: {}", text_of(problem.as_bytes()))
            }
            Finding::Part { point, problem } => {
                format!("lost: {point}: {}", text_of(problem.as_bytes()))
            }
        })?;
    }
    // Whoever waits for findings wants them now: a check may run for hours.
    output.flush()
}

fn summarize(report: &CheckReport, context: &Context) -> Result<()> {
    let output = context.output();
    if context.json() {
        return output.object(&Summary {
            kind: "summary",
            ok: report.is_clean(),
            points: report.points,
            runs: report.runs,
            records: report.records,
            packs: report.packs,
            chunks: report.chunks,
            index_runs: report.index_runs,
            verified_chunks: report.verified_chunks,
            verified_stored_bytes: report.verified_stored_bytes,
            objects_damaged: report.objects_damaged,
            objects_missing: report.objects_missing,
            paths_lost: report.paths_lost,
            parts_lost: report.parts_lost,
        });
    }
    if context.quiet() {
        return Ok(());
    }
    output.line(format_args!(
        "Checked {}, {} with {}, {} with {}, {}.",
        counted(report.points, "point"),
        counted(report.runs, "manifest"),
        counted(report.records, "record"),
        counted(report.packs, "pack"),
        counted(report.chunks, "chunk"),
        counted(report.index_runs, "index run")
    ))?;
    if report.verified_chunks > 0 {
        output.line(format_args!(
            "Read and verified {}, {}.",
            counted(report.verified_chunks, "chunk"),
            size(report.verified_stored_bytes)
        ))?;
    }
    if report.is_clean() {
        return output.line("No damage found.");
    }
    output.line(format_args!(
        "Damage: {} in objects, {} missing; {} and {} of points lost.",
        counted(report.objects_damaged, "finding"),
        counted(report.objects_missing, "object"),
        counted(report.paths_lost, "path"),
        counted(report.parts_lost, "part")
    ))
}
