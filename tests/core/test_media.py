"""What is known of a video, whether it is what was ordered, and its preview."""

import io
import subprocess
import sys
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prefect_topaz.media import (
    NotAVideo,
    Picture,
    Verdict,
    check_complete,
    compare,
    preview,
    probe,
)
from prefect_topaz.media import join as join_rows
from prefect_topaz.media.frames import film
from prefect_topaz.models import Expected, MediaFacts
from tests.core.clips import brightening, left_is_white, make_clip, make_png, make_sound

FRONT = {"muxer": {"movflags": "faststart"}}
UNREAD = "the source could not be read, so these were not compared"
FRACTIONS = [0.3, 0.5, 0.75, 0.9, 0.98, 0.999]


def facts(width=1280, height=720, fps=24.0, duration=10.0, has_audio=True):
    return MediaFacts(
        width=width,
        height=height,
        fps=fps,
        duration=duration,
        has_audio=has_audio,
        codec="h264",
        frames=None,
    )


def named(size, name, source):
    """Judge a size delivered for a named resolution of a source size."""
    return compare(
        facts(*size), Expected(source=facts(*source), resolution=name), verify="standard"
    )


def picture(jpeg):
    """Decode a preview to grey, of which black is 0 and white 255."""
    with av.open(io.BytesIO(jpeg)) as container:
        frame = next(container.decode(video=0))
        return frame.reformat(format="gray", src_color_range="JPEG", dst_color_range="JPEG")


def grey(frame, x, y):
    """Read a pixel at fractions of the width and height."""
    plane = frame.planes[0]
    return bytes(plane)[int(y * frame.height) * plane.line_size + int(x * frame.width)]


class Broken(io.BytesIO):
    """A file on a store that goes away after its first kilobyte."""

    def read(self, size=-1):
        if self.tell() > 1000:
            raise ConnectionResetError("the store is gone")
        return super().read(size if size < 0 else min(size, 1024))


# --- probe


