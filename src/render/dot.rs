//! A graph in the DOT language of Graphviz: `… graph NAME --format dot | dot -Tsvg`.

use super::picture::{Picture, edge_label};
use crate::state::StepState;

/// The picture as a DOT document.
pub fn dot(picture: &Picture) -> String {
    let mut out = format!("digraph {} {{\n", quoted(&picture.title));
    out.push_str("  rankdir=LR;\n");
    out.push_str("  node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\", fontname=\"sans-serif\"];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for (number, node) in picture.nodes.iter().enumerate() {
        let lines: Vec<String> =
            [Some(node.label()), node.status()].into_iter().flatten().map(|line| escaped(&line)).collect();
        let colour = node.progress.map(|(state, _)| format!(", fillcolor=\"{}\"", fill(state))).unwrap_or_default();
        out.push_str(&format!("  s{number} [label=\"{}\"{colour}];\n", lines.join("\\n")));
    }
    for edge in &picture.edges {
        let label = edge_label(edge.kind).map(|label| format!(" [label=\"{label}\"]")).unwrap_or_default();
        out.push_str(&format!("  s{} -> s{}{label};\n", edge.up, edge.down));
    }
    out.push_str("}\n");
    out
}

/// The colour of a state, as `#rrggbb`.
pub fn fill(state: StepState) -> &'static str {
    match state {
        StepState::Waiting => "#f3f4f6",
        StepState::Running => "#bfdbfe",
        StepState::Succeeded => "#bbf7d0",
        StepState::Failed => "#fecaca",
        StepState::Skipped => "#e5e7eb",
        StepState::Cancelled => "#fde68a",
    }
}

/// In a quoted string of DOT a quote ends it, and a backslash begins an escape.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

#[cfg(test)]
mod tests {
    use super::super::picture::tests::import;
    use super::*;

    #[test]
    fn a_run_becomes_a_document_with_coloured_steps() {
        let document = dot(&import(true));
        assert!(document.starts_with("digraph \"Import\" {\n"));
        assert!(
            document.contains(
                "  s2 [label=\"ImportCsvRow\\nrunning 12,357 of 28,298, 12 failed\", fillcolor=\"#bfdbfe\"];\n"
            ),
            "{document}"
        );
        assert!(
            document.contains("  s0 -> s3;\n  s1 -> s2 [label=\"emits\"];\n  s2 -> s3 [label=\"settled\"];\n}\n"),
            "{document}"
        );
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        let mut picture = import(false);
        picture.nodes[0].name = "a\\\" b".into();
        picture.nodes[0].job_type = picture.nodes[0].name.clone();
        assert!(dot(&picture).contains("  s0 [label=\"a\\\\\\\" b\"];\n"), "{}", dot(&picture));
    }
}
