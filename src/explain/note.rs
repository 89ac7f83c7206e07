//! What may be meant, and may be an oversight.

use std::fmt;

use turbomcp_types::Tool;

use super::collector::Collector;
use super::text::{names, quoted};

/// Something that may be meant, and may be an oversight. It is no [warning](super::Warning). Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Tools have no annotations at all, so that layers do not act on them.
    #[non_exhaustive]
    Unannotated {
        /// The tools, as the server lists them.
        tools: Vec<String>,
        /// The layers, from outside in.
        layers: Vec<String>,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unannotated { tools, layers } => write!(
                f,
                "without annotations, and so without {}: {}. Annotate a tool `read_only = true` if it only reads.",
                names(layers.iter().map(String::as_str)),
                quoted(tools.iter().map(String::as_str))
            ),
        }
    }
}

/// The tools without annotations, by the layers that leave them out for that reason.
pub(super) fn notes(tools: &[Tool], collector: &Collector) -> Vec<Note> {
    let mut groups: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for tool in tools.iter().filter(|tool| !is_annotated(tool)) {
        let layers = collector.passed_by(tool).filter_map(|step| {
            let description = collector.layers[step.layer].description.as_ref()?;
            description.leaves_out(&step.tool).then(|| description.name().to_owned())
        });
        let layers: Vec<_> = layers.collect();
        match groups.iter_mut().find(|(same, _)| *same == layers) {
            _ if layers.is_empty() => {}
            Some((_, tools)) => tools.push(tool.name.clone()),
            None => groups.push((layers, vec![tool.name.clone()])),
        }
    }
    groups.into_iter().map(|(layers, tools)| Note::Unannotated { tools, layers }).collect()
}

/// A title says nothing about what a call does.
fn is_annotated(tool: &Tool) -> bool {
    tool.annotations.as_ref().is_some_and(|hints| {
        [hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint]
            .iter()
            .any(Option::is_some)
    })
}
