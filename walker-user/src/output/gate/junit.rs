//! The verdict as a JUnit report, which every CI system shows: a test case for the whole, for each kind
//! of code, and for each function that changed.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::{FailOn, Report, Row, class_name};
use crate::ci::compare::Status;

/// Writes it.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut suite = TestSuite::new("stackwalk ci compare");
    match &report.outcome {
        Err(reasons) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status
                .set_message(report.headline())
                .set_type("cannot-judge")
                .set_description(reasons.join("\n"));
            suite.add_test_case(case("the whole", status));
        }
        Ok(comparison) => {
            for row in report.rows() {
                suite.add_test_case(case(&name(&row), status(report, &row)));
            }
            // What passed is told as well, so that a report is never empty.
            for part in &comparison.parts[1..] {
                if part.status == Status::Unchanged
                    && let Some(class) = part.class
                {
                    let name = format!("stack kind {}", class_name(class));
                    suite.add_test_case(case(&name, TestCaseStatus::success()));
                }
            }
        }
    }
    suite.set_system_out(report.conditions().join("\n"));
    let mut document = Document::new("stackwalk ci compare");
    document.add_test_suite(suite);
    let text = document.to_string().map_err(io::Error::other)?;
    writeln!(out, "{}", text.trim_end())
}

fn name(row: &Row) -> String {
    match row.measure() {
        "" => row.name.clone(),
        measure => format!("{} ({measure})", row.name),
    }
}

fn case(name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname("stackwalk");
    case
}

fn status(report: &Report<'_>, row: &Row) -> TestCaseStatus {
    let fails = match row.status {
        Status::Regression => true,
        Status::Improvement | Status::Moved => report.fail_on == FailOn::Any,
        Status::Unchanged => false,
    };
    if !fails {
        return TestCaseStatus::success();
    }
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    let message = format!(
        "{}: {} before, {} after ({}), {} of the whole",
        row.status(),
        report.cost(row.effect.before),
        report.cost(row.effect.after),
        row.relative(),
        row.of_whole()
    );
    status.set_message(message).set_type(row.status());
    if let Some(path) = &row.path {
        status.set_description(format!("through {path}"));
    }
    status
}
