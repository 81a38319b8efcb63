"""
The stages of the path, composed by hand: no server, no event loop, no clock, no network.

    python examples/pure_composition.py

Every function here is pure: it takes what is known and returns what to do. The answer is a recorded one, cut at odd
places as a network does; a host that has its own way of sending ``call`` would feed what comes back.
"""

from hpp_middleware import Consumer, Model, Provider
from hpp_middleware.core import bound, parse, price, quota, route, settlement
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.types.operations import Reserve, Settle
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Limits
from hpp_middleware.types.quota import Account, Draft, Report

BODY = b'{"model": "acme/small", "stream": true, "messages": [{"role": "user", "content": "Say hello."}]}'
RECORDED = [
    b'data: {"id":"1","model":"small","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\nda',
    b'ta: {"id":"1","model":"small","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r',
    b'\ndata: {"id":"1","model":"small","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}\n\n',
    b"data: [DONE]\n\n",
]

RATES = price.rates_from_usd({"input": "0.50", "output": "1.50"}, "acme/small")
CATALOG = route.Catalog(
    providers={"acme": Provider(base_url="https://acme.example/v1", api_key="made-up")},
    models={"acme/small": Model(price=Price(base=RATES))},
    aliases={},
)


def main() -> None:
    account = complete(BODY, RECORDED, Account(id="alice", quota=10**9))
    print(f"account  ${price.dollars(account.available)} available")


def complete(body: bytes, answer: list[bytes], account: Account) -> Account:
    """What an account comes to by one request, whose streamed answer is already known."""
    alice, limits, dialect = Consumer(id=account.id), Limits(), OpenAI()

    request = parse.completion(body, limits)
    target = route.resolve(request, alice, CATALOG)
    cap = bound.own_cap(request, target, limits)
    call = dialect.call(request, target, cap=cap, request_id="req_1")  # or refuses what could not be held for
    most = bound.bound(
        request, target, sent_bytes=len(call.body), limits=limits,
        more_tokens=call.more_tokens, least_cap=call.least_cap, long_cache=call.long_cache,
    )  # fmt: skip
    draft = Draft(consumer=alice.id, model=target.id, requested_model=request.model, price=target.price)
    reserve = Reserve(
        id="req_1", accounts=(account.id,), want=most.want, floor=most.floor, owner="me", ttl_s=600,
        orphan_amount=most.orphan_amount, draft=draft,
    )  # fmt: skip
    placed = quota.reserve(reserve, [account], None, now=0.0)
    hold = placed.result.amount
    if placed.hold is None:
        print(f"reserve  {placed.result.status}: ${price.dollars(most.floor)} would have been held")
        return account
    if hold < most.want:  # it did not fit, and our cap is lowered to what was held
        call = dialect.call(request, target, cap=bound.cap_within(most, hold), request_id="req_1")
    stream = dialect.stream(request, target, event_bytes=limits.event_bytes, cap=bound.cap_within(most, hold))
    relayed = b"".join(stream.feed(chunk) for chunk in answer)
    due = settlement.settle(
        settlement.End.COMPLETED, stream.seen, price=target.price, hold=hold, prompt_estimate=most.prompt_estimate
    )
    report = Report(outcome="completed", estimated=due.estimated, usage=due.usage)
    settled = quota.settle(Settle(id="req_1", amount=due.amount, report=report), placed.accounts, placed.hold, now=1.0)

    print(f"parse    model={request.model} stream={request.stream} cap={request.cap}")
    print(f"route    {target.id} at {call.url}")
    print(f"sent     {call.body.decode()}")
    print(f"reserve  {placed.result.status}: ${price.dollars(hold)} held")
    print(f"relay    {relayed.count(b'data: ')} events, {stream.seen.relayed_bytes} bytes of text, done={stream.done}")
    print(f"settle   {due.outcome}: ${price.dollars(due.amount)} for {due.usage.total} tokens")
    return settled.accounts[0]


if __name__ == "__main__":
    main()
