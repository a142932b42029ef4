//! For tests: of workflows, in process and with virtual time; and of stores.

pub mod conformance;
pub mod model;

pub use conformance::store_tests;
