//! Common mistakes have compile errors that say what would be right. The texts are pinned: `TRYBUILD=overwrite cargo test
//! --package mistakes` writes them anew, and a reviewer reads them.

#[test]
fn common_mistakes_have_readable_compile_errors() {
    trybuild::TestCases::new().compile_fail("samples/*.rs");
}
