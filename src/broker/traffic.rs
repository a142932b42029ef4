//! What travelled, and what became of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Unfit;

/// Counts of messages, of every queue of a program. Clones share them.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Counters>);

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident $word:literal,)+) => {
        #[derive(Default)]
        struct Counters {
            $($name: AtomicU64,)+
        }

        /// Counts of messages at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TrafficCounts {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Traffic {
            /// As they are now.
            pub fn counts(&self) -> TrafficCounts {
                TrafficCounts { $($name: self.0.$name.load(Ordering::Relaxed),)+ }
            }
        }

        impl fmt::Display for TrafficCounts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let shown: Vec<String> =
                    [$((self.$name, $word)),+].into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
                f.write_str(if shown.is_empty() { "none" } else { "" })?;
                f.write_str(&shown.join(", "))
            }
        }
    };
}

counts! {
    /// Confirmed by a broker.
    published "published",
    /// Not confirmed: their slices went back at once.
    unpublished "not confirmed",
    /// Received.
    received "received",
    /// Whose lease was taken over.
    taken_over "taken over",
    /// Whose lease was gone: doubled or late.
    gone "late or doubled",
    /// Whose slice is of a type that this program does not know: it went back.
    unknown "of an unknown type",
    /// Of another store.
    foreign "of another store",
    /// No message of ours.
    undecodable "undecodable",
    /// Longer than any message of ours.
    oversized "oversized",
}

impl Traffic {
    pub(crate) fn published(&self, messages: usize) {
        add(&self.0.published, messages);
    }

    pub(crate) fn unpublished(&self, messages: usize) {
        add(&self.0.unpublished, messages);
    }

    pub(crate) fn received(&self, messages: usize) {
        add(&self.0.received, messages);
    }

    pub(crate) fn taken_over(&self, messages: usize) {
        add(&self.0.taken_over, messages);
    }

    pub(crate) fn gone(&self, messages: usize) {
        add(&self.0.gone, messages);
    }

    pub(crate) fn unknown(&self, messages: usize) {
        add(&self.0.unknown, messages);
    }

    pub(crate) fn unfit(&self, why: Unfit) {
        add(
            match why {
                Unfit::Foreign => &self.0.foreign,
                Unfit::Undecodable => &self.0.undecodable,
                Unfit::Oversized => &self.0.oversized,
            },
            1,
        );
    }
}

fn add(counter: &AtomicU64, messages: usize) {
    counter.fetch_add(messages as u64, Ordering::Relaxed);
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traffic({})", self.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_happened_is_told() {
        let traffic = Traffic::default();
        assert_eq!(traffic.counts().to_string(), "none");
        traffic.published(3);
        traffic.unfit(Unfit::Foreign);
        assert_eq!(traffic.counts().to_string(), "3 published, 1 of another store");
    }
}
