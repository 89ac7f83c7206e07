//! Private databases and folders for tests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};

/// The PostgreSQL server for the tests' databases: `TEST_POSTGRES_URL`, or the one of this machine.
pub(crate) fn postgres_url() -> String {
    env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".into())
}

/// A private database. It is dropped after the test.
#[derive(Debug)]
pub(crate) enum Database {
    Memory,
    File(Folder),
    Postgres { server: String, name: String },
}

impl Database {
    pub(crate) fn file() -> Self {
        Self::File(Folder::new())
    }

    pub(crate) async fn postgres() -> Self {
        Self::on(&postgres_url()).await
    }

    /// A database on the PostgreSQL server of this URL.
    pub(crate) async fn on(server: &str) -> Self {
        let mut connection = PgConnection::connect(server).await.unwrap_or_else(|error| {
            panic!("no PostgreSQL answers at {server}; start one or set TEST_POSTGRES_URL: {error}")
        });
        let name = format!("mcp_patterns_{:016x}", fastrand::u64(..));
        connection.execute(AssertSqlSafe(format!("create database {name}"))).await.expect("no database could be made");
        Self::Postgres { server: server.into(), name }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Memory => "sqlite::memory:".into(),
            Self::File(folder) => format!("sqlite:{}", folder.path().join("accounts.db").display()),
            Self::Postgres { server, name } => {
                let options: PgConnectOptions = server.parse().expect("a URL");
                // The test finds its own connections by this.
                options.database(name).application_name(name).to_url_lossy().into()
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Self::Postgres { server, name } = self else { return };
        let (server, name) = (server.clone(), name.clone());
        // On another thread, since this one may be running futures. A database that cannot be dropped does no harm.
        let _ = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await.ok()?;
                connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.ok()
            })
        })
        .join();
    }
}

/// An empty folder. It is deleted after the test.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = env::temp_dir().join(format!("mcp-patterns-{:016x}", fastrand::u64(..)));
        fs::create_dir(&path).expect("no folder could be made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
