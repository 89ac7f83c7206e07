//! Scene: a stack says what its layers do, and what is wrong with it.

use mcp_patterns::{CachedTool, Layer, RetryTool, explain, explain::Setting};

use crate::{
    counter::server::CounterServer,
    stage::{Failure, Stage, Table, check, text},
};

pub(crate) fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Which layer does what",
        "A layer acts on a tool only if its annotations say that this is safe. `explain` shows which layers act on which tool: here \
         two layers on the counter server, from outside in. The example servers print it with `--explain`.",
    )?;

    let right = (CachedTool::new(), RetryTool::new()).layer(CounterServer::default());
    let explanation = explain(&right).strict()?;
    stage.code(include_str!("explained.rs"), ["let right =", "let explanation ="])?;
    let mut table = Table::new(["tool", "layers", "settings"]);
    for tool in explanation.tools() {
        let mut name = tool.name.as_str();
        for action in &tool.layers {
            let settings: Vec<_> = action.settings.iter().map(Setting::to_string).collect();
            table = table.row([text(name).code(), text(&action.layer), text(settings.join(", "))]);
            name = "";
        }
        if tool.layers.is_empty() {
            table = table.row([text(name).code(), text("none").quiet(), text("")]);
        }
    }
    stage.table(&table)?;

    let wrong = (RetryTool::new(), CachedTool::new()).layer(CounterServer::default());
    let warnings = explain(&wrong).warnings().to_vec();
    for warning in &warnings {
        stage.refused("(RetryTool::new(), CachedTool::new()).layer(CounterServer::default())", &warning.to_string())?;
    }
    check("warnings about the wrong order", warnings.len(), 1)?;

    stage.conclude("Layers that do nothing, or stand in the wrong place, are found when the stack is built.")?;
    stage.note("every layer", format!("{} tools explained, {} warning", explanation.tools().len(), warnings.len()));
    Ok(())
}
