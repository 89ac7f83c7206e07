//! Answers that are too long for a bound: the server's answers are padded further in, and a caller reads the whole answer where the
//! bound has left a link. So the bound changes nothing of what a caller gets.

use mcp_patterns::explain::Description;
use mcp_patterns::middleware::Target;
use mcp_patterns::output::Spill;
use mcp_patterns::{Identity, Middleware, OutputTool, outcome};
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Content, Tool, ToolResult};

/// The bytes of the padding, and of the bound.
const BYTES: usize = 2_000;

pub(super) fn bound(identity: Identity) -> OutputTool {
    OutputTool::new().with_max_bytes(BYTES).with_spill(Spill::new()).with_identity(identity)
}

/// Makes each answer longer than the bound.
#[derive(Clone)]
pub(super) struct Padded;

impl Middleware for Padded {
    fn describe(&self, _: &[Tool]) -> Description {
        Description::transparent()
    }

    fn acts_on(&self, target: Target<'_>) -> bool {
        matches!(target, Target::Tool(_))
    }

    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let mut answer = inner.call_tool(name, args, ctx).await?;
        answer.content.push(Content::text("x".repeat(BYTES)));
        Ok(answer)
    }
}

/// Reads the whole answer, as a client does who needs it, and takes the padding away.
#[derive(Clone)]
pub(super) struct Reading;

impl Middleware for Reading {
    fn describe(&self, _: &[Tool]) -> Description {
        Description::transparent()
    }

    fn acts_on(&self, target: Target<'_>) -> bool {
        matches!(target, Target::Tool(_))
    }

    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let mut answer = inner.call_tool(name, args, ctx).await?;
        let mark = answer.meta.as_mut().and_then(|meta| meta.remove(outcome::OUTPUT));
        answer.meta = answer.meta.filter(|meta| !meta.is_empty());
        // A layer further out that answers itself has no long answer, nor has a refusal of the bound.
        let Some(mark) = mark else { return Ok(answer) };
        if let Some(Content::ResourceLink(link)) = answer.content.last() {
            assert_eq!((&mark["status"], answer.is_error()), (&Value::from("spilled"), false), "{answer:?}");
            let whole = inner.read_resource(&link.uri, ctx).await.expect("whoever got the link can read the answer");
            assert_eq!(whole.contents[0].text(), answer.first_text(), "the answer is the beginning of the whole");
            assert_eq!(whole.contents[1].text().map(str::len), Some(BYTES), "the padding");
            let structure = whole.contents.get(2).and_then(|structure| serde_json::from_str(structure.text()?).ok());
            assert!(answer.structured_content.is_none() || answer.structured_content == structure, "{answer:?}");
            answer.structured_content = structure;
        }
        answer.content.truncate(1);
        Ok(answer)
    }
}
