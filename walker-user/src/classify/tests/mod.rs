//! Tests of the classifier over synthetic byte images. Real stacks are the business of the tests
//! that capture them.

mod bounds;
mod fred;
mod image;
mod lookup;
mod regressions;
mod x86_32_chains;
mod x86_64_chains;
