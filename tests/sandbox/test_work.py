"""Jobs really upscale: frame size, frame rate, length and sound; and they can be stopped."""

import io
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_topaz.sandbox import make_clip
from prefect_topaz.sandbox.disk import link_or_copy
from prefect_topaz.sandbox.shapes import NotReadable, Recipe, Shape, shape_of, target_size
from prefect_topaz.sandbox.upscale import Stopped, upscale
from prefect_topaz.sandbox.work import Results


@pytest.fixture
def made(tmp_path, probe):
    """Upscale a clip directly, and probe the result."""

    def make(recipe, **clip):
        source = make_clip(tmp_path / "in.mp4", **{"seconds": 0.5, "size": (64, 36), **clip})
        return run(source, tmp_path, probe, recipe)

    return make


def run(source, folder, probe, recipe):
    target = folder / "out.mp4"
    upscale(source, target, recipe, on_progress=lambda *_: None, stopped=lambda: False)
    return probe(target.read_bytes())


@pytest.mark.parametrize(
    ("resolution", "size"),
    [("720p", (1280, 720)), ("1080p", (1920, 1080)), ("2k", (2560, 1440)), ("4k", (3840, 2160))],
)
def test_a_wide_source_gets_exactly_the_named_size(made, resolution, size):
    assert made(Recipe(resolution=resolution)).size == size


@pytest.mark.parametrize(
    ("source", "resolution", "size"),
    [
        ((36, 64), "1080p", (1080, 1920)),  # 9:16 portrait
        ((64, 48), "1080p", (1440, 1080)),  # 4:3
        ((48, 64), "720p", (720, 960)),  # 3:4 portrait
        ((64, 64), "720p", (720, 720)),
        ((86, 36), "1080p", (2580, 1080)),
    ],
)
def test_another_aspect_is_kept(made, source, resolution, size):
    assert made(Recipe(resolution=resolution), size=source).size == size


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_factor_multiplies_each_side(made, factor):
    found = made(Recipe(factor=factor))
    assert found.size == (64 * factor, 36 * factor)
    assert (found.fps, found.frames, found.sounds) == (24, 12, ["aac"])
    assert found.seconds == pytest.approx(0.5, abs=0.01)


def test_no_order_keeps_the_size(made):
    assert made(Recipe()).size == (64, 36)


@pytest.mark.parametrize(
    ("fps", "rate", "frames"),
    [
        (60, Fraction(60), 30),
        (12, Fraction(12), 6),
        (30, Fraction(30), 15),
        (29.97, Fraction(30000, 1001), 15),
        (23.976, Fraction(24000, 1001), 12),
        (1, Fraction(1), 1),
    ],
)
def test_the_asked_frame_rate_keeps_the_length(made, fps, rate, frames):
    found = made(Recipe(factor=1, fps=fps))
    assert (found.fps, found.frames) == (rate, frames)
    assert found.seconds == pytest.approx(0.5, abs=1 / fps if fps < 12 else 0.02)


def test_a_silent_source_stays_silent(made):
    found = made(Recipe(factor=2), audio=False)
    assert found.sounds == []


def test_sound_that_mp4_cannot_hold_is_encoded(tmp_path, probe):
    source = tmp_path / "pcm.mov"
    clip = make_clip(tmp_path / "in.mp4", seconds=0.5, size=(64, 36))
    with av.open(str(clip)) as reader, av.open(str(source), "w") as writer:
        video = writer.add_stream_from_template(reader.streams.video[0])
        sound = writer.add_stream("pcm_s16le", rate=44100)
        resampler = av.AudioResampler("s16", "stereo", 44100)
        for packet in reader.demux():
            if packet.stream.type == "video" and packet.dts is not None:
                packet.stream = video
                writer.mux(packet)
                continue
            for frame in packet.decode() if packet.stream.type == "audio" else []:
                for part in resampler.resample(frame):
                    writer.mux(sound.encode(part))
        writer.mux(sound.encode(None))
    found = run(source, tmp_path, probe, Recipe(factor=2))
    assert found.sounds == ["aac"]
    assert found.seconds == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("matrix", "size", "bright"),
    [
        ((0, 1, -1, 0), (72, 128), "top right"),  # what a phone held upright writes
        ((0, -1, 1, 0), (72, 128), "bottom left"),
        ((-1, 0, 0, -1), (128, 72), "bottom right"),
    ],
)
def test_a_turned_source_comes_out_upright(tmp_path, probe, matrix, size, bright):
    source = tmp_path / "turned.mp4"
    with av.open(str(source), "w") as writer:
        stream = writer.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        writer.mux([*stream.encode(_bright_top_left()), *stream.encode(None)])
    source.write_bytes(_with_matrix(source.read_bytes(), matrix))
    assert run(source, tmp_path, probe, Recipe(factor=2)).size == size
    assert _bright_quarter(tmp_path / "out.mp4") == bright


