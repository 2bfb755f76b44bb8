"""Speech Commands as log-mel frames: ten words, no speaker in two splits."""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import math
import tarfile
import wave
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from syncattn._typing import Float, Tensor
from syncattn.data.download import RemoteFile
from syncattn.data.examples import Examples, LabelledSet
from syncattn.data.features import log_mel
from syncattn.data.seeds import named_generator
from syncattn.data.sources import DataIdentity, Lookup, hash_parts, read_bytes

__all__ = ["WORDS", "load_keywords", "read_clip"]

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SPEECH_COMMANDS = RemoteFile(
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    2_428_923_189,
)
SAMPLE_RATE = 16_000
CLIPS = {"train": 30_769, "valid": 3_703, "test": 4_074}
"""Clips of the ten words in the published set."""
_SPLITS = ("train", "valid", "test")


def load_keywords(lookup: Lookup) -> LabelledSet:
    """Returns ten spoken words as 49 frames of 40 log-mel bins of unit variance.

    Args:
        lookup: Where to look; the official `speech_commands_v0.02.tar.gz`, its folder, or a folder
            `speech_commands` of `<word>.tar.xz` with a `manifest.csv` (file, label, speaker,
            split, sha256).

    Returns:
        Frames, normalised bin by bin with the mean and deviation of the training split; with other
        numbers of clips than the published ones the set is a part. The sample are tones in place of
        words.

    Raises:
        MissingDataError: If it is nowhere and no sample may stand in.
        ValueError: If an archive or a clip is damaged, or a split has no clip.
    """
    manifest = lookup.given(("speech_commands/manifest.csv", "manifest.csv"))
    if manifest is not None:
        return _made(_part(manifest), "part", str(manifest.parent.name))
    archive = lookup.given(("speech_commands_v0.02.tar.gz", "*/speech_commands_v0.02.tar.gz"))
    archive = lookup.official(SPEECH_COMMANDS) if archive is None else archive
    if archive is not None:
        return _made(_official(archive), "whole", SPEECH_COMMANDS.url)
    listed = lookup.given(("validation_list.txt", "*/validation_list.txt"))
    if listed is not None:
        return _made(_extracted(listed.parent), "whole", listed.parent.name)
    if not lookup.may_sample:
        raise lookup.missing("Speech Commands", "Give speech_commands_v0.02.tar.gz with --data.")
    return _made(_tones(), "sample", "generated tones, in place of Speech Commands v0.02")


def read_clip(content: bytes) -> Float[Tensor, " samples"]:
    """Returns the samples of a wav file of one channel and 16 bits, padded or cut to a second.

    Args:
        content: The file.

    Returns:
        16,000 samples in [-1, 1].

    Raises:
        ValueError: If it is not such a file.
    """
    try:
        with wave.open(io.BytesIO(content)) as stream:
            shape = (stream.getnchannels(), stream.getsampwidth(), stream.getframerate())
            frames = stream.readframes(SAMPLE_RATE)
    except (wave.Error, EOFError) as error:
        raise ValueError(
            f"A clip must be a wav file; got one that fails with {error!r}. Copy it again."
        ) from error
    if shape != (1, 2, SAMPLE_RATE):
        raise ValueError(
            f"A clip must have 1 channel, 2 bytes a sample and 16000 samples a second; got {shape}."
            f" Convert it."
        )
    if not frames or len(frames) % 2:
        raise ValueError(
            f"A clip must hold samples of 2 bytes; got {len(frames)} bytes. Copy it again."
        )
    samples = torch.frombuffer(bytearray(frames), dtype=torch.int16).float() / 32_768
    return torch.nn.functional.pad(samples, (0, SAMPLE_RATE - len(samples)))


@contextmanager
def _whole_archive(path: Path, mode: Literal["r:gz", "r:xz"]) -> Generator[tarfile.TarFile]:
    try:
        with tarfile.open(path, mode) as archive:
            yield archive
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise ValueError(
            f"An archive of clips must be readable and whole; {path} is not: {error}. Copy it "
            f"again."
        ) from error


_Clip = tuple[str, int, bytes]
"""Split, number of the word, and content."""


def _part(manifest: Path) -> Iterator[_Clip]:
    rows = _manifest_rows(manifest)
    for word in WORDS:
        path = manifest.with_name(f"{word}.tar.xz")
        if not path.is_file():
            raise ValueError(
                f"The folder of `manifest.csv` must hold an archive for every word; {path.name} is "
                f"missing. Copy it there."
            )
        with _whole_archive(path, "r:xz") as archive:
            for member in archive:
                row = rows.get(member.name)
                stream = archive.extractfile(member) if row else None
                if row is None or stream is None:
                    continue
                content = stream.read()
                if hashlib.sha256(content).hexdigest() != row["sha256"]:
                    raise ValueError(
                        f"Every clip must have the sha256 of the manifest; {member.name} differs. "
                        f"Copy {path.name} again."
                    )
                yield row["split"], WORDS.index(word), content


