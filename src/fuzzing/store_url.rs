//! The URL of a store. Nothing is opened.

use super::check_error;
use crate::clock::millis;
use crate::store::Kind;
use crate::store::sqlite::Options;

/// The longest lease: what grows by it must not overflow.
const LONGEST: i64 = 1 << 50;

/// Any text as a URL: its options, or an error.
pub fn store_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let options = match Kind::of(text) {
        Ok(Kind::Sqlite(rest)) => Options::parse(rest),
        // What the server's own URL may be, its client's library decides.
        Ok(Kind::Redis(_)) => return,
        Err(error) => Err(error),
    };
    match options {
        Ok(options) => {
            assert!((100..=LONGEST).contains(&millis(options.lease)), "a lease of {:?}", options.lease);
            let url = options.url();
            let Ok(Kind::Sqlite(rest)) = Kind::of(&url) else { panic!("{url} is of another kind of store") };
            let again = Options::parse(rest).unwrap();
            assert_eq!((again.lease, again.sync), (options.lease, options.sync));
            assert_eq!(again.path, options.path, "the URL of the store opens another one");
        }
        Err(error) => check_error(&error),
    }
}
