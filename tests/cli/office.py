"""The file of a router whose keys, quotas and models are seen to from a command line."""

TOML = """
[providers.local]
base_url = "http://127.0.0.1:9/v1"
api_key = "env:LOCAL_KEY"
[models."local/m"]
input = "1.25"
output = "2"
cache_read = "0.125"
context = 4096
[models."local/free"]
input = "0"
output = "0"
[consumers.declared]
quota = "7"
keys = ["env:DECLARED_KEY"]
"""
SECRETS = {"LOCAL_KEY": "local-key", "DECLARED_KEY": "a-declared-key-of-20-characters"}
