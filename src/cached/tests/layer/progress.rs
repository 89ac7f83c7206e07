//! Notifications for callers who wait for a load.

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use turbomcp_core::McpError;

use super::resources::{BOTH, Shelf, both, try_get};
use super::*;
use crate::testing::client::{Client, ask_name};
use crate::{CachedTool, Layer, RetryTool, Scope};

const SECOND: Duration = Duration::from_secs(1);

/// Reports three steps, one each second, with a message and a log.
async fn work(ctx: &RequestContext) -> McpResult<()> {
    for step in 1..=3 {
        sleep(SECOND).await;
        ctx.report_progress(f64::from(step), Some(3.0), Some("reading")).await?;
        ctx.notify_client("notifications/message", json!({"level": "info", "data": step})).await?;
    }
    Ok(())
}

fn working() -> ScriptedServer {
    ScriptedServer::new("library").with_read_only("read", |call| async move {
        work(&call.ctx).await?;
        Ok(ToolResult::text(call.number.to_string()))
    })
}

async fn read_as(server: &impl McpHandler, ctx: &RequestContext) -> String {
    answer(server, "read", json!({}), ctx).await
}

fn all(messages: Option<&str>) -> Vec<(f64, Option<f64>, Option<String>)> {
    [1.0, 2.0, 3.0].map(|step| (step, Some(3.0), messages.map(str::to_owned))).into()
}

fn logs(client: &Client) -> usize {
    client.told("notifications/message").len()
}

