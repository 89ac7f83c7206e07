//! What the layer knows of a tool.

use std::sync::Arc;

use turbomcp_types::Tool;

use super::arguments::{Recorded, argument_of};
use super::settings::Settings;
use crate::arguments::LayerArguments;

/// How the layer treats a tool.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ToolPlan {
    pub(super) recorded: Recorded,
}

impl ToolPlan {
    pub(super) fn new(settings: &Settings, tool: &Tool) -> Arc<Self> {
        let of_layers = LayerArguments::of(tool);
        let recorded = match settings.arguments.get(&tool.name) {
            _ if settings.redaction.is_some() => Recorded::Redacted(of_layers),
            Some(pointers) => {
                // A tool that came later may have arguments of layers that the settings name.
                let own = pointers.iter().filter(|pointer| !of_layers.has(&argument_of(pointer)));
                Recorded::At(own.cloned().collect())
            }
            None => Recorded::Nothing,
        };
        Arc::new(Self { recorded })
    }
}
