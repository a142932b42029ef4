//! The work of jobs that stand for real ones.

use std::time::Duration;

/// Real time, as it passes in a job that waits for a database: time in which a process can die, or others come by. No verdict depends on its
/// length, and no test waits for anything by it.
pub async fn work_for(time: Duration) {
    tokio::time::sleep(time).await;
}
