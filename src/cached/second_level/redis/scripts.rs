//! The scripts that run inside Redis, each on the invalidations of one shard.

use std::sync::LazyLock;

use redis::Script;

/// Finds the invalidations of the shard, or begins a new epoch: if there are none (they were evicted), or if they are behind the epoch
/// (`ARGV[1]`) or the number (`ARGV[2]`) that the caller has seen, and so have lost their last writes.
///
/// A number is the current time if possible, and always larger than all known numbers: after a restart from an old snapshot, or on a
/// replica that lagged behind, none is taken twice. An epoch begins with its own number, so that no value of another epoch is valid. If
/// writes were lost, all replicas receive a message (`ARGV[3]`: channel, `ARGV[4]`: message), since reads in between may have returned
/// values that were invalidated.
const FOUND: &str = "
    local time = redis.call('TIME')
    local now = tonumber(time[1] .. string.format('%06d', time[2]))
    local function text(number) return string.format('%.0f', number) end
    local found = redis.call('ZMSCORE', KEYS[1], 'epoch', 'last', 'floor')
    local epoch, last, floor = tonumber(found[1] or 0), tonumber(found[2] or 0), tonumber(found[3] or 0)
    local function begin()
        last = math.max(now, last + 1, ARGV[2] + 1)
        redis.call('DEL', KEYS[1])
        redis.call('ZADD', KEYS[1], text(last), 'epoch', text(last), 'last', text(last), 'floor')
        if epoch > 0 then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
        epoch, floor = last, last
    end
    if epoch == 0 or epoch < tonumber(ARGV[1]) or last < tonumber(ARGV[2]) then begin() end";

/// Learns the epoch and number that the caller has seen and, from `ARGV[6]` on, keys of which one was invalidated with the number
/// `ARGV[5]`.
pub(super) static RAISE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{FOUND}
        local known = floor
        if #ARGV > 5 then
            for _, number in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 6))) do
                known = math.max(known, tonumber(number or 0))
            end
        end
        if known < tonumber(ARGV[5]) then begin() end"
    ))
});

/// Takes the next number for the keys from `ARGV[9]` on, which is `ARGV[5]` at least, and returns it. Keeps `ARGV[6]` keys at most.
/// Sends a message to the other replicas unless `ARGV[7]` is empty: `ARGV[7]`, the number, and `ARGV[8]`.
///
/// The first member is the epoch, which is no larger than any other.
pub(super) static INVALIDATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{FOUND}
        local number = math.max(ARGV[5] == '' and now or tonumber(ARGV[5]), last + 1)
        redis.call('ZADD', KEYS[1], text(number), 'last')
        for at = 9, #ARGV do redis.call('ZADD', KEYS[1], text(number), ARGV[at]) end
        local excess = redis.call('ZCARD', KEYS[1]) - 3 - ARGV[6]
        if excess > 0 then
            redis.call('ZREM', KEYS[1], 'floor')
            local floor = redis.call('ZRANGE', KEYS[1], excess, excess, 'WITHSCORES')[2]
            redis.call('ZREMRANGEBYRANK', KEYS[1], 1, excess)
            redis.call('ZADD', KEYS[1], floor, 'floor')
        end
        if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[3], ARGV[7] .. struct.pack('<I8', number) .. ARGV[8]) end
        return text(number)"
    ))
});

pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});
