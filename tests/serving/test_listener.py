"""Connections beyond an address's share are closed before anything is made for them."""

import asyncio
import socket
import ssl

import pytest

from retinaface_tf.serving.budget import Budget
from retinaface_tf.serving.listener import Listener
from tests.helpers.waiting import PATIENCE


class Silent(asyncio.Protocol):
    def __init__(self, lost):
        self.connection_lost = lambda error: lost()


async def turn_to(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("tls", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)])
def test_an_address_gets_its_share_and_what_it_gave_up(tls):
    made, budget = [], Budget(5)

    def protocol(lost):
        made.append(Silent(lost))
        return made[-1]

    async def run():
        listener = Listener(protocol, budget, tls, PATIENCE)
        address = ("127.0.0.1", await listener.open("127.0.0.1", 0))
        kept = []
        for count in (1, 2):
            kept.append(socket.create_connection(address, PATIENCE))
            await turn_to(lambda count=count: budget.used == len(made) == count)
        refused = socket.create_connection(address, PATIENCE)
        refused.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.get_running_loop().sock_recv(refused, 1) == b""
        assert len(made) == 2
        kept[0].close()
        await turn_to(lambda: budget.used == 1)
        with socket.create_connection(address, PATIENCE):
            await turn_to(lambda: budget.used == 2 and len(made) == 3)
            await listener.close()
            with pytest.raises(ConnectionError):
                socket.create_connection(address, PATIENCE)
        kept[1].close()
        await turn_to(lambda: budget.used == 0)

    asyncio.run(run())


def test_a_port_that_is_taken_is_an_error():
    async def run():
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
            port = taken.getsockname()[1]
            await Listener(Silent, Budget(1), None, PATIENCE).open("127.0.0.1", port)

    asyncio.run(run())
