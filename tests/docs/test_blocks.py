"""The runner of guides: what it reads of a page, and how long what blocks do lasts."""

import time

import psutil
import pytest

from tests.docs.blocks import Block, blocks, outside, shell

PAGE = """# A page

```bash tested
export HERE=1
```

1. In a list:

   ```python needs=gpu
   for x in range(2):
       print(x)
   ```

````text
```bash
inside another
```
````
"""


def test_blocks_of_a_page() -> None:
    assert blocks(PAGE) == [
        Block("bash", "tested", "export HERE=1\n", 3),
        Block("python", "needs=gpu", "for x in range(2):\n    print(x)\n", 9),
        Block("text", "", "```bash\ninside another\n```\n", 14),
    ]
    assert [line for line in outside(PAGE) if line] == ["# A page", "1. In a list:"]
    with pytest.raises(ValueError, match="line 1: this block never ends"):
        blocks("```bash tested\nls\n")


@pytest.mark.parametrize(
    ("language", "mark", "fine"),
    [
        ("bash", "tested", True),
        ("python", "needs=gpu", True),
        ("json", "", True),
        ("bash", "", False),
        ("bash", "needs=luck", False),
        ("json", "tested", False),
        ("", "", False),
    ],
)
def test_marks(language: str, mark: str, fine: bool) -> None:
    assert (Block(language, mark, "", 1).complaint() is None) == fine


def test_variables_and_the_folder_last_and_the_repository_stays_as_it_is() -> None:
    with shell() as reader:
        assert reader.run(Block("bash", "tested", "WHO='a reader'; mkdir runs; cd runs; echo > mine\n", 1)).code == 0
        said = reader.run(Block("bash", "tested", 'echo "$WHO, ${PWD#$HOME/}"; ls ..\n', 2)).output
        assert said.startswith("a reader, maskwright/runs\n")
        assert "Makefile" in said
        program = "import os, pathlib\nprint(os.environ['WHO'], pathlib.Path('mine').exists())\n"
        assert reader.run(Block("python", "tested", program, 3)).output == "a reader True\n"
        failed = reader.run(Block("bash", "tested", "ls nothing-of-that-name\necho after\n", 4))
        assert failed.code != 0
        assert "after" not in failed.output
        assert not (reader.work / "runs").is_symlink()
    assert not reader.home.exists()


def test_what_blocks_left_running_ends_with_the_shell() -> None:
    with shell() as reader:
        done = reader.run(Block("bash", "tested", "sleep 1000 &\necho $! > $HOME/pid\n", 1), timeout=30)
        process = psutil.Process(int((reader.home / "pid").read_text()))
        assert done.code == 0
        assert process.is_running()
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
