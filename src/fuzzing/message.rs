//! What a broker brings.

use crate::broker::Message;

/// Any bytes as a message; a fuzzer finds the store's number in what is written.
pub fn message(data: &[u8]) {
    let store = data.get(8..24).and_then(|digits| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    match Message::decode(data, store.unwrap_or(0)) {
        Ok(message) => assert_eq!(message.encode().as_bytes(), data),
        Err(unfit) => assert!(!unfit.to_string().is_empty()),
    }
}
