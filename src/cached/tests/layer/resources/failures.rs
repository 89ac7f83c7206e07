use turbomcp_core::McpError;

use super::*;

/// The kind and the text of an error.
fn error(answer: McpResult<String>) -> (ErrorKind, String) {
    let error = answer.expect_err("an error");
    (error.kind, error.message)
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_returned_unchanged_to_all_waiting_callers_and_not_cached() {
    for what in BOTH {
        let shelf = Shelf::new(|_| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(McpError::unavailable("the library is closed").with_data(json!({"retryAfterMs": 250})))
        });
        let cached = both();
        let handle = cached.handle();
        let server = shelf.with(cached);
        for round in 1..3 {
            let ctx = nobody();
            for answer in join_all((0..100).map(|_| try_get(&server, what, "one", &ctx))).await {
                assert_eq!(answer.as_ref().expect_err("an error").data(), Some(&json!({"retryAfterMs": 250})));
                assert_eq!(error(answer), (ErrorKind::Unavailable, "the library is closed".to_owned()));
            }
            assert_eq!(shelf.asked(), round);
        }
        assert_eq!(handle.stats().entries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_cached_on_request_and_states_its_age() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move {
            match ask.name.as_str() {
                "lost" => Err(McpError::resource_not_found("lost")),
                _ => Err(McpError::internal("burnt")),
            }
        });
        let server = shelf.with(both().with_negative_ttl([ErrorKind::ResourceNotFound], MINUTE));
        let ctx = nobody();
        let first = try_get(&server, what, "lost", &ctx).await.expect_err("an error");
        assert_eq!(first.data(), Some(&json!({"uri": "lost"})));
        tokio::time::advance(MINUTE / 2).await;
        let again = try_get(&server, what, "lost", &ctx).await.expect_err("an error");
        assert_eq!((again.kind, &again.message), (first.kind, &first.message));
        assert_eq!(again.data(), Some(&json!({"uri": "lost", CACHE: {"status": "hit", "level": 1, "ageMs": 30_000}})));
        assert_eq!(shelf.asked(), 1);
        for _ in 0..2 {
            assert_eq!(error(try_get(&server, what, "other", &ctx).await).0, ErrorKind::Internal);
        }
        assert_eq!(shelf.asked(), 3);
        tokio::time::advance(MINUTE).await;
        assert_eq!(error(try_get(&server, what, "lost", &ctx).await).0, ErrorKind::ResourceNotFound);
        assert_eq!(shelf.asked(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_resource_is_a_timeout_for_all_waiting_callers() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move {
            if ask.number == 1 {
                std::future::pending::<()>().await;
            }
            Ok(ask.number.to_string())
        });
        let server = shelf.with(both().with_load_timeout(MINUTE));
        let ctx = nobody();
        for answer in join_all((0..10).map(|_| try_get(&server, what, "one", &ctx))).await {
            assert_eq!(error(answer), (ErrorKind::Timeout, "No answer within 60000 ms".to_owned()));
        }
        assert_eq!(one(&server, what).await, "2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cached_timeout_states_its_age_in_the_form_of_its_kind() {
    let (shelf, hangs) = (Shelf::new(|_| std::future::pending()), |_| std::future::pending());
    let cached = both().with_load_timeout(MINUTE).with_negative_ttl([ErrorKind::Timeout], 60 * MINUTE);
    let server = (cached, layer(shelf.clone())).layer(ScriptedServer::new("library").with_read_only("read", hangs));
    let hit = json!({"status": "hit", "level": 1, "ageMs": 0});
    for what in BOTH {
        let first = try_get(&server, what, "one", &nobody()).await.expect_err("an error");
        assert_eq!((first.kind, first.data()), (ErrorKind::Timeout, Some(&json!({ CACHE: "timed_out" }))));
        let again = try_get(&server, what, "one", &nobody()).await.expect_err("an error");
        assert_eq!((again.kind, again.data()), (ErrorKind::Timeout, Some(&json!({ CACHE: hit }))));
    }
    assert_eq!(shelf.asked(), 2);
    for expected in [None, Some(&hit)] {
        let result = server.call_tool("read", json!({}), &nobody()).await;
        assert_eq!(failed(&result).0, Some(ErrorKind::Timeout));
        assert_eq!(result.expect("a result").meta.expect("the kind is in it").get(CACHE), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_without_details_for_each_waiting_caller() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(ask.number > 1, "the shelf breaks");
            Ok(ask.number.to_string())
        });
        let server = shelf.with(both());
        let ctx = nobody();
        for answer in join_all((0..10).map(|_| try_get(&server, what, "one", &ctx))).await {
            assert_eq!(error(answer), (ErrorKind::Internal, "The call ended without a result".to_owned()));
        }
        assert_eq!(one(&server, what).await, "2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_reader_returns_and_the_load_continues_for_the_others() {
    for what in BOTH {
        let gate = Gate::closed();
        let shelf = Shelf::behind(&gate);
        let server = shelf.with(both());
        let token = Token::default();
        let ctx = nobody().with_cancellation_token(Arc::new(token.clone()));
        let end = async {
            settle().await;
            token.cancel();
            tokio::time::sleep(Duration::from_millis(100)).await;
            gate.open();
        };
        let (cancelled, other, ()) = tokio::join!(try_get(&server, what, "one", &ctx), one(&server, what), end);
        assert_eq!(error(cancelled), (ErrorKind::Cancelled, "The call was cancelled".to_owned()));
        assert_eq!(other, "1");
        assert_eq!(shelf.asked(), 1);
    }
}

#[cfg(feature = "session")]
mod that_depend_on_a_session {
    use super::*;
    use crate::SessionStore;

    /// Answers with a value of the request's session.
    fn shelf(store: &SessionStore) -> Shelf {
        let store = store.clone();
        Shelf::new(move |ask| {
            let store = store.clone();
            async move {
                let session = store.of(&ask.ctx).map_err(McpError::from)?;
                let name: Option<String> = session.get("name").await.map_err(McpError::from)?;
                Ok(name.unwrap_or_else(|| "nobody".to_owned()))
            }
        })
    }

    #[tokio::test]
    async fn a_resource_that_used_its_session_is_not_returned_to_another_session() {
        for what in BOTH {
            let store = SessionStore::in_memory();
            let shelf = shelf(&store);
            let server = shelf.with(both());
            for name in ["one", "two"] {
                let ctx = user("ada").with_session_id(name);
                store.of(&ctx).expect("a session").set("name", &name).await.expect("it is kept");
                for _ in 0..2 {
                    assert_eq!(get(&server, what, "one", &ctx).await, name);
                }
            }
            assert_eq!(shelf.asked(), 4);
        }
    }

    #[tokio::test]
    async fn in_session_scope_a_resource_that_used_its_session_is_cached_for_it() {
        for what in BOTH {
            let store = SessionStore::in_memory();
            let shelf = shelf(&store);
            let server = shelf.with(both().with_scope(Scope::Session));
            for name in ["one", "two"] {
                let ctx = user("ada").with_session_id(name);
                store.of(&ctx).expect("a session").set("name", &name).await.expect("it is kept");
                for _ in 0..2 {
                    assert_eq!(get(&server, what, "one", &ctx).await, name);
                }
            }
            assert_eq!(shelf.asked(), 2);
        }
    }

    #[tokio::test]
    async fn a_failed_tool_that_used_its_session_answers_as_without_a_cache() {
        let store = SessionStore::in_memory();
        let script = ScriptedServer::new("library").with_read_only("read", {
            let store = store.clone();
            move |call| {
                let opened = store.of(&call.ctx).map(drop);
                async move { opened.map_err(McpError::from).and(Err(McpError::internal("burnt"))) }
            }
        });
        let server = CachedTool::new().layer(script.clone());
        let bare = McpError::internal("burnt").to_tool_result();
        for id in ["1", "1", "2"] {
            let result = server.call_tool("read", json!({}), &user("ada").with_session_id(id)).await;
            assert_eq!(result.expect("a result").meta, bare.meta, "no word of a miss");
        }
        assert_eq!(script.calls("read"), 3);
    }
}
