//! Waiting for what other tasks or processes do, where nothing tells of it.

use std::time::Duration;

/// Looks again and again, until there is an answer.
pub async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
