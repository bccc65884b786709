"""Films in the page: what is embedded, what is named instead, whose they are."""

import base64
import re

from PIL import Image
import pytest
from synthetic_study import write_run

from experiments.options import guarded
from experiments.pictures.video_file import write_gif, write_mp4
from experiments.report import main, write_report
from experiments.reporting import films
from experiments.reporting.beside_runs import find_films, holds_no_run

NAME = "test_sampled_environment-0_level-7"
PICTURES = [Image.new("RGB", (64, 48), (16 * i, 0, 255 - 16 * i)) for i in range(6)]


def write_film(directory, name=NAME, kinds=(".mp4", ".gif")):
  directory.mkdir(parents=True, exist_ok=True)
  for kind, write in ((".mp4", write_mp4), (".gif", write_gif)):
    if kind in kinds:
      write(directory / f"{name}{kind}", PICTURES, frames_per_second=8)


def section(tmp_path, *paths):
  page = write_report(paths, tmp_path / "report.html", resamples=100).read_text()
  found = re.search(r'<section id="films".*?</section>', page, re.DOTALL)
  return found[0] if found else None


def sources(text):
  """(kind, content) of every data URI."""
  found = re.findall(r'src="data:([\w/]+);base64,([^"]*)"', text)
  return [(kind, base64.b64decode(content)) for kind, content in found]


def test_an_mp4_is_embedded_whole_with_a_still_picture_for_print(tmp_path):
  run = write_run(tmp_path / "run", seed=3)
  write_film(run / "films")
  text = section(tmp_path, run)
  (video, film), (still, picture) = sources(text)
  assert (video, still) == ("video/mp4", "image/jpeg")
  assert film == (run / "films" / f"{NAME}.mp4").read_bytes()
  assert picture.startswith(b"\xff\xd8")
  assert "ppo on coinrun, trained on easy-200, seed 3: test, sampled" in text
  assert "environment 0, level 7" in text


def test_a_gif_alone_is_embedded_as_a_picture(tmp_path):
  run = write_run(tmp_path / "run")
  write_film(run, kinds=[".gif"])
  ((kind, content),) = sources(section(tmp_path, run))
  assert kind == "image/gif"
  assert content == (run / f"{NAME}.gif").read_bytes()


def test_without_films_there_is_no_section(tmp_path):
  assert section(tmp_path, write_run(tmp_path / "run")) is None


def test_what_is_too_large_is_named_with_its_path_and_size(tmp_path, monkeypatch):
  run = write_run(tmp_path / "run")
  write_film(run, kinds=[".mp4"])
  write_film(run, name="large", kinds=[".mp4"])
  with (run / "large.mp4").open("ab") as file:
    file.write(b"\0" * 3_000_000)
  monkeypatch.setattr(films, "MOST_FILM_BYTES", 2 << 20)
  text = section(tmp_path, run)
  assert len(sources(text)) == 1
  assert "run/large.mp4: 2.9 MB are more than a film may have" in text
  assert "at most 2 MB each and 32 MB in all" in text
  monkeypatch.setattr(films, "MOST_PAGE_BYTES", 10)
  text = section(tmp_path, run)
  assert sources(text) == []
  assert f"run/{NAME}.mp4: its 0.0 MB are more than is left of the page" in text


def test_what_is_no_film_is_named(tmp_path):
  run = write_run(tmp_path / "run")
  (run / "a.mp4").write_bytes(b"no film")
  (run / "b.gif").write_bytes(b"")
  text = section(tmp_path, run)
  assert sources(text) == []
  for name in ("run/a.mp4", "run/b.gif"):
    assert f"{name}: does not begin as such a file does" in text


def test_films_elsewhere_belong_to_the_run_that_their_directory_is_named_after(tmp_path):
  for name, game in (("one", "coinrun"), ("other", "leaper")):
    write_run(tmp_path / "runs" / name, game=game)
  for name in ("one", "nobody"):
    write_film(tmp_path / "films" / name, kinds=[".mp4"])
  assert holds_no_run(tmp_path / "films")
  assert not holds_no_run(tmp_path / "runs")
  text = section(tmp_path, tmp_path / "runs", tmp_path / "films")
  captions = re.findall(r"<figure([^>]*)>.*?<figcaption>(.*?)</figcaption>", text)
  by_name = {"one" if "films/one" in caption else "nobody": mark for mark, caption in captions}
  assert by_name["one"] == ' data-needs="a0 g0 l0"'
  assert by_name["nobody"] == ""  # nobody's film is never hidden
  assert "ppo on coinrun" in captions[1][1]
  # The directory of films is no run that has not started.
  page = (tmp_path / "report.html").read_text()
  assert "2 runs: 2 finished" in page


def test_checkpoints_and_replays_are_not_searched(tmp_path):
  write_film(tmp_path / "run" / "replay")
  write_film(tmp_path / "run" / "kept")
  assert [film.stem.parent.name for film in find_films([tmp_path])] == ["kept"]


@pytest.mark.parametrize("has_film", [True, False])
def test_the_command_takes_a_directory_of_films(has_film, tmp_path, capsys):
  run = write_run(tmp_path / "run")
  (tmp_path / "films").mkdir()
  if has_film:
    write_film(tmp_path / "films")
  arguments = [run, tmp_path / "films", "--out", tmp_path / "r.html", "--resamples", 100]
  assert guarded(main, [str(each) for each in arguments]) == (0 if has_film else 2)
  assert has_film or "no run directory" in capsys.readouterr().err


def test_films_alone_are_nothing_to_report_on(tmp_path, capsys):
  write_film(tmp_path / "films")
  assert guarded(main, [str(tmp_path / "films"), "--out", str(tmp_path / "r.html")]) == 2
  assert "no run directory" in capsys.readouterr().err
