//! Tests of `rule`.