def _manifest_rows(manifest: Path) -> dict[str, dict[str, str]]:
    """Returns file, split and sha256 of every clip, by file."""
    try:
        with manifest.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"`manifest.csv` must be a table in UTF-8; {manifest} is not: {error}. Copy it again."
        ) from error
    for number, row in enumerate(rows, start=2):
        lacking = [name for name in ("file", "split", "sha256") if not row.get(name)]
        if lacking:
            raise ValueError(
                f"`manifest.csv` must have file, split and sha256 in every row; row {number} of "
                f"{manifest} lacks {', '.join(lacking)}. Add it."
            )
        if row["split"] not in _SPLITS:
            raise ValueError(
                f"The split of a clip must be one of {', '.join(_SPLITS)}; row {number} of "
                f"{manifest} has {row['split']!r}. Rename it."
            )
    return {row["file"]: row for row in rows}


def _official(path: Path) -> Iterator[_Clip]:
    wanted = {f"{word}/" for word in WORDS}
    with _whole_archive(path, "r:gz") as archive:
        listed: dict[str, str] = {}
        for member in archive.getmembers():
            name = member.name.removeprefix("./")
            split = {"validation_list.txt": "valid", "testing_list.txt": "test"}.get(name)
            stream = archive.extractfile(member) if split else None
            if split and stream is not None:
                listed |= dict.fromkeys(_names(stream.read(), name), split)
        for member in archive.getmembers():
            name = member.name.removeprefix("./")
            word = name.partition("/")[0]
            stream = archive.extractfile(member) if f"{word}/" in wanted else None
            if stream is not None:
                yield listed.get(name, "train"), WORDS.index(word), stream.read()


def _extracted(folder: Path) -> Iterator[_Clip]:
    listed: dict[str, str] = {}
    for split, file in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        listed |= dict.fromkeys(_names(read_bytes(folder / file), file), split)
    for number, word in enumerate(WORDS):
        for path in sorted((folder / word).glob("*.wav")):
            yield listed.get(f"{word}/{path.name}", "train"), number, read_bytes(path)


def _names(content: bytes, file: str) -> list[str]:
    try:
        return content.decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"A list of clips must be text in UTF-8; {file} is not: {error}. Copy it again."
        ) from error


def _tones() -> Iterator[_Clip]:
    """Yields gliding tones: a word is a start and an end frequency, a speaker a detuning."""
    time = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    for split, count in (("train", 24), ("valid", 8), ("test", 8)):
        for number in range(len(WORDS)):
            draw = named_generator("tones", split, number)
            for _ in range(count):
                detuning, begin, loudness = torch.rand(3, generator=draw).tolist()
                low, high = 300 + 60 * (number % 5), 900 + 150 * (number // 5)
                first, last = (high, low) if number % 2 else (low, high)
                moved = (time - 0.5 * begin).clamp(0, 0.5)
                pitch = (0.9 + 0.2 * detuning) * (first * moved + (last - first) * moved.square())
                sound = (2 * math.pi * pitch).sin() * (0.1 + 0.4 * loudness)
                sound = sound * ((time > 0.5 * begin) & (time < 0.5 * begin + 0.5))
                sound = sound + 0.05 * torch.randn(SAMPLE_RATE, generator=draw)
                yield split, number, _wav(sound)


def _wav(samples: Tensor) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((samples.clamp(-1, 1) * 32_767).to(torch.int16).numpy().tobytes())
    return stream.getvalue()


def _made(clips: Iterator[_Clip], extent: str, source: str) -> LabelledSet:
    frames: dict[str, list[Tensor]] = {split: [] for split in _SPLITS}
    labels: dict[str, list[int]] = {split: [] for split in _SPLITS}
    hashed: dict[str, list[bytes]] = {split: [] for split in _SPLITS}
    for split, label, content in clips:
        frames[split].append(log_mel(read_clip(content)))
        labels[split].append(label)
        hashed[split].append(hashlib.sha256(content).digest())
    if not all(frames.values()):
        raise ValueError(
            f"Every split must hold a clip; got {', '.join(s for s in _SPLITS if not frames[s])} "
            f"without any from {source}. Give the whole folder."
        )
    sizes = {split: len(labels[split]) for split in _SPLITS}
    extent = "part" if extent == "whole" and sizes != CLIPS else extent
    train = torch.stack(frames["train"])
    mean, deviation = train.mean((0, 1)), train.std((0, 1)).clamp(min=1e-6)
    splits = [
        _examples((torch.stack(frames[split]) - mean) / deviation, labels[split])
        for split in _SPLITS
    ]
    name = "generated-tones" if extent == "sample" else "speech-commands-v0.02-10-words"
    identity = DataIdentity(
        name, hash_parts(b"".join(hashed[split]) for split in _SPLITS),
        extent, source,  # pyright: ignore[reportArgumentType]
        sizes,
    )  # fmt: skip
    return LabelledSet(
        *splits, num_labels=len(WORDS), identity=identity, groups=WORDS, feature_size=40
    )


def _examples(frames: Tensor, labels: list[int]) -> Examples:
    label = torch.tensor(labels)
    mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    return Examples(frames, mask, torch.full_like(label, frames.shape[1] - 1), label, label)
