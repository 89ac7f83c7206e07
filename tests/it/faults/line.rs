//! The line between a server and its backend.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Passes on what goes between clients and one server, until it is told otherwise. Connections have numbers from 0 on.
pub(super) struct Line {
    port: u16,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// How many connections there were.
    connections: u64,
    /// Connections with a lower number are silent: nothing that is sent arrives, and neither end hears that it is over.
    silent_below: u64,
    /// Connections with a lower number are reset.
    reset_below: u64,
    is_refusing: bool,
    delay: Duration,
}

impl Line {
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let own = listener.local_addr().expect("it is bound").port();
        let state = watch::Sender::new(State::default());
        let accepting = tokio::spawn(accept(listener, port, state.clone()));
        Self { port: own, state, accepting }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// All connections that there are fall silent, for ever. New ones work.
    pub(super) fn fall_silent(&self) {
        self.state.send_modify(|state| state.silent_below = state.connections);
    }

    /// All connections that there are, but for the silent ones, are reset.
    pub(super) fn reset(&self) {
        self.state.send_modify(|state| state.reset_below = state.connections);
    }

    /// New connections are closed at once, or no longer.
    pub(super) fn refuse(&self, is_refusing: bool) {
        self.state.send_modify(|state| state.is_refusing = is_refusing);
    }

    /// Everything arrives so much later.
    pub(super) fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut number = 0;
        state.send_modify(|state| {
            number = state.connections;
            state.connections += 1;
        });
        if state.borrow().is_refusing {
            reset(&client);
            continue;
        }
        let state = state.subscribe();
        tokio::spawn(async move {
            // Without a server behind it, the line refuses.
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(server) => pass(number, client, server, state).await,
                Err(_) => reset(&client),
            }
        });
    }
}

async fn pass(number: u64, mut client: TcpStream, mut server: TcpStream, mut state: watch::Receiver<State>) {
    let mut buffers = [vec![0; 65_536], vec![0; 65_536]];
    let [sent, answered] = &mut buffers;
    loop {
        let now = *state.borrow_and_update();
        if number < now.silent_below {
            // Both ends stay open, until the line goes.
            while state.changed().await.is_ok() {}
            return;
        }
        if number < now.reset_below {
            reset(&client);
            reset(&server);
            return;
        }
        let passed = tokio::select! {
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = client.read(sent) => (read, &sent[..], &mut server),
            read = server.read(answered) => (read, &answered[..], &mut client),
        };
        let (Ok(length @ 1..), bytes, to) = passed else { return };
        sleep(now.delay).await;
        // It may have fallen silent meanwhile: then this does not arrive.
        if number >= state.borrow().silent_below && to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

fn reset(connection: &TcpStream) {
    // It is reset when it is dropped. Where this fails, it is closed the usual way.
    let _ = connection.set_zero_linger();
}
