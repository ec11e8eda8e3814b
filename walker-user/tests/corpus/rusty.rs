//! Rust, with a closure and a trait object on the way.
//! chain: rusty::main rusty::outer rusty::each rusty::work
use std::{hint::black_box, time::{Duration, Instant}};

#[inline(never)]
fn work(n: u64) -> u64 {
    let mut sum = 0u64;
    for i in 0..20_000 {
        sum = black_box(sum.wrapping_add(i ^ n));
    }
    sum
}

#[inline(never)]
fn each(step: &dyn Fn(u64) -> u64) -> u64 {
    let mut sum = 0;
    for n in 0..4 {
        sum += black_box(step(n));
    }
    sum
}

#[inline(never)]
fn outer() -> u64 {
    black_box(each(black_box(&work)))
}

fn main() {
    let limit = std::env::var("CORPUS_MS").ok().and_then(|text| text.parse().ok());
    let limit = Duration::from_millis(limit.unwrap_or(1000));
    let begin = Instant::now();
    while begin.elapsed() < limit {
        black_box(outer());
    }
}
