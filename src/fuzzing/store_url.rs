//! The URL of a store. Nothing is opened.

use super::check_error;
use crate::clock::millis;
use crate::store::sqlite::Options;

/// The longest lease: what grows by it must not overflow.
const LONGEST: i64 = 1 << 50;

/// Any text as a URL: its options, or an error.
pub fn store_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match crate::store::behind_scheme(text).and_then(Options::parse) {
        Ok(options) => {
            assert!((100..=LONGEST).contains(&millis(options.lease)), "a lease of {:?}", options.lease);
            let again = crate::store::behind_scheme(&options.url()).and_then(Options::parse).unwrap();
            assert_eq!((again.lease, again.sync), (options.lease, options.sync));
            assert_eq!(again.path, options.path, "the URL of the store opens another one");
        }
        Err(error) => check_error(&error),
    }
}
