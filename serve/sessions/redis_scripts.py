"""The Lua scripts of RedisStore. Redis runs each script atomically, so that no client and no kill sees half of it.

All keys share one prefix (KEYS[1]). `session:ID` is a hash of value (JSON), sequence, image (SHA-256) and bytes;
`image:SHA256` is an image file, and `holders:SHA256` the set of the sessions that use it; `used` holds the ids of the
sessions by last use; `bytes` is the sum of their stored bytes; `ended` holds the ids of expired sessions in the order
in which they ended, numbered by `num_ended`.
"""

_NAMES = """
local prefix = KEYS[1]
local used, total = prefix .. 'used', prefix .. 'bytes'
local function session_key(id) return prefix .. 'session:' .. id end
local function image_key(sha256) return prefix .. 'image:' .. sha256 end
local function holders_key(sha256) return prefix .. 'holders:' .. sha256 end
"""

_DROP = """
local function drop(id)
  local kept = redis.call('HMGET', session_key(id), 'image', 'bytes')
  redis.call('ZREM', used, id)
  if not kept[1] then return end
  redis.call('DEL', session_key(id))
  redis.call('DECRBY', total, kept[2])
  redis.call('SREM', holders_key(kept[1]), id)
  -- Redis deletes the key of an empty set.
  if redis.call('EXISTS', holders_key(kept[1])) == 0 then redis.call('UNLINK', image_key(kept[1])) end
end
"""

ADD = (
    _NAMES
    + """
local id, sha256, value, sequence, used_at, bytes, data = unpack(ARGV)
if redis.call('EXISTS', session_key(id)) == 1 then return 0 end
redis.call('SET', image_key(sha256), data, 'NX')
redis.call('SADD', holders_key(sha256), id)
redis.call('HSET', session_key(id), 'value', value, 'sequence', sequence, 'image', sha256, 'bytes', bytes)
redis.call('ZADD', used, used_at, id)
redis.call('INCRBY', total, bytes)
return 1
"""
)
"""id, sha256, value, sequence, used_at, bytes, data -> 1, or 0 if the id exists."""

GET = _NAMES + "return {redis.call('HGET', session_key(ARGV[1]), 'value'), redis.call('ZSCORE', used, ARGV[1])}"
"""id -> value and time of last use, or nil for both."""

COMMIT = (
    _NAMES
    + """
local id, value, sequence, expected = unpack(ARGV)
if redis.call('HGET', session_key(id), 'sequence') ~= expected then return 0 end
redis.call('HSET', session_key(id), 'value', value, 'sequence', sequence)
return 1
"""
)
"""id, value, its sequence, the expected sequence -> 1, or 0 if the session has another sequence or is gone."""

DELETE = _NAMES + _DROP + "drop(ARGV[1])"
"""id -> nothing."""

EXPIRE = (
    _NAMES
    + _DROP
    + """
local before, most = ARGV[1], ARGV[2]
local ids = redis.call('ZRANGEBYSCORE', used, '-inf', '(' .. before)
if #ids == 0 then return 0 end
local ended = prefix .. 'ended'
for _, id in ipairs(ids) do
  drop(id)
  if not redis.call('ZSCORE', ended, id) then
    redis.call('ZADD', ended, redis.call('INCR', prefix .. 'num_ended'), id)
  end
end
redis.call('ZREMRANGEBYRANK', ended, 0, -(most + 1))
return #ids
"""
)
"""time, most ended ids to remember -> number of sessions that ended."""

TOTALS = _NAMES + "return {redis.call('ZCARD', used), redis.call('GET', total) or '0'}"
"""Nothing -> sessions, bytes."""