def test_probe_reads_the_facts(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", seconds=1.0, size=(64, 36), fps=24, audio=False)
    assert probe(clip) == facts(64, 36, 24.0, 1.0, has_audio=False).model_copy(
        update={"frames": 24}
    )


def test_probe_hears_sound(tmp_path):
    assert probe(make_clip(tmp_path / "clip.mp4", audio=True)).has_audio


def test_probe_takes_a_path_as_text(tmp_path):
    assert probe(str(make_clip(tmp_path / "clip.mp4"))).width == 64


def test_probe_leaves_the_callers_file_open_and_does_not_mind_its_position(tmp_path):
    with make_clip(tmp_path / "clip.mp4").open("rb") as file:
        file.read()
        assert probe(file).codec == "h264"
        assert not file.closed


@pytest.mark.parametrize("degrees", [90, 270])
def test_a_turned_video_is_measured_as_displayed(tmp_path, degrees):
    turned = probe(make_clip(tmp_path / "clip.mp4", size=(64, 36), rotation=degrees))
    assert (turned.width, turned.height) == (36, 64)


def test_a_video_upside_down_keeps_its_size(tmp_path):
    turned = probe(make_clip(tmp_path / "clip.mp4", size=(64, 36), rotation=180))
    assert (turned.width, turned.height) == (64, 36)


def test_non_square_pixels_widen_the_frame(tmp_path):
    wide = probe(make_clip(tmp_path / "clip.mp4", size=(64, 36), pixel_aspect=Fraction(4, 3)))
    assert (wide.width, wide.height) == (85, 36)


def test_non_square_pixels_are_applied_before_the_turn(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", size=(64, 36), pixel_aspect=Fraction(4, 3), rotation=90)
    turned = probe(clip)
    assert (turned.width, turned.height) == (36, 85)


def test_odd_sizes_are_told_as_they_are(tmp_path):
    odd = probe(make_clip(tmp_path / "clip.mp4", size=(65, 37), pixels="yuv444p"))
    assert (odd.width, odd.height) == (65, 37)


def test_a_variable_frame_rate_is_told_as_its_average(tmp_path):
    times = [index / 10 for index in range(10)] + [1 + index / 30 for index in range(30)]
    variable = probe(make_clip(tmp_path / "clip.mp4", times=times, audio=False))
    assert variable.frames == 40
    # How long the last frame stays is the muxer's guess.
    assert variable.fps == pytest.approx(20, rel=0.1)
    assert variable.duration == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("name", "codec", "canonical"),
    [("c.mkv", "libx264", "h264"), ("c.webm", "libvpx", "vp8"), ("c.avi", "mpeg4", "mpeg4")],
)
def test_other_containers_are_read(tmp_path, name, codec, canonical):
    seen = probe(make_clip(tmp_path / name, codec=codec, audio=False))
    assert (seen.width, seen.height, seen.codec) == (64, 36, canonical)
    assert seen.duration == pytest.approx(1, abs=0.1)


def test_a_duration_that_is_not_announced_is_measured(tmp_path):
    clip = make_clip(tmp_path / "clip.mkv", seconds=1.5, muxer={"live": "1"}, audio=False)
    assert probe(clip).duration == pytest.approx(1.5, abs=0.05)


def test_a_broken_picture_still_has_the_facts_of_its_headers(tmp_path):
    data = make_clip(tmp_path / "clip.mp4", **FRONT).read_bytes()
    start = data.index(b"mdat") + 4
    seen = probe(io.BytesIO(data[:start] + bytes(len(data) - start)))
    assert (seen.width, seen.height, seen.frames) == (64, 36, 24)


def test_metadata_in_another_encoding_does_not_hide_the_video(tmp_path):
    data = make_clip(tmp_path / "clip.mp4", metadata={"title": "cafe"}).read_bytes()
    assert b"cafe" in data
    assert probe(io.BytesIO(data.replace(b"cafe", b"caf\xe9"))).width == 64


def refuse(content):
    with pytest.raises(NotAVideo) as caught:
        probe(io.BytesIO(content))
    return str(caught.value)


def test_an_empty_file_is_no_video():
    assert refuse(b"") == "it is empty"


def test_text_named_like_a_video_is_no_video(tmp_path):
    page = tmp_path / "page.mp4"
    page.write_text("<!DOCTYPE html>\n<title>Sign in</title>\n" * 50)
    with pytest.raises(NotAVideo, match=r"^it is text$"):
        probe(page)


def test_bytes_of_no_format_are_no_video():
    assert "no video container" in refuse(bytes(range(256)) * 8)


def test_an_image_is_no_video():
    assert "no video container" in refuse(make_png())


def test_an_image_in_the_container_of_videos_is_no_video(tmp_path):
    """AVIF and HEIC pictures are MP4 files in all but their brand."""
    data = make_clip(tmp_path / "clip.mp4").read_bytes()
    assert refuse(data.replace(b"ftypisom", b"ftypavif")) == "it is a still image"


def test_sound_without_picture_is_no_video(tmp_path):
    assert "no video" in refuse(make_sound(tmp_path / "sound.m4a").read_bytes())


def test_the_cover_of_a_song_is_no_video(tmp_path):
    song = tmp_path / "song.m4a"
    with (
        av.open(str(make_sound(tmp_path / "sound.m4a"))) as source,
        av.open(str(song), "w", format="mp4") as target,
    ):
        sound = target.add_stream_from_template(source.streams.audio[0])
        cover = target.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 36, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic.value
        frame = av.VideoFrame(64, 36, "rgb24")
        frame.pts = 0
        target.mux(cover.encode(frame))
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
    with av.open(str(song)) as check:
        assert check.streams.video
    assert "no video" in refuse(song.read_bytes())


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.9])
def test_a_file_cut_off_before_its_index_is_no_video(tmp_path, fraction):
    data = make_clip(tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    assert "cut off" in refuse(data[: int(len(data) * fraction)])


def test_a_codec_without_a_decoder_is_told(tmp_path):
    data = make_clip(tmp_path / "clip.mp4").read_bytes()
    assert "codec" in refuse(data.replace(b"avc1", b"zzzz"))


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {clip}\n",
    ],
)
def test_a_script_that_names_other_files_opens_none(tmp_path, script):
    """A provider's answer must not make libav read local files or call hosts."""
    clip = make_clip(tmp_path / "clip.ts")
    path = tmp_path / "result.mp4"
    path.write_text(script.format(clip=clip.name))
    with pytest.raises(NotAVideo):
        probe(path)


def test_a_path_is_never_taken_for_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        probe("file:clip.mp4")
    make_clip(tmp_path / "clip.mp4")
    with pytest.raises(FileNotFoundError):
        probe("file:clip.mp4")


