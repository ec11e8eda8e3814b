//! Tests of whole walks.
