//! The walk of user stacks.

pub mod sections;
