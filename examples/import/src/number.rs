//! Numbers as people read them, and one that stays the same for ever.

/// `28298` as `28,298`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12345.678` with one decimal as `12,345.7`, a negative one as `−1,266`.
pub fn rounded(number: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", number.abs());
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    // A float that is no whole number that fits (infinite, or beyond 2^64) is shown as it is.
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), thousands);
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let sign = if number < 0.0 && !is_zero { "−" } else { "" };
    match rest {
        "" => format!("{sign}{whole}"),
        rest => format!("{sign}{whole}.{rest}"),
    }
}

/// FNV-1a: the same in every process, build and release, which the standard library's hash does not promise. It
/// keeps names apart, it does not keep secrets.
pub(crate) fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_grouped_by_three() {
        let shown = [0, 999, 1_000, 28_298, 1_000_000].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "28,298", "1,000,000"]);
    }

    #[test]
    fn decimals_are_rounded_and_a_rounded_zero_has_no_sign() {
        assert_eq!(rounded(12_345.678, 1), "12,345.7");
        assert_eq!(rounded(-1_266.0, 0), "−1,266");
        assert_eq!(rounded(-0.04, 1), "0.0");
        assert_eq!(rounded(999.96, 1), "1,000.0");
    }

    #[test]
    fn the_stable_hash_is_the_published_fnv_1a() {
        assert_eq!(stable_hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash("foobar"), 0x8594_4171_f739_67e8);
    }
}
