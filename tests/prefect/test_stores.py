"""From store to store with nothing but the stores' own credentials, in one line."""

from __future__ import annotations

import pytest

from prefect_topaz import upscale_video, upscale_videos
from prefect_topaz.delivery import publish
from prefect_topaz.models import Place
from prefect_topaz.places import open_file, open_folder
from prefect_topaz.sandbox import make_clip
from tests.prefect.support import FAST
from tests.stores.conftest import s3_environment, serve, ssh_home, stored  # noqa: F401  # fixtures


@pytest.mark.usefixtures("ssh_home", "s3_environment")
def test_from_s3_to_sftp_is_one_line(oxen, sandbox, clip, s3, stored):  # noqa: F811  # a fixture
    publish(clip, open_folder(Place(url=s3.url, options=s3.options)), "clip.mp4")
    out = stored("sftp").url

    video = upscale_video(f"{s3.url}/clip.mp4", f"{out}/{{date}}/", oxen, **FAST)
    again = upscale_video(f"{s3.url}/clip.mp4", f"{out}/{{date}}/", oxen, **FAST)

    assert again == video.model_copy(update={"cached": True})
    assert len(open_file(Place(url=out), video.url)) == video.bytes
    assert len(sandbox.purchases()) == 1


def test_a_batch_to_one_name_buys_nothing_and_placeholders_tell_its_results_apart(
    evolink, sandbox, clip, tmp_path
):
    other = make_clip(tmp_path / "other.mp4", seconds=0.6, size=(64, 36))
    clips = [str(clip), str(other)]
    report = upscale_videos(clips, tmp_path / "out" / "one.mp4", evolink, **FAST)
    assert all("{stem} or {work_key}" in (item.error or "") for item in report.items)
    assert sandbox.purchases() == []

    report = upscale_videos(clips, tmp_path / "out" / "{stem}" / "{label}.mp4", evolink, **FAST)
    assert [item.error for item in report.items] == [None, None]
    found = sorted(str(one.relative_to(tmp_path)) for one in tmp_path.glob("out/*/*.mp4"))
    assert found == ["out/clip/2x.mp4", "out/other/2x.mp4"]