def test_a_store_that_fails_is_not_called_a_bad_video(tmp_path):
    data = make_clip(tmp_path / "clip.mp4").read_bytes()
    with pytest.raises(ConnectionResetError):
        probe(Broken(data))


def test_nothing_is_written_to_the_terminal(tmp_path, capfd):
    data = make_clip(tmp_path / "clip.mp4", size=(160, 90), **FRONT).read_bytes()
    capfd.readouterr()  # the encoder that made the clip may talk
    cut = io.BytesIO(data[: len(data) * 9 // 10])
    probe(cut)
    check_complete(cut)
    preview(None, cut, at=0)
    refuse(data[:200])
    assert capfd.readouterr() == ("", "")


def test_importing_media_brings_neither_prefect_nor_an_image_library():
    code = "import sys, prefect_topaz.media as m; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"prefect", "numpy", "PIL", "httpx", "fsspec"} & set(loaded.stdout.split())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_file_is_a_video_or_not_and_never_another_error(tmp_path_factory, data):
    clip = Path(tmp_path_factory.getbasetemp()) / "damaged.mp4"
    if not clip.exists():
        make_clip(clip, seconds=0.3, **FRONT)
    content = bytearray(clip.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
        content[at] = data.draw(st.sampled_from([0, 255, 127]))
    broken = io.BytesIO(content[: data.draw(st.integers(1, len(content)))])
    assert isinstance(check_complete(broken), str | None)
    with suppress(NotAVideo):
        assert preview(None, broken).startswith(b"\xff\xd8")


# --- check_complete


@pytest.mark.parametrize("name", ["c.mp4", "c.mov", "c.mkv", "c.ts", "c.flv"])
@pytest.mark.parametrize("audio", [True, False])
def test_a_whole_file_is_complete(tmp_path, name, audio):
    codec = "flv1" if name == "c.flv" else "libx264"
    clip = make_clip(tmp_path / name, codec=codec, audio=audio and codec != "flv1")
    assert check_complete(clip) is None


@pytest.mark.parametrize(
    "clip",
    [
        {"times": [0, 0.1, 0.15, 0.4, 0.9, 1.0]},
        {"rotation": 90},
        {"size": (65, 37), "pixels": "yuv444p"},
        {"muxer": {"movflags": "frag_keyframe+empty_moov"}},
        {"seconds": 1 / 24, "audio": False},
    ],
    ids=["variable rate", "turned", "odd size", "fragmented", "one frame"],
)
def test_an_unusual_whole_file_is_complete(tmp_path, clip):
    assert check_complete(make_clip(tmp_path / "clip.mp4", **clip)) is None


def join(target, *clips):
    """Put the pictures of several clips beside each other into one file."""
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(target), "w"))
        inputs = [stack.enter_context(av.open(str(clip))) for clip in clips]
        streams = [output.add_stream_from_template(clip.streams.video[0]) for clip in inputs]
        for clip, stream in zip(inputs, streams, strict=True):
            for packet in clip.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
    return target


def test_a_second_stream_that_goes_on_for_longer_is_no_promise_of_the_first(tmp_path):
    clips = [make_clip(tmp_path / f"{n}.mkv", seconds=n, audio=False) for n in (1, 3)]
    both = join(tmp_path / "both.mkv", *clips)
    assert probe(both).duration == pytest.approx(3, abs=0.1)
    assert check_complete(both) is None


@pytest.mark.parametrize("audio", [True, False])
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_file_that_opens_but_ends_early_is_found(tmp_path, fraction, audio):
    data = make_clip(tmp_path / "c.mp4", size=(256, 144), audio=audio, **FRONT).read_bytes()
    cut = io.BytesIO(data[: int(len(data) * fraction)])
    assert probe(cut).width == 256
    assert check_complete(cut)


def test_a_file_that_ends_between_two_frames_is_found(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", audio=False, **FRONT)
    with av.open(str(clip)) as container:
        last = max(packet.pos for packet in container.demux() if packet.pos is not None)
    cut = io.BytesIO(clip.read_bytes()[:last])
    assert check_complete(cut) == "it announces 24 frames and has 23"


@pytest.mark.parametrize("fraction", [0.3, 0.6])
def test_a_container_that_counts_no_frames_is_held_to_its_duration(tmp_path, fraction):
    data = make_clip(tmp_path / "clip.mkv", seconds=3).read_bytes()
    reason = check_complete(io.BytesIO(data[: int(len(data) * fraction)]))
    assert reason
    assert reason.startswith("it announces 3.")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_file_whose_end_was_never_written_is_found(tmp_path, suffix):
    """Its length is right: a sparse file, or a download that left a hole."""
    muxer = FRONT["muxer"] if suffix == "mp4" else {}
    clip = make_clip(tmp_path / f"clip.{suffix}", seconds=3, audio=False, muxer=muxer)
    data = clip.read_bytes()
    hole = len(data) // 2
    assert check_complete(io.BytesIO(data[:-hole] + bytes(hole)))


@pytest.mark.parametrize(
    ("name", "codec"), [("c.mp4", "libx264"), ("c.avi", "mpeg4"), ("c.mkv", "mpeg2video")]
)
def test_a_file_whose_last_frames_hold_rubbish_is_found(tmp_path, name, codec):
    """Some decoders complain of it, and some say nothing and show nothing."""
    clip = make_clip(tmp_path / name, codec=codec, audio=False, seconds=2)
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    data = bytearray(clip.read_bytes())
    for pos, size in packets[len(packets) // 2 :]:
        data[pos + 8 : pos + size] = bytes(max(0, size - 8))
    reason = check_complete(io.BytesIO(data))
    assert reason in ("it cannot be decoded to its end", "its last frames cannot be decoded")


def test_what_is_no_video_is_not_complete():
    assert check_complete(io.BytesIO(b"hello")) == "it is text"


def test_a_file_without_any_frame_is_not_complete(tmp_path):
    data = make_clip(tmp_path / "clip.mp4", **FRONT).read_bytes()
    assert check_complete(io.BytesIO(data[: data.index(b"mdat") + 4])) is not None


# --- compare: frame size


def test_a_verdict_on_the_wrong_size_names_both_sizes():
    order = Expected(source=facts(1920, 1080), factor=2)
    verdict = compare(facts(640, 360), order, verify="standard")
    assert verdict.mismatches == ("frame size is 640x360, ordered 3840x2160",)


sizes = st.integers(64, 4320)


@given(sizes, sizes, st.sampled_from([1, 2, 4]), st.sampled_from(["standard", "strict"]))
def test_the_exact_multiple_always_passes(width, height, factor, verify):
    order = Expected(source=facts(width, height), factor=factor)
    assert compare(facts(width * factor, height * factor), order, verify=verify) == Verdict()


@given(sizes, sizes, st.sampled_from([1, 2, 4]), st.integers(-2, 2), st.integers(-2, 2))
def test_a_multiple_rounded_by_the_codec_passes(width, height, factor, across, down):
    order = Expected(source=facts(width, height), factor=factor)
    found = facts(width * factor + across, height * factor + down)
    assert compare(found, order, verify="standard").mismatches == ()


@given(sizes, sizes, st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
def test_another_factor_never_passes(width, height, factor, delivered):
    assume(factor != delivered)
    order = Expected(source=facts(width, height), factor=factor)
    found = facts(width * delivered, height * delivered)
    assert compare(found, order, verify="standard").mismatches


@given(
    sizes,
    sizes,
    st.sampled_from([{"factor": 2}, {"resolution": "1080p"}, {"resolution": "4k"}, {}]),
    sizes,
    sizes,
)
def test_another_aspect_never_passes(width, height, ordered, found_width, found_height):
    assume(abs(found_width * height / (found_height * width) - 1) > 0.1)
    order = Expected(source=facts(width, height), **ordered)
    assert compare(facts(found_width, found_height), order, verify="standard").mismatches


def test_padding_to_macroblocks_is_no_multiple():
    order = Expected(source=facts(960, 540), factor=2)
    assert compare(facts(1920, 1088), order, verify="standard").mismatches


@pytest.mark.parametrize("found", [(1706, 960), (1708, 960), (1704, 960), (1712, 960)])
def test_an_odd_side_may_be_rounded_before_or_after(found):
    order = Expected(source=facts(853, 480), factor=2)
    assert compare(facts(*found), order, verify="standard").mismatches == ()


@pytest.mark.parametrize("found", [(1690, 960), (1724, 960), (1706, 968)])
def test_an_odd_side_is_no_licence(found):
    order = Expected(source=facts(853, 480), factor=2)
    assert compare(facts(*found), order, verify="standard").mismatches


def test_the_room_of_an_odd_side_shrinks_with_a_small_frame():
    order = Expected(source=facts(65, 36), factor=2)
    assert compare(facts(134, 72), order, verify="standard").mismatches == ()
    assert compare(facts(136, 72), order, verify="standard").mismatches


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("720p", (1280, 720)),
        ("1080p", (1920, 1080)),
        ("2k", (2560, 1440)),
        ("2k", (2048, 1152)),
        ("2k", (2048, 1080)),
        ("4k", (3840, 2160)),
    ],
)
@pytest.mark.parametrize("source", [(640, 360), (1280, 720), (854, 480), (3840, 2160)])
def test_a_16_9_source_gives_the_named_frame(name, size, source):
    assert named(size, name, source) == Verdict()
    assert named((size[0] + 2, size[1] - 2), name, source) == Verdict()
    assert named((size[0] + 32, size[1] + 18), name, source).mismatches


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("1080p", (1280, 720)),
        ("1080p", (1920, 1088)),
        ("1080p", (1440, 1080)),
        ("1080p", (1080, 1920)),
        ("2k", (1920, 1080)),
        ("2k", (3840, 2160)),
        ("4k", (1920, 1080)),
        ("4k", (4096, 2160)),
        ("4k", (4096, 2304)),
        ("720p", (640, 360)),
    ],
)
def test_a_16_9_source_gives_no_other_frame(name, size):
    assert named(size, name, (640, 360)).mismatches


