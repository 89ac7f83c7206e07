//! A way to a server on which connections fall silent: they stay open, and nothing comes through any more in either direction.

#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy at a port of its own, as long as the runtime of the test.
pub(crate) struct HalfOpen {
    port: u16,
    silent: watch::Sender<u64>,
}

impl HalfOpen {
    /// Stands in front of the server at this address.
    pub(crate) async fn to(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (silent, _) = watch::channel(0);
        let connections = silent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&upstream).await {
                    tokio::spawn(pass(client, server, connections.subscribe()));
                }
            }
        });
        Self { port, silent }
    }

    /// Stands in front of a PostgreSQL. Returns the options of a connection that goes this way, too.
    #[cfg(feature = "postgres")]
    pub(crate) async fn to_postgres(options: &PgConnectOptions) -> (Self, PgConnectOptions) {
        let network = Self::to(format!("{}:{}", options.get_host(), options.get_port())).await;
        let through = options.clone().host("127.0.0.1").port(network.port).ssl_mode(PgSslMode::Disable);
        (network, through)
    }

    /// Has the connections that there are fall silent. New ones are as good as ever.
    pub(crate) fn fall_silent(&self) {
        self.silent.send_modify(|times| *times += 1);
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, mut silent: watch::Receiver<u64>) {
    tokio::select! {
        biased;
        _ = silent.changed() => std::future::pending().await,
        _ = copy_bidirectional(&mut client, &mut server) => {}
    }
}
