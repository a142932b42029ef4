//! What is started at certain times.
//!
//! | file | what |
//! |---|---|
//! | `cron` | the rule: which instants are meant, and the next one after another. Pure |
//! | `zone` | time zones, and what the walls of one show |
//! | `due` | what a schedule that is due fires, and what it passes over. Pure |
//! | `definition` | what a schedule is, and the jobs of its instants. Pure |
//! | `declare` | how one is declared, in a program or in a store |
//! | `handle` | schedules in a store: looked at, changed, what they have come to |
//! | `fire` | what every worker does about those that are due |
//!
//! What starts the workflow of an instant, and decides whether it may, is a lone job: `start_job.rs`.

mod cron;
mod declare;
pub(crate) mod definition;
mod due;
mod fire;
mod handle;
mod zone;

pub use self::cron::Rule;
pub use self::declare::{Declare, NewSchedule, Unruled};
pub use self::definition::Missed;
#[cfg(all(any(fuzzing, test), feature = "testing", feature = "cli"))]
pub(crate) use self::due::due;
pub(crate) use self::fire::fire_due;
pub use self::handle::{OccurrenceView, Schedule, ScheduleView};