def test_a_mismatch_names_the_ordered_frames():
    (text,) = named((1280, 720), "2k", (640, 360)).mismatches
    assert text == "frame size is 1280x720, ordered 2560x1440 or 2048x1152 or 2048x1080"


@pytest.mark.parametrize("size", [(1920, 1080), (1908, 1080), (1920, 1086)])
def test_a_source_almost_16_9_may_be_fitted_or_stretched(size):
    assert named(size, "1080p", (848, 480)) == Verdict()


@pytest.mark.parametrize(
    ("name", "source", "size"),
    [
        ("1080p", (540, 960), (1080, 1920)),
        ("1080p", (540, 960), (608, 1080)),
        ("4k", (1080, 1920), (2160, 3840)),
        ("4k", (1080, 1920), (1216, 2160)),
        ("1080p", (500, 500), (1080, 1080)),
        ("1080p", (500, 500), (1920, 1920)),
        ("1080p", (1280, 540), (1920, 810)),
        ("1080p", (1280, 540), (2560, 1080)),
        ("1080p", (640, 480), (1440, 1080)),
        ("720p", (640, 480), (960, 720)),
        ("2k", (640, 480), (2048, 1536)),
        ("2k", (640, 480), (1920, 1440)),
        ("4k", (2048, 1080), (4096, 2160)),
        ("4k", (2048, 858), (4096, 1716)),
        ("1080p", (2560, 1080), (1920, 810)),
        ("1080p", (3840, 1620), (1920, 810)),
    ],
)
def test_another_shape_is_fitted_into_or_covers_the_named_frame(name, source, size):
    assert named(size, name, source) == Verdict()


