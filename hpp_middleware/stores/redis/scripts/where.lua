-- The server's replication id: it changes with a failover, and with a restart.

local known, info = pcall(redis.call, 'INFO', 'replication')
if not known or type(info) ~= 'string' then return '' end
return info:match('master_replid:(%x+)') or ''
