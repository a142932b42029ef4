//! docs/testing-your-workflow.md shows what the tests run, and the README what the program declares, word for word.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The lines without what stands before them, and without empty ones.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_line_of_code_in_the_guide_is_in_a_test() {
    let guide = read("../../docs/testing-your-workflow.md");
    let tests = ["tests/simulated.rs", "tests/torture.rs", "Cargo.toml", "../../tests/guides/played.rs"].map(read);
    let blocks: Vec<_> = guide.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect();
    let mut checked = 0;
    for (language, code) in blocks.iter().filter(|(language, _)| ["rust", "toml"].contains(language)) {
        let code = lines(code);
        let shown = tests.iter().any(|test| lines(test).windows(code.len()).any(|run| run == code));
        assert!(shown, "this {language} is in no test:\n{}", code.join("\n"));
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} blocks of code");
}

#[test]
fn the_nightly_import_in_the_readme_is_the_programs() {
    let (readme, program) = (read("../../README.md"), read("src/main.rs"));
    let blocks = readme.split("```rust\n").skip(1).filter_map(|block| block.split("```").next());
    let nightly: Vec<_> = blocks.filter(|block| block.contains("nightly import")).map(lines).collect();
    assert_eq!(nightly.len(), 1);
    assert!(nightly[0].len() < 10);
    assert!(lines(&program).windows(nightly[0].len()).any(|run| run == nightly[0]));
}
