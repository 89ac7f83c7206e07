//! What the fixtures ask their client in an answer that is not complete, and what becomes of the client's answers.

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, ClientCapabilities, InputRequest, InputRequests, InputRequiredResult, InputResponses,
    RequestStateCodec,
};
use serde_json::{Value, json};

use crate::content::text;

/// A question for a text.
pub(crate) fn elicit(message: &str, field: &str, kind: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] });
    json!({ "method": "elicitation/create", "params": { "message": message, "requestedSchema": schema } })
}

pub(crate) fn sample(prompt: &str, tokens: u32) -> Value {
    let messages = json!([{ "role": "user", "content": { "type": "text", "text": prompt } }]);
    json!({ "method": "sampling/createMessage", "params": { "messages": messages, "maxTokens": tokens } })
}

pub(crate) fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

fn request(question: Value) -> Result<InputRequest, ErrorData> {
    serde_json::from_value(question).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// An answer that asks.
pub(crate) fn ask<const N: usize>(
    questions: [(&str, Value); N],
    state: Option<String>,
) -> Result<InputRequiredResult, ErrorData> {
    let requests: Result<_, ErrorData> =
        questions.into_iter().map(|(name, question)| Ok((name.to_owned(), request(question)?))).collect();
    Ok(InputRequiredResult::new(Some(requests?), state))
}

/// The answers of the client.
pub(crate) struct Answers(pub(crate) Option<InputResponses>);

impl Answers {
    /// The value of a field of an answer, or of its content.
    pub(crate) fn field(&self, question: &str, field: &str) -> Option<&Value> {
        let answer = self.0.as_ref()?.get(question)?;
        answer.get("content").and_then(|content| content.get(field)).or_else(|| answer.get(field))
    }

    pub(crate) fn text(&self, question: &str, field: &str) -> Option<&str> {
        self.field(question, field)?.as_str()
    }
}

/// The state between the rounds of a call, which no client can change.
#[derive(Clone)]
pub(crate) struct Rounds(RequestStateCodec);

impl Rounds {
    pub(crate) fn new() -> Self {
        // A key that everybody can read is enough here.
        Self(RequestStateCodec::new_unchecked(b"the conformance suite needs no secret".to_vec()))
    }

    pub(crate) fn state(&self, round: &str) -> Option<String> {
        Some(self.0.seal(round.as_bytes()))
    }

    /// Returns the round of a state, or `None` without a state.
    pub(crate) fn round(&self, state: Option<&str>) -> Result<Option<String>, ErrorData> {
        let Some(state) = state else { return Ok(None) };
        let opened = self.0.open(state).map_err(|_| ErrorData::invalid_params("the state was changed", None))?;
        Ok(Some(String::from_utf8_lossy(&opened).into_owned()))
    }
}

/// Asks in two rounds.
pub(crate) fn two_rounds(
    rounds: &Rounds,
    answers: &Answers,
    state: Option<&str>,
) -> Result<CallToolResponse, ErrorData> {
    let round = rounds.round(state)?;
    match (round.as_deref(), answers.text("step1", "name"), answers.text("step2", "color")) {
        (Some("second"), _, Some(color)) => Ok(text(format!("You like {color}")).into()),
        (Some("first"), Some(_), _) => {
            let color = elicit("Step 2: What is your favorite color?", "color", "string");
            Ok(ask([("step2", color)], rounds.state("second"))?.into())
        }
        _ => {
            let name = elicit("Step 1: What is your name?", "name", "string");
            Ok(ask([("step1", name)], rounds.state("first"))?.into())
        }
    }
}

/// Asks all that the client can answer.
pub(crate) fn answerable(capabilities: &ClientCapabilities) -> Result<CallToolResponse, ErrorData> {
    let questions = [
        (capabilities.elicitation.is_some(), "user_name", elicit("What is your name?", "name", "string")),
        (capabilities.sampling.is_some(), "greeting", sample("Generate a greeting", 50)),
    ];
    let requests: Result<InputRequests, ErrorData> = questions
        .into_iter()
        .filter(|(is_declared, ..)| *is_declared)
        .map(|(_, name, question)| Ok((name.to_owned(), request(question)?)))
        .collect();
    let requests = requests?;
    if requests.is_empty() {
        return Ok(text("The client answers nothing").into());
    }
    Ok(InputRequiredResult::from_input_requests(requests).into())
}
