//! The part of the arguments that a type or a rule checks.

use serde_json::{Map, Value};
use turbomcp_types::Tool;

use super::LAYER;
use super::fields::{Fields, wrong_place};
use super::hints::nearest;
use super::settings::Place;
use super::violation::Violation;
use crate::ConfigError;
use crate::references::References;

/// A check, and the part of the arguments that it is about.
#[derive(Debug)]
pub(super) struct Placed<T> {
    parameter: Option<String>,
    pub(super) pointer: String,
    pub(super) check: T,
}

impl<T> Placed<T> {
    pub(super) fn new(
        tool: &Tool,
        place: &Place,
        fields: Fields,
        setting: &'static str,
        references: &References,
        check: T,
    ) -> Result<Self, ConfigError> {
        let parameter = match place {
            Place::Inferred => only_object(tool, references),
            Place::Parameter(name) => Some(known_parameter(tool, name, setting)?),
        };
        if let Some(reason) = wrong_place(&tool.name, parameter.as_deref(), fields, setting, references) {
            // The reason recommends the setter that names the parameter. The mistake is in the one that was called.
            let called = match place {
                Place::Inferred => setting.strip_suffix("_at").unwrap_or(setting),
                Place::Parameter(_) => setting,
            };
            return Err(ConfigError::invalid(LAYER, called, reason));
        }
        let pointer = parameter.as_deref().map(|name| Violation::new("", "").at(name).pointer().to_owned());
        Ok(Self { parameter, pointer: pointer.unwrap_or_default(), check })
    }

    pub(super) fn of<'a>(&self, args: &'a Value) -> Option<&'a Value> {
        match &self.parameter {
            None => Some(args),
            Some(name) => args.get(name),
        }
    }

    pub(super) fn schema<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        match &self.parameter {
            None => Some(root),
            Some(name) => root.get("properties")?.get(name),
        }
    }
}

fn parameters(tool: &Tool) -> impl Iterator<Item = (&String, &Value)> {
    tool.input_schema.properties.as_ref().and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// The only parameter, if it is an object.
fn only_object(tool: &Tool, references: &References) -> Option<String> {
    let mut parameters = parameters(tool);
    let (name, parameter) = parameters.next()?;
    let is_object = |view: &Value| {
        let is = view
            .get("type")
            .is_some_and(|is| is == "object" || is.as_array().is_some_and(|is| is.contains(&"object".into())));
        is || view.get("properties").is_some()
    };
    let is_only = parameters.next().is_none();
    // The parameter as it stands in the schema, which its references lead into.
    let parameter = references.root().get("properties").and_then(|all| all.get(name)).unwrap_or(parameter);
    (is_only && references.views(parameter).into_iter().any(is_object)).then(|| name.clone())
}

fn known_parameter(tool: &Tool, name: &str, setting: &'static str) -> Result<String, ConfigError> {
    let known = || parameters(tool).map(|(name, _)| name.as_str());
    if known().any(|known| known == name) || known().next().is_none() {
        return Ok(name.to_owned());
    }
    let fix = match nearest(name, known()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("it has {}", known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Err(ConfigError::invalid(LAYER, setting, format!("`{}` has no parameter `{name}`: {fix}", tool.name)))
}
