//! A graph for a terminal: layer under layer, each step with what it waits for.

use super::picture::{Picture, edge_label};
use super::words::{count, number};
use crate::state::StepState;

/// A graph of so many steps is shown whole.
const SHOWN_WHOLE: usize = 100;
/// Of a larger one, so many layers and so many steps of each.
const LAYERS: usize = 40;
const STEPS_OF_LAYER: usize = 10;
/// How many of the steps that one waits for are named.
const UPSTREAMS: usize = 6;

/// The picture as lines of text, without colours.
pub fn text(picture: &Picture) -> String {
    let layers = picture.layers();
    let whole = picture.nodes.len() <= SHOWN_WHOLE;
    let shown: Vec<Vec<usize>> = layers
        .iter()
        .take(if whole { layers.len() } else { LAYERS })
        .map(|layer| layer.iter().copied().take(if whole { layer.len() } else { STEPS_OF_LAYER }).collect())
        .collect();
    let mut upstreams: Vec<Vec<(usize, Option<&str>)>> = vec![Vec::new(); picture.nodes.len()];
    for edge in &picture.edges {
        upstreams[edge.down as usize].push((edge.up as usize, edge_label(edge.kind)));
    }
    let width = |of: &dyn Fn(usize) -> usize| shown.iter().flatten().map(|step| of(*step)).max().unwrap_or(0);
    let names = width(&|step| picture.nodes[step].label().chars().count());
    let states = width(&|step| picture.nodes[step].status().map_or(0, |status| status.chars().count()));

    let mut out = format!("{}: {}\n", picture.title, count(picture.nodes.len() as u64, "step"));
    for (at, (layer, all)) in shown.iter().zip(&layers).enumerate() {
        out.push_str(if at == 0 { "\n" } else { "│\n" });
        for step in layer {
            let node = &picture.nodes[*step];
            let mark = mark(node.progress.map(|(state, _)| state));
            let status = node.status().unwrap_or_default();
            let after = after(picture, &upstreams[*step]);
            let line = format!("{mark} {:names$}  {status:states$}  {after}", node.label());
            out.push_str(line.trim_end());
            out.push('\n');
        }
        if all.len() > layer.len() {
            out.push_str(&format!("… {} more beside them\n", number((all.len() - layer.len()) as u64)));
        }
    }
    let hidden = &layers[shown.len()..];
    if !hidden.is_empty() {
        let steps: usize = hidden.iter().map(Vec::len).sum();
        out.push_str(&format!(
            "│\n… {} more steps below, in {}\n",
            number(steps as u64),
            count(hidden.len() as u64, "layer")
        ));
    }
    out
}

fn after(picture: &Picture, upstreams: &[(usize, Option<&str>)]) -> String {
    if upstreams.is_empty() {
        return String::new();
    }
    let mut named: Vec<String> = upstreams
        .iter()
        .take(UPSTREAMS)
        .map(|(up, label)| {
            let label = label.map(|label| format!(" ({label})")).unwrap_or_default();
            format!("{}{label}", picture.nodes[*up].name)
        })
        .collect();
    if upstreams.len() > UPSTREAMS {
        named.push(format!("… {} more", number((upstreams.len() - UPSTREAMS) as u64)));
    }
    format!("◄ {}", named.join(", "))
}

/// One character for a state.
pub fn mark(state: Option<StepState>) -> char {
    match state {
        None => '•',
        Some(StepState::Waiting) => '·',
        Some(StepState::Running) => '▶',
        Some(StepState::Succeeded) => '✓',
        Some(StepState::Failed) => '✗',
        Some(StepState::Skipped) => '–',
        Some(StepState::Cancelled) => '⊘',
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::tests::{import, steps};
    use super::*;

    #[test]
    fn a_graph_is_shown_layer_under_layer() {
        let expected = "Import: 4 steps\n\n• ImportXml\n• DownloadCsv\n│\n• ImportCsvRow    ◄ DownloadCsv (emits)\n│\n\
                        • GenReport       ◄ ImportXml, ImportCsvRow (settled)\n";
        assert_eq!(text(&import(false)), expected);
    }

    #[test]
    fn a_run_has_its_states_marked() {
        let shown = text(&import(true));
        assert!(shown.contains("✓ ImportXml     succeeded 1 of 1"), "{shown}");
        assert!(
            shown.contains("▶ ImportCsvRow  running 12,357 of 28,298, 12 failed  ◄ DownloadCsv (emits)"),
            "{shown}"
        );
        assert!(shown.contains("· GenReport     waiting 0 of 1"), "{shown}");
    }

    #[test]
    fn a_wide_and_a_deep_graph_are_cut_and_say_what_is_missing() {
        let wide = text(&steps(20_000, false));
        assert!(wide.contains("… 19,990 more beside them"), "{wide}");
        let deep = text(&steps(10_000, true));
        assert!(deep.ends_with("… 9,960 more steps below, in 9,960 layers\n"), "{deep}");
        assert!(wide.lines().count() + deep.lines().count() < 120);
    }

    #[test]
    fn an_empty_workflow_has_a_title() {
        assert_eq!(text(&steps(0, false)), "Many: 0 steps\n");
    }
}