@pytest.mark.parametrize(
    ("name", "source", "size"),
    [
        ("1080p", (540, 960), (1920, 1080)),  # turned
        ("1080p", (640, 480), (1920, 1080)),  # stretched
        ("1080p", (640, 480), (640, 480)),  # the source again
        ("1080p", (640, 480), (1280, 960)),  # neither side is one of the name
        ("1080p", (1080, 1920), (608, 1080)),  # smaller than both the source and the order
        ("4k", (640, 480), (1440, 1080)),
    ],
)
def test_another_shape_is_neither_stretched_nor_shrunk(name, source, size):
    (text,) = named(size, name, source).mismatches
    assert text.startswith(f"frame size is {size[0]}x{size[1]}, ordered {name} in the shape of")


@given(sizes, sizes, st.integers(1, 4))
def test_only_the_shape_is_compared_where_no_size_is_documented(width, height, scale):
    order = Expected(source=facts(width, height))
    assert compare(facts(width * scale, height * scale), order, verify="standard") == Verdict()


def test_a_name_that_is_not_known_is_a_warning_and_never_a_mismatch():
    verdict = named((1234, 694), "8k", (1280, 720))
    assert verdict.mismatches == ()
    assert verdict.warnings == ("frame size was not compared: it is not known what 8k means",)


