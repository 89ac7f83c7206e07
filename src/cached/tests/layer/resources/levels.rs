use turbomcp_types::{Content, Message, ResourceContents, Role};

use super::*;
use crate::cached::layer::answer::Answer;
use crate::cached::{Handle, MemoryLevel};

fn replica(level: &MemoryLevel, shelf: &Shelf) -> (Server, Handle) {
    let tagged = || Reads::new().with_tags(|_, _| ["users"]);
    let cached = CachedTool::new().with_resources(tagged()).with_prompts(tagged()).with_second_level(level.clone());
    let handle = cached.handle();
    (shelf.with(cached), handle)
}

#[tokio::test(start_paused = true)]
async fn replicas_share_a_resource_that_one_of_them_loaded() {
    for what in BOTH {
        let (level, shelf) = (MemoryLevel::new(), Shelf::numbered());
        let [(a, _), (b, of_b)] = [replica(&level, &shelf), replica(&level, &shelf)];
        settle().await;
        assert_eq!(one(&a, what).await, "1");
        settle().await;
        let answer = wire(&b, what, "one", &nobody()).await.expect("an answer");
        assert_eq!((&answer["_meta"][CACHE]["status"], &answer["_meta"][CACHE]["level"]), (&json!("hit"), &json!(2)));
        assert_eq!(one(&b, what).await, "1");
        assert_eq!(get(&b, what, "one", &user("ada")).await, "2", "not with another user");
        assert_eq!(of_b.stats().second_level.expect("a level").hits, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_on_one_replica_holds_on_the_other() {
    for what in BOTH {
        let invalidations: [fn(&Handle, Asked); 3] = [
            |handle, what| match what {
                Resource => handle.invalidate_resource("one"),
                Prompt => handle.invalidate_prompt("one"),
            },
            |handle, _| handle.invalidate_tag("users"),
            |handle, _| handle.clear(),
        ];
        let (level, shelf) = (MemoryLevel::new(), Shelf::numbered());
        let [(a, of_a), (b, _)] = [replica(&level, &shelf), replica(&level, &shelf)];
        settle().await;
        for (round, invalidate) in invalidations.into_iter().enumerate() {
            let (old, new) = ((round + 1).to_string(), (round + 2).to_string());
            for server in [&a, &b] {
                assert_eq!(one(server, what).await, old);
                settle().await;
            }
            invalidate(&of_a, what);
            of_a.synced().await;
            settle().await;
            for server in [&b, &a] {
                assert_eq!(one(server, what).await, new, "{what:?}, {round}");
                settle().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_a_resource_and_a_prompt_of_the_same_name_are_three_values_in_the_second_level() {
    let (level, shelf) = (MemoryLevel::new(), Shelf::new(|ask| async move { Ok(format!("asked {}", ask.number)) }));
    let [(a, _), (b, of_b)] = [replica(&level, &shelf), replica(&level, &shelf)];
    settle().await;
    for server in [a, b] {
        assert_eq!(answer(&server, "read", Value::Null, &nobody()).await, "1");
        assert_eq!(get(&server, Resource, "read", &nobody()).await, "asked 1");
        assert_eq!(get(&server, Prompt, "read", &nobody()).await, "asked 2");
        settle().await;
    }
    assert_eq!(of_b.stats().loads, 0);
}

/// Every possible answer of a server reaches the other replica unchanged.
#[test]
fn every_answer_is_read_back_as_written() {
    let meta = || Some([("library.example/shelf".to_owned(), json!({"row": 7}))].into());
    let mut resource = ResourceResult::text("books://1", "Call me Ishmael.");
    resource.contents.extend(ResourceResult::binary("books://2", "AAEC", "image/png").contents);
    if let ResourceContents::Text(text) = &mut resource.contents[0] {
        text.meta = meta();
    }
    let mut prompt = PromptResult::user("Read this.").with_description("A prompt").add_assistant("I have.");
    prompt.messages.push(Message::new(Role::User, Content::image("AAEC", "image/png")));
    let tool = ToolResult { structured_content: Some(json!({"a": [1.5]})), meta: meta(), ..ToolResult::text("a") };
    for answer in [
        Answer::Resource(resource.clone()),
        Answer::Resource(ResourceResult { meta: meta(), ..resource }),
        Answer::Prompt(prompt.clone()),
        Answer::Prompt(PromptResult { meta: meta(), ..prompt }),
        Answer::Tool(tool),
        Answer::Tool(ToolResult::error("no")),
    ] {
        let bytes = serde_json::to_vec(&answer).expect("JSON");
        assert_eq!(serde_json::from_slice::<Answer>(&bytes).expect("an answer"), answer);
    }
}

#[tokio::test]
async fn an_answer_of_another_kind_is_an_error() {
    let prompt: McpResult<ResourceResult> = Answer::open(Ok(Answer::Prompt(PromptResult::user("a prompt"))));
    assert_eq!(prompt.expect_err("it is no resource").kind, ErrorKind::Internal);
    let resource: McpResult<ToolResult> = Answer::open(Ok(Answer::Resource(ResourceResult::text("a", "b"))));
    assert_eq!(failed(&resource).0, Some(ErrorKind::Internal));
}
