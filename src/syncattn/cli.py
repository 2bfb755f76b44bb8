"""compare, generate: parse, call one function, say where it wrote."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

try:
    import tyro
    from rich.console import Console

    from syncattn.benchmarks.compare import CompareConfig, Comparison
    from syncattn.benchmarks.runs import load_trained
    from syncattn.models.quiet import quiet_transformers
    from syncattn.models.text import generate_text
except ModuleNotFoundError as error:
    raise SystemExit(
        f"syncattn: the command line needs {error.name}, which is not installed. "
        f"Install the extras: pip install 'syncattn[all]'."
    ) from error


@dataclass(frozen=True)
class GenerateConfig:
    """Continues a text with a trained model."""

    run: tyro.conf.Positional[Path]
    """Folder of a comparison, of one of its trainings, or of a saved model."""

    prompt: str
    """The text to continue."""

    mechanism: str | None = None
    """Which training of a comparison; the best one when left out."""

    max_new_tokens: int = 200
    """Bytes to add."""

    temperature: float = 0.8
    """Of the sampling; 0 takes the likeliest byte."""

    top_k: int | None = None
    """Sample among so many likeliest bytes; all when left out."""

    seed: int | None = None
    """Seed of the sampling."""


_COMMANDS = (
    Annotated[
        CompareConfig,
        tyro.conf.subcommand(
            "compare", description="Train mechanisms on one text and compare what they learned."
        ),
    ]
    | Annotated[
        GenerateConfig,
        tyro.conf.subcommand("generate", description="Continue a text with a trained model."),
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The words after the command; those of the process when None.

    Returns:
        The exit code: 0 when all went well, 1 when a training failed, 2 for a wrong argument,
        130 when stopped by the keyboard.
    """
    command = tyro.cli(
        _COMMANDS,  # pyright: ignore[reportArgumentType]
        args=arguments,
        prog="syncattn",
        description="Attention by synchronization: compare mechanisms, use what they learned.",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        return _generate(command) if isinstance(command, GenerateConfig) else _compare(command)
    except KeyboardInterrupt:
        print("syncattn: stopped; what is finished is kept, add --resume.", file=sys.stderr)
        return 130


def _compare(config: CompareConfig) -> int:
    try:
        comparison = Comparison(config)
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)
    return 0 if comparison.run(Console()) else 1


def _generate(config: GenerateConfig) -> int:
    try:
        with quiet_transformers():
            text = generate_text(
                load_trained(config.run, config.mechanism),
                config.prompt,
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                top_k=config.top_k,
                seed=config.seed,
            )
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)
    print(text)
    return 0


def _refuse(error: Exception) -> int:
    print(f"syncattn: error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