# --- compare: time, sound, rate


@pytest.mark.parametrize(
    ("source", "found", "fps", "passes"),
    [
        (10, 10.4, 24, True),
        (10, 9.5, 24, True),
        (10, 9.4, 24, False),
        (10, 10.6, 24, False),
        (100, 99.1, 24, True),
        (100, 98.9, 24, False),
        (10, 11.9, 1, True),
        (10, 12.1, 1, False),
        (10, 0, 24, False),
    ],
)
def test_a_duration_may_differ_by_half_a_second_one_percent_or_two_frames(
    source, found, fps, passes
):
    order = Expected(source=facts(duration=source, fps=fps))
    verdict = compare(facts(duration=found, fps=fps), order, verify="standard")
    assert (verdict == Verdict()) is passes
    assert passes or verdict.mismatches == (
        f"duration is {found:.2f} s, the source's is {source:.2f} s",
    )


@pytest.mark.parametrize(("source", "found"), [(None, 10.0), (10.0, None), (None, None)])
@pytest.mark.parametrize("verify", ["standard", "strict"])
def test_an_unknown_duration_is_a_warning(source, found, verify):
    order = Expected(source=facts(duration=source))
    verdict = compare(facts(duration=found), order, verify=verify)
    assert verdict.mismatches == ()
    assert [text.split()[0] for text in verdict.warnings] == ["duration"]


def test_lost_sound_is_a_warning_and_in_strict_a_mismatch():
    order, silent = Expected(source=facts()), facts(has_audio=False)
    text = "there is no sound, the source has some"
    assert compare(silent, order, verify="standard") == Verdict(warnings=(text,))
    assert compare(silent, order, verify="strict") == Verdict(mismatches=(text,))


def test_a_silent_source_needs_no_sound():
    order = Expected(source=facts(has_audio=False))
    assert compare(facts(has_audio=False), order, verify="strict") == Verdict()


def test_another_rate_than_ordered_is_a_warning_and_in_strict_a_mismatch():
    order, text = Expected(source=facts(fps=24), fps=60), "frame rate is 24, ordered 60"
    assert compare(facts(fps=24), order, verify="standard") == Verdict(warnings=(text,))
    assert compare(facts(fps=24), order, verify="strict") == Verdict(mismatches=(text,))
    assert compare(facts(fps=60), order, verify="strict") == Verdict()


def test_without_an_ordered_rate_the_sources_is_kept():
    order = Expected(source=facts(fps=24))
    verdict = compare(facts(fps=25), order, verify="standard")
    assert verdict.warnings == ("frame rate is 25, the source's is 24",)


@pytest.mark.parametrize(("ordered", "found"), [(30, 29.97), (24, 23.976), (60, 59.94)])
def test_the_television_rates_pass_for_the_round_ones(ordered, found):
    assert (
        compare(facts(fps=found), Expected(source=facts(), fps=ordered), verify="strict")
        == Verdict()
    )


@pytest.mark.parametrize(("source", "found"), [(None, 24.0), (24.0, None)])
def test_an_unknown_rate_is_a_warning(source, found):
    order = Expected(source=facts(fps=source))
    verdict = compare(facts(fps=found), order, verify="strict")
    assert verdict == Verdict(warnings=("frame rate was not compared: it is not known",))


# --- compare: what is not known, and what is not asked


def test_without_the_source_what_was_not_compared_is_told():
    verdict = compare(facts(), Expected(source=None, factor=2), verify="strict")
    assert verdict == Verdict(warnings=(f"{UNREAD}: frame size, frame rate, duration, sound",))


def test_without_the_source_a_named_size_still_holds():
    order = Expected(source=None, resolution="4k")
    assert compare(facts(2160, 3840), order, verify="standard").mismatches == ()
    (text,) = compare(facts(1280, 720), order, verify="standard").mismatches
    assert text == "frame size is 1280x720, ordered 4k"


def test_without_the_source_an_ordered_rate_still_holds():
    order = Expected(source=None, resolution="4k", fps=60)
    verdict = compare(facts(3840, 2160, fps=24), order, verify="strict")
    assert verdict.mismatches == ("frame rate is 24, ordered 60",)
    assert verdict.warnings == (f"{UNREAD}: the frame's shape, duration, sound",)


