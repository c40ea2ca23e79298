"""Versions that come and go, with models that only remember whether they were closed."""

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("google.protobuf")

from retinaface_tf.protocol.messages import ModelSpec
from retinaface_tf.serving import repository as repository_module
from retinaface_tf.serving.repository import Repository
from retinaface_tf.serving.request_error import RequestError
from tests.helpers.waiting import until

ANY = ModelSpec(name="m")


class Model:
    def __init__(self, folder, threads):
        if (folder / "broken").exists():
            raise ValueError("broken\nin several lines")
        self.version, self.closed = int(folder.name), False

    def warm_up(self):
        pass

    def close(self):
        self.closed = True


def add_version(folder, number):
    (folder / str(number)).mkdir()
    (folder / str(number) / "saved_model.pb").touch()


def test_a_version_comes_back_while_its_first_model_still_answers(tmp_path):
    async def main():
        repository = Repository(tmp_path, "m", load=Model)
        add_version(tmp_path, 1)
        await repository.refresh()
        async with repository.use(ANY) as first:
            add_version(tmp_path, 2)
            await repository.refresh()
            assert repository.available == [2] and repository.statuses[1].state == "UNLOADING"
            (tmp_path / "2" / "saved_model.pb").unlink()
            await repository.refresh()
            assert repository.available == [1] and not first.closed
        await asyncio.to_thread(until, lambda: not repository._retiring)
        assert first.closed and repository.statuses[1].state == "AVAILABLE"
        assert repository.statuses[2].state == "END"
        async with repository.use(ANY) as second:
            assert second is not first and not second.closed
        await repository.close()
        assert second.closed

    asyncio.run(main())


def test_a_broken_version_is_tried_again_after_a_pause_or_when_its_files_change(
    tmp_path, monkeypatch
):
    async def main():
        loads, clock = [], [0.0]
        monkeypatch.setattr(repository_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

        def load(folder, threads):
            loads.append(clock[0])
            return Model(folder, threads)

        repository = Repository(tmp_path, "m", load=load)
        add_version(tmp_path, 1)
        (tmp_path / "1" / "broken").touch()
        while clock[0] < 1000:
            await repository.refresh()
            clock[0] += 1
        assert loads == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]
        assert repository.statuses[1].error == "broken"
        with pytest.raises(RequestError, match="No version") as caught:
            async with repository.use(ANY):
                pass
        assert caught.value.code == "UNAVAILABLE"
        (tmp_path / "1" / "broken").unlink()
        await repository.refresh()
        assert repository.available == [1] and not repository.statuses[1].error
        await repository.close()

    asyncio.run(main())
