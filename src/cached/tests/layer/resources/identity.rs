use super::*;

#[tokio::test]
async fn two_users_never_share_an_answer() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move { Ok(ask.ctx.subject().unwrap_or("nobody").to_owned()) });
        let server = shelf.with(both());
        for _ in 0..2 {
            for name in ["ada", "bob"] {
                assert_eq!(get(&server, what, "one", &user(name)).await, name);
            }
            assert_eq!(one(&server, what).await, "nobody");
        }
        assert_eq!(shelf.asked(), 3);
    }
}

#[tokio::test]
async fn the_scope_of_resources_can_differ_from_that_of_tools() {
    let users = [user("ada"), user("bob")];
    let asked = async |cached: CachedTool, what| {
        let shelf = Shelf::numbered();
        let server = shelf.with(cached);
        for ctx in &users {
            get(&server, what, "one", ctx).await;
        }
        shelf.asked()
    };
    let of = |scope| Reads::new().with_scope(scope);
    assert_eq!(asked(both().with_resources(of(Scope::Public)), Resource).await, 1);
    assert_eq!(asked(both().with_resources(of(Scope::Public)), Prompt).await, 2);
    assert_eq!(asked(both().with_prompts(of(Scope::Public)), Prompt).await, 1);
    assert_eq!(asked(both().with_prompts(of(Scope::Public)), Resource).await, 2);
    assert_eq!(asked(both().with_scope(Scope::Public), Resource).await, 1);
    assert_eq!(asked(both().with_scope(Scope::Public).with_resources(of(Scope::Principal)), Resource).await, 2);
}

#[tokio::test(start_paused = true)]
async fn two_layers_can_cache_different_resources_with_different_settings() {
    let is_public = |uri: &str| uri.starts_with("docs://");
    let public = Reads::new().when(is_public).with_scope(Scope::Public).with_ttl(60 * MINUTE);
    let public = both().with_resources(public);
    let others = CachedTool::new().when(|_| false).with_resources(Reads::new().when(move |uri| !is_public(uri)));
    let shelf = Shelf::numbered();
    let handle = others.handle();
    let server = (public, others, layer(shelf.clone())).layer(numbered());
    let all = async || {
        let mut answers = Vec::new();
        for (uri, name) in [("docs://one", "ada"), ("docs://one", "bob"), ("mail://one", "ada"), ("mail://one", "bob")]
        {
            answers.push(get(&server, Resource, uri, &user(name)).await);
        }
        answers
    };
    for _ in 0..2 {
        assert_eq!(all().await, ["1", "1", "2", "3"]);
    }
    tokio::time::advance(6 * MINUTE).await;
    assert_eq!(all().await, ["1", "1", "4", "5"]);
    assert_eq!([read(&server).await, read(&server).await], ["1", "1"]);
    assert_eq!(handle.stats().loads, 4, "of tools, the second keeps nothing");
}

#[tokio::test]
async fn two_servers_and_two_versions_never_share_a_resource() {
    for what in BOTH {
        let shelf = Shelf::numbered();
        let on = |cached: CachedTool, name: &str| (cached, layer(shelf.clone())).layer(ScriptedServer::new(name));
        let cached = both();
        let servers = [
            on(cached.clone(), "library"),
            on(cached.clone(), "archive"),
            on(cached.clone().with_version("two"), "library"),
        ];
        for _ in 0..2 {
            for (server, number) in servers.iter().zip(["1", "2", "3"]) {
                assert_eq!(one(server, what).await, number);
            }
        }
    }
}

#[tokio::test]
async fn a_tool_a_resource_and_a_prompt_of_the_same_name_are_separate_entries() {
    let cached = both();
    let handle = cached.handle();
    let server = Shelf::new(|ask| async move { Ok(format!("asked {}", ask.number)) }).with(cached);
    let all = async || {
        let ctx = nobody();
        let tool = answer(&server, "read", Value::Null, &ctx).await;
        (tool, get(&server, Resource, "read", &ctx).await, get(&server, Prompt, "read", &ctx).await)
    };
    let of = |tool: &str, resource: &str, prompt: &str| (tool.to_owned(), resource.to_owned(), prompt.to_owned());
    for _ in 0..2 {
        assert_eq!(all().await, of("1", "asked 1", "asked 2"));
    }
    handle.invalidate("read", &Value::Null);
    assert_eq!(all().await, of("2", "asked 1", "asked 2"));
    handle.invalidate_tool("read");
    assert_eq!(all().await, of("3", "asked 1", "asked 2"));
    handle.invalidate_resource("read");
    assert_eq!(all().await, of("3", "asked 3", "asked 2"));
    handle.invalidate_prompt_with("read", &Value::Null);
    assert_eq!(all().await, of("3", "asked 3", "asked 4"));
    handle.invalidate_prompt("read");
    assert_eq!(all().await, of("3", "asked 3", "asked 5"));
    handle.invalidate_tag("read");
    assert_eq!(all().await, of("3", "asked 3", "asked 5"));
}

#[tokio::test]
async fn a_prompt_without_arguments_equals_one_with_empty_arguments() {
    let server = Shelf::numbered().with(both());
    for none in [None, Some(Value::Null), Some(json!({}))] {
        assert_eq!(prompt(&server, none).await, "1");
    }
    assert_eq!(prompt(&server, Some(json!([]))).await, "2");
    assert_eq!(prompt(&server, Some(json!({"name": null}))).await, "3");
}

#[tokio::test]
async fn the_order_of_a_prompts_arguments_does_not_change_the_key() {
    let server = Shelf::numbered().with(both());
    assert_eq!(prompt(&server, Some(json!({"from": "Ada", "to": "Bob"}))).await, "1");
    assert_eq!(prompt(&server, Some(json!({"to": "Bob", "from": "Ada"}))).await, "1");
    assert_eq!(prompt(&server, Some(json!({"to": "Ada", "from": "Bob"}))).await, "2");
}
