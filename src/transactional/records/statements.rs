//! The statements, the same on every database.

macro_rules! impl_records {
    ($database:ty, $lock:expr) => {
        impl crate::transactional::records::Records for $database {
            async fn claim(
                connection: &mut <Self as sqlx::Database>::Connection,
                call: &crate::idempotency::CallKey,
                owner: Option<crate::transactional::records::Owner<'_>>,
                ttl: std::time::Duration,
            ) -> Result<bool, sqlx::Error> {
                let now = crate::clock::wall_clock();
                let claimed: Option<i64> = sqlx::query_scalar(
                    "insert into mcp_patterns_idempotency as r \
                         (id, tool, key, fingerprint, token, lease_until, created_at, expires_at) \
                     values ($1, $2, $3, $4, $5, $6, $7, $8) \
                     on conflict (id) do update set \
                         fingerprint = excluded.fingerprint, token = excluded.token, \
                         lease_until = excluded.lease_until, result = null, \
                         created_at = excluded.created_at, expires_at = excluded.expires_at \
                     where r.expires_at <= excluded.created_at and r.result is not null \
                     returning created_at",
                )
                .bind(&call.id)
                .bind(&call.tool)
                .bind(&call.key)
                .bind(&call.fingerprint)
                .bind(owner.map(|owner| owner.token.to_owned()))
                .bind(owner.map(|owner| owner.lease_until))
                .bind(now)
                .bind(crate::clock::after(now, ttl))
                .fetch_optional(connection)
                .await?;
                Ok(claimed.is_some())
            }

            async fn find(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
            ) -> Result<Option<crate::transactional::records::Record>, sqlx::Error> {
                let row: Option<(String, Option<i64>, Option<String>)> = sqlx::query_as(
                    "select fingerprint, lease_until, result from mcp_patterns_idempotency where id = $1",
                )
                .bind(id)
                .fetch_optional(connection)
                .await?;
                Ok(row.map(|(fingerprint, lease_until, result)| crate::transactional::records::Record {
                    fingerprint,
                    lease_until,
                    result,
                }))
            }

            async fn complete(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                token: Option<&str>,
                result: &str,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(
                    "update mcp_patterns_idempotency set result = $1, token = null, lease_until = null \
                     where id = $2 and result is null and (token = $3 or (token is null and $3 is null))",
                )
                .bind(result)
                .bind(id)
                .bind(token)
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn renew(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                owner: crate::transactional::records::Owner<'_>,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(
                    "update mcp_patterns_idempotency set lease_until = $1 \
                     where id = $2 and token = $3 and result is null and lease_until > 0",
                )
                .bind(owner.lease_until)
                .bind(id)
                .bind(owner.token)
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn take_over(
                connection: &mut <Self as sqlx::Database>::Connection,
                call: &crate::idempotency::CallKey,
                owner: crate::transactional::records::Owner<'_>,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(
                    "update mcp_patterns_idempotency set token = $1, lease_until = $2 \
                     where id = $3 and fingerprint = $4 and result is null and lease_until <= $5",
                )
                .bind(owner.token)
                .bind(owner.lease_until)
                .bind(&call.id)
                .bind(&call.fingerprint)
                .bind(crate::clock::wall_clock())
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn record(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                token: &str,
                result: &str,
                ttl: std::time::Duration,
            ) -> Result<bool, sqlx::Error> {
                let now = crate::clock::wall_clock();
                let done = sqlx::query(
                    "update mcp_patterns_idempotency set result = $1, lease_until = null, expires_at = $2 \
                     where id = $3 and token = $4 and (result is null or result = $1)",
                )
                .bind(result)
                .bind(crate::clock::after(now, ttl))
                .bind(id)
                .bind(token)
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn release(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                token: &str,
            ) -> Result<bool, sqlx::Error> {
                let done =
                    sqlx::query("delete from mcp_patterns_idempotency where id = $1 and token = $2 and result is null")
                        .bind(id)
                        .bind(token)
                        .execute(connection)
                        .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn abandon(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                token: &str,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(
                    "update mcp_patterns_idempotency set lease_until = 0 \
                     where id = $1 and token = $2 and result is null",
                )
                .bind(id)
                .bind(token)
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn resolve(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                result: Option<&str>,
                ttl: std::time::Duration,
            ) -> Result<bool, sqlx::Error> {
                let now = crate::clock::wall_clock();
                let done = match result {
                    Some(result) => {
                        sqlx::query(
                            "update mcp_patterns_idempotency \
                             set result = $1, token = null, lease_until = null, expires_at = $2 \
                             where id = $3 and result is null and lease_until <= $4",
                        )
                        .bind(result)
                        .bind(crate::clock::after(now, ttl))
                        .bind(id)
                        .bind(now)
                        .execute(connection)
                        .await?
                    }
                    None => {
                        sqlx::query(
                            "delete from mcp_patterns_idempotency \
                             where id = $1 and result is null and lease_until <= $2",
                        )
                        .bind(id)
                        .bind(now)
                        .execute(connection)
                        .await?
                    }
                };
                Ok(done.rows_affected() == 1)
            }

            async fn ensure_schema(connection: &mut <Self as sqlx::Database>::Connection) -> Result<(), sqlx::Error> {
                // Two replicas that start at the same time take turns. On PostgreSQL a batch is a transaction by itself, which leaves
                // none behind if its caller leaves half-way.
                let batch = format!("{}; {}", $lock, crate::transactional::IDEMPOTENCY_SCHEMA);
                <Self as crate::transactional::Dialect>::execute(connection, batch.into()).await
            }
        }
    };
}
pub(in crate::transactional) use impl_records;
