"""What a provider's settings hold that is nobody's but the operator's."""

from hpp_middleware.core import reply
from hpp_middleware.stages.upstream.call import secrets_of
from hpp_middleware.types.provider import Provider


def test_options_that_are_secret_do_not_come_back_in_a_provider_s_error() -> None:
    hidden = {
        "access_key_id": "AK-not-of-the-usual-form",
        "secret_access_key": "a/secret+key",
        "session_token": "a.session/token",
        "project": "our-own-project",
        "resource": "our-resource",
    }
    found = secrets_of(Provider(base_url="https://p.test", headers={"X-Team": "team-of-ours"}, options=hidden))
    body = b'{"error":{"message":"it was: %s"}}' % " ; ".join([*hidden.values(), "team-of-ours"]).encode()
    message = reply.upstream_error("p", 400, body, secrets=found).message
    assert message.startswith("it was:")
    assert not [secret for secret in [*hidden.values(), "team-of-ours"] if secret in message]
