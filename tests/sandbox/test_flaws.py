"""Pictures that are wrong on purpose."""

import io

import av
import pytest

from prefect_topaz.sandbox import make_clip
from prefect_topaz.sandbox.shapes import Recipe
from prefect_topaz.sandbox.upscale import upscale


@pytest.fixture
def greys(tmp_path):
    """Upscale a clip of three seconds with a flaw; gives the frames as bytes, and their times."""
    source = make_clip(tmp_path / "in.mp4", seconds=3, size=(160, 90), fps=10, audio=False)

    def make(flaw):
        target = tmp_path / "out.mp4"
        recipe = Recipe(factor=1, flaw=flaw)
        upscale(source, target, recipe, on_progress=lambda *_: None, stopped=lambda: False)
        with av.open(io.BytesIO(target.read_bytes())) as video:
            frames = [(frame.time, bytes(frame.planes[0])) for frame in video.decode(video=0)]
        return [time for time, _ in frames], [grey for _, grey in frames]

    return make


def distance(one, other):
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def nearest(grey, greys):
    return min(range(len(greys)), key=lambda index: distance(grey, greys[index]))


@pytest.mark.parametrize("flaw", ["another", "black", "frozen", "shifted"])
def test_as_many_pictures_come_at_the_same_times(greys, flaw):
    assert greys(flaw)[0] == greys(None)[0]


def test_a_black_result_is_black(greys):
    assert {value for grey in greys("black")[1] for value in grey} <= set(range(20))


def test_a_frozen_result_shows_its_first_picture_only(greys):
    right, frozen = greys(None)[1], greys("frozen")[1]
    assert distance(right[0], frozen[-1]) < 3
    assert distance(right[-1], frozen[-1]) > 3


def test_a_shifted_result_shows_each_picture_a_second_early_and_stands_at_the_end(greys):
    right, shifted = greys(None)[1], greys("shifted")[1]
    assert [nearest(shifted[index], right) for index in (0, 5, 10)] == [10, 15, 20]
    assert distance(shifted[-1], right[-1]) < 3


def test_another_result_shows_something_else(greys):
    right, other = greys(None)[1], greys("another")[1]
    assert min(distance(one, two) for one, two in zip(right, other, strict=True)) > 30


def test_a_clip_shorter_than_the_shift_shows_its_end(tmp_path):
    source = make_clip(tmp_path / "in.mp4", seconds=0.5, size=(64, 36), fps=10, audio=False)
    target = tmp_path / "out.mp4"
    recipe = Recipe(factor=1, flaw="shifted")
    upscale(source, target, recipe, on_progress=lambda *_: None, stopped=lambda: False)
    with av.open(str(target)) as video:
        assert len(list(video.decode(video=0))) == 5
