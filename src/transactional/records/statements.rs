//! The statements, the same on every database. Each reads the clock of the database, and binds durations only.

macro_rules! impl_records {
    ($database:ident, $create:expr) => {
        impl crate::transactional::records::Records for $database {
            async fn claim(
                connection: &mut <Self as sqlx::Database>::Connection,
                call: &crate::idempotency_keys::CallKey,
                owner: Option<crate::transactional::records::Owner<'_>>,
                kept_for: std::time::Duration,
            ) -> Result<bool, sqlx::Error> {
                let lease = owner.map(|owner| owner.lease);
                let claimed: Option<i64> = sqlx::query_scalar(concat!(
                    "insert into mcp_patterns_idempotency as r \
                         (id, tool, key, fingerprint, token, lease_until, created_at, expires_at) \
                     select $1, $2, $3, $4, $5, clock.now + $6, clock.now, clock.now + $7 \
                     from (select ", crate::clock::time_of!($database), " as now) as clock where true \
                     on conflict (id) do update set \
                         fingerprint = excluded.fingerprint, token = excluded.token, \
                         lease_until = excluded.lease_until, result = null, \
                         created_at = excluded.created_at, expires_at = excluded.expires_at \
                     where r.expires_at <= excluded.created_at \
                         and (r.result is not null or r.lease_until is null or r.lease_until < r.expires_at) \
                     returning created_at",
                ))
                .bind(&call.id)
                .bind(&call.tool)
                .bind(&call.key)
                .bind(&call.fingerprint)
                .bind(owner.map(|owner| owner.token.to_owned()))
                .bind(lease.map(crate::clock::signed_millis))
                .bind(lease.map_or(0, crate::clock::signed_millis) + crate::clock::signed_millis(kept_for))
                .fetch_optional(connection)
                .await?;
                Ok(claimed.is_some())
            }

            async fn find(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
            ) -> Result<Option<crate::transactional::records::Record>, sqlx::Error> {
                let row: Option<(String, Option<i64>, Option<String>, i64, i64, i64)> = sqlx::query_as(concat!(
                    "select fingerprint, lease_until, result, created_at, expires_at, ", crate::clock::time_of!($database), " \
                     from mcp_patterns_idempotency where id = $1",
                ))
                .bind(id)
                .fetch_optional(connection)
                .await?;
                Ok(row.map(|(fingerprint, lease_until, result, created_at, expires_at, now)| {
                    crate::transactional::records::Record { fingerprint, lease_until, result, created_at, expires_at, now }
                }))
            }

            async fn complete(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                result: &str,
                ttl: std::time::Duration,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(concat!(
                    "update mcp_patterns_idempotency set result = $1, expires_at = ", crate::clock::time_of!($database), " + $2 \
                     where id = $3 and result is null and token is null",
                ))
                .bind(result)
                .bind(crate::clock::signed_millis(ttl))
                .bind(id)
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn renew(
                connection: &mut <Self as sqlx::Database>::Connection,
                claims: &[(String, String)],
                lease: std::time::Duration,
            ) -> Result<Vec<String>, sqlx::Error> {
                let lease = crate::clock::signed_millis(lease);
                let mut renew =
                    sqlx::QueryBuilder::<Self>::new("update mcp_patterns_idempotency set expires_at = expires_at - lease_until + clock.now + ");
                renew.push_bind(lease).push(", lease_until = clock.now + ").push_bind(lease);
                renew.push(concat!(
                    " from (select ", crate::clock::time_of!($database), " as now) as clock \
                     where result is null and lease_until > 0 and (id, token) in (values "
                ));
                let mut rows = renew.separated(", ");
                for (id, token) in claims {
                    rows.push("(").push_bind_unseparated(id).push_unseparated(", ").push_bind_unseparated(token).push_unseparated(")");
                }
                renew.push(") returning id");
                renew.build_query_scalar().fetch_all(connection).await
            }

            async fn take_over(
                connection: &mut <Self as sqlx::Database>::Connection,
                call: &crate::idempotency_keys::CallKey,
                owner: crate::transactional::records::Owner<'_>,
                kept_for: std::time::Duration,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(concat!(
                    "update mcp_patterns_idempotency \
                     set token = $1, lease_until = clock.now + $2, expires_at = clock.now + $3 \
                     from (select ", crate::clock::time_of!($database), " as now) as clock \
                     where id = $4 and fingerprint = $5 and result is null and coalesce(lease_until, 0) <= clock.now",
                ))
                .bind(owner.token)
                .bind(crate::clock::signed_millis(owner.lease))
                .bind(crate::clock::signed_millis(owner.lease) + crate::clock::signed_millis(kept_for))
                .bind(&call.id)
                .bind(&call.fingerprint)
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
                let done = sqlx::query(concat!(
                    "update mcp_patterns_idempotency \
                     set result = $1, lease_until = null, expires_at = ", crate::clock::time_of!($database), " + $2 \
                     where id = $3 and token = $4 and (result is null or result = $1)",
                ))
                .bind(result)
                .bind(crate::clock::signed_millis(ttl))
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
                let done = sqlx::query(concat!(
                    "update mcp_patterns_idempotency set \
                         expires_at = case when lease_until > 0 then expires_at - lease_until + clock.now else expires_at end, \
                         lease_until = case when lease_until > 0 then -clock.now else lease_until end \
                     from (select ", crate::clock::time_of!($database), " as now) as clock \
                     where id = $1 and token = $2 and result is null",
                ))
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
                let done = match result {
                    Some(result) => {
                        sqlx::query(concat!(
                            "update mcp_patterns_idempotency \
                             set result = $1, token = null, lease_until = null, expires_at = clock.now + $2 \
                             from (select ", crate::clock::time_of!($database), " as now) as clock \
                             where id = $3 and result is null and coalesce(lease_until, 0) <= clock.now and expires_at > clock.now",
                        ))
                        .bind(result)
                        .bind(crate::clock::signed_millis(ttl))
                        .bind(id)
                        .execute(connection)
                        .await?
                    }
                    None => {
                        sqlx::query(concat!(
                            "delete from mcp_patterns_idempotency where id = $1 and result is null \
                             and coalesce(lease_until, 0) <= ", crate::clock::time_of!($database), " \
                             and expires_at > ", crate::clock::time_of!($database),
                        ))
                        .bind(id)
                        .execute(connection)
                        .await?
                    }
                };
                Ok(done.rows_affected() == 1)
            }

            async fn ambiguous(
                connection: &mut <Self as sqlx::Database>::Connection,
                page: crate::idempotency_keys::Page<'_>,
            ) -> Result<crate::idempotency_keys::AmbiguousCalls, sqlx::Error> {
                use crate::transactional::records::Record;
                let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
                // No digit comes after `g`, in any collation.
                let rows: Vec<(String, String, String, Option<i64>, i64, i64)> = sqlx::query_as(concat!(
                    "select id, tool, key, lease_until, created_at, (select ", crate::clock::time_of!($database), ") \
                     from mcp_patterns_idempotency where id > $1 and id < $2 and result is null \
                     and coalesce(lease_until, 0) <= (select ", crate::clock::time_of!($database), ") \
                     and expires_at > (select ", crate::clock::time_of!($database), ") order by id limit $3",
                ))
                .bind(page.after.unwrap_or(page.space))
                .bind(format!("{}g", page.space))
                .bind(limit)
                .fetch_all(connection)
                .await?;
                let next = if rows.len() < page.limit { None } else { rows.last().map(|(id, ..)| id.clone()) };
                let calls = rows.into_iter().map(|(id, tool, key, lease_until, created_at, now)| {
                    let (fingerprint, expires_at) = (String::new(), i64::MAX);
                    let record = Record { fingerprint, lease_until, result: None, created_at, expires_at, now };
                    let age = record.ambiguous_for().unwrap_or_default();
                    crate::idempotency_keys::AmbiguousCall { id, tool, key, age }
                });
                Ok(crate::idempotency_keys::AmbiguousCalls { calls: calls.collect(), next })
            }

            async fn ensure_schema(connection: &mut <Self as sqlx::Database>::Connection) -> Result<(), sqlx::Error> {
                <Self as crate::transactional::Dialect>::execute(connection, $create.into()).await
            }
        }
    };
}
pub(in crate::transactional) use impl_records;