def test_verify_off_compares_nothing():
    order = Expected(source=facts(), factor=4, fps=60)
    assert compare(facts(1, 1, None, None, has_audio=False), order, verify="off") == Verdict()


any_number = st.none() | st.floats(min_value=0) | st.just(float("nan"))
any_facts = st.builds(
    facts,
    st.integers(0, 100_000),
    st.integers(0, 100_000),
    any_number,
    any_number,
    st.booleans(),
)


any_order = st.builds(
    Expected,
    source=st.none() | any_facts,
    factor=st.none() | st.integers(1, 4),
    resolution=st.sampled_from([None, "720p", "1080p", "2k", "4k", "8k", ""]),
    fps=any_number,
)


@given(any_facts, any_order)
def test_the_verdict_never_raises_and_strict_only_moves_warnings(found, order):
    standard = compare(found, order, verify="standard")
    strict = compare(found, order, verify="strict")
    assert compare(found, order, verify="off") == Verdict()
    assert set(standard.mismatches) <= set(strict.mismatches)
    assert sorted(standard.mismatches + standard.warnings) == sorted(
        strict.mismatches + strict.warnings
    )


# --- preview


def test_a_preview_shows_before_after_and_difference_at_one_height_with_gaps(tmp_path):
    before = make_clip(tmp_path / "before.mp4", size=(64, 36), paint=left_is_white)
    after = make_clip(tmp_path / "after.mp4", size=(128, 72), paint=left_is_white)
    shown = picture(preview(before, after, height=180))
    assert (shown.width, shown.height) == (320 + 4 + 320 + 4 + 320, 180)
    halves = [grey(shown, x, 0.5) for x in (0.1, 0.25, 0.4, 0.6)]
    assert [level > 128 for level in halves] == [True, False, True, False]
    for gap in (322, 646):
        assert grey(shown, gap / shown.width, 0.5) > 240
    assert max(grey(shown, x, 0.5) for x in (0.7, 0.75, 0.9, 0.95)) < 32


@pytest.mark.parametrize("degrees", [0, 90])
def test_a_preview_of_moments_shows_each_in_a_row_of_its_own(tmp_path, degrees):
    clip = make_clip(tmp_path / "clip.mp4", size=(64, 36), paint=left_is_white, rotation=degrees)
    with film(clip) as source:
        taken = Picture.of(source, next(source.frames(0)))
    width, height = (64, 36) if degrees == 0 else (36, 64)
    rows = [(taken, taken.small()), (taken.small(), taken), (taken, taken)]
    shown = picture(join_rows(rows, height))
    assert (shown.width, shown.height) == (3 * width + 2 * 4, 3 * height + 2 * 4)
    for gap in (height + 2, 2 * height + 6):
        assert min(grey(shown, x, gap / shown.height) for x in (0.1, 0.5, 0.9)) > 240
    whole = [grey(shown, 0.1, y) for y in (0.05, 0.25, 0.4, 0.6, 0.72, 0.95)]
    beside = [grey(shown, 0.45, y) for y in (0.05, 0.25, 0.4, 0.6, 0.72, 0.95)]
    assert whole == pytest.approx(beside, abs=24)
    assert max(grey(shown, 0.85, y) for y in (0.15, 0.5, 0.85)) < 48


def test_the_difference_in_a_preview_is_amplified(tmp_path):
    def grey_of(level):
        return lambda *numbers: bytes([level]) * (numbers[2] * numbers[3])

    before = make_clip(tmp_path / "before.mp4", audio=False, paint=grey_of(100))
    after = make_clip(tmp_path / "after.mp4", audio=False, paint=grey_of(120))
    shown = picture(preview(before, after, height=180))
    levels = [grey(shown, x, 0.5) for x in (0.15, 0.5, 0.85)]
    assert levels == pytest.approx([100, 120, 4 * 20], abs=12)


def test_a_preview_of_another_shape_is_compared_in_the_results(tmp_path):
    before = make_clip(tmp_path / "before.mp4", size=(64, 64), paint=left_is_white)
    after = make_clip(tmp_path / "after.mp4", size=(128, 64), paint=left_is_white)
    shown = picture(preview(before, after, height=100))
    assert shown.width == 100 + 4 + 200 + 4 + 200
    assert max(grey(shown, x, 0.5) for x in (0.65, 0.72, 0.85, 0.95)) < 48


