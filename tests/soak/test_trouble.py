"""What the soak deals: the whole catalogue on both hybrid connections, over and over, and the same for one seed."""

from __future__ import annotations

import asyncio
import random

from relay.emulator import CATALOGUE, Emulator
from tests.soak.bad_peers import KINDS
from tests.soak.trouble import DETAILS, PATHS, Act, Dealer


def test_every_fault_of_the_catalogue_comes_on_both_hybrid_connections() -> None:
    dealer = Dealer(random.Random(1))
    dealt = [trouble for _ in range(40) for trouble in dealer.round() if trouble.act is Act.FAULT]
    assert {trouble.name for trouble in dealt} == set(CATALOGUE)
    for path in PATHS:
        assert {trouble.name for trouble in dealt if trouble.concerns(path)} == set(CATALOGUE)


def test_gateway_and_relay_are_killed_now_and_then() -> None:
    dealer = Dealer(random.Random(1))
    acts = [trouble.act for _ in range(100) for trouble in dealer.round()]
    assert acts.count(Act.KILL_GATEWAY) > acts.count(Act.KILL_RELAY) > 0


def test_bad_peers_of_every_kind_come_and_the_gateway_is_not_killed_where_it_shall_live() -> None:
    dealer = Dealer(random.Random(1))
    dealt = [trouble for _ in range(40) for trouble in dealer.round(kills=False)]
    assert {trouble.name for trouble in dealt if trouble.act is Act.BAD_PEERS} == set(KINDS)
    assert not [trouble for trouble in dealt if trouble.act is Act.KILL_GATEWAY]


def test_what_lasts_ends_by_itself_and_a_round_is_in_order_of_time() -> None:
    dealer = Dealer(random.Random(1))
    for _ in range(100):
        dealt = dealer.round()
        assert dealt == sorted(dealt, key=lambda trouble: trouble.at)
        for trouble in dealt:
            assert trouble.act is not Act.FAULT or (trouble.lasting is not None) == CATALOGUE[trouble.name].lasts


def test_one_seed_deals_the_same_again() -> None:
    first, second = Dealer(random.Random(7)), Dealer(random.Random(7))
    assert [first.round() for _ in range(20)] == [second.round() for _ in range(20)]


def test_the_emulator_takes_all_that_is_dealt() -> None:
    async def deal_all() -> None:
        async with Emulator(hybrid_connections=PATHS, keys={"key": "secret"}) as relay:
            dealer = Dealer(random.Random(1))
            for trouble in (each for _ in range(60) for each in dealer.round()):
                if trouble.act is Act.FAULT:
                    await relay.faults.begin(trouble.name, **trouble.parameters())

    asyncio.run(deal_all())
    assert set(DETAILS) <= set(CATALOGUE)
