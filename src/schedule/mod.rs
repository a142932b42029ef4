//! What is started at certain times.
//!
//! | file | what |
//! |---|---|
//! | `cron` | the rule: which instants are meant, and the next one after another. Pure |
//! | `zone` | time zones, and what the walls of one show |

mod cron;
mod zone;

pub use self::cron::Rule;