def _with_matrix(clip, matrix):
    """Write a display matrix into the track header (ISO 14496-12, 8.3.2), as cameras do."""
    place = clip.index(b"tkhd") + 4 + 40
    across_x, down_x, across_y, down_y = (value << 16 for value in matrix)
    new = struct.pack(">9i", across_x, down_x, 0, across_y, down_y, 0, 0, 0, 1 << 30)
    return clip[:place] + new + clip[place + len(new) :]


def _bright_top_left():
    frame = av.VideoFrame(64, 36, "yuv420p")
    line = b"\xeb" * 32 + b"\x10" * (frame.planes[0].line_size - 32)
    dark = b"\x10" * frame.planes[0].line_size
    frame.planes[0].update(line * 18 + dark * 18)
    for plane in frame.planes[1:]:
        plane.update(b"\x80" * plane.buffer_size)
    frame.pts = 0
    return frame


def _bright_quarter(path):
    with av.open(str(path)) as video:
        plane = next(video.decode(video=0)).planes[0]
        pixels, line, width, height = bytes(plane), plane.line_size, plane.width, plane.height
    middles = {
        f"{vertical} {horizontal}": pixels[height * y // 4 * line + width * x // 4]
        for vertical, y in (("top", 1), ("bottom", 3))
        for horizontal, x in (("left", 1), ("right", 3))
    }
    return max(middles, key=middles.__getitem__)


@given(
    width=st.integers(2, 8000),
    height=st.integers(2, 8000),
    factor=st.sampled_from([1, 2, 4]),
    resolution=st.sampled_from(["720p", "1080p", "2k", "4k"]),
)
def test_every_size_is_even_and_keeps_the_aspect(width, height, factor, resolution):
    shape = Shape(width, height, 1.0, Fraction(24), has_audio=False)
    for recipe in (Recipe(factor=factor), Recipe(resolution=resolution), Recipe()):
        made = target_size(shape, recipe)
        assert all(side >= 2 and side % 2 == 0 for side in made)
        if recipe.resolution is None:
            exact = (width * (recipe.factor or 1), height * (recipe.factor or 1))
            assert all(abs(a - b) <= 1 for a, b in zip(made, exact, strict=True))
        elif min(made) > 16:
            assert made[0] / made[1] == pytest.approx(width / height, rel=0.07)


def test_progress_rises_to_the_whole(tmp_path):
    source, seen = make_clip(tmp_path / "in.mp4", seconds=0.5, size=(64, 36)), []
    report = lambda *step: seen.append(step)  # noqa: E731 - one line says it
    upscale(source, tmp_path / "o.mp4", Recipe(factor=1), on_progress=report, stopped=lambda: False)
    assert [frames for frames, _ in seen] == list(range(1, 13))
    assert [fraction for _, fraction in seen] == sorted(fraction for _, fraction in seen)
    assert seen[-1] == (12, 1.0)


def test_stopping_ends_the_work_before_the_next_frame(tmp_path):
    source, seen = make_clip(tmp_path / "in.mp4", seconds=0.5, size=(64, 36)), []
    with pytest.raises(Stopped):
        upscale(
            source,
            tmp_path / "o.mp4",
            Recipe(factor=1),
            on_progress=lambda frames, _: seen.append(frames),
            stopped=lambda: len(seen) == 5,
        )
    assert seen[-1] == 5


def test_what_is_no_video_is_not_readable(tmp_path):
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as writer:
        stream = writer.add_stream("aac", rate=44100)
        frame = av.AudioFrame("fltp", "stereo", 1024)
        frame.sample_rate = 44100
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
    text, empty = tmp_path / "text.mp4", tmp_path / "empty.mp4"
    text.write_text("not a video")
    empty.write_bytes(b"")
    bare, head = tmp_path / "bare.h264", tmp_path / "head.mp4"
    with av.open(str(bare), "w", format="h264") as writer:  # it has no length
        stream = writer.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        writer.mux([*stream.encode(_bright_top_left()), *stream.encode(None)])
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, size=(64, 36)).read_bytes()
    head.write_bytes(clip[: clip.index(b"mdat") + 4])
    for path in (sound, text, empty, bare, head, tmp_path / "missing.mp4"):
        with pytest.raises(NotReadable):
            shape_of(path)


