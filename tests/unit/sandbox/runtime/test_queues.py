from codezero.sandbox.queues import WorkQueue


async def test_a_key_waits_once_however_often_it_changed() -> None:
    """Ten thousand changes of one thing are one piece of work."""
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a", "a"):
        queue.add(key)

    assert [await queue.take(), await queue.take()] == ["a", "b"]
    queue.add("c")
    queue.add("d")
    assert await queue.take_all() == ["c", "d"]
