//! The rows that benchmarks import: made one at a time, so that any number needs no memory, and the same in every run.

use gusher::prelude::*;
use serde::de::DeserializeOwned;

/// Which rows to import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum RowKind {
    /// A UUID, a random e-mail address and an amount: about 95 bytes of JSON that hardly compress
    #[value(name = "E")]
    E,
    /// The airports that the example ships, over and over with distinct keys: about 197 bytes of JSON
    #[value(name = "A")]
    A,
}

impl RowKind {
    /// The letter.
    pub fn letter(self) -> &'static str {
        match self {
            RowKind::E => "E",
            RowKind::A => "A",
        }
    }
}

/// What rows of every kind can do.
pub trait BenchRow: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<R: Serialize + DeserializeOwned + Send + Sync + 'static> BenchRow for R {}

/// An E row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    id: String,
    email: String,
    amount: u64,
}

/// The first `rows` E rows.
pub fn payments(rows: u64) -> impl Iterator<Item = Payment> + Send + 'static {
    (0..rows).map(payment)
}

/// E row number `n`, the same in every run.
fn payment(n: u64) -> Payment {
    let (a, b, c) = (random(3 * n), random(3 * n + 1), random(3 * n + 2));
    let id = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    );
    Payment { id, email: format!("{:011x}@example.com", c >> 20), amount: n }
}

/// Random number `n`, the same in every run: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
pub fn random(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_rows_have_about_95_bytes_of_json() {
        let bytes: usize = payments(100_000).map(|row| serde_json::to_vec(&row).unwrap().len()).sum();
        let mean = bytes as f64 / 100_000.0;
        assert!((92.0..98.0).contains(&mean), "{mean} bytes");
    }

    #[test]
    fn e_rows_are_the_same_in_every_run_and_distinct() {
        let rows: Vec<Payment> = payments(1_000).collect();
        assert!(payments(1_000).eq(rows.iter().cloned()));
        assert!(rows.windows(2).all(|pair| pair[0].id != pair[1].id && pair[0].email != pair[1].email));
        let first = r#"{"id":"00000000-0000-0000-e220-a8397b1dcdaf","email":"6e789e6aa1b@example.com","amount":0}"#;
        assert_eq!(serde_json::to_string(&rows[0]).unwrap(), first);
    }
}
