//! How long it took from a kill until what the killed process held went on.

use serde_json::{Value, json};

/// The upper ends of the histogram's classes, in milliseconds; the last class has none.
const CLASSES: [u64; 12] = [250, 500, 750, 1000, 1250, 1500, 1750, 2000, 2500, 3000, 5000, 10_000];

/// Times in nanoseconds, of which one asks for shares.
#[derive(Debug, Default)]
pub struct Times(Vec<u64>);

impl Times {
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time in milliseconds that `share` of them do not exceed.
    pub fn share(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).map_or(0.0, |time| *time as f64 / 1e6)
    }

    /// How many fall into each class, with the class' name.
    pub fn classes(&self) -> Vec<(String, usize)> {
        let mut from = 0;
        let mut classes: Vec<(String, usize)> = Vec::new();
        for until in CLASSES.into_iter().chain([u64::MAX]) {
            let count = self.0.iter().filter(|time| (from..until).contains(&(*time / 1_000_000))).count();
            let name = if until == u64::MAX { format!("{from} ms or more") } else { format!("{from} to {until} ms") };
            classes.push((name, count));
            from = until;
        }
        let used = classes.iter().rposition(|(_, count)| *count > 0).map_or(0, |last| last + 1);
        classes.truncate(used);
        classes
    }

    pub fn json(&self) -> Value {
        let classes: Vec<Value> = self.classes().into_iter().map(|(name, count)| json!([name, count])).collect();
        json!({
            "count": self.len(),
            "p50_ms": self.share(0.5).round(),
            "p99_ms": self.share(0.99).round(),
            "longest_ms": self.share(1.0).round(),
            "histogram": classes,
        })
    }

    /// As lines for people.
    pub fn lines(&self) -> Vec<String> {
        bars(&self.classes())
    }
}

/// A histogram as lines for people.
pub fn bars(classes: &[(String, usize)]) -> Vec<String> {
    let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let bar = |count: usize| "█".repeat((40 * count).div_ceil(most.max(1)));
    classes.iter().map(|(name, count)| format!("  {name:>16} {count:>7}  {}", bar(*count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_classes_count_every_time_once() {
        let mut times = Times::default();
        (1..=100).for_each(|n| times.add(n * 20 * 1_000_000));
        assert_eq!((times.share(0.5), times.share(0.99), times.share(1.0)), (1000.0, 1980.0, 2000.0));
        let classes = times.classes();
        assert_eq!(classes[0], ("0 to 250 ms".to_owned(), 12));
        assert_eq!(classes.iter().map(|(_, count)| count).sum::<usize>(), 100);
        assert_eq!(classes.last().unwrap(), &("2000 to 2500 ms".to_owned(), 1));
    }

    #[test]
    fn without_a_kill_there_is_nothing_to_show() {
        assert_eq!((Times::default().share(0.99), Times::default().classes().len()), (0.0, 0));
    }
}
