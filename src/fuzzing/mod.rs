//! What `cargo fuzz` feeds: one function a target, each of which takes any bytes and panics if something does not hold. They live
//! here since most of what they reach is private; the programs in `fuzz/` only call them. In tests each one gets the committed
//! inputs of `fuzz/corpus` again, with the toolchain that everybody has.
//!
//! Damage must end in an error: never in a panic, in memory without bound, or in a loop without end.

mod answers;
mod arguments;
mod bytes;
mod furnished;
mod graph;
mod identifiers;
mod json;
mod mask;
mod mended;
mod message;
mod payload;
mod record;
mod store;
mod store_url;

pub use self::answers::answers;
pub use self::arguments::arguments;
pub use self::graph::graph;
pub use self::identifiers::identifiers;
pub use self::json::json;
pub use self::mask::mask;
pub use self::mended::mended;
pub use self::message::message;
pub use self::payload::payload;
pub use self::record::record;
pub use self::store::store;
pub use self::store_url::store_url;

/// An error must say something.
fn check_error(error: &crate::Error) {
    assert!(!error.to_string().is_empty());
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 12] = [
        ("answers", super::answers),
        ("arguments", super::arguments),
        ("graph", super::graph),
        ("identifiers", super::identifiers),
        ("json", super::json),
        ("mask", super::mask),
        ("mended", super::mended),
        ("message", super::message),
        ("payload", super::payload),
        ("record", super::record),
        ("store", super::store),
        ("store_url", super::store_url),
    ];

    #[test]
    fn every_target_has_a_program_and_withstands_its_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let programs = fs::read_dir(folder.join("fuzz_targets")).unwrap().count();
        assert_eq!(programs, TARGETS.len(), "each program in fuzz/fuzz_targets is one of the targets here");
        for (name, target) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(folder.join("corpus").join(name)).unwrap().collect();
            assert!(!inputs.is_empty(), "{name} has no corpus");
            for input in inputs {
                let path = input.unwrap().path();
                println!("{name}: {}", path.display());
                target(&fs::read(&path).unwrap());
            }
        }
    }
}
