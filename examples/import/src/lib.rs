//! The import: [`workflow`] says what runs after what, [`jobs`] what each job does. The other modules know nothing of workflows.

pub mod airport;
pub mod country;
pub mod database;
pub mod fetch;
pub mod jobs;
pub mod location;
pub mod number;
pub mod report;
pub mod rows;
pub mod territories;
pub mod workflow;

pub use airport::{Airport, BadRow, Row};
pub use database::{Database, DatabaseError};
pub use location::{Location, LocationError};
