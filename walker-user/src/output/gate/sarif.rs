//! The verdict as SARIF 2.1.0, for code scanning: a result for each function that got slower, by its
//! logical location, as no file and line is known for most.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Report, Row};
use crate::ci::compare::Status;
use crate::output::json_text;

/// Writes it.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let rows = report.rows();
    let results: Vec<Value> = rows.iter().filter_map(|row| result(report, row)).collect();
    let notifications: Vec<Value> = match &report.outcome {
        Ok(_) => Vec::new(),
        Err(reasons) => { reasons.iter() }
            .map(|reason| json!({"level": "error", "message": {"text": reason}}))
            .collect(),
    };
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "stackwalk",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": [{
                    "id": "performance-regression",
                    "shortDescription": {"text": "A function costs significantly more than before"},
                }],
            }},
            "invocations": [{
                "executionSuccessful": report.outcome.is_ok(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    });
    json_text::write_pretty(&document, out)
}

fn result(report: &Report<'_>, row: &Row) -> Option<Value> {
    if row.status != Status::Regression {
        return None;
    }
    let path = row
        .path
        .as_ref()
        .map_or_else(String::new, |path| format!(", through {path}"));
    let text = format!(
        "{} costs {} more of the whole ({} before, {} after, q {}){path}",
        row.name,
        row.of_whole(),
        report.cost(row.effect.before),
        report.cost(row.effect.after),
        row.q()
    );
    // The same finding of the next job has the same print.
    let print = format!("{}/{}", row.measure(), row.name);
    Some(json!({
        "ruleId": "performance-regression",
        "level": "error",
        "message": {"text": text},
        "locations": [{"logicalLocations": [{"fullyQualifiedName": row.name, "kind": "function"}]}],
        "partialFingerprints": {"function/v1": print},
    }))
}
