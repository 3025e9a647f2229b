-- Appends an event that belongs to no assignment.
-- KEYS: log, meta
-- ARGV: origin, type, at, data (JSON), limit
append(KEYS[1], KEYS[2], ARGV[5], 'o', ARGV[1], 't', ARGV[2], 'a', ARGV[3], 'j', ARGV[4])
return {'ok'}