def test_a_source_that_breaks_off_in_bad_bytes_is_not_readable(tmp_path, probe):
    path = make_clip(tmp_path / "in.mp4", seconds=0.5, size=(64, 36), audio=False)
    clip = path.read_bytes()
    path.write_bytes(clip[: len(clip) * 2 // 3] + b"\xff" * (len(clip) // 3))
    assert shape_of(path).seconds == 0.5
    with pytest.raises(NotReadable):
        run(path, tmp_path, probe, Recipe(factor=1))


def test_few_finished_outputs_are_kept(tmp_path):
    results, made = Results(most=1), tmp_path / "made.mp4"
    made.write_bytes(b"video")
    keys = [("digest", Recipe(factor=factor)) for factor in (1, 2)]
    kept = [results.keep(key, made, 0.5) for key in keys]
    assert [one.path.exists() for one in kept] == [False, True]
    assert results.find(keys[0], tmp_path / "none.mp4") is None
    assert results.find(keys[1], tmp_path / "found.mp4") == kept[1]
    assert (tmp_path / "found.mp4").read_bytes() == b"video"


def test_a_file_that_cannot_be_linked_is_copied(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    target.write_bytes(b"a name that is taken cannot become a link")
    link_or_copy(source, target)
    assert target.read_bytes() == b"new"
    assert not target.samefile(source)


@pytest.mark.parametrize("bad", [{"size": (63, 36)}, {"size": (0, 2)}, {"fps": 0}, {"seconds": 0}])
def test_a_clip_that_cannot_be_made_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"size must be|less than one frame"):
        make_clip(tmp_path / "clip.mp4", **bad)


def test_a_clip_is_what_was_asked_for(tmp_path, probe):
    path = make_clip(tmp_path / "clip.mp4", seconds=1, size=(32, 64), fps=29.97)
    found = probe(path.read_bytes())
    assert (found.size, found.fps, found.sounds) == ((32, 64), Fraction(30000, 1001), ["aac"])
    assert found.seconds == pytest.approx(1, abs=0.03)
    with av.open(io.BytesIO(path.read_bytes())) as video:
        pictures = [bytes(frame.planes[0]) for frame in video.decode(video=0)]
    assert len(set(pictures)) > len(pictures) / 2  # it moves


def test_a_cancel_stops_the_work_between_frames(start, tmp_path):
    api = start()
    long = make_clip(tmp_path / "long.mp4", seconds=60, size=(64, 36), audio=False)
    (job_id,) = api.enqueue(input_video=api.sandbox.host(long, "long.mp4"), resolution="1080p")
    job = api.sandbox.jobs[job_id]
    while job.frames < 3:
        assert not job.finished.done()
    assert 0 <= job.progress < 100
    api.http.delete(f"/api/ai/queue/{job_id}")
    job.finished.result(timeout=10)
    assert (job.status, job.stopped) == ("cancelled", True)
    assert job.frames < 60 * 24
    assert not api.sandbox.purchases()[0].charged


def test_a_cancelled_row_in_the_queue_is_never_worked_on(start):
    api = start()
    api.sandbox.fault("job", "delay", seconds=30, times=2)
    busy, (waiting,) = api.enqueue(num_generations=2), api.enqueue()
    for job_id in (waiting, *busy):
        api.http.delete(f"/api/ai/queue/{job_id}")
    job = api.sandbox.jobs[waiting]
    job.finished.result(timeout=10)
    assert (job.stopped, job.frames) == (True, 0)


def test_the_same_order_twice_is_made_once(api):
    first, second = (api.enqueue(resolution="1080p", target_fps=48)[0] for _ in range(2))
    assert [api.oxen(job_id)["status"] for job_id in (first, second)] == ["succeeded"] * 2
    third = api.enqueue(resolution="1080p", target_fps=48)[0]
    api.oxen(third)
    assert api.sandbox.jobs[third].frames == 0  # nothing was encoded for it


def test_a_job_in_work_shows_rising_progress(start, tmp_path):
    api = start()
    clip = make_clip(tmp_path / "long.mp4", seconds=10, size=(64, 36), audio=False)
    task_id = api.create(video_urls=[api.sandbox.host(clip, "long.mp4")]).json()["id"]
    seen = []
    while not seen or seen[-1][0] != "completed":
        task = api.evolink(task_id)
        seen.append((task["status"], task["progress"]))
    order = ["pending", "processing", "completed"]
    assert seen == sorted(seen, key=lambda one: (order.index(one[0]), one[1]))
    assert seen[-1][1] == 100


def test_many_threads_may_use_one_sandbox(start):
    api = start(reads=1)

    def submit_and_read(_):
        return api.oxen(api.enqueue()[0])["status"]

    barrier = threading.Barrier(4)

    def together(index):
        barrier.wait()
        return submit_and_read(index)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(together, range(4))) == ["succeeded"] * 4
    assert api.sandbox.ledger.submits == len(api.sandbox.purchases()) == 4