#[tokio::test(start_paused = true)]
async fn a_lone_caller_gets_the_progress_of_the_tool_and_a_hit_sends_none() {
    for server in [CachedTool::new(), CachedTool::new().with_scope(Scope::Public)].map(|layer| layer.layer(working())) {
        let laptop = Client::new("laptop");
        for _ in 0..2 {
            assert_eq!(read_as(&server, &laptop.ctx("ada")).await, "1");
            assert_eq!((laptop.progress(), logs(&laptop)), (all(Some("reading")), 3));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_waiting_caller_gets_progress_by_its_own_token_from_its_arrival() {
    let server = CachedTool::new().layer(working());
    let clients = ["laptop", "phone", "tablet", "watch"].map(Client::new);
    let quiet = Client::new("quiet");
    let callers = clients.iter().enumerate().map(|(late, client)| {
        let server = server.clone();
        async move {
            sleep(u32::try_from(late).expect("a few") * (SECOND - Duration::from_millis(1))).await;
            read_as(&server, &client.ctx("ada")).await
        }
    });
    let quietly = async { read_as(&server, &quiet.quiet_ctx("ada")).await };
    let (answers, _) = tokio::join!(join_all(callers), quietly);
    assert_eq!(answers, ["1"; 4]);
    for (late, client) in clients.iter().enumerate() {
        let after = late.saturating_sub(1);
        assert_eq!(client.progress(), all(Some("reading"))[after..], "{late}");
        assert_eq!(logs(client), 3 - after, "{late}");
    }
    assert_eq!((quiet.progress().len(), logs(&quiet)), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_joins_a_call_without_a_session_gets_its_progress() {
    let server = CachedTool::new().layer(working());
    let laptop = Client::new("laptop");
    let in_process = nobody().with_principal(Principal::new("ada"));
    let late = async {
        settle().await;
        read_as(&server, &laptop.ctx("ada")).await
    };
    tokio::join!(read_as(&server, &in_process), late);
    assert_eq!(laptop.steps(), [1.0, 2.0, 3.0]);
}

#[tokio::test(start_paused = true)]
async fn of_a_public_call_other_users_get_only_numbers_and_the_starters_connections_get_everything() {
    let server = CachedTool::new().with_scope(Scope::Public).layer(working());
    let (laptop, phone, eve) = (Client::new("laptop"), Client::new("phone"), Client::new("eve"));
    let callers = [laptop.ctx("ada"), phone.ctx("ada"), eve.ctx("eve")];
    join_all(callers.iter().map(|ctx| read_as(&server, ctx))).await;
    for own in [&laptop, &phone] {
        assert_eq!((own.progress(), logs(own)), (all(Some("reading")), 3));
    }
    assert_eq!((eve.progress(), logs(&eve)), (all(None), 0));
}

#[tokio::test(start_paused = true)]
async fn a_log_below_the_level_of_a_client_is_not_sent_to_it() {
    let server = CachedTool::new().layer(working());
    let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
    let callers = [laptop.ctx("ada"), phone.ctx("ada")];
    callers[1].set_min_log_level("error");
    join_all(callers.iter().map(|ctx| read_as(&server, ctx))).await;
    assert_eq!((logs(&laptop), logs(&phone)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_connection_delays_only_its_own_result_and_for_at_most_one_second() {
    for (one, other) in [("stuck", "laptop"), ("laptop", "stuck")] {
        let server = CachedTool::new().layer(working());
        let client = |name| if name == "stuck" { Client::stuck(name) } else { Client::new(name) };
        let clients = [client(one), client(other)];
        let began = Instant::now();
        let callers = clients.iter().map(|client| async {
            read_as(&server, &client.ctx("ada")).await;
            began.elapsed()
        });
        for (took, client) in join_all(callers).await.into_iter().zip(&clients) {
            let is_stuck = client.steps().is_empty();
            assert_eq!(took, if is_stuck { 4 * SECOND } else { 3 * SECOND }, "on a paused clock");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_connection_gets_the_latest_128_notifications() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        for step in 1..=1_000 {
            call.ctx.report_progress(f64::from(step), None, None).await?;
        }
        Ok(ToolResult::text("a book"))
    });
    let server = CachedTool::new().layer(script);
    let laptop = Client::new("laptop");
    read_as(&server, &laptop.ctx("ada")).await;
    let steps = laptop.steps();
    assert_eq!((steps.len(), steps.last()), (128, Some(&1_000.0)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_result() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        call.ctx.report_progress(1.0, None, None).await?;
        tokio::spawn(async move {
            sleep(SECOND).await;
            call.ctx.report_progress(2.0, None, None).await?;
            call.ctx.notify_client("notifications/message", json!({"level": "info", "data": "late"})).await
        });
        Ok(ToolResult::text("a book"))
    });
    let server = CachedTool::new().layer(script);
    let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
    let callers = [laptop.ctx("ada"), phone.ctx("ada")];
    join_all(callers.iter().map(|ctx| read_as(&server, ctx))).await;
    sleep(MINUTE).await;
    assert_eq!((laptop.steps(), phone.steps()), (vec![1.0], vec![1.0]));
    assert_eq!((logs(&laptop), logs(&phone)), (1, 0), "a log belongs to the connection, which exists");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_has_to_call_alone_gets_rising_progress() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        work(&call.ctx).await?;
        Ok(ToolResult::text(ask_name(&call.ctx).await?))
    });
    let server = CachedTool::new().layer(script);
    let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
    let callers = [laptop.ctx("ada"), phone.ctx("ada")];
    assert_eq!(join_all(callers.iter().map(|ctx| read_as(&server, ctx))).await, ["laptop", "phone"]);
    assert_eq!(laptop.steps(), [1.0, 2.0, 3.0]);
    assert_eq!(phone.steps(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(phone.progress()[5].1, Some(6.0), "and so does the total");
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_client_was_asked_still_gets_later_progress() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        let name = ask_name(&call.ctx).await?;
        work(&call.ctx).await?;
        Ok(ToolResult::text(name))
    });
    let server = CachedTool::new().layer(script);
    let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
    let callers = [laptop.ctx("ada"), phone.ctx("ada")];
    join_all(callers.iter().map(|ctx| read_as(&server, ctx))).await;
    assert_eq!((laptop.steps(), phone.steps()), (vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 3.0]));
    assert_eq!((logs(&laptop), logs(&phone)), (3, 3), "each those of their own call");
}

#[tokio::test(start_paused = true)]
async fn progress_rises_for_all_callers_after_a_failed_attempt() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        work(&call.ctx).await?;
        if call.number == 1 { Err(McpError::unavailable("down")) } else { Ok(ToolResult::text("a book")) }
    });
    let server = (CachedTool::new(), RetryTool::new()).layer(script);
    let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
    let callers = [laptop.ctx("ada"), phone.ctx("ada")];
    join_all(callers.iter().map(|ctx| read_as(&server, ctx))).await;
    for client in [laptop, phone] {
        assert_eq!(client.steps(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_of_a_resource_or_a_prompt_gets_progress_too() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move {
            work(&ask.ctx).await?;
            Ok("a book".into())
        });
        let server = shelf.with(both());
        let clients = ["laptop", "phone"].map(Client::new);
        let callers = clients.iter().map(|client| {
            let (server, ctx) = (&server, client.ctx("ada"));
            async move { try_get(server, what, "one", &ctx).await.expect("an answer") }
        });
        join_all(callers).await;
        for client in clients {
            assert_eq!((client.progress(), logs(&client)), (all(Some("reading")), 3), "{what:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_nested_caches_send_progress_once() {
    let server = (CachedTool::new(), CachedTool::new()).layer(working());
    let laptop = Client::new("laptop");
    read_as(&server, &laptop.ctx("ada")).await;
    assert_eq!((laptop.progress(), logs(&laptop)), (all(Some("reading")), 3));
}
