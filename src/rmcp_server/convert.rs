//! Conversion between the types of rmcp and those that the layers read. Fields are moved.

mod content;
mod error;
mod result;
mod tool;

use std::collections::HashMap;

use rmcp::model::MetaObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use self::error::{error_from_rmcp, error_of_service, error_to_rmcp};
pub(super) use self::result::{
    prompt_from_rmcp, prompt_to_rmcp, resource_from_rmcp, resource_to_rmcp, result_from_rmcp, result_to_rmcp,
};
pub(super) use self::tool::{tool_from_rmcp, tool_to_rmcp};

type Meta = Option<HashMap<String, Value>>;

fn meta_from_rmcp(meta: Option<MetaObject>) -> Meta {
    meta.map(|meta| meta.0.into_iter().collect())
}

fn meta_to_rmcp(meta: Meta) -> Option<MetaObject> {
    meta.map(|meta| MetaObject(meta.into_iter().collect()))
}

/// By way of JSON, for rare parts.
pub(super) fn by_json<A: Serialize, B: DeserializeOwned>(value: &A) -> Option<B> {
    serde_json::to_value(value).and_then(serde_json::from_value).ok()
}
