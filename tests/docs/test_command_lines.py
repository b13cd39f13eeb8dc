"""What is read of command lines, and that wrong flags are noticed."""

import pytest

from tests.docs.command_lines import exists, invocations, refusal

SCRIPT = r"""
# python -m jobs.none --in a comment
python -m jobs.prepare --reader coco \
    --root data --out 'my data'        # into shards
.venv/bin/python -m serve --port 8000 > log 2>&1 &
python -m serve.access anna annotator >> tokens && echo it\'s "python -m inside"
python -m jobs.predict --clicks 1,2,+ 2> errors | cat
cat > file <<'END'
don't look here: python -m jobs.hidden
END
ray job submit --entrypoint-resources='{"driver": 1}' -- python -m jobs.doctor --storage $STORAGE/check
"""


def test_invocations() -> None:
    assert invocations(SCRIPT) == [
        ("jobs.prepare", ["--reader", "coco", "--root", "data", "--out", "my data"]),
        ("serve", ["--port", "8000"]),
        ("serve.access", ["anna", "annotator"]),
        ("jobs.predict", ["--clicks", "1,2,+"]),
        ("jobs.doctor", ["--storage", "$STORAGE/check"]),
    ]


def test_modules() -> None:
    assert exists("jobs.train")
    assert exists("serve.access")
    assert exists("pip")
    assert not exists("jobs.no_such_job")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("jobs.train", "finetune --data.root DIR --training.steps 4"),
        ("jobs.train", "--resume runs/mine"),
        ("jobs.augment", "cpu_xtiny --data.reader yolo --data.root DIR --preview 6 --out DIR"),
        ("jobs.sweep", "cfr --reader masks --root DIR"),
        ("jobs.predict", "--image photo.jpg --clicks 120,200,+"),
        ("jobs.doctor", "--storage DIR"),
        ("jobs.demo", "--no-serve"),
        ("serve", "--checkpoint DIR --plain"),
        ("serve.access", "anna annotator"),
    ],
)
def test_flags_that_are_there(module: str, line: str) -> None:
    assert refusal(module, line.split()) is None


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("jobs.train", "finetune --data.rot DIR"),
        ("jobs.train", "no_such_preset"),
        ("jobs.evaluate", "--protocol.max-clicks many"),
        ("jobs.predict", "--clicks 120,200,+"),
        ("serve", "--plein"),
        ("serve", "--port 99999999"),
    ],
)
def test_flags_that_are_not(module: str, line: str) -> None:
    assert refusal(module, line.split()) is not None
