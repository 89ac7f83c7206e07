//! What a stack says of itself.

use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::{CachedTool, IdempotentTool, RetryTool, SessionStore, ValidatedTool};

use crate::both_sdks::in_both_columns;
use crate::both_sdks::script::Script;

fn keyed() -> IdempotentTool {
    IdempotentTool::new(MemoryBackend::new()).only(["pay"])
}

in_both_columns! {
    #[tokio::test]
    async fn layers_in_the_right_order_are_explained_without_a_warning() {
        let layers = (ValidatedTool::new(), SessionStore::in_memory().only(["visit"]), CachedTool::new(), RetryTool::new(), keyed());
        let explained = serve(&Script::new(), layers).explain();
        assert_eq!(explained.warnings(), []);
        assert_eq!(explained.layers().len(), 5, "{explained}");
        assert!(explained.to_string().contains("pay"), "{explained}");
        explained.strict().expect("nothing is wrong");
    }

    #[tokio::test]
    async fn layers_in_a_wrong_order_are_warned_about_with_the_tools() {
        let explained = serve(&Script::new(), (RetryTool::new(), CachedTool::new())).explain();
        let warnings: Vec<_> = explained.warnings().iter().map(ToString::to_string).collect();
        let [warning] = &warnings[..] else { panic!("one warning: {warnings:?}") };
        assert!(warning.starts_with("RetryTool is outside CachedTool for"), "{warning}");
        assert!(warning.contains("`read`"), "{warning}");
    }

    #[tokio::test]
    async fn a_layer_that_acts_on_nothing_is_warned_about() {
        let idle = CachedTool::new().when(|tool| tool.name == "missing");
        let explained = serve(&Script::new(), idle).explain();
        let warnings: Vec<_> = explained.warnings().iter().map(ToString::to_string).collect();
        assert!(warnings.iter().any(|warning| warning.contains("acts on no tool")), "{warnings:?}");
    }

    #[tokio::test]
    async fn a_setting_that_names_no_tool_is_a_mistake_at_the_start() {
        let Err(mistake) = try_serve(&Script::new(), &CachedTool::new().only(["reed"])) else { panic!("it is a mistake") };
        let mistake = mistake.to_string();
        assert!(mistake.ends_with("did you mean `read`?"), "{mistake}");
    }
}
