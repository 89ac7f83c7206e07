//! What each layer of a stack does: [`Explanation`].

use turbomcp_types::Tool;

use super::collector::Collector;
use super::description::{Description, Role, Setting};
use super::note::{Note, notes};
use super::warning::{StrictError, Warning};

/// What each layer of a stack does, by [`explain`](super::explain()). Its `Display` text is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    tools: Vec<ExplainedTool>,
    layers: Vec<ExplainedLayer>,
    warnings: Vec<Warning>,
    notes: Vec<Note>,
}

/// A tool, and the layers that act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedTool {
    /// The name of the tool, as the server lists it.
    pub name: String,
    /// The layers that act on it, from outside in.
    pub layers: Vec<Action>,
}

/// What a layer does with a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Action {
    /// The name of the layer.
    pub layer: String,
    /// Its effective settings for the tool. The settings of the whole layer are in [`ExplainedLayer::settings`].
    pub settings: Vec<Setting>,
}

/// A layer, and the tools that it acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedLayer {
    /// The name of the layer.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its effective settings that hold for all tools.
    pub settings: Vec<Setting>,
    /// The names of the tools that it acts on, as the server lists them.
    pub tools: Vec<String>,
    /// What else it acts on: `resources`, `prompts`.
    pub others: Vec<&'static str>,
}

impl Explanation {
    pub(super) fn new(tools: &[Tool], collector: Collector) -> Self {
        let mut layers: Vec<_> = collector.layers.iter().map(|layer| layer.description.as_ref().map(empty)).collect();
        let explained = tools.iter().map(|tool| {
            let mut actions = Vec::new();
            for step in collector.passed_by(tool) {
                let Some(description) = &collector.layers[step.layer].description else { continue };
                if !description.acts_on(&step.tool) {
                    continue;
                }
                if let Some(layer) = &mut layers[step.layer] {
                    layer.tools.push(tool.name.clone());
                }
                let settings = description.of_tool(&step.tool).map(|acts| acts.settings.clone());
                actions.push(Action { layer: description.name().to_owned(), settings: settings.unwrap_or_default() });
            }
            ExplainedTool { name: tool.name.clone(), layers: actions }
        });
        let explained = explained.collect();
        let notes = notes(tools, &collector);
        let layers = layers.into_iter().flatten().collect();
        Self { tools: explained, layers, warnings: collector.warnings, notes }
    }

    /// Returns the tools, in the order of the listing.
    #[must_use]
    pub fn tools(&self) -> &[ExplainedTool] {
        &self.tools
    }

    /// Returns the layers, from outside in. The layers of one server in a composite come before those of the next one.
    #[must_use]
    pub fn layers(&self) -> &[ExplainedLayer] {
        &self.layers
    }

    /// Returns the warnings.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns what may be meant, and may be an oversight. [`strict`](Self::strict) does not fail for it.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Turns the warnings into an error.
    ///
    /// # Errors
    ///
    /// A [`StrictError`] with all warnings, if there are any.
    pub fn strict(self) -> Result<Self, StrictError> {
        if self.warnings.is_empty() { Ok(self) } else { Err(StrictError::new(self.warnings)) }
    }
}

fn empty(description: &Description) -> ExplainedLayer {
    ExplainedLayer {
        name: description.name().to_owned(),
        role: description.role(),
        settings: description.settings().to_vec(),
        tools: Vec::new(),
        others: description.others().to_vec(),
    }
}
