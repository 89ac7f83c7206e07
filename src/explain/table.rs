//! An explanation as it is printed.

use std::fmt;

use super::description::Setting;
use super::explanation::{Action, ExplainedLayer, ExplainedTool, Explanation};
use super::text;

/// How many tools are printed. The others are counted.
const MAX_TOOLS: usize = 50;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tools = self.tools().iter().take(MAX_TOOLS).flat_map(rows_of_tool);
        write_table(f, ["tool", "layers, from outside in", "settings"], &tools.collect::<Vec<_>>())?;
        if let Some(more @ 1..) = self.tools().len().checked_sub(MAX_TOOLS) {
            writeln!(f, "and {more} more tools")?;
        }
        writeln!(f)?;
        write_table(f, ["layer", "acts on", "settings"], &self.layers().iter().map(row_of_layer).collect::<Vec<_>>())?;
        writeln!(f)?;
        if self.warnings().is_empty() {
            writeln!(f, "no warnings")?;
        }
        self.warnings().iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))?;
        self.notes().iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

type Row = [String; 3];

/// A row for each layer. Only the first one has the name of the tool.
fn rows_of_tool(tool: &ExplainedTool) -> Vec<Row> {
    let mut rows: Vec<_> = tool.layers.iter().map(row_of_action).collect();
    if rows.is_empty() {
        rows.push([String::new(), "none".to_owned(), String::new()]);
    }
    rows[0][0] = text::name(&tool.name);
    rows
}

fn row_of_action(action: &Action) -> Row {
    [String::new(), action.layer.clone(), settings(&action.settings)]
}

fn row_of_layer(layer: &ExplainedLayer) -> Row {
    let tools = text::names(layer.tools.iter().map(String::as_str));
    let acts_on: Vec<_> =
        std::iter::once(tools.as_str()).filter(|tools| !tools.is_empty()).chain(layer.others.iter().copied()).collect();
    let acts_on = if acts_on.is_empty() { "nothing".to_owned() } else { acts_on.join("; ") };
    [layer.name.clone(), acts_on, settings(&layer.settings)]
}

fn settings(settings: &[Setting]) -> String {
    settings.iter().map(Setting::to_string).collect::<Vec<_>>().join(", ")
}

fn write_table(f: &mut fmt::Formatter<'_>, head: [&str; 3], rows: &[Row]) -> fmt::Result {
    let head = head.map(str::to_owned);
    let width = |column: usize| {
        std::iter::once(&head).chain(rows).map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let (first, second) = (width(0), width(1));
    for [one, two, three] in std::iter::once(&head).chain(rows) {
        let line = format!("{one:first$}  {two:second$}  {three}");
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
