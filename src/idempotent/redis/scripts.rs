//! The steps on a claim in Redis, each one script on one key.

use std::sync::LazyLock;

use redis::Script;

/// A hash for each call: `fingerprint`, `tool`, `key`, the owner's `token`, the end of the `lease` (below 0: abandoned since then), how
/// long it is `kept` after that and, once there is one, the `record`. A hash expires that has a record, or is not kept for ever.
///
/// The connection may send a step again by itself (a cluster's client does): a claim by the token that has it is granted again.
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local fingerprint, token, lease, takes_over = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
        local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'token', 'lease', 'record')
        if known[1] then
            if known[1] ~= fingerprint then return {'other'} end
            if known[4] then return {'done', known[4]} end
            if known[2] ~= token then
                if tonumber(known[3]) > now then return {'running'} end
                if takes_over ~= '1' then return {'ambiguous', age(known[3])} end
            end
        end
        redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'token', token, 'lease', after(lease),
            'tool', ARGV[5], 'key', ARGV[6], 'kept', ARGV[7])
        keep(lease, ARGV[7])
        return {'new'}",
    )
});

pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'lease', 'record', 'kept')
        if known[1] ~= ARGV[1] or tonumber(known[2]) <= 0 or known[3] then return 0 end
        redis.call('HSET', KEYS[1], 'lease', after(ARGV[2]))
        keep(ARGV[2], known[4])
        return 1",
    )
});

/// Writes a recorded answer again: since Redis 7.2, `WAIT` is about what its own connection has written.
pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'record')
        if known[1] ~= ARGV[1] or known[2] and known[2] ~= ARGV[2] then return 0 end
        redis.call('HSET', KEYS[1], 'record', ARGV[2])
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
        return 1",
    )
});

pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'record')
        if known[1] ~= ARGV[1] or known[2] then return 0 end
        return redis.call('DEL', KEYS[1])",
    )
});

pub(super) static ABANDON: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'record', 'lease', 'kept')
        if known[1] ~= ARGV[1] or known[2] then return 0 end
        if tonumber(known[3]) > 0 then
            redis.call('HSET', KEYS[1], 'lease', '-' .. after(0))
            keep(0, known[4])
        end
        return 1",
    )
});

pub(super) static RESOLVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'lease', 'record')
        if not known[1] then return 'unknown' end
        if known[3] then return 'answered' end
        if tonumber(known[2]) > now then return 'running' end
        if ARGV[1] == '1' then
            redis.call('HDEL', KEYS[1], 'token')
            redis.call('HSET', KEYS[1], 'record', ARGV[2])
            redis.call('PEXPIRE', KEYS[1], ARGV[3])
        else
            redis.call('DEL', KEYS[1])
        end
        return 'resolved'",
    )
});

pub(super) static AMBIGUOUS: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return {} end
        local known = redis.call('HMGET', KEYS[1], 'lease', 'record', 'tool', 'key')
        if not known[1] or known[2] or tonumber(known[1]) > now then return {} end
        return {known[3], known[4], age(known[1])}",
    )
});

/// Creates a script with the current time. Lua's own formatting of numbers would lose digits.
fn script(code: &str) -> Script {
    const CLOCK: &str = "
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local function after(millis) return string.format('%.0f', now + millis) end
        local function age(lease) return string.format('%.0f', math.max(0, now - math.abs(lease))) end
        local function keep(lease, kept)
            if kept and kept ~= '' then
                redis.call('PEXPIRE', KEYS[1], string.format('%.0f', lease + kept))
            else
                redis.call('PERSIST', KEYS[1])
            end
        end";
    Script::new(&format!("{CLOCK}{code}"))
}
