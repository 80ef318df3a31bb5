"""Protects that every kind of image file becomes the right 8-bit RGB, or an error that names the file."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.data.transforms.decode import Decode, cut_short, read_image
from ppdet.structures import Sample
from ppdet.utils.errors import DataError
from tests.data.support import write_image

Image = pytest.importorskip("PIL.Image")


def smooth(height: int = 20, width: int = 30) -> np.ndarray:
    """Colours that change slowly, so that JPEG keeps them."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + y * 5, 60 + x * 4, 200 - x * 3 - y], axis=2).astype(np.uint8)


def close(image: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert image.dtype == np.uint8
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).mean() < tolerance


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(smooth()).save(path, quality=95)
    close(read_image(str(path)), smooth(), 2.5)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grayscale_is_repeated(tmp_path: Path, suffix: str) -> None:
    gray = smooth()[..., 0]
    Image.fromarray(gray).save(tmp_path / f"a{suffix}", quality=95)
    close(read_image(str(tmp_path / f"a{suffix}")), gray[..., None].repeat(3, axis=2), 1)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    alpha = np.full((20, 30, 1), 7, np.uint8)
    Image.fromarray(np.concatenate([smooth(), alpha], axis=2)).save(tmp_path / "a.png")
    close(read_image(str(tmp_path / "a.png")), smooth(), 0.01)


def test_palette(tmp_path: Path) -> None:
    Image.fromarray(smooth()).quantize(256).save(tmp_path / "a.png")
    close(read_image(str(tmp_path / "a.png")), smooth(), 8)


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    close(read_image(str(tmp_path / "a.jpg")), smooth(), 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits(tmp_path: Path, channels: int) -> None:
    image = smooth()[..., :channels].squeeze().astype(np.uint16) * 257
    _, data = cv2.imencode(".png", image[..., ::-1] if channels == 3 else image)
    (tmp_path / "a.png").write_bytes(data.tobytes())
    wanted = smooth() if channels == 3 else smooth()[..., :1].repeat(3, axis=2)
    close(read_image(str(tmp_path / "a.png")), wanted, 1)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation(tmp_path: Path, orientation: int, turns: int) -> None:
    image = Image.fromarray(smooth())
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    close(read_image(str(tmp_path / "a.jpg")), np.rot90(smooth(), turns), 3)


def test_names_outside_ascii(tmp_path: Path) -> None:
    folder = tmp_path / "данные 图像"
    folder.mkdir()
    written = write_image(folder / "é猫 1.png", 6, 7)
    sample = Decode()(Sample(image_id=1, path=str(folder / "é猫 1.png")), np.random.default_rng(0))
    np.testing.assert_array_equal(sample.image, written)
    assert sample.original_size == (6, 7)
    assert sample.image_size == (6.0, 7.0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_cut_files_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    _, data = cv2.imencode(suffix, noise)
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(data.tobytes()[: int(len(data) * share)])
    with pytest.raises(DataError, match=rf"broken\{suffix} is .*skip_corrupt"):
        read_image(str(path))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_cut_files_are_seen_whatever_the_decoder_makes_of_them(kind: str, share: float) -> None:
    """Some versions of OpenCV fill the missing part with gray."""
    buffer = io.BytesIO()
    Image.fromarray(smooth(90, 90)).save(buffer, kind)
    data = buffer.getvalue()
    assert cut_short(data) is None
    assert "empty" in str(cut_short(b"")) if share == 0 else "cut short" in str(cut_short(cut(data, share)))


def test_reading_does_not_rely_on_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    write_image(path, 40, 40)
    path.write_bytes(cut(path.read_bytes(), 0.8))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(DataError, match="cut short"):
        read_image(str(path))


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def test_a_cut_jpeg_is_seen_behind_a_whole_thumbnail() -> None:
    """A thumbnail in the header has an end marker of its own; trailing bytes after the end are harmless."""
    buffer = io.BytesIO()
    Image.fromarray(smooth()).save(buffer, "JPEG")
    picture = buffer.getvalue()
    with_thumbnail = picture[:2] + b"\xff\xe1\x02\x00" + picture[:400] + b"\xff\xd9" + picture[2:]
    assert cut_short(picture) is None
    assert cut_short(picture + b"trailing") is None
    assert cut_short(with_thumbnail) is None
    assert cut_short(with_thumbnail[:-30]) is not None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "behind",
    [b"\0" * 500, b"ftypisom \xff\xda\x00\x0c and a film", b"\xff\xd8\xff\xda" * 9, b"IEND? no \xff\xda"],
)
def test_bytes_behind_the_end_of_a_jpeg_do_not_matter(
    tmp_path: Path, behind: bytes, progressive: bool
) -> None:
    """Motion photos carry a film there, in which any bytes occur."""
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth(90, 90)).save(path, quality=95, progressive=progressive)
    data, wanted = path.read_bytes(), read_image(str(path))
    path.write_bytes(data + behind)
    np.testing.assert_array_equal(read_image(str(path)), wanted)
    path.write_bytes(data[: len(data) // 2] + behind)
    with pytest.raises(DataError, match="cut short"):
        read_image(str(path))


def test_bytes_behind_the_end_of_a_png_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(smooth()).save(path)
    path.write_bytes(path.read_bytes() + b"\0" * 999)
    close(read_image(str(path)), smooth(), 0.01)


@pytest.mark.parametrize(("kind", "end"), [("JPEG", 2), ("PNG", 12)])
def test_a_missing_end_marker_does_not_matter_after_the_last_row(tmp_path: Path, kind: str, end: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a", kind)
    wanted = read_image(str(tmp_path / "a"))
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[:-end])
    np.testing.assert_array_equal(read_image(str(tmp_path / "a")), wanted)
    for cut in (1, 2, 5, 20) if kind == "JPEG" else (20, 200):  # a PNG has 8 bytes of checksums there
        for padding in (b"", b"\0" * 99):
            (tmp_path / "a").write_bytes(data[: -end - cut] + padding)
            with pytest.raises(DataError, match="without its last rows"):
                read_image(str(tmp_path / "a"))


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_colours_do_not_depend_on_alpha(tmp_path: Path, kind: str, alpha: int) -> None:
    """OpenCV alone makes 100 of 200 in a TIFF file whose alpha is 128."""
    image = np.full((8, 9, 4), (200, 100, 50, alpha), np.uint8)
    Image.fromarray(image).save(
        tmp_path / "a", kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
    )
    np.testing.assert_array_equal(read_image(str(tmp_path / "a")), image[:, :, :3])


def test_gif(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (9, 8), colour) for colour in ((200, 100, 50), (0, 0, 0)))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    close(read_image(str(tmp_path / "a.gif")), np.full((8, 9, 3), (200, 100, 50)), 3)


def test_no_image_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("this is a text")
    with pytest.raises(DataError, match=r"a\.jpg is no image"):
        read_image(str(tmp_path / "a.jpg"))
    with pytest.raises(DataError, match=r"b\.jpg cannot be read: No such file"):
        read_image(str(tmp_path / "b.jpg"))
    with pytest.raises(DataError, match="cannot be read"):
        read_image(str(tmp_path))


def test_pixels_given_are_kept() -> None:
    image = smooth()
    sample = Decode()(Sample(image_id=1, path="", image=image), np.random.default_rng(0))
    assert sample.image is image
    assert sample.original_size == (20, 30)
