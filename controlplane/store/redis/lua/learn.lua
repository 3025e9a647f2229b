-- Appends round trips that sessions taught.
-- KEYS: learned log, meta
-- ARGV: origin, samples (JSON), limit
append(KEYS[1], KEYS[2], ARGV[3], 'o', ARGV[1], 'j', ARGV[2])
return {'ok'}