def test_a_preview_without_before_shows_after_only(tmp_path):
    shown = picture(preview(None, make_clip(tmp_path / "after.mp4", size=(64, 36))))
    assert (shown.width, shown.height) == (640, 360)


def test_a_preview_takes_an_open_file_for_before(tmp_path):
    before = make_clip(tmp_path / "before.mp4")
    with before.open("rb") as file:
        shown = picture(preview(file, make_clip(tmp_path / "after.mp4"), height=90))
        assert not file.closed
    assert shown.width == 3 * 160 + 2 * 4


@pytest.mark.parametrize(("at", "level"), [(None, 128), (0, 0), (0.5, 64), (1.5, 191), (9, 255)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_both_halves_show_the_same_moment(tmp_path, at, level, suffix):
    """The frame rates differ, and so do the distances between frames one can seek to."""
    clip = {"seconds": 2, "audio": False, "paint": brightening}
    before = make_clip(tmp_path / f"before.{suffix}", fps=10, **clip)
    after = make_clip(tmp_path / f"after.{suffix}", fps=50, **clip)
    shown = picture(preview(before, after, at=at, height=36))
    assert grey(shown, 0.15, 0.5) == pytest.approx(level, abs=16)
    assert grey(shown, 0.5, 0.5) == pytest.approx(level, abs=16)


def test_a_moment_before_the_start_is_the_start(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", paint=brightening)
    assert grey(picture(preview(None, clip, at=-5)), 0.5, 0.5) < 16


@pytest.mark.parametrize(
    ("degrees", "white"), [(90, (0.5, 0.9)), (180, (0.9, 0.5)), (270, (0.5, 0.1))]
)
def test_a_preview_is_turned_as_a_player_turns_it(tmp_path, degrees, white):
    clip = make_clip(tmp_path / "clip.mp4", rotation=degrees, paint=left_is_white)
    shown = picture(preview(None, clip, height=128))
    assert shown.width == (128 * 64 // 36 // 2 * 2 if degrees == 180 else 72)
    assert grey(shown, *white) > 200
    assert grey(shown, 1 - white[0], 1 - white[1]) < 50


def test_a_preview_stretches_non_square_pixels(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", size=(64, 36), pixel_aspect=Fraction(4, 3))
    shown = picture(preview(None, clip, height=360))
    assert shown.width == 850


def test_a_wide_preview_is_made_smaller(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", size=(360, 60))
    shown = picture(preview(clip, clip, height=360))
    assert 1500 < shown.width <= 1600
    assert shown.height == 88


def noise(index, count, width, height):
    """Paint what no encoder makes small."""
    state, values = 12345, bytearray()
    for _ in range(width * height):
        state = (state * 1103515245 + 12345 + index) & 0x7FFFFFFF
        values.append(state >> 16 & 0xFF)
    return bytes(values)


def test_a_preview_of_noise_stays_below_its_limit(tmp_path):
    clip = make_clip(tmp_path / "n.mp4", size=(480, 360), seconds=0.1, audio=False, paint=noise)
    assert 30_000 < len(preview(clip, clip, height=360)) < 72_000


def test_a_preview_is_made_smaller_where_worse_is_not_enough(tmp_path):
    def other_noise(index, *shape):
        return noise(index + 7, *shape)

    clip = {"size": (800, 1200), "seconds": 0.05, "audio": False}
    before = make_clip(tmp_path / "b.mp4", paint=other_noise, **clip)
    jpeg = preview(before, make_clip(tmp_path / "a.mp4", paint=noise, **clip), height=1200)
    assert len(jpeg) < 72_000
    assert picture(jpeg).height < 400


def test_a_preview_of_no_video_says_so(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4")
    with pytest.raises(NotAVideo):
        preview(io.BytesIO(b"hello"), clip)


def test_a_preview_of_a_video_without_pictures_says_so(tmp_path):
    data = make_clip(tmp_path / "clip.mp4", **FRONT).read_bytes()
    start = data.index(b"mdat") + 4
    with pytest.raises(NotAVideo, match="no picture"):
        preview(None, io.BytesIO(data[:start] + bytes(len(data) - start)))
