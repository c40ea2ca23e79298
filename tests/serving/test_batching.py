"""The batcher: who is joined with whom, limits, and who gets which rows back."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.serving import batching
from retinaface_tf.serving.batching import Batcher, BatchingParameters, read_batching_file
from retinaface_tf.serving.request_error import RequestError
from tests.helpers.waiting import PATIENCE


class Model:
    """Doubles numbers; remembers its batches; waits while the gate is shut."""

    def __init__(self):
        self.batches, self.gate = [], threading.Event()
        self.gate.set()

    def __call__(self, key, inputs, seconds):
        assert self.gate.wait(PATIENCE)
        self.batches.append((key, inputs["x"].tolist()))
        if "fail" in str(key):
            raise ValueError("broken")
        return {"y": inputs["x"] * 2}


def run(scenario, **parameters):
    model = Model()

    async def main():
        with ThreadPoolExecutor(4) as pool:
            batcher = Batcher(model, BatchingParameters(**parameters), pool)
            return await scenario(batcher, model)

    return asyncio.run(main()), model


def rows(*values):
    return {"x": np.array(values)}


def test_waiting_requests_are_joined_and_each_gets_its_rows():
    async def scenario(batcher, model):
        model.gate.clear()
        calls = [asyncio.ensure_future(batcher.submit("k", rows(i, i + 10))) for i in range(5)]
        await asyncio.sleep(0)  # each has been submitted
        model.gate.set()
        return await asyncio.gather(*calls)

    answers, model = run(scenario, max_batch_size=6, num_batch_threads=1)
    assert [a["y"].tolist() for a in answers] == [[2 * i, 2 * i + 20] for i in range(5)]
    assert [len(x) for _, x in model.batches] == [2, 6, 2]


def test_different_shapes_and_signatures_are_not_joined():
    async def scenario(batcher, model):
        model.gate.clear()
        first = asyncio.ensure_future(batcher.submit("a", rows(0)))
        await asyncio.sleep(0)
        calls = [asyncio.ensure_future(batcher.submit("ab"[i % 2], rows(i))) for i in range(6)]
        await asyncio.sleep(0)
        model.gate.set()
        return await asyncio.gather(first, *calls)

    _, model = run(scenario, max_batch_size=8, num_batch_threads=1)
    assert sorted(model.batches) == [("a", [0]), ("a", [0, 2, 4]), ("b", [1, 3, 5])]


def test_batches_are_filled_up_to_an_allowed_size():
    async def scenario(batcher, model):
        return (await batcher.submit("k", rows(1, 2, 3)))["y"].tolist()

    answer, model = run(scenario, max_batch_size=8, allowed_batch_sizes=(4, 8))
    assert answer == [2, 4, 6] and model.batches == [("k", [1, 2, 3, 1])]


def test_a_full_queue_refuses_and_recovers():
    async def scenario(batcher, model):
        model.gate.clear()
        calls = [
            asyncio.ensure_future(batcher.submit("k", rows(i), "ab"[i // 10])) for i in range(20)
        ]
        await asyncio.sleep(0)  # each has been submitted
        assert batcher.queued_rows == 2  # two run
        model.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return answers, await batcher.submit("k", rows(5))

    (answers, later), _ = run(
        scenario, max_batch_size=2, max_enqueued_batches=2, num_batch_threads=1
    )
    refused = [a for a in answers if isinstance(a, RequestError)]
    assert {r.code for r in refused} == {"RESOURCE_EXHAUSTED"} and len(refused) == 16
    assert later["y"].tolist() == [10]


def test_addresses_take_turns_and_one_thread_is_never_theirs_who_have_others():
    started, ends = [], [threading.Event() for _ in range(100)]

    def one_by_one(key, inputs, seconds):
        (row,) = inputs["x"].tolist()
        started.append(row)
        assert ends[row].wait(PATIENCE)
        return inputs

    async def scenario():
        with ThreadPoolExecutor(2) as pool:
            batcher = Batcher(one_by_one, BatchingParameters(num_batch_threads=1), pool)
            names = [(i, "greedy") for i in range(9)] + [(90, "new"), (91, "new")]
            calls = [asyncio.ensure_future(batcher.submit("k", rows(i), who)) for i, who in names]
            for turn in ([0, 90], [1, 91]):  # both run before either may end
                while not {*turn} <= {*started}:
                    await asyncio.sleep(0.001)
                for row in turn:
                    ends[row].set()
            for end in ends:
                end.set()
            await asyncio.gather(*calls)

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    assert {*started[:2]} == {0, 90} and {*started[2:4]} == {1, 91}
    assert started[4:] == [*range(2, 9)]


def test_an_address_gets_half_of_the_threads_while_another_asks(monkeypatch):
    monkeypatch.setattr(batching, "BESIDE_SECONDS", float("inf"))  # whatever the clock says
    started, end = [], threading.Event()

    def run_one(key, inputs, seconds):
        (row,) = inputs["x"].tolist()
        started.append(row)
        if row:
            end.wait(10)
        return inputs

    async def under_way(before, count):
        with ThreadPoolExecutor(5) as pool:
            batcher = Batcher(run_one, BatchingParameters(num_batch_threads=4), pool)
            for who in before:
                await batcher.submit("k", rows(0), who)
            calls = [
                asyncio.ensure_future(batcher.submit("k", rows(i), "greedy")) for i in range(1, 9)
            ]
            await asyncio.sleep(0)  # all have been submitted
            running = len(batcher._running)
            end.set()
            await asyncio.gather(*calls)
            return running

    for before, count in (([], 4), (["greedy"], 4), (["other"], 2)):
        end.clear()
        assert asyncio.run(under_way(before, count)) == count


def test_a_request_larger_than_a_batch_is_refused():
    async def scenario(batcher, model):
        with pytest.raises(RequestError, match="max_batch_size 2"):
            await batcher.submit("k", rows(1, 2, 3))

    run(scenario, max_batch_size=2)


def test_nobody_works_for_callers_that_hung_up():
    async def scenario(batcher, model):
        model.gate.clear()
        busy = asyncio.ensure_future(batcher.submit("k", rows(0)))
        await asyncio.sleep(0)
        gone = asyncio.ensure_future(batcher.submit("k", rows(1)))
        stays = asyncio.ensure_future(batcher.submit("k", rows(2)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.gate.set()
        return [a["y"].tolist() for a in await asyncio.gather(busy, stays)]

    answers, model = run(scenario, max_batch_size=4, num_batch_threads=1)
    assert answers == [[0], [4]] and model.batches == [("k", [0]), ("k", [2])]


def test_an_error_reaches_all_of_the_batch_and_nobody_else():
    async def scenario(batcher, model):
        calls = [batcher.submit(key, rows(1)) for key in ("fail", "fail", "k")]
        return await asyncio.gather(*calls, return_exceptions=True)

    (a, b, c), _ = run(scenario, max_batch_size=4)
    assert isinstance(a, ValueError) and isinstance(b, ValueError) and c["y"].tolist() == [2]


def test_draining_answers_what_waits():
    async def scenario(batcher, model):
        calls = [asyncio.ensure_future(batcher.submit("k", rows(i))) for i in range(9)]
        await asyncio.sleep(0)
        await asyncio.wait_for(batcher.drain(), PATIENCE)
        assert all(call.done() for call in calls)

    hours = 100 * 3600 * 10**6
    run(scenario, max_batch_size=4, batch_timeout_micros=hours, num_batch_threads=1)


def test_files_of_tf_serving_are_read(tmp_path):
    path = tmp_path / "batching.txt"
    path.write_text(
        "# a comment\nmax_batch_size { value: 0x20 };batch_timeout_micros: <\n  value: 1500\n>,\n"
        "max_enqueued_batches { value: 9 } num_batch_threads{value:3}allowed_batch_sizes: [8, 16]\n"
        "thread_pool_name { value: 'a # b' \"} c\" } pad_variable_length_inputs: true\n"
        "allowed_batch_sizes : 32 # the last\n"
    )
    assert read_batching_file(path) == BatchingParameters(
        max_batch_size=32,
        batch_timeout_micros=1500,
        max_enqueued_batches=9,
        num_batch_threads=3,
        allowed_batch_sizes=(8, 16, 32),
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (b"max_batch { value: 3 }", "no field named .max_batch."),
        (b"max_batch_size { value: many }", "integer: many"),
        (b"max_batch_size { value: 1 } max_batch_size { value: 2 }", "multiple"),
        (b"max_batch_size {}", "max_batch_size=0 must be at least 1"),
        (b"num_batch_threads: 3", "Expected"),
        (b"allowed_batch_sizes: 7", "max_batch_size"),
        (b"num_batch_threads { value: 0 }", "at least 1"),
        (b"}", "Expected identifier"),
        (b"\xff", "no batching file"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path, text, message):
    path = tmp_path / "batching.txt"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=f"batching.txt.*{message}"):
        read_batching_file(path)
