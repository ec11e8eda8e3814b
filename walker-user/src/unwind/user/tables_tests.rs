//! Tests of `tables`.
