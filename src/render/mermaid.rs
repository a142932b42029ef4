//! A graph as a Mermaid flowchart, which Markdown pages show as a picture.

use super::dot::fill;
use super::picture::{Picture, edge_label};
use crate::state::StepState;

/// The picture as a Mermaid document.
pub fn mermaid(picture: &Picture) -> String {
    let mut out = String::from("flowchart LR\n");
    for (number, node) in picture.nodes.iter().enumerate() {
        let lines: Vec<String> =
            [Some(node.label()), node.status()].into_iter().flatten().map(|line| escaped(&line)).collect();
        let class = node.progress.map(|(state, _)| format!(":::{state}")).unwrap_or_default();
        out.push_str(&format!("    s{number}[\"{}\"]{class}\n", lines.join("<br/>")));
    }
    for edge in &picture.edges {
        let arrow = match edge_label(edge.kind) {
            None => "-->".to_owned(),
            Some(label) => format!("-->|{label}|"),
        };
        out.push_str(&format!("    s{} {arrow} s{}\n", edge.up, edge.down));
    }
    let shown =
        |state: &&StepState| picture.nodes.iter().any(|node| node.progress.is_some_and(|(of, _)| of == **state));
    for state in StepState::ALL.iter().filter(shown) {
        out.push_str(&format!("    classDef {state} fill:{},stroke:#374151,color:#111827\n", fill(*state)));
    }
    out
}

/// In a quoted label, Mermaid reads quotes, markup and its own escapes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '\\' => out.push_str(&format!("#{};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::picture::tests::import;
    use super::*;

    #[test]
    fn a_run_becomes_a_flowchart_with_classes_for_its_states() {
        let expected = "flowchart LR
    s0[\"ImportXml<br/>succeeded 1 of 1\"]:::succeeded
    s1[\"DownloadCsv<br/>succeeded 1 of 1\"]:::succeeded
    s2[\"ImportCsvRow<br/>running 12,357 of 28,298, 12 failed\"]:::running
    s3[\"GenReport<br/>waiting 0 of 1\"]:::waiting
    s0 --> s3
    s1 -->|emits| s2
    s2 -->|settled| s3
    classDef waiting fill:#f3f4f6,stroke:#374151,color:#111827
    classDef running fill:#bfdbfe,stroke:#374151,color:#111827
    classDef succeeded fill:#bbf7d0,stroke:#374151,color:#111827
";
        assert_eq!(mermaid(&import(true)), expected);
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        assert_eq!(escaped("a\"]<b>`c`#"), "a#34;]#60;b#62;#96;c#96;#35;");
    }
}
