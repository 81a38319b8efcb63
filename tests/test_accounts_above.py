"""The account above a consumer's: whose keys are under it, and how they are moved."""

import pytest

from hpp_middleware import MemoryStore
from hpp_middleware.accounts import Accounts
from hpp_middleware.errors import ConfigurationError

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper of thirty-two bytes long"


async def _of(found: Accounts, consumer: str) -> set[tuple[str, ...]]:
    return {each.consumer.parents for each in await found.keys() if each.consumer.id == consumer}


async def test_all_keys_of_a_consumer_are_under_one_parent() -> None:
    store = MemoryStore()
    found = Accounts(store, store, PEPPER)
    await found.create_key("carol", parent="team")
    await found.create_key("carol")
    await found.create_key("carol", parent="team")
    assert await _of(found, "carol") == {("team",)}
    with pytest.raises(ConfigurationError, match="another parent") as caught:
        await found.create_key("carol", parent="other")
    assert caught.value.param == "parent"
    assert await found.set_parent("carol", "other") == 3
    assert await _of(found, "carol") == {("other",)}
    assert await found.set_parent("carol", "other") == 0, "to repeat it changes nothing"
    assert await found.set_parent("carol", None) == 3
    assert await _of(found, "carol") == {()}


async def test_a_moved_key_keeps_its_revocation_and_a_rotated_one_its_parent() -> None:
    store = MemoryStore()
    found = Accounts(store, store, PEPPER)
    made = await found.create_key("carol", models=["fake/*"])
    assert await found.revoke(made.id)
    await found.set_parent("carol", "team")
    (key,) = await found.keys()
    assert key.revoked is not None
    assert (key.consumer.parents, key.consumer.models, key.consumer.key_id) == (("team",), ("fake/*",), made.id)
    again = await found.create_key("dora", parent="team")
    rotated = await found.rotate_key(again.id)
    assert rotated is not None
    assert await _of(found, "dora") == {("team",)}


@pytest.mark.parametrize(
    ("consumer", "parent"), [("carol", "carol"), ("carol", " "), ("carol", "a/~day:1"), ("a/~", "t")]
)
async def test_a_parent_that_cannot_be_is_refused(consumer: str, parent: str) -> None:
    store = MemoryStore()
    found = Accounts(store, store, PEPPER)
    with pytest.raises(ConfigurationError):
        await found.create_key(consumer, parent=parent)
    assert await found.keys() == []


async def test_a_parent_in_another_shard_is_refused_with_the_names() -> None:
    class Sharded(MemoryStore):
        def holds_together(self, accounts: tuple[str, ...]) -> bool:
            return len({account.partition("/")[0] for account in accounts}) == 1

    store = Sharded()
    found = Accounts(store, store, PEPPER)
    with pytest.raises(ConfigurationError, match="cannot hold in carol and team at once"):
        await found.create_key("carol", parent="team")
    await found.create_key("org/carol", parent="org/team")
