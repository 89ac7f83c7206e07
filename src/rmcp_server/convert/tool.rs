//! Definitions of tools.

use std::borrow::Cow;

use ::rmcp::model as rmcp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use turbomcp_types as own;

use super::{by_json, meta_from_rmcp};

/// Returns a tool as layers see it.
pub(in crate::rmcp_server) fn tool_from_rmcp(tool: &rmcp::Tool) -> own::Tool {
    own::Tool {
        name: tool.name.clone().into_owned(),
        description: tool.description.clone().map(Cow::into_owned),
        input_schema: schema(&tool.input_schema).unwrap_or_default(),
        title: tool.title.clone(),
        icons: tool.icons.as_ref().and_then(by_json),
        annotations: tool.annotations.as_ref().map(|annotations| own::ToolAnnotations {
            read_only_hint: annotations.read_only_hint,
            destructive_hint: annotations.destructive_hint,
            idempotent_hint: annotations.idempotent_hint,
            open_world_hint: annotations.open_world_hint,
            title: annotations.title.clone(),
        }),
        execution: None,
        output_schema: tool.output_schema.as_deref().and_then(schema),
        meta: meta_from_rmcp(tool.meta.clone()),
    }
}

fn schema<S: DeserializeOwned>(schema: &rmcp::JsonObject) -> Option<S> {
    serde_json::from_value(Value::Object(schema.clone())).ok()
}

/// Returns a tool that a layer has added or changed.
pub(in crate::rmcp_server) fn tool_to_rmcp(tool: &own::Tool) -> Option<rmcp::Tool> {
    by_json(tool)
}
