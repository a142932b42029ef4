//! For tests: of workflows, in process and with virtual time; and of stores.

pub mod model;
