use tokio::time::advance;
use turbomcp_core::McpError;

use super::*;

async fn status(server: &impl McpHandler, what: Asked) -> (Value, String) {
    let answer = wire(server, what, "one", &nobody()).await.expect("an answer");
    let text =
        if what == Resource { &answer["contents"][0]["text"] } else { &answer["messages"][0]["content"]["text"] };
    (answer["_meta"][CACHE]["status"].clone(), text.as_str().expect("a text").to_owned())
}

fn is(status: &str, text: &str) -> (Value, String) {
    (json!(status), text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn resources_have_the_ttl_of_results_unless_set_otherwise() {
    let cached = both().with_ttl(4 * MINUTE).with_resources(Reads::new().with_ttl(2 * MINUTE));
    let server = Shelf::numbered().with(cached);
    let all = async || (read(&server).await, one(&server, Resource).await, one(&server, Prompt).await);
    let of = |tool: &str, resource: &str, prompt: &str| (tool.to_owned(), resource.to_owned(), prompt.to_owned());
    assert_eq!(all().await, of("1", "1", "2"));
    advance(2 * MINUTE).await;
    assert_eq!(all().await, of("1", "3", "2"));
    advance(2 * MINUTE).await;
    assert_eq!(all().await, of("2", "4", "5"));

    let server = Shelf::numbered().with(both().with_prompts(Reads::new().with_ttl(MINUTE)));
    assert_eq!((one(&server, Resource).await, one(&server, Prompt).await), ("1".into(), "2".into()));
    advance(MINUTE).await;
    assert_eq!((one(&server, Resource).await, one(&server, Prompt).await), ("1".into(), "3".into()));
}

#[tokio::test(start_paused = true)]
async fn a_resource_past_its_ttl_is_served_and_refreshed_in_the_background() {
    for what in BOTH {
        let server = Shelf::numbered().with(both().with_ttl(MINUTE).with_stale_while_revalidate(MINUTE));
        assert_eq!(status(&server, what).await, is("miss", "1"));
        advance(MINUTE).await;
        assert_eq!(status(&server, what).await, is("stale", "1"));
        settle().await;
        assert_eq!(status(&server, what).await, is("hit", "2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_past_its_ttl_is_served_if_the_server_fails_but_not_if_it_is_not_found() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move {
            match ask.number {
                2 => Err(McpError::unavailable("closed")),
                3 => Err(McpError::resource_not_found("one")),
                number => Ok(number.to_string()),
            }
        });
        let server = shelf.with(both().with_ttl(MINUTE).with_stale_if_error(60 * MINUTE));
        assert_eq!(status(&server, what).await, is("miss", "1"));
        advance(MINUTE).await;
        assert_eq!(status(&server, what).await, is("stale", "1"));
        advance(MINUTE).await;
        let gone = try_get(&server, what, "one", &nobody()).await.expect_err("there is none any more");
        assert_eq!(gone.kind, ErrorKind::ResourceNotFound);
        assert_eq!(status(&server, what).await, is("miss", "4"));
    }
}
