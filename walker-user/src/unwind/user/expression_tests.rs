//! Tests of `expression`.
