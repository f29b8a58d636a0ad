import os

from codezero.sandbox import launch
from codezero.sandbox.launch import Launch, Launched


def test_a_task_and_its_answer_share_a_memory_file() -> None:
    task = Launch("/run/netns/x", "host", ["true"], {}, [("/a", "/b", True)], {}, "/")
    descriptor = launch.written(task)
    assert launch.answer(descriptor) == Launched()
    launch._tell(descriptor, Launched(mounts="mnt:[1]"))
    assert launch.answer(descriptor) == Launched(mounts="mnt:[1]")

    launch._tell(descriptor, Launched(error="no such file"))
    assert launch.answer(descriptor).error == "no such file"
    os.close(descriptor)
